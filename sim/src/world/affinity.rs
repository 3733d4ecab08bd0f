//! Affinity between pods, and topology spread.
//!
//! Assumptions: only required terms and `DoNotSchedule` constraints decide; preferred terms between pods are not scored.
//! `namespaceSelector` counts as the pod's own namespace; `minDomains` and `matchLabelKeys` are not looked at.

use std::collections::{BTreeMap, BTreeSet};

use mobula_planner::Labels;
use serde_json::Value;

use super::node::KubeNode;
use super::pod::{PodSpec, texts};
use super::terms::Condition;

/// A label selector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    labels: Labels,
    conditions: Vec<Condition>,
}

impl Selector {
    fn read(value: &Value) -> Option<Selector> {
        value.is_object().then(|| Selector {
            labels: texts(value.get("matchLabels")),
            conditions: value["matchExpressions"].as_array().into_iter().flatten().map(Condition::read).collect(),
        })
    }

    fn fits(&self, labels: &Labels) -> bool {
        self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.conditions.iter().all(|condition| condition.holds(labels))
    }
}

/// A required term of affinity to other pods.
#[derive(Clone, Debug, PartialEq)]
pub struct Affinity {
    /// It wants to be away from them.
    pub is_anti: bool,
    topology_key: String,
    selector: Option<Selector>,
    namespaces: Vec<String>,
}

/// A topology spread constraint that holds pods back.
#[derive(Clone, Debug, PartialEq)]
pub struct SpreadConstraint {
    topology_key: String,
    most_skew: i64,
    selector: Option<Selector>,
    namespace: String,
}

impl Affinity {
    /// All required terms of a pod.
    pub(super) fn read_all(pod: &Value) -> Vec<Affinity> {
        let own = pod.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or_default();
        let of = |kind: &str, is_anti: bool| {
            let terms = &pod["spec"]["affinity"][kind]["requiredDuringSchedulingIgnoredDuringExecution"];
            let read = |term: &Value| {
                let said = term["namespaces"].as_array().into_iter().flatten();
                let mut namespaces: Vec<String> = said.filter_map(|name| Some(name.as_str()?.to_owned())).collect();
                if namespaces.is_empty() {
                    namespaces.push(own.to_owned());
                }
                Affinity {
                    is_anti,
                    topology_key: term["topologyKey"].as_str().unwrap_or_default().to_owned(),
                    selector: Selector::read(&term["labelSelector"]),
                    namespaces,
                }
            };
            terms.as_array().into_iter().flatten().map(read).collect::<Vec<_>>()
        };
        [of("podAffinity", false), of("podAntiAffinity", true)].concat()
    }

    fn fits(&self, namespace: &str, labels: &Labels) -> bool {
        self.namespaces.iter().any(|known| known == namespace)
            && self.selector.as_ref().is_some_and(|selector| selector.fits(labels))
    }
}

impl SpreadConstraint {
    /// All constraints of a pod that may hold it back.
    pub(super) fn read_all(pod: &Value) -> Vec<SpreadConstraint> {
        let namespace = pod.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or_default();
        let constraints = pod["spec"]["topologySpreadConstraints"].as_array().into_iter().flatten();
        let hard = constraints.filter(|constraint| constraint["whenUnsatisfiable"] != "ScheduleAnyway");
        hard.map(|constraint| SpreadConstraint {
            topology_key: constraint["topologyKey"].as_str().unwrap_or_default().to_owned(),
            most_skew: constraint["maxSkew"].as_i64().unwrap_or(1).max(1),
            selector: Selector::read(&constraint["labelSelector"]),
            namespace: namespace.to_owned(),
        })
        .collect()
    }
}

/// A pod that is on a node.
#[derive(Copy, Clone, Debug)]
pub struct Placed<'a> {
    /// Namespace.
    pub namespace: &'a str,
    /// What it asks for.
    pub spec: &'a PodSpec,
    /// Its node.
    pub node: &'a KubeNode,
}

/// What the pods that are placed mean for one that waits.
pub struct Neighbours {
    /// Key and value of domains in which it must be, a set for each term; `None`: any (it is the first of its kind).
    near: Vec<(String, Option<BTreeSet<String>>)>,
    /// Key and value of domains in which it must not be.
    away: BTreeSet<(String, String)>,
    /// For each spread constraint: the key, and the domains that are full.
    full: Vec<(String, BTreeSet<String>)>,
}

impl Neighbours {
    /// Looks at all placed pods once. `domains`: nodes that the pod could go to otherwise.
    pub fn of<'a>(
        namespace: &str,
        spec: &PodSpec,
        placed: &(impl Iterator<Item = Placed<'a>> + Clone),
        candidates: &[&KubeNode],
    ) -> Neighbours {
        let value = |node: &KubeNode, key: &str| node.labels.get(key).cloned();
        let mut away = BTreeSet::new();
        let mut near = Vec::new();
        for term in &spec.affinity {
            let others = placed.clone().filter(|other| term.fits(other.namespace, &other.spec.labels));
            let domains: BTreeSet<String> = others.filter_map(|other| value(other.node, &term.topology_key)).collect();
            if term.is_anti {
                away.extend(domains.into_iter().map(|domain| (term.topology_key.clone(), domain)));
            } else {
                let is_first = domains.is_empty() && term.fits(namespace, &spec.labels);
                near.push((term.topology_key.clone(), (!is_first).then_some(domains)));
            }
        }
        // Others may want to be away from it.
        for other in placed.clone() {
            for term in other.spec.affinity.iter().filter(|term| term.is_anti && term.fits(namespace, &spec.labels)) {
                away.extend(value(other.node, &term.topology_key).map(|domain| (term.topology_key.clone(), domain)));
            }
        }
        let full = spec.spread.iter().map(|constraint| full_domains(constraint, spec, placed.clone(), candidates));
        Neighbours { near, away, full: full.collect() }
    }

    /// Why a node is no place; `None`: it is one.
    pub fn refuses(&self, node: &KubeNode) -> Option<&'static str> {
        let is_near = |(key, domains): &(String, Option<BTreeSet<String>>)| match (node.labels.get(key), domains) {
            (Some(value), Some(domains)) => domains.contains(value),
            (value, None) => value.is_some(),
            (None, Some(_)) => false,
        };
        if !self.near.iter().all(is_near) {
            return Some("didn't match pod affinity rules");
        }
        if self.away.iter().any(|(key, value)| node.labels.get(key) == Some(value)) {
            return Some("didn't match pod anti-affinity rules");
        }
        let is_full =
            |(key, full): &(String, BTreeSet<String>)| node.labels.get(key).is_none_or(|value| full.contains(value));
        self.full.iter().any(is_full).then_some("didn't match pod topology spread constraints")
    }
}

/// Domains in which one more would be too many.
fn full_domains<'a>(
    constraint: &SpreadConstraint,
    spec: &PodSpec,
    placed: impl Iterator<Item = Placed<'a>>,
    candidates: &[&KubeNode],
) -> (String, BTreeSet<String>) {
    let key = &constraint.topology_key;
    let fits = |labels: &Labels| constraint.selector.as_ref().is_some_and(|selector| selector.fits(labels));
    let domains = candidates.iter().filter_map(|node| node.labels.get(key));
    let mut counts: BTreeMap<&str, i64> = domains.map(|value| (value.as_str(), 0)).collect();
    for other in placed.filter(|other| other.namespace == constraint.namespace && fits(&other.spec.labels)) {
        if let Some(count) = other.node.labels.get(key).and_then(|value| counts.get_mut(value.as_str())) {
            *count += 1;
        }
    }
    let least = counts.values().min().copied().unwrap_or(0);
    let own = i64::from(fits(&spec.labels));
    let full = counts.iter().filter(|(_, count)| **count + own - least > constraint.most_skew);
    (key.clone(), full.map(|(value, _)| (*value).to_owned()).collect())
}
