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
    /// What the API server has given no answer to.
    unknown: BTreeSet<Permission>,
}

impl Permissions {
    /// Exactly these.
    pub fn of(granted: impl IntoIterator<Item = Permission>) -> Self {
        Permissions { granted: granted.into_iter().collect(), unknown: BTreeSet::new() }
    }

    /// Nothing has been asked for yet.
    pub fn unknown() -> Self {
        Permissions { granted: BTreeSet::new(), unknown: Permission::ALL.into() }
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
        Permission::ALL.into_iter().filter(|p| !self.has(*p) && !self.unknown.contains(p))
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
        let mut permissions = Permissions::of([Permission::ListNodes, Permission::WatchCluster]);
        let missing: Vec<_> = permissions.missing().map(Permission::as_str).collect();
        assert_eq!(missing, ["create events", "list resourcequotas"]);
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
