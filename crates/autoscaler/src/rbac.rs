//! What this account may do beyond KubeRay's stock Role: asked once, said once, never tried where it is not allowed.

use std::collections::BTreeSet;

use crate::kube_access::KubeAccess;

/// Something useful that the stock Role does not allow.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permission {
    /// Create Events that say what was decided.
    CreateEvents,
    /// Read Nodes.
    ListNodes,
    /// Read ResourceQuotas.
    ListQuotas,
    /// Watch the RayCluster instead of getting it every few seconds.
    WatchCluster,
}

impl Permission {
    /// All of them.
    pub const ALL: [Permission; 4] =
        [Permission::CreateEvents, Permission::ListNodes, Permission::ListQuotas, Permission::WatchCluster];

    /// Name in metrics and logs: verb and resource.
    pub fn as_str(self) -> &'static str {
        match self {
            Permission::CreateEvents => "create events",
            Permission::ListNodes => "list nodes",
            Permission::ListQuotas => "list resourcequotas",
            Permission::WatchCluster => "watch rayclusters",
        }
    }

    /// API group, resource, verb, and whether it is asked for the own namespace only.
    fn attributes(self) -> (&'static str, &'static str, &'static str, bool) {
        match self {
            Permission::CreateEvents => ("events.k8s.io", "events", "create", true),
            Permission::ListNodes => ("", "nodes", "list", false),
            Permission::ListQuotas => ("", "resourcequotas", "list", true),
            Permission::WatchCluster => ("ray.io", "rayclusters", "watch", true),
        }
    }
}

/// What was found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    granted: BTreeSet<Permission>,
}

impl Permissions {
    /// Exactly these.
    pub fn of(granted: impl IntoIterator<Item = Permission>) -> Self {
        Permissions { granted: granted.into_iter().collect() }
    }

    /// Whether it is allowed.
    pub fn has(&self, permission: Permission) -> bool {
        self.granted.contains(&permission)
    }

    /// What is not allowed.
    pub fn missing(&self) -> impl Iterator<Item = Permission> + '_ {
        Permission::ALL.into_iter().filter(|p| !self.has(*p))
    }

    /// Takes back a permission that turned out not to hold, so that it is not tried again.
    pub fn revoke(&mut self, permission: Permission) {
        self.granted.remove(&permission);
    }
}

/// Asks for each optional permission once. Where the question itself fails, the answer is taken to be no.
pub async fn review(kube: &KubeAccess) -> Permissions {
    let mut granted = BTreeSet::new();
    for permission in Permission::ALL {
        let (group, resource, verb, namespaced) = permission.attributes();
        match kube.may(group, resource, verb, namespaced).await {
            Ok(true) => {
                granted.insert(permission);
            }
            Ok(false) => {}
            Err(error) => {
                tracing::debug!(%error, permission = permission.as_str(), "access review failed: taken as not allowed");
                // An API server that does not let us ask one question will not let us ask the next.
                break;
            }
        }
    }
    Permissions { granted }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_granted_is_missing() {
        let mut permissions = Permissions::of([Permission::ListNodes, Permission::WatchCluster]);
        let missing: Vec<_> = permissions.missing().map(Permission::as_str).collect();
        assert_eq!(missing, ["create events", "list resourcequotas"]);
        permissions.revoke(Permission::WatchCluster);
        assert!(!permissions.has(Permission::WatchCluster));
    }
}
