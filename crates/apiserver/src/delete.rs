//! Deleting: preconditions, grace, finalizers, propagation.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::identity::moved_by_s;
use crate::kind::Kind;
use crate::object::{self, FOREGROUND, ORPHAN};
use crate::read::list_body;
use crate::refusal::Refusal;
use crate::request::{Asked, Call};
use crate::selector::Selector;
use crate::served::Served;
use crate::state::{Reply, State};
use crate::store::{Place, Stored};

/// What a pod gets that does not say how long it may take to end.
const DEFAULT_GRACE_S: i64 = 30;

/// What becomes of the dependents of a deleted object.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    /// The garbage collector deletes them afterwards.
    Background,
    /// The garbage collector deletes them first.
    Foreground,
    /// They stay, without an owner.
    Orphan,
}

/// How something is to be deleted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    pub(crate) propagation: Option<Propagation>,
    grace_s: Option<i64>,
    uid: Option<String>,
    version: Option<String>,
    is_dry_run: bool,
}

/// What came of a delete.
pub(crate) enum Deleted {
    /// It is gone.
    Gone(Arc<Stored>),
    /// It is there still, and waits for a kubelet, a finalizer or the garbage collector.
    Waits(Arc<Stored>),
}

impl Options {
    /// From the body and the query.
    fn read(call: &Call) -> Result<Options, Refusal> {
        let body: Value = if call.body.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&call.body)
                .map_err(|error| Refusal::bad_request(format!("the delete options are unreadable: {error}")))?
        };
        Options::of(&body, call)
    }

    fn of(body: &Value, call: &Call) -> Result<Options, Refusal> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let policy = text(&body["propagationPolicy"]).or_else(|| call.query.propagation_policy.clone());
        let propagation = match (policy.as_deref(), body["orphanDependents"].as_bool()) {
            (Some("Background"), _) => Some(Propagation::Background),
            (Some("Foreground"), _) => Some(Propagation::Foreground),
            (Some("Orphan"), _) => Some(Propagation::Orphan),
            (Some(other), _) => {
                let why = format!("Unsupported value: \"{other}\": supported values: Foreground, Background, Orphan");
                return Err(Refusal::invalid_option("DeleteOptions", "propagationPolicy", &why));
            }
            (None, Some(true)) => Some(Propagation::Orphan),
            (None, Some(false)) => Some(Propagation::Background),
            (None, None) => None,
        };
        let is_dry_run = call.query.is_dry_run
            || body["dryRun"].as_array().is_some_and(|values| values.iter().any(|value| value == "All"));
        Ok(Options {
            propagation,
            grace_s: body["gracePeriodSeconds"].as_i64().or(call.query.grace_period_s),
            uid: text(&body["preconditions"]["uid"]),
            version: text(&body["preconditions"]["resourceVersion"]),
            is_dry_run,
        })
    }

    /// As the garbage collector deletes: only the very object that it has looked at.
    pub(crate) fn exactly(uid: &str, propagation: Propagation) -> Options {
        Options { propagation: Some(propagation), uid: Some(uid.to_owned()), ..Options::default() }
    }

    /// With its dependents treated so.
    pub(crate) fn propagating(propagation: Propagation) -> Options {
        Options { propagation: Some(propagation), ..Options::default() }
    }

    /// At once, without grace.
    pub(crate) fn now() -> Options {
        Options { grace_s: Some(0), ..Options::default() }
    }

    fn check(&self, kind: &Kind, old: &Stored) -> Result<(), Refusal> {
        let uid = object::uid(&old.value);
        if let Some(asked) = self.uid.as_deref().filter(|asked| *asked != uid) {
            let why = format!("Precondition failed: UID in precondition: {asked}, UID in object meta: {uid}");
            return Err(precondition_failed(kind, &old.name, &why));
        }
        let version = object::meta(&old.value, "resourceVersion");
        if let Some(asked) = self.version.as_deref().filter(|asked| *asked != version) {
            let why = format!(
                "Precondition failed: ResourceVersion in precondition: {asked}, ResourceVersion in object meta: {version}"
            );
            return Err(precondition_failed(kind, &old.name, &why));
        }
        Ok(())
    }
}

impl State {
    pub(crate) fn delete_one(&mut self, served: &Served, place: &Place, call: &Call) -> Result<Reply, Refusal> {
        let options = Options::read(call)?;
        let deleted = self.remove_object(&call.asked, place, &options)?;
        let body = match deleted {
            Deleted::Gone(stored) if !served.kind.returns_deleted => success_about(&served.kind, &stored),
            Deleted::Gone(stored) | Deleted::Waits(stored) => served.bytes(&stored),
        };
        Ok(Reply::Whole(200, body))
    }

    pub(crate) fn delete_many(&mut self, served: &Served, call: &Call) -> Result<Reply, Refusal> {
        let options = Options::read(call)?;
        let (query, namespace) = (&call.query, call.asked.namespace.as_str());
        let selector = Selector::parse(&served.kind, &query.label_selector, &query.field_selector)?;
        let objects = self.store.tables[served.table].iter(namespace);
        let meant: Vec<Arc<Stored>> = objects.filter(|stored| selector.matches(&stored.value)).cloned().collect();
        let metadata = json!({"resourceVersion": self.store.version.to_string()});
        let mut items = Vec::new();
        for stored in meant {
            let place = Place { table: served.table, namespace: stored.namespace.clone(), name: stored.name.clone() };
            self.remove_object(&call.asked, &place, &options)?;
            if !items.is_empty() {
                items.push(b',');
            }
            served.write_item(&mut items, &stored);
        }
        Ok(Reply::Whole(200, list_body(served, &metadata, &items)))
    }

    /// Deletes an object, or begins to.
    pub(crate) fn remove_object(
        &mut self,
        asked: &Asked,
        place: &Place,
        options: &Options,
    ) -> Result<Deleted, Refusal> {
        let old = self.must_get(place)?;
        let kind = Arc::clone(&self.store.tables[place.table].kind);
        options.check(&kind, &old)?;
        if self.has_hooks() {
            self.review(asked, place.table, &mut old.value.clone(), Some(&old.value))?;
        }
        if kind.is_core("namespaces") {
            return Ok(self.end_namespace(place, &old, options));
        }
        let mut new = old.value.clone();
        let grace_s = if kind.is_core("pods") {
            match self.begin_grace(&mut new, options) {
                Grace::Pending => return Ok(Deleted::Waits(old)),
                Grace::Left(seconds) => Some(seconds),
                Grace::None => None,
            }
        } else {
            None
        };
        set_collector_finalizers(&kind, &mut new, options.propagation);
        let waits_for_finalizers = object::has_finalizers(&new);
        if waits_for_finalizers && grace_s.is_none() && !object::is_deleting(&new) {
            self.mark_as_deleting(&mut new, 0);
        } else if waits_for_finalizers && grace_s.is_none() {
            object::set_meta(&mut new, "deletionGracePeriodSeconds", json!(0));
        }
        let marked = if new == old.value { old } else { self.commit(place, new, options.is_dry_run) };
        if waits_for_finalizers || grace_s.is_some_and(|seconds| seconds > 0) {
            return Ok(Deleted::Waits(marked));
        }
        let gone = if options.is_dry_run { None } else { self.store.remove(place) };
        Ok(Deleted::Gone(gone.unwrap_or(marked)))
    }

    fn mark_as_deleting(&self, object: &mut Value, grace_s: i64) {
        object::set_meta(object, "deletionTimestamp", Value::String(self.clock.stamp_after_s(grace_s)));
        object::set_meta(object, "deletionGracePeriodSeconds", json!(grace_s));
        object::bump_generation(object);
    }

    /// A pod ends in its own time if it has a node: then a kubelet deletes it a second time, without grace.
    fn begin_grace(&self, pod: &mut Value, options: &Options) -> Grace {
        let phase = pod["status"]["phase"].as_str().unwrap_or_default();
        let runs = !pod["spec"]["nodeName"].as_str().unwrap_or_default().is_empty()
            && !matches!(phase, "Succeeded" | "Failed");
        let own_s = pod["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(DEFAULT_GRACE_S);
        let wanted_s = match options.grace_s.unwrap_or(own_s) {
            _ if !runs => 0,
            negative if negative < 0 => 1,
            seconds => seconds,
        };
        if !object::is_deleting(pod) {
            self.mark_as_deleting(pod, wanted_s);
            return Grace::Left(wanted_s);
        }
        let Some(current_s) = object::grace_period_s(pod) else { return Grace::None };
        match options.grace_s {
            // The time can only be shortened.
            Some(asked_s) if asked_s < current_s => {
                let stamp = moved_by_s(object::meta(pod, "deletionTimestamp"), asked_s - current_s);
                object::set_meta(pod, "deletionTimestamp", Value::String(stamp));
                object::set_meta(pod, "deletionGracePeriodSeconds", json!(asked_s));
                Grace::Left(asked_s)
            }
            _ => Grace::Pending,
        }
    }

    /// A namespace waits until the step of the namespace controller has emptied it.
    fn end_namespace(&mut self, place: &Place, old: &Arc<Stored>, options: &Options) -> Deleted {
        if object::is_deleting(&old.value) {
            return Deleted::Waits(Arc::clone(old));
        }
        let mut new = old.value.clone();
        object::set_meta(&mut new, "deletionTimestamp", Value::String(self.clock.stamp_after_s(0)));
        object::set_part(&mut new, "status", Some(json!({"phase": "Terminating"})));
        Deleted::Waits(self.commit(place, new, options.is_dry_run))
    }

    pub(crate) fn evict(&mut self, place: &Place, call: &Call) -> Result<Reply, Refusal> {
        let eviction: Value = serde_json::from_slice(&call.body)
            .map_err(|error| Refusal::bad_request(format!("the eviction is unreadable: {error}")))?;
        let options = Options::of(&eviction["deleteOptions"], call)?;
        let old = self.must_get(place)?;
        options.check(&self.store.tables[place.table].kind, &old)?;
        if !object::is_deleting(&old.value) && !options.is_dry_run {
            let mut new = old.value.clone();
            let condition = json!({
                "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
                "message": "Eviction API: evicting",
            });
            set_condition(&mut new, condition, &self.clock.stamp_after_s(0));
            self.commit(place, new, false);
        }
        self.remove_object(&call.asked, place, &options)?;
        Ok(Reply::Whole(201, success()))
    }

    pub(crate) fn bind(&mut self, place: &Place, call: &Call) -> Result<Reply, Refusal> {
        let binding: Value = serde_json::from_slice(&call.body)
            .map_err(|error| Refusal::bad_request(format!("the binding is unreadable: {error}")))?;
        let node = binding["target"]["name"].as_str().unwrap_or_default();
        let said = object::meta(&binding, "name");
        if !said.is_empty() && said != place.name {
            let why = format!("the name of the binding ({said}) does not match the name on the URL ({})", place.name);
            return Err(Refusal::bad_request(why));
        }
        let old = self.must_get(place)?;
        let kind = Arc::clone(&self.store.tables[place.table].kind);
        if node.is_empty() {
            return Err(Refusal::invalid(&kind, &place.name, "target.name", "Required value: "));
        }
        let bound_to = old.value["spec"]["nodeName"].as_str().unwrap_or_default();
        let is_gated = old.value["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty());
        let name = &place.name;
        let why = if object::is_deleting(&old.value) {
            format!("pod {name} is being deleted, cannot be assigned to a host")
        } else if !bound_to.is_empty() {
            format!("pod {name} is already assigned to node \"{bound_to}\"")
        } else if is_gated {
            format!("pod {name} has non-empty .spec.schedulingGates")
        } else {
            let mut new = old.value.clone();
            new["spec"]["nodeName"] = json!(node);
            let now = self.clock.stamp_after_s(0);
            set_condition(&mut new, json!({"type": "PodScheduled", "status": "True"}), &now);
            self.commit(place, new, call.query.is_dry_run);
            return Ok(Reply::Whole(201, success()));
        };
        let mut refusal = Refusal::conflict(&kind, name, &why);
        refusal.message = format!("Operation cannot be fulfilled on pods/binding \"{name}\": {why}");
        refusal.details["kind"] = json!("pods/binding");
        Err(refusal)
    }
}

/// A conflict whose details name the kind and not the resource, as the real server has it.
fn precondition_failed(kind: &Kind, name: &str, why: &str) -> Refusal {
    let mut refusal = Refusal::conflict(kind, name, why);
    refusal.details["kind"] = json!(kind.kind);
    refusal
}

enum Grace {
    /// It is being deleted already, and this changes nothing.
    Pending,
    /// So many seconds from now.
    Left(i64),
    None,
}

/// Asks the garbage collector to act before the object goes.
fn set_collector_finalizers(kind: &Kind, object: &mut Value, propagation: Option<Propagation>) {
    let has = |finalizer: &str| object::finalizers(object).any(|known| known == finalizer);
    let (orphans, waits) = match propagation {
        Some(propagation) => (propagation == Propagation::Orphan, propagation == Propagation::Foreground),
        None if has(ORPHAN) => (true, false),
        None if has(FOREGROUND) => (false, true),
        None => (kind.orphans_by_default, false),
    };
    let is_others = |finalizer: &&str| *finalizer != ORPHAN && *finalizer != FOREGROUND;
    let mut finalizers: Vec<String> = object::finalizers(object).filter(is_others).map(str::to_owned).collect();
    if orphans {
        finalizers.push(ORPHAN.to_owned());
    }
    if waits {
        finalizers.push(FOREGROUND.to_owned());
    }
    if object::finalizers(object).ne(finalizers.iter().map(String::as_str)) {
        object::set_finalizers(object, finalizers);
    }
}

pub(crate) fn set_condition(pod: &mut Value, mut condition: Value, now: &str) {
    condition["lastProbeTime"] = Value::Null;
    condition["lastTransitionTime"] = json!(now);
    let mut conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.retain(|known| known["type"] != condition["type"]);
    conditions.push(condition);
    pod["status"]["conditions"] = Value::Array(conditions);
}

fn success() -> Bytes {
    Bytes::from(
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}).to_string(),
    )
}

fn success_about(kind: &Kind, gone: &Stored) -> Bytes {
    let mut details = json!({"name": gone.name, "kind": kind.plural, "uid": object::uid(&gone.value)});
    if !kind.group.is_empty() {
        details["group"] = json!(kind.group);
    }
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details});
    Bytes::from(status.to_string())
}
