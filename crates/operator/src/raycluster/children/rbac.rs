//! What the autoscaler may do: a ServiceAccount, a Role, and a RoleBinding between them.

use mobula_api::{FieldError, keys};
use serde_json::{Value, json};

use super::{Children, group::Group};
use crate::names::check_name;

impl Children<'_> {
    /// Name of the head's ServiceAccount: the template's own, else the cluster's.
    pub fn service_account_name(&self) -> String {
        let own = self.own_service_account();
        if own.is_empty() { self.cluster.metadata.name.clone() } else { own.to_owned() }
    }

    /// The ServiceAccount that the head's template names; empty if it names none.
    pub fn own_service_account(&self) -> &str {
        let template = &self.cluster.spec.head_group_spec.template;
        template.pointer("/spec/serviceAccountName").and_then(Value::as_str).unwrap_or_default()
    }

    /// The autoscaler's ServiceAccount. One that the template names is only looked for: it is not the operator's to make.
    ///
    /// # Errors
    /// Names the field of the template that can't be used.
    pub fn service_account(&self) -> Result<Option<Value>, FieldError> {
        if !self.is_autoscaled() {
            return Ok(None);
        }
        let template = Group::head(self.cluster).draft()?;
        if !template.spec_text("serviceAccountName").is_empty() {
            return Ok(None);
        }
        let metadata = self.metadata(&check_name(&self.service_account_name()), self.rbac_labels());
        Ok(Some(json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata })))
    }

    /// The autoscaler's Role.
    ///
    /// # Errors
    /// Never so far.
    pub fn role(&self) -> Result<Option<Value>, FieldError> {
        if !self.is_autoscaled() {
            return Ok(None);
        }
        let mut rules = vec![
            rule("", "pods", &["get", "list", "watch", "patch"]),
            rule("", "pods/resize", &["patch"]),
            rule("ray.io", "rayclusters", &["get", "patch"]),
        ];
        if self.config.autoscaler.wide_role && self.own_autoscaler_image().is_some() {
            rules.extend(self.wide_rules());
        }
        let metadata = self.metadata(&self.role_name(), self.rbac_labels());
        Ok(Some(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": metadata,
            "rules": rules,
        })))
    }

    /// What Mobula's sidecar can use beyond what Ray's autoscaler needs.
    pub(crate) fn wide_rules(&self) -> [Value; 3] {
        [
            rule("ray.io", "rayclusters", &["list", "watch"]),
            rule("", "resourcequotas", &["list"]),
            rule("events.k8s.io", "events", &["create"]),
        ]
    }

    /// Gives the Role to the ServiceAccount.
    ///
    /// # Errors
    /// Never so far.
    pub fn role_binding(&self) -> Result<Option<Value>, FieldError> {
        if !self.is_autoscaled() {
            return Ok(None);
        }
        let account = check_name(&self.service_account_name());
        Ok(Some(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": self.metadata(&self.role_name(), self.rbac_labels()),
            "subjects": [{ "kind": "ServiceAccount", "name": account, "namespace": self.namespace() }],
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": self.role_name() },
        })))
    }

    fn role_name(&self) -> String {
        check_name(&self.cluster.metadata.name)
    }

    fn rbac_labels(&self) -> Value {
        json!({
            "ray.io/cluster": self.cluster.metadata.name,
            "app.kubernetes.io/name": "kuberay",
            keys::CREATED_BY: keys::CREATED_BY_OPERATOR,
        })
    }
}

fn rule(group: &str, resource: &str, verbs: &[&str]) -> Value {
    json!({ "apiGroups": [group], "resources": [resource], "verbs": verbs })
}
