//! What this account may do beyond KubeRay's stock Role: answered once, said once, never tried where it is not allowed.

use std::collections::BTreeSet;

use crate::kube_access::{KubeAccess, KubeError, KubeErrorKind};

/// Something useful that the stock Role does not allow.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permission {
    /// Create Events that say what was decided.
    CreateEvents,
    /// Read Nodes.
    ListNodes,
    /// Watch Nodes instead of reading all of them now and then.
    WatchNodes,
    /// Read ResourceQuotas.
    ListQuotas,
    /// Watch the RayCluster instead of getting it every few seconds.
    WatchCluster,
    /// Read ElasticQuotas of scheduler-plugins.
    ListElasticQuotas,
    /// Read ElasticQuotaTrees.
    ListElasticQuotaTrees,
    /// Read what Kueue grants.
    ListWorkloads,
    /// Read Volcano's HyperNodes.
    ListHyperNodes,
    /// Read Kueue's Topologies.
    ListKueueTopologies,
    /// Read KAI's Topologies.
    ListKaiTopologies,
    /// Read Grove's ClusterTopologyBindings.
    ListGroveBindings,
}

impl Permission {
    /// All of them.
    pub const ALL: [Permission; 12] = [
        Permission::CreateEvents,
        Permission::ListNodes,
        Permission::WatchNodes,
        Permission::ListQuotas,
        Permission::WatchCluster,
        Permission::ListElasticQuotas,
        Permission::ListElasticQuotaTrees,
        Permission::ListWorkloads,
        Permission::ListHyperNodes,
        Permission::ListKueueTopologies,
        Permission::ListKaiTopologies,
        Permission::ListGroveBindings,
    ];

    /// Name in metrics and logs: verb and resource.
    pub fn as_str(self) -> &'static str {
        match self {
            Permission::CreateEvents => "create events",
            Permission::ListNodes => "list nodes",
            Permission::WatchNodes => "watch nodes",
            Permission::ListQuotas => "list resourcequotas",
            Permission::WatchCluster => "watch rayclusters",
            Permission::ListElasticQuotas => "list elasticquotas",
            Permission::ListElasticQuotaTrees => "list elasticquotatrees",
            Permission::ListWorkloads => "list workloads",
            Permission::ListHyperNodes => "list hypernodes",
            Permission::ListKueueTopologies => "list topologies.kueue.x-k8s.io",
            Permission::ListKaiTopologies => "list topologies.kai.scheduler",
            Permission::ListGroveBindings => "list clustertopologybindings",
        }
    }

    /// Where objects are that need not be known to the API server; `None`: it always knows them.
    pub fn optional_kind(self) -> Option<OptionalKind> {
        let kind = match self {
            Permission::CreateEvents
            | Permission::ListNodes
            | Permission::WatchNodes
            | Permission::ListQuotas
            | Permission::WatchCluster => return None,
            Permission::ListElasticQuotas => "ElasticQuota",
            Permission::ListElasticQuotaTrees => "ElasticQuotaTree",
            Permission::ListWorkloads => "Workload",
            Permission::ListHyperNodes => "HyperNode",
            Permission::ListKueueTopologies | Permission::ListKaiTopologies => "Topology",
            Permission::ListGroveBindings => "ClusterTopologyBinding",
        };
        let (group, resource, _, is_namespaced) = self.attributes();
        Some(OptionalKind { group, resource, kind, is_namespaced })
    }

    /// API group, resource, verb, and whether it is asked for the own namespace only.
    fn attributes(self) -> (&'static str, &'static str, &'static str, bool) {
        match self {
            Permission::CreateEvents => ("events.k8s.io", "events", "create", true),
            Permission::ListNodes => ("", "nodes", "list", false),
            Permission::WatchNodes => ("", "nodes", "watch", false),
            Permission::ListQuotas => ("", "resourcequotas", "list", true),
            Permission::WatchCluster => ("ray.io", "rayclusters", "watch", true),
            Permission::ListElasticQuotas => ("scheduling.x-k8s.io", "elasticquotas", "list", true),
            Permission::ListElasticQuotaTrees => ("scheduling.sigs.k8s.io", "elasticquotatrees", "list", false),
            Permission::ListWorkloads => ("kueue.x-k8s.io", "workloads", "list", true),
            Permission::ListHyperNodes => ("topology.volcano.sh", "hypernodes", "list", false),
            Permission::ListKueueTopologies => ("kueue.x-k8s.io", "topologies", "list", false),
            Permission::ListKaiTopologies => ("kai.scheduler", "topologies", "list", false),
            Permission::ListGroveBindings => ("grove.io", "clustertopologybindings", "list", false),
        }
    }
}

/// A kind of objects that the API server may not know.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct OptionalKind {
    /// API group.
    pub group: &'static str,
    /// Resource: the plural of its name.
    pub resource: &'static str,
    /// Name.
    pub kind: &'static str,
    /// Whether its objects are in namespaces; those of the own namespace are read.
    pub is_namespaced: bool,
}

/// What was found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    granted: BTreeSet<Permission>,
    /// What the API server has given no answer to.
    unknown: BTreeSet<Permission>,
    /// What there is nothing to be read by: the API server does not know the kind.
    unserved: BTreeSet<Permission>,
}

impl Permissions {
    /// Exactly these.
    pub fn of(granted: impl IntoIterator<Item = Permission>) -> Self {
        Permissions { granted: granted.into_iter().collect(), ..Permissions::default() }
    }

    /// Nothing has been asked for yet.
    pub fn unknown() -> Self {
        Permissions { unknown: Permission::ALL.into(), ..Permissions::default() }
    }

    /// Whether it is allowed, as far as is known.
    pub fn has(&self, permission: Permission) -> bool {
        self.granted.contains(&permission)
    }

    /// Whether there is an answer to each question.
    pub fn is_known(&self) -> bool {
        self.unknown.is_empty()
    }

    /// What is known not to be allowed.
    pub fn missing(&self) -> impl Iterator<Item = Permission> + '_ {
        let is_open = |p: &Permission| self.unknown.contains(p) || self.unserved.contains(p);
        Permission::ALL.into_iter().filter(move |p| !self.has(*p) && !is_open(p))
    }

    /// Permissions to read what need not be known to the API server, as far as they are given.
    pub fn optional_kinds(&self) -> impl Iterator<Item = (Permission, OptionalKind)> {
        self.granted.iter().filter_map(|permission| Some((*permission, permission.optional_kind()?)))
    }

    /// Whether anything around the RayCluster may be read.
    pub fn sees_surroundings(&self) -> bool {
        self.has(Permission::ListQuotas) || self.has(Permission::ListNodes) || self.optional_kinds().next().is_some()
    }

    /// Takes back a permission that turned out not to hold, so that it is not tried again.
    pub fn revoke(&mut self, permission: Permission) {
        self.granted.remove(&permission);
    }
}

/// Asks for each optional permission that is not known yet. A 403 to the question itself is a no to all that are left.
///
/// # Errors
/// If the API server gives no answer; what was answered before is kept, and the rest can be asked again.
pub async fn review(kube: &KubeAccess, permissions: &mut Permissions) -> Result<(), KubeError> {
    while let Some(permission) = permissions.unknown.first().copied() {
        let (group, resource, verb, namespaced) = permission.attributes();
        if permission.optional_kind().is_some() && kube.served_versions(group).await?.is_empty() {
            permissions.unknown.remove(&permission);
            permissions.unserved.insert(permission);
            continue;
        }
        match kube.may(group, resource, verb, namespaced).await {
            Ok(is_allowed) => {
                permissions.unknown.remove(&permission);
                if is_allowed {
                    permissions.granted.insert(permission);
                }
            }
            Err(error) if error.kind == KubeErrorKind::Forbidden => {
                tracing::debug!(%error, "access reviews are not allowed: no optional permission is used");
                permissions.unknown.clear();
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_granted_is_missing() {
        let mut permissions =
            Permissions::of([Permission::ListNodes, Permission::WatchNodes, Permission::WatchCluster]);
        permissions.unserved.extend(Permission::ALL.into_iter().filter(|p| p.optional_kind().is_some()));
        permissions.unserved.remove(&Permission::ListHyperNodes);
        let missing: Vec<_> = permissions.missing().map(Permission::as_str).collect();
        assert_eq!(missing, ["create events", "list resourcequotas", "list hypernodes"]);
        permissions.revoke(Permission::WatchCluster);
        assert!(!permissions.has(Permission::WatchCluster));
    }

    #[test]
    fn what_was_not_answered_is_neither_granted_nor_missing() {
        let permissions = Permissions::unknown();
        assert!(!permissions.is_known());
        assert!(!permissions.has(Permission::ListNodes));
        assert_eq!(permissions.missing().count(), 0);
    }
}
