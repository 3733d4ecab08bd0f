//! Writing: create, update and patch.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::admission::Review;
use crate::kind::Kind;
use crate::object;
use crate::patch::patched;
use crate::refusal::Refusal;
use crate::request::{Asked, Call, Verb};
use crate::served::Served;
use crate::specifics;
use crate::state::{Reply, State};
use crate::store::{Place, Stored};
use crate::validation;

/// How often a generated name is drawn that is taken already.
const DRAWS: usize = 8;
/// Of a prefix so much is used.
const MAX_PREFIX: usize = 58;

impl State {
    pub(crate) fn create(&mut self, served: &Served, call: &Call) -> Result<Reply, Refusal> {
        let object = read_object(served, &call.body)?;
        let (table, asked) = (served.table, &call.asked);
        let kind = Arc::clone(&self.store.tables[table].kind);
        let object = served.as_kept(object, &kind);
        let stored = self.create_object(&kind, asked, table, object, call.query.is_dry_run)?;
        Ok(Reply::Whole(201, served.bytes(&stored)))
    }

    /// Creates an object in the form in which it is kept.
    pub(crate) fn create_object(
        &mut self,
        kind: &Kind,
        asked: &Asked,
        table: usize,
        mut object: Value,
        is_dry_run: bool,
    ) -> Result<Arc<Stored>, Refusal> {
        check_parts(&object)?;
        let namespace = self.settle_namespace(kind, &asked.namespace, &mut object)?;
        let name = self.settle_name(kind, table, &namespace, &mut object)?;
        if !object::meta(&object, "resourceVersion").is_empty() {
            return Err(Refusal::internal("resourceVersion should not be set on objects to be created"));
        }
        if self.store.tables[table].get(&namespace, &name).is_some() {
            return Err(Refusal::already_exists(kind, &name));
        }
        self.review(asked, table, &mut object, None)?;
        check_parts(&object)?;
        for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
            object::remove_meta(&mut object, field);
        }
        object::set_meta(&mut object, "uid", Value::String(self.ids.uid()));
        object::set_meta(&mut object, "creationTimestamp", Value::String(self.clock.stamp_after_s(0)));
        if kind.has_generation {
            object::set_meta(&mut object, "generation", json!(1));
        }
        validation::check_name(kind, &name)?;
        validation::check_metadata(kind, &name, &object, None)?;
        specifics::begin(kind, &mut object, || self.next_address());
        let place = Place { table, namespace, name };
        Ok(self.commit(&place, object, is_dry_run))
    }

    fn settle_namespace(&self, kind: &Kind, of_path: &str, object: &mut Value) -> Result<String, Refusal> {
        let said = object::meta(object, "namespace");
        if !kind.namespaced {
            object::remove_meta(object, "namespace");
            return Ok(String::new());
        }
        if !said.is_empty() && said != of_path {
            return Err(other_namespace(said, of_path));
        }
        object::set_meta(object, "namespace", Value::String(of_path.to_owned()));
        let namespaces = self.store.tables.iter().find(|table| table.kind.is_core("namespaces"));
        let Some(namespaces) = namespaces else { return Ok(of_path.to_owned()) };
        let Some(namespace) = namespaces.get("", of_path) else {
            return Err(Refusal::not_found(&namespaces.kind, of_path));
        };
        if object::is_deleting(&namespace.value) {
            let why = format!("unable to create new content in namespace {of_path} because it is being terminated");
            let mut refusal = Refusal::forbidden(kind, object::meta(object, "name"), &why);
            let cause = json!({"reason": "NamespaceTerminating", "message": why, "field": "metadata.namespace"});
            refusal.details["causes"] = json!([cause]);
            return Err(refusal);
        }
        Ok(of_path.to_owned())
    }

    fn settle_name(
        &mut self,
        kind: &Kind,
        table: usize,
        namespace: &str,
        object: &mut Value,
    ) -> Result<String, Refusal> {
        let said = object::meta(object, "name");
        if !said.is_empty() {
            return Ok(said.to_owned());
        }
        let mut prefix = object::meta(object, "generateName").to_owned();
        if prefix.is_empty() {
            let why = "Required value: name or generateName is required";
            return Err(Refusal::invalid(kind, "", "metadata.name", why));
        }
        while prefix.len() > MAX_PREFIX {
            prefix.pop();
        }
        let mut name = String::new();
        for _ in 0..DRAWS {
            name = format!("{prefix}{}", self.ids.suffix());
            if self.store.tables[table].get(namespace, &name).is_none() {
                break;
            }
        }
        object::set_meta(object, "name", Value::String(name.clone()));
        Ok(name)
    }

    pub(crate) fn update(&mut self, served: &Served, place: &Place, call: &Call) -> Result<Reply, Refusal> {
        let object = read_object(served, &call.body)?;
        let old = self.must_get(place)?;
        let kind = Arc::clone(&self.store.tables[place.table].kind);
        let new = served.as_kept(object, &kind);
        let stored = self.replace(&call.asked, place, &old, new, call.query.is_dry_run)?;
        Ok(Reply::Whole(200, served.bytes(&stored)))
    }

    pub(crate) fn patch(&mut self, served: &Served, place: &Place, call: &Call) -> Result<Reply, Refusal> {
        let old = self.must_get(place)?;
        let kind = Arc::clone(&self.store.tables[place.table].kind);
        let mut new = patched(served.as_served(&old.value), &call.content_type, &call.body)?;
        if !new.is_object() {
            return Err(Refusal::bad_request("the patch leaves no object"));
        }
        check_type(served, &mut new)?;
        if let Err(refusal) = check_parts(&new) {
            let why = refusal.message;
            return Err(Refusal::with_causes(why.clone(), &[], &[("patch", &why)]));
        }
        let new = served.as_kept(new, &kind);
        let stored = self.replace(&call.asked, place, &old, new, call.query.is_dry_run)?;
        Ok(Reply::Whole(200, served.bytes(&stored)))
    }

    pub(crate) fn must_get(&self, place: &Place) -> Result<Arc<Stored>, Refusal> {
        let table = &self.store.tables[place.table];
        let stored = table.get(&place.namespace, &place.name);
        stored.cloned().ok_or_else(|| Refusal::not_found(&table.kind, &place.name))
    }

    /// Writes a new version of an object, as far as the subresource allows.
    pub(crate) fn replace(
        &mut self,
        asked: &Asked,
        place: &Place,
        old: &Arc<Stored>,
        mut new: Value,
        is_dry_run: bool,
    ) -> Result<Arc<Stored>, Refusal> {
        let kind = Arc::clone(&self.store.tables[place.table].kind);
        check_parts(&new)?;
        check_identity(&kind, asked, old, &new)?;
        self.review(asked, place.table, &mut new, Some(&old.value))?;
        check_parts(&new)?;
        let mut new = confined(&kind, &asked.subresource, &old.value, new);
        for field in ["name", "namespace", "uid", "creationTimestamp", "generation", "resourceVersion"]
            .into_iter()
            .chain(["deletionTimestamp", "deletionGracePeriodSeconds", "generateName"])
        {
            object::copy_meta(&mut new, &old.value, field);
        }
        specifics::keep(&kind, &old.value, &mut new);
        validation::check_metadata(&kind, &place.name, &new, Some(&old.value))?;
        if kind.is_core("pods") && asked.subresource.is_empty() {
            specifics::check_pod_change(&kind, &place.name, &old.value, &new)?;
        }
        if kind.has_generation && wishes_differ(&old.value, &new) {
            object::bump_generation(&mut new);
        }
        Ok(self.settle_write(&kind, place, old, new, is_dry_run))
    }

    fn settle_write(
        &mut self,
        kind: &Kind,
        place: &Place,
        old: &Arc<Stored>,
        new: Value,
        is_dry_run: bool,
    ) -> Arc<Stored> {
        // What was waited for has happened: the last finalizer is gone, or the last of a namespace's.
        if object::is_deleting(&new) && !object::has_finalizers(&new) && is_ready_to_go(kind, &new) {
            return self.commit_removal(place, new, is_dry_run);
        }
        if new == old.value {
            return Arc::clone(old);
        }
        self.commit(place, new, is_dry_run)
    }

    /// Writes what somebody else made of an object, whatever it is.
    pub(crate) fn write_freely(&mut self, place: &Place, old: &Arc<Stored>, mut new: Value) -> Arc<Stored> {
        let kind = Arc::clone(&self.store.tables[place.table].kind);
        if !new.is_object() {
            return Arc::clone(old);
        }
        for field in ["name", "namespace", "uid", "creationTimestamp", "generation", "resourceVersion"] {
            object::copy_meta(&mut new, &old.value, field);
        }
        if kind.has_generation && wishes_differ(&old.value, &new) {
            object::bump_generation(&mut new);
        }
        self.settle_write(&kind, place, old, new, false)
    }

    /// Asks the hooks.
    pub(crate) fn review(
        &self,
        asked: &Asked,
        table: usize,
        object: &mut Value,
        old: Option<&Value>,
    ) -> Result<(), Refusal> {
        if !self.has_hooks() {
            return Ok(());
        }
        for hook in self.hooks(table) {
            hook(&mut Review { asked, object, old, store: &self.store, table })?;
        }
        Ok(())
    }

    pub(crate) fn commit(&mut self, place: &Place, object: Value, is_dry_run: bool) -> Arc<Stored> {
        if is_dry_run { Arc::new(Stored::new(place, object)) } else { self.store.put(place, object) }
    }

    fn commit_removal(&mut self, place: &Place, last: Value, is_dry_run: bool) -> Arc<Stored> {
        if !is_dry_run {
            self.store.remove(place);
        }
        Arc::new(Stored::new(place, last))
    }
}

/// Whether an object that is being deleted and has no finalizers is to go now.
fn is_ready_to_go(kind: &Kind, object: &Value) -> bool {
    if kind.is_core("namespaces") {
        return object["spec"]["finalizers"].as_array().is_none_or(Vec::is_empty);
    }
    object::grace_period_s(object).is_none_or(|grace| grace == 0)
}

fn read_object(served: &Served, body: &[u8]) -> Result<Value, Refusal> {
    let mut object: Value = serde_json::from_slice(body)
        .map_err(|error| Refusal::bad_request(format!("the object provided is unrecognized: {error}")))?;
    if !object.is_object() {
        return Err(Refusal::bad_request("the object provided is unrecognized: it is no JSON object"));
    }
    check_type(served, &mut object)?;
    Ok(object)
}

/// The object must be of the kind that is served there; built-in kinds need not say it.
fn check_type(served: &Served, object: &mut Value) -> Result<(), Refusal> {
    let (version, kind) = (served.kind.api_version(), served.kind.kind.as_str());
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    let (said_version, said_kind) = (text("apiVersion"), text("kind"));
    if served.kind.is_custom && (said_version.is_empty() || said_kind.is_empty()) {
        return Err(Refusal::bad_request("Object 'Kind' is missing: apiVersion and kind must be set"));
    }
    if !said_version.is_empty() && said_version != version {
        return Err(Refusal::bad_request(format!(
            "the API version in the data ({said_version}) does not match the expected API version ({version})"
        )));
    }
    if !said_kind.is_empty() && said_kind != kind {
        return Err(Refusal::bad_request(format!(
            "{said_kind} in version \"{version}\" cannot be handled as a {kind}"
        )));
    }
    served.say_what_it_is(object);
    Ok(())
}

/// The parts that every kind builds of members are objects.
fn check_parts(object: &Value) -> Result<(), Refusal> {
    for part in ["metadata", "spec", "status", "data", "stringData"] {
        if let Some(value) = object.get(part).filter(|value| !value.is_object() && !value.is_null()) {
            return Err(Refusal::bad_request(format!("{part}: must be an object, is {value}")));
        }
    }
    let metadata = &object["metadata"];
    for (field, is_right) in [
        ("labels", metadata["labels"].is_object() || metadata["labels"].is_null()),
        ("annotations", metadata["annotations"].is_object() || metadata["annotations"].is_null()),
        ("ownerReferences", metadata["ownerReferences"].is_array() || metadata["ownerReferences"].is_null()),
        ("finalizers", metadata["finalizers"].is_array() || metadata["finalizers"].is_null()),
    ] {
        if !is_right {
            return Err(Refusal::bad_request(format!("metadata.{field}: has another type, is {}", metadata[field])));
        }
    }
    Ok(())
}

fn other_namespace(said: &str, of_path: &str) -> Refusal {
    Refusal::bad_request(format!(
        "the namespace of the provided object does not match the namespace sent on the request ({said}, {of_path})"
    ))
}

/// What is written must be meant for the object that is there, in the version that is there.
fn check_identity(kind: &Kind, asked: &Asked, old: &Stored, new: &Value) -> Result<(), Refusal> {
    let said = |field: &str| object::meta(new, field);
    let name = old.name.as_str();
    if said("name").is_empty() && asked.verb == Verb::Update || !said("name").is_empty() && said("name") != name {
        return Err(Refusal::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({name})",
            said("name")
        )));
    }
    if !said("namespace").is_empty() && said("namespace") != old.namespace {
        return Err(other_namespace(said("namespace"), &old.namespace));
    }
    // The whole object that is sent is a precondition; of a patch the result is looked at, and that comes last. The front of
    // the status of a custom kind does not look at metadata at all.
    let uid = object::uid(&old.value);
    let is_of_another = !said("uid").is_empty() && said("uid") != uid;
    if is_of_another && asked.verb == Verb::Update {
        let why = format!("Precondition failed: UID in precondition: {}, UID in object meta: {uid}", said("uid"));
        return Err(Refusal::conflict(kind, name, &why));
    }
    let version = said("resourceVersion");
    let is_looked_at = !(kind.is_custom && asked.subresource == "status");
    if is_of_another && is_looked_at && (version.is_empty() || version == object::meta(&old.value, "resourceVersion")) {
        let why = format!("Invalid value: {:?}: field is immutable", said("uid"));
        return Err(Refusal::invalid(kind, name, "metadata.uid", &why));
    }
    if version.is_empty() {
        let must = (kind.is_custom || kind.plural == "leases") && asked.verb == Verb::Update;
        let why = "Invalid value: 0: must be specified for an update";
        let mut refusal = Refusal::invalid(kind, name, "metadata.resourceVersion", why);
        refusal.details["kind"] = json!(kind.plural);
        return if must { Err(refusal) } else { Ok(()) };
    }
    if version != object::meta(&old.value, "resourceVersion") {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        return Err(Refusal::conflict(kind, name, why));
    }
    Ok(())
}

/// The new object as far as this subresource may change it.
fn confined(kind: &Kind, subresource: &str, old: &Value, mut new: Value) -> Value {
    match subresource {
        "" => {
            if kind.has_status {
                object::set_part(&mut new, "status", old.get("status").cloned());
            }
            if kind.is_core("namespaces") {
                new["spec"] = old["spec"].clone();
            }
            new
        }
        // Of a built-in kind also labels, annotations and the like.
        "status" if !kind.is_custom => confined_to(&["metadata", "status"], old, new),
        "resize" => resized(old, &new),
        part => {
            let part = if part == "finalize" { "spec" } else { part };
            confined_to(&[part], old, new)
        }
    }
}

/// The old object with these parts of the new one. What is the same in both is not copied.
fn confined_to(parts: &[&str], old: &Value, mut new: Value) -> Value {
    let (Some(old), Some(members)) = (old.as_object(), new.as_object_mut()) else { return new };
    members.retain(|name, _| parts.contains(&name.as_str()) || old.contains_key(name));
    for (name, value) in old.iter().filter(|(name, _)| !parts.contains(&name.as_str())) {
        if members.get(name) != Some(value) {
            members.insert(name.clone(), value.clone());
        }
    }
    new
}

/// The old pod with the resources that the new one gives to its containers.
fn resized(old: &Value, new: &Value) -> Value {
    let mut resized = old.clone();
    for list in ["containers", "initContainers"] {
        let Some(containers) = resized.pointer_mut(&format!("/spec/{list}")).and_then(Value::as_array_mut) else {
            continue;
        };
        for container in containers.iter_mut() {
            let mut wanted = new["spec"][list].as_array().into_iter().flatten();
            let resources = wanted.find(|wanted| wanted["name"] == container["name"]);
            object::set_part(container, "resources", resources.and_then(|wanted| wanted.get("resources")).cloned());
        }
    }
    resized
}

/// Whether anything but metadata and status differs.
fn wishes_differ(old: &Value, new: &Value) -> bool {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else { return false };
    let is_wish = |name: &&String| !matches!(name.as_str(), "metadata" | "status" | "apiVersion" | "kind");
    old.keys().chain(new.keys()).filter(is_wish).any(|name| old.get(name) != new.get(name))
}
