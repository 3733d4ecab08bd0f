//! The garbage collector and the namespace controller, a step at a time. Nothing happens here on its own: a test or a
//! simulation says when.

use std::sync::Arc;

use serde_json::Value;

use crate::delete::{Deleted, Options, Propagation};
use crate::object::{self, FOREGROUND, ORPHAN};
use crate::request::{Asked, Verb};
use crate::state::State;
use crate::store::{Place, Stored};

impl State {
    /// Looks once at every object that may have to go, and at every owner that waits. How many objects were changed or
    /// deleted.
    pub(crate) fn collect_garbage(&mut self) -> usize {
        let suspects = std::mem::take(&mut self.store.suspects);
        suspects.iter().map(|uid| self.judge(uid)).sum()
    }

    fn judge(&mut self, uid: &str) -> usize {
        let owner = self.store.uids.get(uid).cloned().and_then(|place| Some((self.must_get(&place).ok()?, place)));
        match owner {
            None => self.dependents_of(uid).iter().map(|place| self.judge_dependent(place)).sum(),
            Some((owner, place)) => {
                let has = |wanted: &str| object::finalizers(&owner.value).any(|finalizer| finalizer == wanted);
                if !object::is_deleting(&owner.value) {
                    // A dependent in another namespace, or of another name, has no owner.
                    self.dependents_of(uid).iter().map(|place| self.judge_dependent(place)).sum()
                } else if has(ORPHAN) {
                    self.set_free(uid, &place)
                } else if has(FOREGROUND) {
                    self.delete_first(uid, &place)
                } else {
                    0
                }
            }
        }
    }

    fn dependents_of(&self, uid: &str) -> Vec<Place> {
        self.store.dependents.get(uid).into_iter().flatten().cloned().collect()
    }

    /// Deletes an object whose owners are all gone; takes out the references to those that are, if some are left.
    fn judge_dependent(&mut self, place: &Place) -> usize {
        let Ok(dependent) = self.must_get(place) else { return 0 };
        let is_there = |owner: &&Value| self.store.has_owner(owner, &place.namespace);
        let all = object::owner_references(&dependent.value).count();
        let left: Vec<Value> = object::owner_references(&dependent.value).filter(is_there).cloned().collect();
        if left.len() == all {
            return 0;
        }
        // What waits for a foreground deletion of its own still does.
        let propagation = if object::finalizers(&dependent.value).any(|finalizer| finalizer == ORPHAN) {
            Propagation::Orphan
        } else if object::finalizers(&dependent.value).any(|finalizer| finalizer == FOREGROUND) {
            Propagation::Foreground
        } else {
            Propagation::Background
        };
        if left.is_empty() {
            self.collect(place, &dependent, propagation)
        } else {
            self.keep_owners(place, &dependent, left)
        }
    }

    fn collect(&mut self, place: &Place, object: &Stored, propagation: Propagation) -> usize {
        let options = Options::exactly(object::uid(&object.value), propagation);
        let before = self.store.version;
        match self.remove_object(&self.asked(Verb::Delete, place), place, &options) {
            Ok(Deleted::Gone(_)) => 1,
            Ok(Deleted::Waits(_)) => usize::from(self.store.version != before),
            // Refused by a hook: tried again at the next step.
            Err(_) => {
                let owners: Vec<String> = object::owner_uids(&object.value).map(str::to_owned).collect();
                self.store.suspects.extend(owners);
                0
            }
        }
    }

    fn keep_owners(&mut self, place: &Place, object: &Arc<Stored>, owners: Vec<Value>) -> usize {
        let mut new = object.value.clone();
        if owners.is_empty() {
            object::remove_meta(&mut new, "ownerReferences");
        } else {
            object::set_meta(&mut new, "ownerReferences", Value::Array(owners));
        }
        self.write(place, object, new)
    }

    /// The dependents of an owner that leaves them go on without it; then it goes.
    fn set_free(&mut self, uid: &str, owner: &Place) -> usize {
        let mut changed = 0;
        for place in self.dependents_of(uid) {
            let Ok(dependent) = self.must_get(&place) else { continue };
            let others = object::owner_references(&dependent.value).filter(|owner| owner["uid"] != uid);
            let others = others.cloned().collect();
            changed += self.keep_owners(&place, &dependent, others);
        }
        changed + self.release(owner, ORPHAN)
    }

    /// The dependents of an owner that waits for them are deleted; it goes when none is left that blocks it.
    fn delete_first(&mut self, uid: &str, owner: &Place) -> usize {
        let mut changed = 0;
        for place in self.dependents_of(uid) {
            let Ok(dependent) = self.must_get(&place) else { continue };
            let has_other = object::owner_references(&dependent.value).any(|owner| {
                let other = owner["uid"].as_str().unwrap_or_default();
                let place = self.store.uids.get(other).filter(|_| other != uid);
                place
                    .and_then(|place| self.must_get(place).ok())
                    .is_some_and(|other| !object::is_deleting(&other.value))
            });
            if has_other {
                let others = object::owner_references(&dependent.value).filter(|owner| owner["uid"] != uid);
                let others = others.cloned().collect();
                changed += self.keep_owners(&place, &dependent, others);
            } else if !object::is_deleting(&dependent.value) {
                changed += self.collect(&place, &dependent, Propagation::Foreground);
            }
        }
        let blocks = |place: &Place| {
            self.must_get(place).is_ok_and(|dependent| {
                object::owner_references(&dependent.value)
                    .any(|owner| owner["uid"] == uid && owner["blockOwnerDeletion"] == true)
            })
        };
        if self.dependents_of(uid).iter().any(blocks) { changed } else { changed + self.release(owner, FOREGROUND) }
    }

    fn release(&mut self, place: &Place, finalizer: &str) -> usize {
        let Ok(owner) = self.must_get(place) else { return 0 };
        let mut new = owner.value.clone();
        let left = object::finalizers(&new).filter(|known| *known != finalizer).map(str::to_owned).collect();
        object::set_finalizers(&mut new, left);
        self.write(place, &owner, new)
    }

    fn write(&mut self, place: &Place, old: &Arc<Stored>, new: Value) -> usize {
        let asked = self.asked(Verb::Update, place);
        usize::from(self.replace(&asked, place, old, new, false).is_ok())
    }

    /// Empties the namespaces that are being deleted, and lets those go that are empty. How many objects were changed or
    /// deleted.
    pub(crate) fn end_namespaces(&mut self) -> usize {
        let Some(table) = self.store.tables.iter().position(|table| table.kind.is_core("namespaces")) else { return 0 };
        let ending: Vec<Arc<Stored>> =
            self.store.tables[table].iter("").filter(|stored| object::is_deleting(&stored.value)).cloned().collect();
        let mut changed = 0;
        for namespace in ending {
            let places = self.places_in(&namespace.name);
            for place in &places {
                let Ok(object) = self.must_get(place) else { continue };
                if !object::is_deleting(&object.value) {
                    changed += self.collect(place, &object, Propagation::Background);
                }
            }
            if places.is_empty() {
                let place = Place { table, namespace: String::new(), name: namespace.name.clone() };
                let mut asked = self.asked(Verb::Update, &place);
                "finalize".clone_into(&mut asked.subresource);
                let mut new = namespace.value.clone();
                new["spec"]["finalizers"] = Value::Array(Vec::new());
                changed += usize::from(self.replace(&asked, &place, &namespace, new, false).is_ok());
            }
        }
        changed
    }

    fn places_in(&self, namespace: &str) -> Vec<Place> {
        let tables = self.store.tables.iter().enumerate().filter(|(_, table)| table.kind.namespaced);
        let places = tables.flat_map(|(table, of)| {
            let place = move |stored: &Arc<Stored>| Place {
                table,
                namespace: stored.namespace.clone(),
                name: stored.name.clone(),
            };
            of.iter(namespace).map(place)
        });
        places.collect()
    }

    pub(crate) fn asked(&self, verb: Verb, place: &Place) -> Asked {
        let kind = &self.store.tables[place.table].kind;
        Asked {
            verb,
            group: kind.group.clone(),
            version: kind.version.clone(),
            resource: kind.plural.clone(),
            subresource: String::new(),
            namespace: place.namespace.clone(),
            name: place.name.clone(),
        }
    }
}
