//! Network policies around the pods of a RayCluster (feature gate `RayClusterNetworkPolicy`).

use mobula_api::{Gate, NetworkPolicyRules, keys};
use serde_json::{Value, json};

use super::{Children, env::Origin, services::DASHBOARD_PORT};

impl Children<'_> {
    /// The policies: one for the head, one for each worker group.
    pub fn network_policies(&self) -> Vec<Value> {
        let Some(policy) =
            self.cluster.spec.network_policy.as_ref().filter(|_| self.config.gates.has(Gate::RayClusterNetworkPolicy))
        else {
            return Vec::new();
        };
        let name = &self.cluster.metadata.name;
        let none = NetworkPolicyRules::default();
        let head_rules = policy.head.as_ref().unwrap_or(&none);
        let selector = json!({ keys::CLUSTER: name, keys::NODE_TYPE: keys::NODE_TYPE_HEAD });
        let mut policies = vec![self.network_policy(
            &format!("{name}-head"),
            keys::HEAD_GROUP,
            &selector,
            self.submitter_rule().into_iter().chain(head_rules.ingress_rules.iter().cloned()).collect(),
            &head_rules.egress_rules,
        )];
        for group in &self.cluster.spec.worker_group_specs {
            let own = policy.worker_groups.iter().find(|own| own.group_name == group.group_name);
            let common = policy.worker.as_ref().unwrap_or(&none);
            let (ingress, egress) = own
                .map_or((&common.ingress_rules, &common.egress_rules), |own| (&own.ingress_rules, &own.egress_rules));
            let selector = json!({
                keys::CLUSTER: name,
                keys::NODE_TYPE: keys::NODE_TYPE_WORKER,
                keys::GROUP: group.group_name,
            });
            let full_name = format!("{name}-workers-{}", group.group_name);
            policies.push(self.network_policy(&full_name, &group.group_name, &selector, ingress.clone(), egress));
        }
        policies
    }

    fn network_policy(
        &self,
        name: &str,
        group: &str,
        selector: &Value,
        ingress: Vec<Value>,
        egress: &[Value],
    ) -> Value {
        let cluster = &self.cluster.metadata.name;
        let pods = json!([{ "podSelector": { "matchLabels": { keys::CLUSTER: cluster } } }]);
        let mode = self.cluster.spec.network_policy.as_ref().and_then(|policy| policy.mode.as_deref());
        let mut spec = json!({ "podSelector": { "matchLabels": selector } });
        let mut types = Vec::new();
        let mut restrict = |direction: &str, key: &str, rules: Vec<Value>| {
            types.push(json!(direction));
            if let Some(spec) = spec.as_object_mut() {
                spec.insert(key.to_owned(), Value::Array(rules));
            }
        };
        if mode != Some("DenyAllEgress") {
            let rules = std::iter::once(json!({ "from": pods })).chain(ingress);
            restrict("Ingress", "ingress", rules.collect());
        }
        if mode != Some("DenyAllIngress") {
            let rules = std::iter::once(json!({ "to": pods })).chain(egress.iter().cloned());
            restrict("Egress", "egress", rules.collect());
        }
        if let Some(spec) = spec.as_object_mut() {
            spec.insert("policyTypes".to_owned(), Value::Array(types));
        }
        let labels = json!({
            keys::CLUSTER: cluster,
            keys::GROUP: group,
            "app.kubernetes.io/name": "kuberay",
            keys::CREATED_BY: keys::CREATED_BY_OPERATOR,
        });
        json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": self.metadata(name, labels),
            "spec": spec,
        })
    }

    /// The Job that submits a RayJob is no pod of the cluster, and talks to the dashboard.
    fn submitter_rule(&self) -> Option<Value> {
        let labels = &self.cluster.metadata.labels;
        let submits = labels.get("ray.io/job-submission-mode").is_some_and(|mode| mode == "K8sJobMode");
        let job = labels.get("ray.io/originated-from-cr-name").filter(|_| submits)?;
        if self.origin() != Origin::Job {
            return None;
        }
        let params = &self.cluster.spec.head_group_spec.ray_start_params;
        let port = params.get("dashboard-port").and_then(|port| port.parse().ok()).unwrap_or(DASHBOARD_PORT);
        let selector = json!({ "ray.io/originated-from-cr-name": job, keys::ORIGINATED_FROM_CRD: Origin::Job.kind() });
        Some(json!({
            "from": [{ "podSelector": { "matchLabels": selector } }],
            "ports": [{ "protocol": "TCP", "port": port }],
        }))
    }
}
