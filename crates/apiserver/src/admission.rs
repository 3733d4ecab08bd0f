//! What callers add to the server: checks, defaults and refusals of their own.

use std::sync::Arc;

use serde_json::Value;

use crate::refusal::Refusal;
use crate::request::Asked;
use crate::store::{Store, TableId};

/// A write before it is done. A hook may look at what is there, change what is written, or refuse.
pub struct Review<'a> {
    /// What is asked for.
    pub asked: &'a Asked,
    /// What would be written; of a delete, what would be deleted (changes to it are ignored).
    pub object: &'a mut Value,
    /// What is there now.
    pub old: Option<&'a Value>,
    pub(crate) store: &'a Store,
    pub(crate) table: TableId,
}

impl Review<'_> {
    /// Objects of the same kind in a namespace (all of them if it is empty), in order of their names.
    pub fn siblings<'s>(&'s self, namespace: &'s str) -> impl Iterator<Item = &'s Value> {
        self.store.tables[self.table].iter(namespace).map(|stored| &stored.value)
    }

    /// Objects of any kind that is served, by its plural (`resourcequotas`, or `podgroups.scheduling.volcano.sh`).
    pub fn objects<'s>(&'s self, resource: &str, namespace: &'s str) -> impl Iterator<Item = &'s Value> {
        let mut tables = self.store.tables.iter();
        let table = tables.find(|table| table.kind.plural == resource || table.kind.qualified_plural() == resource);
        table.into_iter().flat_map(move |table| table.iter(namespace)).map(|stored| &stored.value)
    }
}

/// A check, a default or a refusal: called before each create, update, patch and delete of its kind.
pub type Hook = Arc<dyn Fn(&mut Review<'_>) -> Result<(), Refusal> + Send + Sync>;
