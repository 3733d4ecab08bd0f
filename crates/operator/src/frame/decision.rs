//! What a reconciler decides, as a value: actions, status, events, and when to look again.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{kind::Kind, notices::Regarding};

/// What is to be done about one custom resource now. Complete before anything is done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// Steps, in batches: a batch begins when the one before has ended. The steps of a batch are done in parallel.
    pub batches: Vec<Vec<Step>>,
    /// Its requests go before those of others, and as many at once as may be: something waits for the last of them.
    pub goes_first: bool,
    /// The status to be written; `None`: it is as it should be, or not worth a request yet.
    pub status: Option<StatusWrite>,
    /// What is said apart from the steps: something has happened.
    pub notices: Vec<Notice>,
    /// What is so now, and was said when it began: said again only once it has ended in between.
    pub states: BTreeSet<Notice>,
    /// Unix time in ms at which to look again though nothing has happened; `None`: something must happen first.
    pub wake_at_ms: Option<i64>,
    /// What broke and is not to be replaced any more, as breakage is kept: how often it did is forgotten.
    pub given_up: BTreeSet<String>,
    /// Parts that want something done but wait for their back-off. Failures of other parts are forgotten.
    pub held: BTreeSet<String>,
    /// Pods that have ended and wait to be replaced, by unique id: when that was first seen (Unix ms).
    pub ended: BTreeMap<String, i64>,
}

impl Decision {
    /// Adds a batch, unless it is empty.
    pub fn then(&mut self, steps: Vec<Step>) {
        if !steps.is_empty() {
            self.batches.push(steps);
        }
    }

    /// Adds to the last batch: nothing that is in it has to end before.
    pub fn beside(&mut self, steps: impl IntoIterator<Item = Step>) {
        match self.batches.last_mut() {
            Some(batch) => batch.extend(steps),
            None => self.then(steps.into_iter().collect()),
        }
    }

    /// Looks again at `at_ms`, or earlier if something else asks for it.
    pub fn wake_at(&mut self, at_ms: i64) {
        self.wake_at_ms = Some(self.wake_at_ms.map_or(at_ms, |other| other.min(at_ms)));
    }

    /// All steps, in order.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.batches.iter().flatten()
    }
}

/// One action, what it is for, and what is said about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What is done.
    pub action: Action,
    /// The part of the custom resource that it serves (`head`, `group/a`, …). Failures and back-off are kept for each part.
    pub part: String,
    /// Namespace of the object, where it is not that of the custom resource.
    pub namespace: Option<String>,
    /// A deletion is meant for this version of the object only: at any other it is a conflict, and one looks again.
    pub only_at: Option<String>,
    /// Later batches are not begun if it fails.
    pub is_blocking: bool,
    /// Said when it was done.
    pub success: Option<Words>,
    /// Said when it failed.
    pub failure: Option<Words>,
    /// Said instead when it failed because somebody else's object has the name.
    pub taken: Option<Words>,
    /// What is said about it is said of this object, where it is not the custom resource that decided it.
    pub about: Option<Regarding>,
    /// It replaces something that broke: too many of these in a row slow the part down.
    pub replaces_broken: bool,
    /// What broke, where that is less than the part: how often it did is kept for itself.
    pub broken: Option<String>,
}

/// The words of an Event about steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// Reason, as KubeRay has it.
    pub reason: &'static str,
    /// What was done or tried: `Create`, `Delete`, …
    pub action: &'static str,
    /// The beginning of the sentence that ends with the names: `Created worker Pod`.
    pub text: String,
}

/// One request to the API server. The set is closed: the executor is left no choice.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Create. That an object of the name exists is success if it belongs to the same owner.
    Create {
        /// Kind.
        kind: &'static Kind,
        /// The object.
        body: Value,
        /// What an object of that name with another owner means.
        foreign: Foreign,
    },
    /// Delete exactly this object. That it is gone is success.
    Delete {
        /// Kind.
        kind: &'static Kind,
        /// Name.
        name: String,
        /// Its unique id: an object of the same name that came later is left alone.
        uid: String,
    },
    /// Merge patch of exactly this object.
    Patch {
        /// Kind.
        kind: &'static Kind,
        /// Name.
        name: String,
        /// The patch. Its metadata names the unique id or the resource version that it was made for.
        patch: Value,
    },
    /// Merge patch that makes the custom resource the owner of an object that has none, after a look whether it is still there
    /// to own anything: else the object would go with it.
    Adopt {
        /// Kind.
        kind: &'static Kind,
        /// Name.
        name: String,
        /// The patch: the resource version that it was made for, and the owners.
        patch: Value,
    },
    /// Write the whole object, made from the version that it names.
    Replace {
        /// Kind.
        kind: &'static Kind,
        /// The object.
        body: Value,
    },
    /// Ask whether an object exists that is not watched. The answer is part of the next observation.
    LookUp {
        /// Kind.
        kind: &'static Kind,
        /// Name.
        name: String,
    },
}

/// What an object of the wanted name with another owner means for a creation.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// It failed.
    Refused,
    /// It will do.
    Accepted,
}

impl Action {
    /// Kind of the object.
    pub fn kind(&self) -> &'static Kind {
        match self {
            Action::Create { kind, .. }
            | Action::Delete { kind, .. }
            | Action::Patch { kind, .. }
            | Action::Adopt { kind, .. }
            | Action::Replace { kind, .. }
            | Action::LookUp { kind, .. } => kind,
        }
    }

    /// Name of the object.
    pub fn name(&self) -> &str {
        match self {
            Action::Create { body, .. } | Action::Replace { body, .. } => {
                body.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
            }
            Action::Delete { name, .. }
            | Action::Patch { name, .. }
            | Action::Adopt { name, .. }
            | Action::LookUp { name, .. } => name,
        }
    }

    /// What it is called in metrics and logs.
    pub fn verb(&self) -> &'static str {
        match self {
            Action::Create { .. } => "create",
            Action::Delete { .. } => "delete",
            Action::Patch { .. } | Action::Adopt { .. } => "patch",
            Action::Replace { .. } => "update",
            Action::LookUp { .. } => "get",
        }
    }
}

impl Step {
    /// A step that says nothing and holds nothing up.
    pub fn new(part: impl Into<String>, action: Action) -> Self {
        let part = part.into();
        Step {
            action,
            part,
            namespace: None,
            only_at: None,
            is_blocking: false,
            success: None,
            failure: None,
            taken: None,
            about: None,
            replaces_broken: false,
            broken: None,
        }
    }

    /// It is done in `namespace`.
    pub fn within(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// A deletion of the object as it is at this version.
    pub fn only_at(mut self, resource_version: impl Into<String>) -> Self {
        self.only_at = Some(resource_version.into());
        self
    }

    /// Later batches wait for it.
    pub fn blocking(mut self) -> Self {
        self.is_blocking = true;
        self
    }

    /// Says `reason` when it was done.
    pub fn says(mut self, reason: &'static str, action: &'static str, text: impl Into<String>) -> Self {
        self.success = Some(Words { reason, action, text: text.into() });
        self
    }

    /// Says `reason` when somebody else's object has the name.
    pub fn collides(mut self, reason: &'static str, action: &'static str, text: impl Into<String>) -> Self {
        self.taken = Some(Words { reason, action, text: text.into() });
        self
    }

    /// Says `reason` when it failed.
    pub fn complains(mut self, reason: &'static str, action: &'static str, text: impl Into<String>) -> Self {
        self.failure = Some(Words { reason, action, text: text.into() });
        self
    }
}

/// A status that is to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct StatusWrite {
    /// Merge patch for the status: what changes.
    pub patch: Value,
    /// The version of the object that it was computed from.
    pub resource_version: String,
    /// Until then (Unix ms) it lets other requests go before it: it says only how things get on.
    pub yields_until_ms: i64,
    /// The age of the object in ms, if this status is the one that says that all of it is there.
    pub provisioned_after_ms: Option<i64>,
}

/// Something to be said as an Event.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Notice {
    /// Whether it is a warning.
    pub is_warning: bool,
    /// Reason, as KubeRay has it.
    pub reason: &'static str,
    /// What was done or tried.
    pub action: &'static str,
    /// The sentence.
    pub message: String,
}
