//! What a pod asks of the other pods of its node, as far as it can be counted: each such thing is there once on every node,
//! under a name that no resource of Kubernetes can have.
//!
//! What can't be counted like that (other domains than nodes, volumes, claims) only kube-scheduler knows.

use std::collections::{BTreeMap, BTreeSet};

use mobula_planner::Labels;
use serde_json::Value;

use super::gang_pod::{HOSTNAME, holds};

/// Required anti-affinity to pods on the same node that are like the pod itself: at most one of them on each node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Apart {
    /// The name that it is counted by.
    pub name: String,
    namespaces: BTreeSet<String>,
    labels: Labels,
    expressions: Vec<String>,
}

impl Apart {
    fn read(term: &Value, namespace: &str) -> Apart {
        let listed = term["namespaces"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
        let mut namespaces: BTreeSet<String> = listed.collect();
        if namespaces.is_empty() {
            namespaces.insert(namespace.to_owned());
        }
        let selector = &term["labelSelector"];
        let expressions = selector["matchExpressions"].as_array().into_iter().flatten();
        Apart {
            name: format!("apart from {selector} in {namespaces:?}"),
            namespaces,
            labels: texts(&selector["matchLabels"]),
            expressions: expressions.map(Value::to_string).collect(),
        }
    }

    /// Whether a pod of these labels is one of those that it is about.
    pub fn fits(&self, namespace: &str, labels: &Labels) -> bool {
        let holds = |text: &String| {
            let expression: Value = serde_json::from_str(text).unwrap_or_default();
            holds(&expression, labels.get(expression["key"].as_str().unwrap_or_default()).map(String::as_str))
        };
        self.namespaces.contains(namespace)
            && self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.expressions.iter().all(holds)
    }
}

/// A map of texts.
fn texts(value: &Value) -> Labels {
    let entries = value.as_object().into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn is_there(value: &Value) -> bool {
    !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty())
}

/// Labels of a pod.
pub fn labels(pod: &Value) -> Labels {
    texts(&pod["metadata"]["labels"])
}

/// The required anti-affinity of a pod: what can be counted, and whether that is all of it.
pub fn apart(pod: &Value) -> (Vec<Apart>, bool) {
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default();
    let labels = labels(pod);
    let (mut found, mut is_all) = (Vec::new(), true);
    for term in list(pod, "/spec/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution") {
        // A term without a selector is about no pod.
        if term["labelSelector"].is_null() {
            continue;
        }
        let is_simple =
            !["namespaceSelector", "matchLabelKeys", "mismatchLabelKeys"].iter().any(|it| is_there(&term[*it]));
        let apart = Apart::read(term, namespace);
        if is_simple && term["topologyKey"] == HOSTNAME && apart.fits(namespace, &labels) {
            found.push(apart);
        } else {
            is_all = false;
        }
    }
    (found, is_all)
}

/// Whether a pod asks for something of which only kube-scheduler knows which nodes have it.
pub fn asks_for_more(pod: &Value) -> bool {
    let spec = &pod["spec"];
    let is_strict = |spread: &Value| spread["whenUnsatisfiable"] != "ScheduleAnyway";
    let is_claim = |volume: &Value| is_there(&volume["persistentVolumeClaim"]) || is_there(&volume["ephemeral"]);
    must_be_near_others(pod)
        || list(spec, "/topologySpreadConstraints").iter().any(is_strict)
        || list(spec, "/volumes").iter().any(is_claim)
        || is_there(&spec["resourceClaims"])
}

/// Whether a pod, or a template of pods, must be near other pods: it may have to wait for them.
pub fn must_be_near_others(pod: &Value) -> bool {
    !list(&pod["spec"], "/affinity/podAffinity/requiredDuringSchedulingIgnoredDuringExecution").is_empty()
}

/// Ports of its node that a pod takes, by the names that they are counted by. Addresses are not looked at: to be too strict
/// costs a node, to be too lax a gang.
pub fn host_ports(pod: &Value) -> BTreeSet<String> {
    let is_on_host = pod["spec"]["hostNetwork"] == true;
    let containers = list(pod, "/spec/containers").iter().chain(list(pod, "/spec/initContainers"));
    let ports = containers.flat_map(|container| list(container, "/ports"));
    let taken = ports.filter_map(|port| {
        let own = port["hostPort"].as_i64().filter(|port| *port > 0);
        let number = own.or_else(|| port["containerPort"].as_i64().filter(|_| is_on_host))?;
        Some(format!("host port {} {number}", port["protocol"].as_str().unwrap_or("TCP")))
    });
    taken.collect()
}

/// The nodes on which something is taken, by the name that it is counted by.
pub type Taken = BTreeMap<String, BTreeSet<String>>;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: &Value) -> Value {
        json!({"metadata": {"namespace": "ns", "labels": {"group": "w", "n": "1"}}, "spec": spec})
    }

    fn anti(term: &Value) -> Value {
        pod(&json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}))
    }

    #[test]
    fn anti_affinity_to_its_like_on_a_node_is_counted_and_nothing_else() {
        let like = json!({"matchLabels": {"group": "w"}, "matchExpressions": [{"key": "n", "operator": "Exists"}]});
        let (found, is_all) = apart(&anti(&json!({"topologyKey": HOSTNAME, "labelSelector": like})));
        assert!(is_all);
        let labels = |group: &str, key: &str| -> Labels {
            [("group".to_owned(), group.to_owned()), (key.to_owned(), "2".to_owned())].into()
        };
        let fits = |namespace: &str, labels: &Labels| found[0].fits(namespace, labels);
        assert!(fits("ns", &labels("w", "n")));
        assert!(!fits("other", &labels("w", "n")) && !fits("ns", &labels("v", "n")) && !fits("ns", &labels("w", "m")));
        assert_eq!(apart(&anti(&json!({"topologyKey": HOSTNAME}))), (vec![], true), "about no pod");
        for term in [
            json!({"topologyKey": "zone", "labelSelector": like}),
            json!({"topologyKey": HOSTNAME, "labelSelector": {"matchLabels": {"group": "head"}}}),
            json!({"topologyKey": HOSTNAME, "labelSelector": like, "namespaces": ["other"]}),
            json!({"topologyKey": HOSTNAME, "labelSelector": like, "namespaceSelector": {}}),
            json!({"topologyKey": HOSTNAME, "labelSelector": like, "matchLabelKeys": ["n"]}),
        ] {
            assert_eq!(apart(&anti(&term)), (vec![], false), "{term}");
        }
    }

    #[test]
    fn what_only_the_scheduler_knows_is_seen() {
        let required = "requiredDuringSchedulingIgnoredDuringExecution";
        for (spec, expected) in [
            (json!({}), false),
            (json!({"topologySpreadConstraints": [{"whenUnsatisfiable": "ScheduleAnyway"}]}), false),
            (json!({"topologySpreadConstraints": [{"whenUnsatisfiable": "DoNotSchedule"}]}), true),
            (json!({"affinity": {"podAffinity": {required: [{}]}}}), true),
            (json!({"affinity": {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{}]}}}), false),
            (json!({"resourceClaims": [{"name": "c"}]}), true),
            (json!({"volumes": [{"persistentVolumeClaim": {"claimName": "c"}}]}), true),
            (json!({"volumes": [{"ephemeral": {}}]}), true),
            (json!({"volumes": [{"emptyDir": {}}]}), false),
        ] {
            assert_eq!(asks_for_more(&pod(&spec)), expected, "{spec}");
        }
    }

    #[test]
    fn ports_of_the_node_are_counted() {
        let ports =
            json!([{"ports": [{"containerPort": 80}, {"containerPort": 81, "hostPort": 8081, "protocol": "UDP"}]}]);
        let taken = host_ports(&pod(&json!({"containers": ports})));
        assert_eq!(taken, BTreeSet::from(["host port UDP 8081".to_owned()]));
        let taken = host_ports(&pod(&json!({"containers": ports, "hostNetwork": true})));
        assert_eq!(taken.len(), 2, "{taken:?}");
    }
}
