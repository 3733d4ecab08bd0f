//! Topologies that are a list of label keys.

use std::collections::BTreeSet;

use super::name;
use crate::FieldError;
use crate::at::At;

/// The label of a Kubernetes node's name: the narrowest level that there is.
const HOSTNAME: &str = "kubernetes.io/hostname";

/// Label keys from broad to narrow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopologyLevels {
    /// Name of the object.
    pub name: String,
    /// At least one.
    pub levels: Vec<TopologyKey>,
}

/// One level.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopologyKey {
    /// What people call it: what the object says, or the last part of the label key.
    pub name: String,
    /// Label key of Kubernetes nodes.
    pub key: String,
}

/// `spec.levels[].nodeLabel`, of Kueue (v1alpha1 to v1beta2) and KAI.
pub(super) fn topology(at: &At<'_>) -> Result<TopologyLevels, FieldError> {
    read(at, |level| {
        let key = level.require("nodeLabel")?;
        let name = key.str()?.rsplit('/').next().unwrap_or_default().to_owned();
        Ok((name, key))
    })
}

/// `spec.levels[].{domain,key}`, of Grove.
pub(super) fn grove(at: &At<'_>) -> Result<TopologyLevels, FieldError> {
    read(at, |level| Ok((level.require("domain")?.str()?.to_owned(), level.require("key")?)))
}

fn read<'a>(
    at: &At<'a>,
    level: impl Fn(&At<'a>) -> Result<(String, At<'a>), FieldError>,
) -> Result<TopologyLevels, FieldError> {
    let list = at.require("spec")?.require("levels")?;
    let items = list.items()?;
    if items.is_empty() {
        return Err(list.error("must have at least one level"));
    }
    let mut seen = BTreeSet::new();
    let mut levels: Vec<TopologyKey> = Vec::with_capacity(items.len());
    for item in &items {
        let (name, key) = level(item)?;
        let text = key.str()?;
        if text.is_empty() {
            return Err(key.error("must be a label key"));
        }
        if !seen.insert(text) {
            return Err(key.error("is the label of a broader level already: name each label once"));
        }
        if levels.last().is_some_and(|last| last.key == HOSTNAME) {
            return Err(key.error("comes after kubernetes.io/hostname: nothing is narrower than a host"));
        }
        levels.push(TopologyKey { name, key: text.to_owned() });
    }
    Ok(TopologyLevels { name: name(at)?, levels })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::TopologyObject;

    fn kueue(version: &str, labels: &[&str]) -> Value {
        let levels: Vec<Value> = labels.iter().map(|label| json!({"nodeLabel": label})).collect();
        json!({"apiVersion": version, "kind": "Topology", "metadata": {"name": "default"}, "spec": {"levels": levels}})
    }

    fn keys(object: &Value) -> Vec<(String, String)> {
        match TopologyObject::from_value(object).unwrap() {
            TopologyObject::Levels(found) => found.levels.into_iter().map(|level| (level.name, level.key)).collect(),
            TopologyObject::HyperNode(found) => panic!("{found:?}"),
        }
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(name, key)| ((*name).to_owned(), (*key).to_owned())).collect()
    }

    #[test]
    fn topologies_of_kueue_and_kai_are_label_keys_from_broad_to_narrow() {
        let labels =
            ["cloud.provider.com/topology-block", "cloud.provider.com/topology-rack", "kubernetes.io/hostname"];
        let expected = pairs(&[
            ("topology-block", "cloud.provider.com/topology-block"),
            ("topology-rack", "cloud.provider.com/topology-rack"),
            ("hostname", "kubernetes.io/hostname"),
        ]);
        for version in ["kueue.x-k8s.io/v1beta1", "kueue.x-k8s.io/v1beta2", "kai.scheduler/v1alpha1"] {
            assert_eq!(keys(&kueue(version, &labels)), expected, "{version}");
        }
    }

    #[test]
    fn groves_binding_gives_levels_portable_names() {
        let binding = json!({
            "apiVersion": "grove.io/v1alpha1",
            "kind": "ClusterTopologyBinding",
            "metadata": {"name": "h100"},
            "spec": {"levels": [
                {"domain": "block", "key": "oci.oraclecloud.com/host.network_block_id"},
                {"domain": "rack", "key": "oci.oraclecloud.com/host.rack_id"},
            ]},
        });
        let expected = pairs(&[
            ("block", "oci.oraclecloud.com/host.network_block_id"),
            ("rack", "oci.oraclecloud.com/host.rack_id"),
        ]);
        assert_eq!(keys(&binding), expected);
    }

    #[test]
    fn lists_are_read_whole_and_errors_name_the_place() {
        let list = json!({"kind": "List", "items": [
            kueue("kueue.x-k8s.io/v1beta2", &["a"]),
            kueue("kueue.x-k8s.io/v1beta2", &["a", "b", "a"]),
        ]});
        assert!(TopologyObject::is_one(&list));
        let error = TopologyObject::all_from_value(&list).unwrap_err().to_string();
        let expected =
            "items[1].spec.levels[2].nodeLabel: a: is the label of a broader level already: name each label once";
        assert_eq!(error, expected);
    }

    #[test]
    fn what_is_no_topology_is_refused_with_what_would_be() {
        let refused = |object: &Value| TopologyObject::from_value(object).unwrap_err().to_string();
        let pod = json!({"apiVersion": "v1", "kind": "Pod"});
        assert!(!TopologyObject::is_one(&pod));
        assert!(
            refused(&pod).starts_with("kind: v1 Pod: must be one of Topology (kueue.x-k8s.io)"),
            "{}",
            refused(&pod)
        );
        assert_eq!(refused(&kueue("kueue.x-k8s.io/v1beta2", &[])), "spec.levels: […]: must have at least one level");
        let below_host = kueue("kueue.x-k8s.io/v1beta2", &["kubernetes.io/hostname", "slot"]);
        assert!(refused(&below_host).contains("spec.levels[1].nodeLabel: slot: comes after"));
        let nameless = json!({"apiVersion": "kai.scheduler/v1alpha1", "kind": "Topology", "metadata": {},
            "spec": {"levels": [{"nodeLabel": "a"}]}});
        assert_eq!(refused(&nameless), "metadata.name: is required");
        assert_eq!(refused(&json!(7)), "the document: 7: must be an object");
    }
}
