//! ElasticQuota and ElasticQuotaTree: what may be used at most, borrowed from others included.

use mobula_planner::{Quota, Resources};
use serde_json::Value;

use super::Tenant;
use crate::pod_needs::{amounts, quantities, take};
use crate::surroundings::{list, text};

/// Most levels of a tree: more is no tree that people make.
const DEEPEST: usize = 64;

pub(super) fn read(object: &Value, tenant: &Tenant) -> Option<Quota> {
    let source = format!("ElasticQuota {}", text(object, "/metadata/name"));
    let free = left(object.pointer("/spec/max"), &amounts(&quantities(object.pointer("/status/used"))))?;
    tenant.is_beside(object).then_some(Quota { source, groups: Vec::new(), free })
}

/// One quota for each node on the way from the root to the node of the RayCluster's namespace.
pub(super) fn read_tree(object: &Value, tenant: &Tenant) -> Vec<Quota> {
    let namespace = if tenant.namespace.is_empty() { "default" } else { tenant.namespace.as_str() };
    let path = object.pointer("/spec/root").and_then(|root| path_to(root, namespace, DEEPEST)).unwrap_or_default();
    let mut quotas = Vec::new();
    let mut source = "ElasticQuotaTree".to_owned();
    for (depth, node) in path.into_iter().rev().enumerate() {
        source.push(if depth == 0 { ' ' } else { '/' });
        source.push_str(text(node, "/name"));
        let free = left(node.get("max"), &tenant.used);
        quotas.extend(free.map(|free| Quota { source: source.clone(), groups: Vec::new(), free }));
    }
    quotas
}

/// The maxima of all nodes.
pub(super) fn limits_of_tree(object: &Value) -> Vec<&Value> {
    let mut limits = Vec::new();
    let mut open: Vec<(&Value, usize)> = object.pointer("/spec/root").map(|root| (root, 0)).into_iter().collect();
    while let Some((node, depth)) = open.pop() {
        limits.extend(node.get("max"));
        if depth < DEEPEST {
            open.extend(list(node, "/children").iter().map(|child| (child, depth + 1)));
        }
    }
    limits
}

/// The node of a namespace, then those above it.
fn path_to<'a>(node: &'a Value, namespace: &str, deepest: usize) -> Option<Vec<&'a Value>> {
    if list(node, "/namespaces").iter().any(|name| name == namespace) {
        return Some(vec![node]);
    }
    let below = deepest.checked_sub(1)?;
    let mut path = list(node, "/children").iter().find_map(|child| path_to(child, namespace, below))?;
    path.push(node);
    Some(path)
}

/// What is left of a maximum; `None`: there is none. A resource that it does not name is not limited.
fn left(most: Option<&Value>, used: &Resources) -> Option<Resources> {
    let mut free = amounts(&quantities(most));
    // Limits of queues (`kube-queue/max-jobs`) count no resources of pods.
    free.retain(|name, _| !name.starts_with("kube-queue/"));
    take(&mut free, used, 1);
    (!free.is_empty()).then_some(free)
}
