//! Typed objects that lose nothing of the JSON they were read from.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{FieldError, at::At};

/// A type that a field of a manifest can have.
pub(crate) trait Field: Sized {
    /// Reads a value that is there and not null.
    fn read(at: &At<'_>) -> Result<Self, FieldError>;
    /// The value as it is written.
    fn write(&self) -> Value;
    /// Whether leaving the field out says the same.
    fn is_absent(&self) -> bool;
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
}

impl<T: Field> Field for BTreeMap<String, T> {
    fn read(at: &At<'_>) -> Result<Self, FieldError> {
        let element = |(key, value): (&String, &Value)| {
            Ok((key.clone(), T::read(&At::new(crate::at::member(at.path(), key), value))?))
        };
        at.object()?.iter().map(element).collect()
    }
    fn write(&self) -> Value {
        Value::Object(self.iter().map(|(key, value)| (key.clone(), value.write())).collect())
    }
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
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

/// Declares a struct and how it is read from and written to JSON. A field is `optional` (its type's default stands for
/// absence) or `required`. Everything else lands in `extra`.
macro_rules! object {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[$field_meta:meta])* $field:ident: $type:ty = $presence:ident $key:literal, )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $name {
            $( $(#[$field_meta])* pub $field: $type, )*
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
        }
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
