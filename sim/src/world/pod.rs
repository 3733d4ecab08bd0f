//! A pod, as scheduler and kubelet look at it: read once, when it is created.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mobula_api::keys;
use mobula_autoscaler::pod_needs;
use mobula_planner::{Labels, Resources};
use serde_json::Value;

use super::Key;
use super::affinity::{Affinity, SpreadConstraint};
use super::terms::{NodeTerm, read_node_terms};

/// What a pod asks for. Never changes, but for the node selector of a pod that is gated.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodSpec {
    /// Kubernetes' resources, `pods` included.
    pub requests: Resources,
    /// Labels of the pod.
    pub labels: Labels,
    /// Labels that the node must have.
    pub node_selector: Labels,
    /// Required node affinity: one of these must hold; empty: no condition.
    pub node_terms: Vec<NodeTerm>,
    /// Preferred node affinity.
    pub preferred: Vec<(i64, NodeTerm)>,
    /// What it tolerates.
    pub tolerations: Vec<Toleration>,
    /// Required affinity and anti-affinity to other pods.
    pub affinity: Vec<Affinity>,
    /// Topology spread constraints.
    pub spread: Vec<SpreadConstraint>,
    /// Priority.
    pub priority: i64,
    /// Whether it may push out others.
    pub may_preempt: bool,
    /// The scheduler that it waits for.
    pub scheduler: String,
}

/// A toleration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Toleration {
    key: String,
    is_exists: bool,
    value: String,
    effect: String,
}

impl Toleration {
    /// Whether it tolerates this taint.
    pub fn covers(&self, key: &str, value: &str, effect: &str) -> bool {
        (self.effect.is_empty() || self.effect == effect)
            && (self.key == key || (self.key.is_empty() && self.is_exists))
            && (self.is_exists || self.value == value)
    }
}

/// A pod of the world.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Unique id.
    pub uid: String,
    /// Number in the order of creation.
    pub number: u64,
    /// What it asks for; pods that ask for the same share it.
    pub spec: Arc<PodSpec>,
    /// The RayCluster it belongs to.
    pub cluster: Option<Key>,
    /// Its group.
    pub group: String,
    /// Whether it runs a head.
    pub is_head: bool,
    /// Containers, the Ray container first.
    pub containers: Vec<String>,
    /// Init containers.
    pub init_containers: Vec<String>,
    /// Images of all of them.
    pub images: BTreeSet<String>,
    /// Whether ended containers stay ended.
    pub never_restarts: bool,
    /// Whether Ray is started for autoscaler v2.
    pub is_v2: bool,
    /// Scheduling gates hold it back.
    pub is_gated: bool,
    /// Its deletion was asked for.
    pub is_leaving: bool,
    /// The scheduler has pushed it out.
    pub is_victim: bool,
    /// It stays Terminating whatever is done.
    pub is_stuck: bool,
    /// The node it is bound to.
    pub node: Option<String>,
    /// The node on which others make room for it.
    pub nominated: Option<String>,
    /// Where it is on its way.
    pub stage: Stage,
    /// Whether its status says that it can't be placed.
    pub is_called_unschedulable: bool,
    /// Address, once it runs.
    pub ip: String,
    /// How often its containers were started again.
    pub restarts: u32,
}

/// Where a pod is on its way.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It has no node.
    Waiting,
    /// The scheduler has chosen a node and is binding it.
    Binding,
    /// Images are pulled.
    Pulling,
    /// Init containers run.
    Init,
    /// Containers run, Ray is not registered.
    Starting,
    /// Ray is registered.
    Registered,
    /// It has ended.
    Ended,
}

/// The name of the sidecar's container in head pods.
pub const AUTOSCALER_CONTAINER: &str = "autoscaler";

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn items<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A map of texts.
pub(super) fn texts(value: Option<&Value>) -> Labels {
    let entries = value.and_then(Value::as_object).into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

impl PodSpec {
    /// What a pod asks for. `priorities`: values of PriorityClasses by name.
    pub fn read(pod: &Value, priorities: &BTreeMap<String, (i64, bool)>) -> PodSpec {
        let spec = &pod["spec"];
        let mut requests = pod_needs::amounts(&pod_needs::requests(pod));
        requests.insert("pods".to_owned(), mobula_planner::Amount::from_units(1));
        let class = text(spec, "/priorityClassName");
        let (of_class, class_preempts) = priorities.get(class).copied().unwrap_or((0, true));
        let (node_terms, preferred) = read_node_terms(spec);
        let tolerations = items(spec, "/tolerations").iter().map(|toleration| Toleration {
            key: text(toleration, "/key").to_owned(),
            is_exists: text(toleration, "/operator") == "Exists",
            value: text(toleration, "/value").to_owned(),
            effect: text(toleration, "/effect").to_owned(),
        });
        let scheduler = text(spec, "/schedulerName");
        PodSpec {
            requests,
            labels: texts(pod.pointer("/metadata/labels")),
            node_selector: texts(spec.get("nodeSelector")),
            node_terms,
            preferred,
            tolerations: tolerations.collect(),
            affinity: Affinity::read_all(pod),
            spread: SpreadConstraint::read_all(pod),
            priority: spec["priority"].as_i64().unwrap_or(of_class),
            may_preempt: class_preempts && text(spec, "/preemptionPolicy") != "Never",
            scheduler: if scheduler.is_empty() { "default-scheduler" } else { scheduler }.to_owned(),
        }
    }
}

impl Pod {
    /// A pod that has just been created.
    pub fn read(pod: &Value, number: u64, priorities: &BTreeMap<String, (i64, bool)>) -> Pod {
        let label = |key: &str| pod["metadata"]["labels"][key].as_str().unwrap_or_default().to_owned();
        let namespace = text(pod, "/metadata/namespace").to_owned();
        let cluster = Some(label(keys::CLUSTER)).filter(|name| !name.is_empty());
        let names = |pointer: &str| items(pod, pointer).iter().map(|c| text(c, "/name").to_owned()).collect();
        let all = [items(pod, "/spec/containers"), items(pod, "/spec/initContainers")].concat();
        let env = items(pod, "/spec/containers/0/env");
        let is_v2 = |variable: &Value| {
            let value = text(variable, "/value");
            text(variable, "/name") == "RAY_enable_autoscaler_v2"
                && (value == "1" || value.eq_ignore_ascii_case("true"))
        };
        Pod {
            uid: text(pod, "/metadata/uid").to_owned(),
            number,
            spec: Arc::new(PodSpec::read(pod, priorities)),
            cluster: cluster.map(|name| Key { namespace, name }),
            group: label(keys::GROUP),
            is_head: label(keys::NODE_TYPE) == keys::NODE_TYPE_HEAD,
            containers: names("/spec/containers"),
            init_containers: names("/spec/initContainers"),
            images: all.iter().map(|container| text(container, "/image").to_owned()).collect(),
            never_restarts: text(pod, "/spec/restartPolicy") == "Never",
            is_v2: env.iter().any(is_v2),
            is_gated: !items(pod, "/spec/schedulingGates").is_empty(),
            is_leaving: pod.pointer("/metadata/deletionTimestamp").is_some(),
            is_victim: false,
            is_stuck: false,
            node: Some(text(pod, "/spec/nodeName").to_owned()).filter(|name| !name.is_empty()),
            nominated: None,
            stage: Stage::Waiting,
            is_called_unschedulable: false,
            ip: String::new(),
            restarts: 0,
        }
    }

    /// Whether the scheduler should look at it.
    pub fn waits_for_a_node(&self) -> bool {
        self.stage == Stage::Waiting && !self.is_gated && !self.is_leaving && self.node.is_none()
    }

    /// Whether it has the sidecar.
    pub fn has_sidecar(&self) -> bool {
        self.is_head && self.containers.iter().any(|name| name == AUTOSCALER_CONTAINER)
    }
}
