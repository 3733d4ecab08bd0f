//! Structural schemas: what a custom resource definition says of a type. [`object!`](crate::object) makes them from the types.

mod check;
mod kubernetes;

use serde_json::{Map, Value, json};

pub use check::Misfit;
pub(crate) use kubernetes::kube;
#[cfg(test)]
pub(crate) use kubernetes::unresolved;

/// Form of a quantity, as Kubernetes' own definitions have it.
const QUANTITY: &str = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";

/// What may be written in a field.
#[derive(Clone, Debug)]
pub(crate) struct Schema {
    json: Map<String, Value>,
    /// Whether the field must be there; `None`: as reading has it.
    required: Option<bool>,
}

impl Schema {
    fn from_map(json: Map<String, Value>) -> Self {
        Schema { json, required: None }
    }

    /// A scalar of this type.
    pub(crate) fn of_type(name: &str) -> Self {
        Schema::from_map(Map::from_iter([("type".to_owned(), Value::from(name))]))
    }

    /// An object without fields yet.
    pub(crate) fn object(docs: &[&str]) -> Self {
        Schema::of_type("object").described(docs)
    }

    /// One more field. `required`: whether reading needs it.
    pub(crate) fn field(mut self, name: &str, required: bool, docs: &[&str], schema: Schema) -> Self {
        if schema.required.unwrap_or(required) {
            let names = self.json.entry("required").or_insert_with(|| json!([]));
            if let Value::Array(names) = names {
                names.push(Value::from(name));
                names.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
            }
        }
        if let Value::Object(fields) = self.json.entry("properties").or_insert_with(|| json!({})) {
            fields.insert(name.to_owned(), schema.described(docs).into_value());
        }
        self
    }

    /// Says what it is, in the words of the type's documentation.
    fn described(self, docs: &[&str]) -> Self {
        let text = docs.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ").replace('`', "");
        self.with("description", text)
    }

    fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.json.insert(key.to_owned(), value.into());
        self
    }

    /// What the API server fills in.
    pub(crate) fn default(self, value: impl Into<Value>) -> Self {
        self.with("default", value)
    }

    /// The API server refuses an object without it, though we could read it.
    pub(crate) fn required(self) -> Self {
        Schema { required: Some(true), ..self }
    }

    /// The least number.
    pub(crate) fn min(self, least: i64) -> Self {
        self.with("minimum", least)
    }

    /// The fewest characters.
    pub(crate) fn min_chars(self, fewest: u32) -> Self {
        self.with("minLength", fewest)
    }

    /// The most characters.
    pub(crate) fn max_chars(self, most: u32) -> Self {
        self.with("maxLength", most)
    }

    /// The fewest elements.
    pub(crate) fn min_items(self, fewest: u32) -> Self {
        self.with("minItems", fewest)
    }

    /// A regular expression that must match.
    pub(crate) fn pattern(self, expression: &str) -> Self {
        self.with("pattern", expression)
    }

    /// `null` is a value too.
    pub(crate) fn nullable(self) -> Self {
        self.with("nullable", true)
    }

    /// A list that is replaced as a whole.
    pub(crate) fn atomic(self) -> Self {
        self.with("x-kubernetes-list-type", "atomic")
    }

    /// A list whose elements are told apart by this field.
    pub(crate) fn keyed_by(self, field: &str) -> Self {
        self.with("x-kubernetes-list-type", "map").with("x-kubernetes-list-map-keys", json!([field]))
    }

    /// A rule in CEL, and what the API server says where it is broken.
    pub(crate) fn rule(mut self, rule: &str, message: &str) -> Self {
        let rules = self.json.entry("x-kubernetes-validations").or_insert_with(|| json!([]));
        if let Value::Array(rules) = rules {
            rules.push(json!({"rule": rule, "message": message}));
        }
        self
    }

    /// As it stands in a definition.
    pub(crate) fn into_value(self) -> Value {
        Value::Object(self.json)
    }
}

/// An integer of 32 bits.
pub(crate) fn int32() -> Schema {
    Schema::of_type("integer").with("format", "int32")
}

/// An integer of 64 bits.
pub(crate) fn int64() -> Schema {
    Schema::of_type("integer").with("format", "int64")
}

/// One of these words.
pub(crate) fn one_of(words: &[&str]) -> Schema {
    Schema::of_type("string").with("enum", words)
}

/// A time, RFC 3339.
pub(crate) fn time() -> Schema {
    Schema::of_type("string").with("format", "date-time")
}

/// A quantity, as string or number.
pub(crate) fn quantity() -> Schema {
    let either = json!([{"type": "integer"}, {"type": "string"}]);
    let schema = Schema::from_map(Map::new()).with("anyOf", either).pattern(QUANTITY);
    schema.with("x-kubernetes-int-or-string", true)
}

/// A list.
pub(crate) fn list(items: Schema) -> Schema {
    Schema::of_type("array").with("items", items.into_value())
}

/// A map from names.
pub(crate) fn map(values: Schema) -> Schema {
    Schema::of_type("object").with("additionalProperties", values.into_value())
}

/// An object of which nothing is known.
pub(crate) fn open() -> Schema {
    Schema::of_type("object").with("x-kubernetes-preserve-unknown-fields", true)
}
