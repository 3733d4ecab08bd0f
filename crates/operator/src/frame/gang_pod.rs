//! What gang admission looks at in a pod. Kept only of pods that belong to a gang.

use std::collections::BTreeMap;

use mobula_api::{
    keys,
    node::{Taint, tolerates},
    pod_needs,
};
use mobula_planner::{Amount, Labels, Resources};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::neighbours::{Apart, apart, asks_for_more, host_ports};

/// The scheduling gate of pods that wait for the rest of their gang.
pub const GATE: &str = "mobula.dev/gang";
/// Annotation of a pod: the gang that it belongs to, within its RayCluster.
pub const GANG: &str = keys::GANG;
/// Annotation of a pod whose gate was lifted: an [`Admission`] as JSON.
pub const ADMITTED: &str = keys::GANG_ADMITTED;
/// Annotation of a pod that is looked at anew: when, in Unix ms. To write it makes a new version of the pod, which no
/// request that is still under way from before was made for.
pub const LOOKED_AT: &str = "mobula.dev/gang-looked-at";
/// Label of nodes that pods are pinned by.
pub const HOSTNAME: &str = "kubernetes.io/hostname";

/// The scheduler of pods that name none.
const DEFAULT_SCHEDULER: &str = "default-scheduler";

/// Pods whose gates are lifted together. Written on each of them, so that whoever finds it half done can finish it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Admission {
    /// Unix time in ms at which it began: what tells it from others of its gang.
    #[serde(rename = "at")]
    pub at_ms: i64,
    /// How many there are, by worker group.
    pub pods: BTreeMap<String, u32>,
}

impl Admission {
    /// As it stands in the annotation.
    pub fn to_text(&self) -> String {
        json!({"at": self.at_ms, "pods": self.pods}).to_string()
    }

    fn parse(text: &str) -> Option<Admission> {
        serde_json::from_str(text).ok()
    }

    /// How many pods of each worker group it has beyond `there`, the groups of those that are there.
    pub fn lacks<'a>(&self, there: impl Iterator<Item = &'a str>) -> BTreeMap<String, u32> {
        let mut lacks = self.pods.clone();
        for group in there {
            if let Some(pods) = lacks.get_mut(group) {
                *pods = pods.saturating_sub(1);
            }
        }
        lacks
    }
}

/// A pod of a gang.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GangPod {
    /// Name of the gang.
    pub gang: String,
    /// It waits for the rest.
    pub is_gated: bool,
    /// Gates of others.
    pub other_gates: Vec<String>,
    /// Its gate was lifted with others.
    pub admission: Option<Admission>,
    /// `spec.priority`.
    pub priority: i64,
    /// What it requests of a node, and what must not be taken there (`neighbours`).
    pub requests: Resources,
    /// `spec.nodeSelector`.
    pub selector: Labels,
    /// `spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms`; null: none.
    affinity: Value,
    tolerations: Vec<Value>,
    /// Of its like there may be one on a node.
    pub apart: Vec<Apart>,
    /// It asks for something of which only kube-scheduler knows where it is.
    pub is_schedulers: bool,
    /// `spec.schedulerName`; empty: Kubernetes' own.
    pub scheduler: String,
}

impl GangPod {
    /// Reads a pod; `None`: it belongs to no gang.
    pub fn read(pod: &Value) -> Option<GangPod> {
        let gang = pod["metadata"]["annotations"][GANG].as_str()?.to_owned();
        Some(GangPod::of(gang, pod))
    }

    /// Reads a pod, whatever it says of gangs, as one of the gang of this name.
    pub fn of(gang: String, pod: &Value) -> GangPod {
        let annotation = |key: &str| pod["metadata"]["annotations"][key].as_str();
        let spec = &pod["spec"];
        let gates = spec["schedulingGates"].as_array().into_iter().flatten();
        let (own, other_gates): (Vec<String>, Vec<String>) =
            gates.filter_map(|gate| gate["name"].as_str().map(str::to_owned)).partition(|gate| gate == GATE);
        let selector = spec["nodeSelector"].as_object().into_iter().flatten();
        let (apart, is_all_apart) = apart(pod);
        let mut requests = requests(pod);
        requests.extend(apart.iter().map(|apart| (apart.name.clone(), Amount::from_units(1))));
        let affinity = "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
        GangPod {
            gang,
            is_gated: !own.is_empty(),
            other_gates,
            admission: annotation(ADMITTED).and_then(Admission::parse),
            priority: spec["priority"].as_i64().unwrap_or(0),
            requests,
            selector: selector.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect(),
            affinity: spec.pointer(affinity).cloned().unwrap_or_default(),
            tolerations: spec["tolerations"].as_array().cloned().unwrap_or_default(),
            apart,
            is_schedulers: !is_all_apart || asks_for_more(pod),
            scheduler: spec["schedulerName"]
                .as_str()
                .filter(|name| *name != DEFAULT_SCHEDULER)
                .unwrap_or("")
                .to_owned(),
        }
    }

    /// A pod that begins, or has begun, without others, as the gang of this name.
    pub fn begun_alone(gang: String) -> GangPod {
        GangPod { gang, ..GangPod::default() }
    }

    /// Whether the scheduler may put it on a node with these labels and taints.
    pub fn may_use(&self, node: &str, labels: &Labels, taints: &[Taint]) -> bool {
        let is_selected = self.selector.iter().all(|(key, value)| labels.get(key) == Some(value));
        let terms = self.affinity.as_array();
        // Terms are alternatives; one that says nothing matches nothing.
        let is_near = terms.is_none_or(|terms| terms.iter().any(|term| matches(term, node, labels)));
        is_selected && is_near && taints.iter().all(|taint| tolerates(&self.tolerations, taint))
    }

    /// Names of what it does not share with other pods of its node.
    pub fn exclusive(&self) -> impl Iterator<Item = &String> {
        self.requests.keys().filter(|name| name.contains(' '))
    }

    /// Whether the scheduler sees the same in both.
    pub fn is_like(&self, other: &GangPod) -> bool {
        (&self.requests, &self.selector, &self.affinity, &self.tolerations)
            == (&other.requests, &other.selector, &other.affinity, &other.tolerations)
    }
}

/// What a pod requests, itself among it, and the ports of its node that it takes.
pub fn requests(pod: &Value) -> Resources {
    let amount = |quantity: mobula_api::Quantity| {
        // What is beyond the planner's resolution is more than any node has.
        Amount::from_f64(quantity.as_f64()).unwrap_or(Amount::from_steps(i64::MAX))
    };
    let needs = pod_needs::requests(pod).into_iter().map(|(name, quantity)| (name, amount(quantity)));
    let ports = host_ports(pod).into_iter().map(|port| (port, Amount::from_units(1)));
    needs.chain([("pods".to_owned(), Amount::from_units(1))]).chain(ports).collect()
}

fn matches(term: &Value, node: &str, labels: &Labels) -> bool {
    let list = |key: &str| term[key].as_array().map_or(&[][..], Vec::as_slice);
    let (expressions, fields) = (list("matchExpressions"), list("matchFields"));
    let by_label = |it: &Value| holds(it, labels.get(it["key"].as_str().unwrap_or_default()).map(String::as_str));
    let by_field = |it: &Value| it["key"] == "metadata.name" && holds(it, Some(node));
    !(expressions.is_empty() && fields.is_empty()) && expressions.iter().all(by_label) && fields.iter().all(by_field)
}

/// Whether an expression holds for a value; `None`: there is no such label.
pub fn holds(expression: &Value, value: Option<&str>) -> bool {
    let values = || expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let compared = |is: fn(&i64, &i64) -> bool| {
        let bound = values().next().and_then(|bound| bound.parse().ok());
        let value = value.and_then(|value| value.parse().ok());
        value.zip(bound).is_some_and(|(value, bound)| is(&value, &bound))
    };
    match expression["operator"].as_str() {
        Some("In") => value.is_some_and(|value| values().any(|other| other == value)),
        Some("NotIn") => value.is_none_or(|value| values().all(|other| other != value)),
        Some("Exists") => value.is_some(),
        Some("DoesNotExist") => value.is_none(),
        Some("Gt") => compared(i64::gt),
        Some("Lt") => compared(i64::lt),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: &Value) -> GangPod {
        GangPod::read(
            &json!({"metadata": {"annotations": {GANG: "w", ADMITTED: r#"{"at":7,"pods":{"w":8}}"#}}, "spec": spec}),
        )
        .unwrap()
    }

    fn labels() -> Labels {
        [("zone".to_owned(), "a".to_owned()), ("size".to_owned(), "8".to_owned())].into()
    }

    #[test]
    fn a_pod_of_a_gang_is_read() {
        let pod = pod(&json!({
            "schedulingGates": [{"name": "other"}, {"name": GATE}], "priority": 7,
            "containers": [{"resources": {"limits": {"cpu": "500m", "nvidia.com/gpu": 8}}}],
        }));
        assert!(pod.is_gated);
        assert_eq!((pod.other_gates.as_slice(), pod.priority), (&["other".to_owned()][..], 7));
        let admission = pod.admission.unwrap();
        assert_eq!((admission.at_ms, &admission.pods), (7, &[("w".to_owned(), 8)].into()));
        assert_eq!(Admission::parse(&admission.to_text()), Some(admission.clone()));
        assert_eq!(admission.lacks(["w", "v", "w"].into_iter()), [("w".to_owned(), 6)].into());
        assert_eq!(pod.requests["nvidia.com/gpu"], Amount::from_units(8));
        assert_eq!(pod.requests["pods"], Amount::from_units(1));
        assert_eq!(GangPod::read(&json!({"spec": {}})), None);
        for text in ["", "{}", r#"{"at":7}"#, r#"{"at":7,"pods":{"w":-1}}"#, r#"{"at":"7","pods":{}}"#] {
            assert_eq!(Admission::parse(text), None, "{text}");
        }
    }

    #[test]
    fn nodes_are_chosen_as_the_scheduler_does() {
        let expression = |key: &str, operator: &str, values: &[&str]| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        let near = |terms: Value| json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}});
        for (spec, expected) in [
            (json!({}), true),
            (json!({"nodeSelector": {"zone": "a"}}), true),
            (json!({"nodeSelector": {"zone": "b"}}), false),
            (near(json!([])), false),
            (near(json!([{}])), false),
            (near(json!([expression("zone", "In", &["b"]), expression("zone", "In", &["a", "c"])])), true),
            (near(json!([expression("zone", "NotIn", &["a"])])), false),
            (near(json!([expression("none", "NotIn", &["a"])])), true),
            (near(json!([expression("none", "Exists", &[])])), false),
            (near(json!([expression("none", "DoesNotExist", &[])])), true),
            (near(json!([expression("size", "Gt", &["7"])])), true),
            (near(json!([expression("size", "Lt", &["8"])])), false),
            (near(json!([expression("zone", "Odd", &["a"])])), false),
            (near(json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}])), true),
        ] {
            assert_eq!(pod(&spec).may_use("n", &labels(), &[]), expected, "{spec}");
        }
        let taint = Taint { key: "gpu".into(), value: String::new(), effect: "NoSchedule".into() };
        assert!(!pod(&json!({})).may_use("n", &labels(), std::slice::from_ref(&taint)));
        assert!(pod(&json!({"tolerations": [{"operator": "Exists"}]})).may_use("n", &labels(), &[taint]));
    }
}
