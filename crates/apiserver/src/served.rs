//! A kind as a path serves it. Events are served twice, with other names for their fields, and kept once.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use crate::kind::Kind;
use crate::object;
use crate::store::{Stored, TableId};

/// Names of an Event's fields in `events.k8s.io/v1`, and as they are kept.
const EVENT_NAMES: [(&str, &str); 7] = [
    ("deprecatedCount", "count"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedSource", "source"),
    ("note", "message"),
    ("regarding", "involvedObject"),
    ("reportingController", "reportingComponent"),
];

/// See the module.
pub(crate) struct Served {
    pub(crate) table: TableId,
    pub(crate) kind: Arc<Kind>,
    /// How the JSON of each of its objects begins.
    prefix: String,
    /// Names here, and as kept.
    names: &'static [(&'static str, &'static str)],
}

impl Served {
    pub(crate) fn new(table: TableId, kind: Arc<Kind>) -> Served {
        let prefix = format!("{{\"apiVersion\":\"{}\",\"kind\":\"{}\",", kind.api_version(), kind.kind);
        Served { table, kind, prefix, names: &[] }
    }

    /// `events.k8s.io/v1` over the table of core Events.
    pub(crate) fn newer_events(table: TableId, core: &Kind) -> Served {
        let mut kind = core.clone();
        "events.k8s.io".clone_into(&mut kind.group);
        Served { names: &EVENT_NAMES, ..Served::new(table, Arc::new(kind)) }
    }

    /// Writes the whole object.
    pub(crate) fn write(&self, out: &mut Vec<u8>, stored: &Stored) {
        out.extend_from_slice(self.prefix.as_bytes());
        self.write_rest(out, stored);
    }

    /// Writes the object as an item of a list: those of built-in kinds do not say what they are.
    pub(crate) fn write_item(&self, out: &mut Vec<u8>, stored: &Stored) {
        if self.kind.is_custom {
            self.write(out, stored);
        } else {
            out.push(b'{');
            self.write_rest(out, stored);
        }
    }

    fn write_rest(&self, out: &mut Vec<u8>, stored: &Stored) {
        if self.names.is_empty() {
            out.extend_from_slice(&stored.bare()[1..]);
        } else {
            out.extend_from_slice(&object::bare_bytes(&self.as_served(&stored.value))[1..]);
        }
    }

    pub(crate) fn bytes(&self, stored: &Stored) -> Bytes {
        let mut out = Vec::with_capacity(self.prefix.len() + stored.bare().len());
        self.write(&mut out, stored);
        Bytes::from(out)
    }

    /// The object in the names of this path.
    pub(crate) fn as_served(&self, kept: &Value) -> Value {
        let mut object = kept.clone();
        if !self.names.is_empty() {
            rename(&mut object, self.names.iter().map(|&(here, kept)| (kept, here)));
        }
        self.say_what_it_is(&mut object);
        object
    }

    /// The object as it is kept.
    pub(crate) fn as_kept(&self, mut object: Value, kind: &Kind) -> Value {
        rename(&mut object, self.names.iter().copied());
        object::set_part(&mut object, "apiVersion", Some(Value::String(kind.api_version())));
        object::set_part(&mut object, "kind", Some(Value::String(kind.kind.clone())));
        object
    }

    pub(crate) fn say_what_it_is(&self, object: &mut Value) {
        object::set_part(object, "apiVersion", Some(Value::String(self.kind.api_version())));
        object::set_part(object, "kind", Some(Value::String(self.kind.kind.clone())));
    }
}

fn rename<'a>(object: &mut Value, names: impl Iterator<Item = (&'a str, &'a str)>) {
    let Some(parts) = object.as_object_mut() else { return };
    for (from, to) in names {
        if let Some(value) = parts.remove(from) {
            parts.insert(to.to_owned(), value);
        }
    }
}
