//! JSON that is read without what nobody looks at: it is skipped, not built and thrown away.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// A field that is left out, or one of whose own fields some are. Of an array, the fields of each item.
#[derive(Debug)]
pub struct Omit {
    name: &'static str,
    /// Empty: all of it.
    of: &'static [Omit],
}

/// All of a field.
const fn all(name: &'static str) -> Omit {
    Omit { name, of: &[] }
}

/// Of any object: who wrote which field, which is most of it. Of a pod, the one kind that has containers and volumes right in its
/// spec: what containers are to do, and what they are given for it. What is left says where the pod may run, what it takes of a
/// node, and how far it has come.
pub static UNREAD: &[Omit] = &[
    Omit { name: "metadata", of: &[all("managedFields")] },
    Omit { name: "spec", of: &[VOLUMES, containers("containers"), containers("initContainers")] },
];

/// What is left of a volume says whether it is a claim, which not every node may be able to serve.
const VOLUMES: Omit = Omit {
    name: "volumes",
    of: &[
        all("name"),
        all("configMap"),
        all("csi"),
        all("downwardAPI"),
        all("emptyDir"),
        all("hostPath"),
        all("nfs"),
        all("projected"),
        all("secret"),
    ],
};

const fn containers(name: &'static str) -> Omit {
    const WORK: &[Omit] = &[
        all("args"),
        all("command"),
        all("env"),
        all("envFrom"),
        all("lifecycle"),
        all("livenessProbe"),
        all("readinessProbe"),
        all("startupProbe"),
        all("volumeMounts"),
    ];
    Omit { name, of: WORK }
}

/// Reads any JSON but for what is named here.
#[derive(Copy, Clone, Debug)]
pub struct Sparse(pub &'static [Omit]);

impl<'de> DeserializeSeed<'de> for Sparse {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.0.is_empty() { Value::deserialize(deserializer) } else { deserializer.deserialize_any(self) }
    }
}

impl<'de> Visitor<'de> for Sparse {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            let value = match self.0.iter().find(|omit| omit.name == name) {
                Some(omit) if omit.of.is_empty() => {
                    fields.next_value::<IgnoredAny>()?;
                    continue;
                }
                Some(omit) => fields.next_value_seed(Sparse(omit.of))?,
                None => fields.next_value()?,
            };
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(omit: &'static [Omit], text: &str) -> serde_json::Result<Value> {
        let mut json = serde_json::Deserializer::from_str(text);
        let value = Sparse(omit).deserialize(&mut json)?;
        json.end().map(|()| value)
    }

    #[test]
    fn what_nobody_looks_at_is_left_out() {
        let container =
            json!({"name": "ray", "env": [{"name": "A"}], "resources": {"limits": {"cpu": 1.5}}, "args": ["x"]});
        let pod = json!({
            "metadata": {"name": "p", "managedFields": [{"fieldsV1": {"f:spec": {}}}]},
            "spec": {"volumes": [{"name": "v", "emptyDir": {}}], "containers": [container], "initContainers": null, "nodeName": "n"},
        });
        let kept = json!({
            "metadata": {"name": "p"},
            "spec": {"volumes": [{}], "containers": [{"name": "ray", "resources": {"limits": {"cpu": 1.5}}}],
                     "initContainers": null, "nodeName": "n"},
        });
        assert_eq!(read(UNREAD, &pod.to_string()).unwrap(), kept);
    }

    /// Any JSON, at any place of which a name may be one of those that are left out.
    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,6}".prop_map(Value::from),
        ];
        let name =
            prop::sample::select(vec!["metadata", "managedFields", "spec", "volumes", "containers", "env", "other"]);
        leaf.prop_recursive(5, 40, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((name.clone(), inner), 0..5)
                    .prop_map(|fields| fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
            ]
        })
    }

    /// The same by hand, from what was read whole.
    fn without(value: &mut Value, omits: &[Omit]) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| without(item, omits)),
            Value::Object(fields) => {
                for omit in omits {
                    if omit.of.is_empty() {
                        fields.remove(omit.name);
                    } else if let Some(field) = fields.get_mut(omit.name) {
                        without(field, omit.of);
                    }
                }
            }
            _ => {}
        }
    }

    proptest! {
        #[test]
        fn everything_else_is_read_as_it_is(value in any_json()) {
            let text = value.to_string();
            let mut kept: Value = serde_json::from_str(&text).unwrap();
            without(&mut kept, UNREAD);
            prop_assert_eq!(read(UNREAD, &text).unwrap(), kept);
        }
    }
}
