//! Kubernetes nodes: whether they take pods, and which.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A taint with effect `NoSchedule` or `NoExecute`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Taint {
    /// Key.
    pub key: String,
    /// Value; empty if it has none.
    pub value: String,
    /// Effect.
    pub effect: String,
}

/// Why a node, as the API server sends it, is no target for any pod, and which taints keep pods off it that do not tolerate
/// them.
pub fn fitness(node: &Value) -> (Option<String>, Vec<Taint>) {
    let hard = list(node, "/spec/taints").iter().filter(|taint| is_hard(taint)).map(taint);
    let (health, taints): (Vec<Taint>, Vec<Taint>) = hard.partition(|taint| is_about_health(&taint.key));
    (unfit(node, &health), taints)
}

fn is_hard(taint: &Value) -> bool {
    matches!(text(taint, "/effect"), "NoSchedule" | "NoExecute")
}

fn taint(taint: &Value) -> Taint {
    let text = |pointer| text(taint, pointer).to_owned();
    Taint { key: text("/key"), value: text("/value"), effect: text("/effect") }
}

/// Keys of taints that a node gets which is not ready, unhealthy, or about to go.
const HEALTH_TAINTS: [&str; 5] = [
    "ToBeDeletedByClusterAutoscaler",
    "karpenter.sh/disrupted",
    "karpenter.sh/disruption",
    "karpenter.sh/unregistered",
    "cloud.google.com/impending-node-termination",
];
/// Prefixes of such keys.
const HEALTH_PREFIXES: [&str; 2] = ["node.kubernetes.io/", "node.cloudprovider.kubernetes.io/"];
/// Words in such keys: there is no standard for what health checkers write (`example.com/gpu-unhealthy`).
const HEALTH_WORDS: [&str; 8] =
    ["unhealthy", "draining", "drain", "maintenance", "quarantine", "quarantined", "terminating", "repair"];

fn is_about_health(key: &str) -> bool {
    let mut words = key.split(|c: char| !c.is_ascii_alphanumeric());
    HEALTH_TAINTS.contains(&key)
        || HEALTH_PREFIXES.iter().any(|prefix| key.starts_with(prefix))
        || words.any(|word| HEALTH_WORDS.contains(&word.to_ascii_lowercase().as_str()))
}

fn unfit(node: &Value, health: &[Taint]) -> Option<String> {
    let mut why = Vec::new();
    if node.pointer("/metadata/deletionTimestamp").is_some_and(Value::is_string) {
        why.push("is being deleted".to_owned());
    }
    if node.pointer("/spec/unschedulable").and_then(Value::as_bool) == Some(true) {
        why.push("is cordoned".to_owned());
    }
    let ready = list(node, "/status/conditions").iter().find(|condition| text(condition, "/type") == "Ready");
    if let Some(ready) = ready.filter(|ready| text(ready, "/status") != "True") {
        why.push(format!("has condition Ready={}", text(ready, "/status")));
    }
    // The taint of a cordoned node says the same again.
    let said = |taint: &&Taint| taint.key != "node.kubernetes.io/unschedulable" || why.is_empty();
    let taints: Vec<String> = health.iter().filter(said).map(|t| format!("has taint {}:{}", t.key, t.effect)).collect();
    why.extend(taints);
    (!why.is_empty()).then(|| why.join(", "))
}

/// Whether a pod with these tolerations, as its template writes them, may be put on a node in spite of a taint.
pub fn tolerates(tolerations: &[Value], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| {
        let (key, effect) = (text(toleration, "/key"), text(toleration, "/effect"));
        let exists = text(toleration, "/operator") == "Exists";
        (effect.is_empty() || effect == taint.effect)
            && (key == taint.key || (key.is_empty() && exists))
            && (exists || text(toleration, "/value") == taint.value)
    })
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
