//! What of a RayCluster is refused: KubeRay's rules, and what this operator does not do.
//!
//! One pure function for the webhook, the reconciler and `mobula lint`. KubeRay names the first fault; all are named here.
//! Two groups of one name are refused, which KubeRay does only in its optional webhook. What is allowed and yet will not
//! work is said by [`RayCluster::advice`].

mod advice;
mod cluster;
mod groups;
mod newer;
mod object;
mod objects;
#[cfg(test)]
mod tests;

pub use object::Fault;

use std::fmt;

use serde_json::Value;

use crate::{
    Compat, FieldError, Gates, RayCluster,
    at::At,
    template::{EnvValue, PodTemplate},
};

/// What the rules depend on besides the object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Whose rules, where KubeRay's releases differ.
    pub compat: Compat,
    /// The gates that are on.
    pub gates: Gates,
}

/// Which part of the object is at fault: the reason of KubeRay's Event.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InvalidReason {
    /// `InvalidRayClusterMetadata`.
    Metadata,
    /// `InvalidRayClusterSpec`.
    Spec,
    /// `InvalidRayClusterStatus`.
    Status,
}

impl InvalidReason {
    /// The reason as KubeRay's Events have it.
    pub fn as_str(self) -> &'static str {
        match self {
            InvalidReason::Metadata => "InvalidRayClusterMetadata",
            InvalidReason::Spec => "InvalidRayClusterSpec",
            InvalidReason::Status => "InvalidRayClusterStatus",
        }
    }
}

/// One fault of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The field, what it holds, and what to do.
    pub error: FieldError,
    /// Reason of the Event.
    pub reason: InvalidReason,
    /// What of the object is not done before it is mended.
    pub refused: Extent,
}

/// How much of an object is refused.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All of it: it is left alone.
    Whole,
    /// What can't be made of it: a group, a Service. All else goes on.
    Part,
    /// Nothing: the Event is all there is to it.
    None,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

/// Most characters of a RayCluster's name: its children's names must fit into 63.
pub const MOST_NAME_CHARS: usize = 53;

impl RayCluster {
    /// Everything that KubeRay would refuse, in the order in which KubeRay looks, and what this operator does not do. Last
    /// comes what only a part can't be made of.
    /// A cluster that another controller manages is nobody's business here: ask for `managedBy` first.
    pub fn validate(&self, rules: &Rules) -> Vec<Finding> {
        let fatal = |reason| move |error| Finding { error, reason, refused: Extent::Whole };
        let mut findings: Vec<Finding> = Vec::new();
        findings.extend(
            name("metadata.name", &self.metadata.name, MOST_NAME_CHARS).into_iter().map(fatal(InvalidReason::Metadata)),
        );
        let unread = |error| Finding { error, reason: InvalidReason::Metadata, refused: Extent::None };
        findings.extend(self.planned_gangs().err().map(unread));
        findings.extend(groups::refused(self, rules).into_iter().map(fatal(InvalidReason::Spec)));
        findings.extend(cluster::refused(self, rules).into_iter().map(fatal(InvalidReason::Spec)));
        findings.extend(newer::refused(self, rules).into_iter().map(fatal(InvalidReason::Spec)));
        findings.extend(cluster::restarted_by_kubelet(self, rules));
        findings.extend(status(&self.status).into_iter().map(fatal(InvalidReason::Status)));
        let parts: Vec<FieldError> = groups::uncountable(self).into_iter().chain(cluster::serve_port(self)).collect();
        for error in parts {
            // One complaint about a field is enough.
            if findings.iter().all(|finding| finding.error.field != error.field) {
                findings.push(Finding { error, reason: InvalidReason::Spec, refused: Extent::Part });
            }
        }
        findings
    }
}

/// A name that children can carry.
fn name(path: &str, name: &str, most_chars: usize) -> Option<FieldError> {
    let problem = if name.is_empty() {
        "is required".to_owned()
    } else if name.len() > most_chars {
        format!("has {} characters: must have at most {most_chars}, for names are derived from it", name.len())
    } else if !is_dns_1035_label(name) {
        "must be a DNS-1035 label: lower-case letters, digits and -, a letter first, no - at the end".to_owned()
    } else {
        return None;
    };
    Some(FieldError::new(path, name, problem))
}

fn is_dns_1035_label(text: &str) -> bool {
    let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(is_inner) && !text.ends_with('-')
}

fn is_dns_1123_label(text: &str) -> bool {
    let is_end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() <= 63
        && text.chars().all(|c| is_end(c) || c == '-')
        && text.starts_with(is_end)
        && text.ends_with(is_end)
}

/// Both of the conditions that exclude each other. Nobody but an operator writes them: a hand-made status is to be repaired.
fn status(status: &Value) -> Option<FieldError> {
    let conditions = status.get("conditions").and_then(Value::as_array).into_iter().flatten();
    let is_true = |condition: &&Value| condition.get("status").and_then(Value::as_str) == Some("True");
    let types = conditions.filter(is_true).filter_map(|condition| condition.get("type")?.as_str());
    let both = types.filter(|name| matches!(*name, "RayClusterSuspending" | "RayClusterSuspended")).count();
    (both > 1).then(|| {
        let problem = "must not both be True: set RayClusterSuspending to False once the cluster has no pods";
        FieldError::new("status.conditions", "RayClusterSuspending, RayClusterSuspended", problem)
    })
}

/// A group as the rules look at it, head and workers alike.
struct Member<'a> {
    /// Where it is in the document.
    path: String,
    /// Its Ray container and pod, or why there is none.
    template: Result<PodTemplate<'a>, FieldError>,
}

impl<'a> Member<'a> {
    fn of(path: String, template: &'a Value) -> Self {
        Member { template: PodTemplate::of_group(&path, template), path }
    }

    fn head(cluster: &'a RayCluster) -> Self {
        Member::of("spec.headGroupSpec".to_owned(), &cluster.spec.head_group_spec.template)
    }

    fn workers(cluster: &'a RayCluster) -> impl Iterator<Item = Self> {
        let groups = cluster.spec.worker_group_specs.iter().enumerate();
        groups.map(|(i, group)| Member::of(format!("spec.workerGroupSpecs[{i}]"), &group.template))
    }

    /// The first variable of this name in the Ray container, and its value if it is literal.
    fn env(&self, name: &str) -> Option<(At<'a>, Option<&'a str>)> {
        let list = self.template.as_ref().ok()?.env_list().ok()?;
        let (at, value) = list.into_iter().find(|(at, _)| at.text("name").is_ok_and(|found| found == name))?;
        let literal = match value {
            Some(EnvValue::Literal(text)) => Some(text),
            _ => None,
        };
        Some((at, literal))
    }

    /// The pods' restart policy where kubelet, not the operator, would start Ray again.
    fn restarting_policy(&self) -> Option<At<'a>> {
        let policy = self.template.as_ref().ok()?.restart_policy().ok()??;
        (!matches!(policy.str(), Ok("" | "Never"))).then_some(policy)
    }
}

/// The elements of a member, none if it is no list: what a field must be is said once, elsewhere.
fn list<'a>(at: &At<'a>, key: &str) -> Vec<At<'a>> {
    at.get(key).ok().flatten().and_then(|list| list.items().ok()).unwrap_or_default()
}

/// Whether replicas are decided by an autoscaler.
fn is_autoscaled(cluster: &RayCluster) -> bool {
    cluster.spec.enable_in_tree_autoscaling == Some(true)
}

/// `autoscalerOptions.version`, empty if unset.
fn autoscaler_version(cluster: &RayCluster) -> &str {
    cluster.spec.autoscaler_options.as_ref().and_then(|options| options.version.as_deref()).unwrap_or_default()
}

/// Variable of the head by which Ray chose its autoscaler before KubeRay had an option for it.
const ENV_AUTOSCALER_V2: &str = "RAY_enable_autoscaler_v2";

fn turns_autoscaler_v2_on(value: Option<&str>) -> bool {
    matches!(value, Some("1" | "true"))
}

/// Whether the autoscaler is asked to be v2, by the option or by the variable.
fn is_autoscaler_v2(cluster: &RayCluster) -> bool {
    autoscaler_version(cluster) == "v2"
        || Member::head(cluster).env(ENV_AUTOSCALER_V2).is_some_and(|(_, value)| turns_autoscaler_v2_on(value))
}
