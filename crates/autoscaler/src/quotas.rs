//! What may still be created: quotas of Kubernetes and of queues, in the planner's words.
//!
//! | source | counts | what is free |
//! |---|---|---|
//! | ResourceQuota | what it says is used | hard − used |
//! | ElasticQuota | what it says is used | max − used |
//! | ElasticQuotaTree | pods of this RayCluster: nobody says what others use | max − these, of the namespace's node and of all above it |
//! | Workload of Kueue | pods of each group | granted − these |
//!
//! Where others' use is not known, what is free is more than there really is.

mod elastic;
mod resource_quota;
mod workload;

use std::collections::{BTreeMap, BTreeSet};

use mobula_api::{PodRole, PodView, RayCluster, keys};
use mobula_planner::{Amount, Quota, Resources};
use serde_json::Value;

use crate::pod_needs::{self, Quantities, amounts, take};
use crate::surroundings::text;

pub(crate) use workload::selector as workloads_of;

/// What quotas call the number of pods.
pub(crate) const PODS: &str = "pods";

/// Where a quota comes from.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// `ResourceQuota` of Kubernetes.
    ResourceQuota,
    /// `ElasticQuota` of scheduler-plugins.
    ElasticQuota,
    /// `ElasticQuotaTree` (`scheduling.sigs.k8s.io`).
    ElasticQuotaTree,
    /// `Workload` of Kueue: what was granted.
    Workload,
}

impl Source {
    /// All of them.
    pub const ALL: [Source; 4] =
        [Source::ResourceQuota, Source::ElasticQuota, Source::ElasticQuotaTree, Source::Workload];

    /// The kind of its objects.
    pub fn kind(self) -> &'static str {
        match self {
            Source::ResourceQuota => "ResourceQuota",
            Source::ElasticQuota => "ElasticQuota",
            Source::ElasticQuotaTree => "ElasticQuotaTree",
            Source::Workload => "Workload",
        }
    }

    /// The source of an object that says its kind.
    pub fn of(object: &Value) -> Option<Source> {
        Source::ALL.into_iter().find(|source| source.kind() == text(object, "/kind"))
    }

    /// Amounts of an object that can't be read, and what is assumed instead, for people.
    pub fn doubts(self, object: &Value) -> Vec<String> {
        let name = format!("{} {}", self.kind(), text(object, "/metadata/name"));
        let mut limits = Vec::new();
        let mut used = object.pointer("/status/used");
        match self {
            Source::ResourceQuota => {
                limits.extend(object.pointer("/status/hard").or_else(|| object.pointer("/spec/hard")));
            }
            Source::ElasticQuota => limits.extend(object.pointer("/spec/max")),
            Source::ElasticQuotaTree => (limits, used) = (elastic::limits_of_tree(object), None),
            Source::Workload => return workload::doubts(object, &name),
        }
        let doubt = |map: &Value, instead: &str| -> Vec<String> {
            let unreadable = pod_needs::unreadable(map);
            unreadable.map(|(key, value)| format!("{name}: {key} {value} is no amount: {instead}")).collect()
        };
        let limits = limits.into_iter().flat_map(|map| doubt(map, "it is taken for no limit"));
        limits.chain(used.into_iter().flat_map(|map| doubt(map, "nothing is taken to be used"))).collect()
    }

    /// What an object of this source leaves to a RayCluster; none if it does not apply to it.
    pub fn quotas(self, object: &Value, tenant: &Tenant) -> Vec<Quota> {
        match self {
            Source::ResourceQuota => resource_quota::read(object, tenant),
            Source::ElasticQuota => elastic::read(object, tenant).into_iter().collect(),
            Source::ElasticQuotaTree => elastic::read_tree(object, tenant),
            Source::Workload => workload::read(object, tenant),
        }
    }
}

/// A RayCluster, as quotas see it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tenant {
    /// Its namespace; empty: not known.
    pub namespace: String,
    /// Kind and name of the RayCluster and of what owns it.
    pub names: Vec<(String, String)>,
    /// Kueue lets it grow by asking again.
    pub is_elastic: bool,
    /// Its worker groups.
    pub groups: Vec<Claimant>,
    /// What its pods take, the head's included.
    pub used: Resources,
}

/// A worker group, as quotas see it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claimant {
    /// Name.
    pub name: String,
    /// What one pod requests.
    pub requests: Quantities,
    /// What one pod is limited to.
    pub limits: Quantities,
    /// `priorityClassName` of its pods; empty: none.
    pub priority_class: String,
    /// Pods that exist.
    pub pods: u64,
}

/// Annotation of Kueue: the workload grows and shrinks.
const ELASTIC_JOB: &str = "kueue.x-k8s.io/elastic-job";

impl Tenant {
    /// A RayCluster with those of `pods` that are its own.
    pub fn of(cluster: &RayCluster, pods: &[PodView]) -> Tenant {
        let needs = needs_of_groups(cluster);
        let counts = counted(pods);
        let mut used = Resources::new();
        for (group, count) in &counts {
            let Some(need) = needs.get(*group) else { continue };
            for (name, amount) in need {
                let sum = used.entry(name.clone()).or_default();
                *sum = Amount::from_steps(sum.steps().saturating_add(amount.steps().saturating_mul(*count)));
            }
        }
        let claimants = cluster.spec.worker_group_specs.iter().map(|group| Claimant {
            name: group.group_name.clone(),
            requests: pod_needs::requests(&group.template),
            limits: pod_needs::limits(&group.template),
            priority_class: text(&group.template, "/spec/priorityClassName").to_owned(),
            pods: counts.get(group.group_name.as_str()).map_or(0, |count| count.unsigned_abs()),
        });
        let owners = cluster.metadata.extra.get("ownerReferences").and_then(Value::as_array).into_iter().flatten();
        let owners = owners.map(|owner| (text(owner, "/kind").to_owned(), text(owner, "/name").to_owned()));
        Tenant {
            namespace: cluster.metadata.namespace.clone(),
            names: owners.chain([("RayCluster".to_owned(), cluster.metadata.name.clone())]).collect(),
            is_elastic: cluster.metadata.annotations.get(ELASTIC_JOB).is_some_and(|value| value == "true"),
            groups: claimants.collect(),
            used,
        }
    }

    /// Whether an object is in its namespace, as far as both are known.
    fn is_beside(&self, object: &Value) -> bool {
        let namespace = text(object, "/metadata/namespace");
        namespace.is_empty() || self.namespace.is_empty() || namespace == self.namespace
    }
}

/// What one pod of each group counts against quotas, the pod itself included.
fn needs_of_groups(cluster: &RayCluster) -> BTreeMap<&str, Resources> {
    let head = (keys::HEAD_GROUP, &cluster.spec.head_group_spec.template);
    let workers = cluster.spec.worker_group_specs.iter().map(|group| (group.group_name.as_str(), &group.template));
    let needs = |(name, template)| (name, with_itself(amounts(&pod_needs::requests(template))));
    workers.chain([head]).map(needs).collect()
}

pub(crate) fn with_itself(mut requests: Resources) -> Resources {
    requests.insert(PODS.to_owned(), Amount::from_units(1));
    requests
}

/// Pods that count against quotas, by group.
fn counted(pods: &[PodView]) -> BTreeMap<&str, i64> {
    let mut counts = BTreeMap::new();
    for pod in pods.iter().filter(|pod| counts_against_quota(pod)) {
        *counts.entry(group_of(pod)).or_default() += 1;
    }
    counts
}

fn counts_against_quota(pod: &PodView) -> bool {
    pod.role != PodRole::Other && !matches!(pod.phase.as_str(), "Failed" | "Succeeded")
}

fn group_of(pod: &PodView) -> &str {
    if pod.role == PodRole::Head { keys::HEAD_GROUP } else { &pod.group }
}

/// Quotas as they were read, and the pods that counted then: what is read seldom is brought up to date by pods, which are
/// always known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    quotas: Vec<Quota>,
    counted: BTreeSet<String>,
}

impl Reading {
    /// Objects of one source, read while there were these pods.
    pub fn new<'a>(
        source: Source,
        objects: impl IntoIterator<Item = &'a Value>,
        cluster: &RayCluster,
        pods: &[PodView],
    ) -> Reading {
        let mut objects = objects.into_iter().peekable();
        if objects.peek().is_none() {
            return Reading::default();
        }
        let tenant = Tenant::of(cluster, pods);
        let quotas = objects.flat_map(|object| source.quotas(object, &tenant)).collect();
        let counted = pods.iter().filter(|pod| counts_against_quota(pod)).map(|pod| pod.name.clone()).collect();
        Reading { quotas, counted }
    }

    /// What is left now that there are these pods. What pods took that are gone since counts as taken until the next reading.
    pub fn now(&self, cluster: &RayCluster, pods: &[PodView]) -> Vec<Quota> {
        let mut quotas = self.quotas.clone();
        let is_new = |pod: &&PodView| counts_against_quota(pod) && !self.counted.contains(&pod.name);
        let new: Vec<&PodView> = if quotas.is_empty() { Vec::new() } else { pods.iter().filter(is_new).collect() };
        if new.is_empty() {
            return quotas;
        }
        let needs = needs_of_groups(cluster);
        for pod in new {
            let group = group_of(pod);
            let Some(needs) = needs.get(group) else { continue };
            for quota in quotas.iter_mut().filter(|quota| applies(quota, group)) {
                take(&mut quota.free, needs, 1);
            }
        }
        quotas
    }
}

/// Whether a quota counts pods of a group.
pub(crate) fn applies(quota: &Quota, group: &str) -> bool {
    quota.groups.is_empty() || quota.groups.iter().any(|name| name == group)
}

#[cfg(test)]
mod tests;
