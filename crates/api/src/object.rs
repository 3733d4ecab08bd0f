//! Typed objects that lose nothing of the JSON they were read from.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};

use crate::{
    FieldError,
    at::At,
    schema::{self, Schema},
};

/// A type that a field of a manifest can have.
pub(crate) trait Field: Sized {
    /// Reads a value that is there and not null.
    fn read(at: &At<'_>) -> Result<Self, FieldError>;
    /// The value as it is written.
    fn write(&self) -> Value;
    /// Whether leaving the field out says the same.
    fn is_absent(&self) -> bool;
    /// What a definition says of the type, where the field says nothing of its own.
    fn schema() -> Schema;
}

impl Field for String {
    fn read(at: &At<'_>) -> Result<Self, FieldError> {
        at.str().map(str::to_owned)
    }
    fn write(&self) -> Value {
        Value::String(self.clone())
    }
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
    fn schema() -> Schema {
        Schema::of_type("string")
    }
}

impl Field for i64 {
    fn read(at: &At<'_>) -> Result<Self, FieldError> {
        at.int()
    }
    fn write(&self) -> Value {
        Value::from(*self)
    }
    fn is_absent(&self) -> bool {
        *self == 0
    }
    fn schema() -> Schema {
        schema::int64()
    }
}

impl Field for bool {
    fn read(at: &At<'_>) -> Result<Self, FieldError> {
        at.bool()
    }
    fn write(&self) -> Value {
        Value::Bool(*self)
    }
    fn is_absent(&self) -> bool {
        !*self
    }
    fn schema() -> Schema {
        Schema::of_type("boolean")
    }
}

impl Field for Number {
    fn read(at: &At<'_>) -> Result<Self, FieldError> {
        at.value().as_number().cloned().ok_or_else(|| at.error("must be a number"))
    }
    fn write(&self) -> Value {
        Value::Number(self.clone())
    }
    fn is_absent(&self) -> bool {
        false
    }
    fn schema() -> Schema {
        Schema::of_type("number")
    }
}

impl Field for Value {
    fn read(at: &At<'_>) -> Result<Self, FieldError> {
        Ok(at.value().clone())
    }
    fn write(&self) -> Value {
        self.clone()
    }
    fn is_absent(&self) -> bool {
        self.is_null()
    }
    fn schema() -> Schema {
        schema::open()
    }
}

impl<T: Field> Field for Option<T> {
    fn read(at: &At<'_>) -> Result<Self, FieldError> {
        T::read(at).map(Some)
    }
    fn write(&self) -> Value {
        self.as_ref().map_or(Value::Null, T::write)
    }
    fn is_absent(&self) -> bool {
        self.is_none()
    }
    fn schema() -> Schema {
        T::schema()
    }
}

impl<T: Field> Field for Vec<T> {
    fn read(at: &At<'_>) -> Result<Self, FieldError> {
        at.items()?.iter().map(T::read).collect()
    }
    fn write(&self) -> Value {
        Value::Array(self.iter().map(T::write).collect())
    }
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
    fn schema() -> Schema {
        schema::list(T::schema())
    }
}

impl<T: Field> Field for BTreeMap<String, T> {
    fn read(at: &At<'_>) -> Result<Self, FieldError> {
        let element = |(key, value): (&String, &Value)| Ok((key.clone(), T::read(&at.member(key, value))?));
        at.object()?.iter().map(element).collect()
    }
    fn write(&self) -> Value {
        Value::Object(self.iter().map(|(key, value)| (key.clone(), value.write())).collect())
    }
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
    fn schema() -> Schema {
        schema::map(T::schema())
    }
}

/// Reads a whole object of a kind of `ray.io`, which must have a name.
pub(crate) fn read_object<T: Field>(value: &Value, expected: &str) -> Result<T, FieldError> {
    let at = At::root(value);
    let kind = at.text("kind")?;
    if !kind.is_empty() && kind != expected {
        return Err(FieldError::new("kind", kind, format!("must be {expected}")));
    }
    let api_version = at.text("apiVersion")?;
    if !api_version.is_empty() && !api_version.starts_with("ray.io/") {
        return Err(FieldError::new("apiVersion", api_version, "must be ray.io/v1"));
    }
    let object = T::read(&at)?;
    if at.require("metadata")?.text("name")?.is_empty() {
        return Err(FieldError::missing("metadata.name", "is required"));
    }
    Ok(object)
}

/// Reads one member of an object. What is written but says the same as nothing (`null`, `{}`, `""`) is kept in `extra`, so
/// that it is written again.
pub(crate) fn read_member<T: Field + Default>(
    at: &At<'_>,
    key: &str,
    extra: &mut Map<String, Value>,
) -> Result<T, FieldError> {
    let Some(written) = at.object()?.get(key) else { return Ok(T::default()) };
    let typed = match at.get(key)? {
        Some(member) => T::read(&member)?,
        None => T::default(),
    };
    if typed.is_absent() {
        extra.insert(key.to_owned(), written.clone());
    }
    Ok(typed)
}

/// Writes one member of an object over what `extra` has brought.
pub(crate) fn write_member<T: Field>(object: &mut Map<String, Value>, key: &str, typed: &T) {
    if !typed.is_absent() {
        object.insert(key.to_owned(), typed.write());
    }
}

/// Declares a struct, how it is read from and written to JSON, and its schema. A field is `optional` (its type's default stands
/// for absence) or `required`; `as` says what a definition asks of it beyond its type. Everything else lands in `extra`.
macro_rules! object {
    (
        $(#[doc = $doc:literal])*
        pub struct $name:ident {
            $( $(#[doc = $field_doc:literal])* $field:ident: $type:ty = $presence:ident $key:literal $(as $schema:expr)?, )*
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $name {
            $( $(#[doc = $field_doc])* pub $field: $type, )*
            /// What this version does not know, and what was written of known fields that says the same as leaving them
            /// out (`null`, `{}`): nothing is lost when the object is written again.
            pub extra: serde_json::Map<String, serde_json::Value>,
        }

        impl $crate::object::Field for $name {
            fn read(at: &$crate::at::At<'_>) -> Result<Self, $crate::FieldError> {
                const KNOWN: &[&str] = &[$($key),*];
                let unknown = at.object()?.iter().filter(|(key, _)| !KNOWN.contains(&key.as_str()));
                let mut extra: serde_json::Map<_, _> = unknown.map(|(k, v)| (k.clone(), v.clone())).collect();
                Ok($name {
                    $( $field: $crate::object::object!(@$presence at, $key, &mut extra), )*
                    extra,
                })
            }

            fn write(&self) -> serde_json::Value {
                let mut object = self.extra.clone();
                $( $crate::object::write_member(&mut object, $key, &self.$field); )*
                serde_json::Value::Object(object)
            }

            fn is_absent(&self) -> bool {
                false
            }

            fn schema() -> $crate::schema::Schema {
                $crate::schema::Schema::object(&[$($doc),*])
                    $( .field(
                        $key,
                        $crate::object::object!(@is_required $presence),
                        &[$($field_doc),*],
                        $crate::object::object!(@schema $type $(, $schema)?),
                    ) )*
            }
        }
    };
    (@is_required optional) => {
        false
    };
    (@is_required required) => {
        true
    };
    (@schema $type:ty) => {
        <$type as $crate::object::Field>::schema()
    };
    (@schema $type:ty, $schema:expr) => {
        $schema
    };
    (@optional $at:ident, $key:literal, $extra:expr) => {
        $crate::object::read_member($at, $key, $extra)?
    };
    (@required $at:ident, $key:literal, $extra:expr) => {{
        $at.require($key)?;
        $crate::object::read_member($at, $key, $extra)?
    }};
}
pub(crate) use object;
