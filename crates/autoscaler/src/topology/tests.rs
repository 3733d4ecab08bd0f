use std::sync::Arc;

use mobula_planner::{Host, Hosts, Labels, Snapshot, TopologyLevel};
use serde_json::{Value, json};

use super::DescribedTopology;

fn topology(name: &str, labels: &[&str]) -> Value {
    let levels: Vec<Value> = labels.iter().map(|label| json!({"nodeLabel": label})).collect();
    json!({"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "Topology", "metadata": {"name": name}, "spec": {"levels": levels}})
}

fn hypernode(name: &str, tier: i64, members: &[(&str, Value)]) -> Value {
    let members: Vec<Value> =
        members.iter().map(|(kind, selector)| json!({"type": kind, "selector": selector})).collect();
    json!({
        "apiVersion": "topology.volcano.sh/v1alpha1",
        "kind": "HyperNode",
        "metadata": {"name": name},
        "spec": {"tier": tier, "members": members},
    })
}

fn exact(name: &str) -> Value {
    json!({"exactMatch": {"name": name}})
}

fn level(name: &str, key: &str) -> TopologyLevel {
    TopologyLevel { name: name.to_owned(), keys: vec![key.to_owned()], ..TopologyLevel::default() }
}

fn hosts(names: &[&str]) -> Hosts {
    names.iter().map(|name| Host { name: (*name).to_owned(), ..Host::default() }).collect()
}

fn names(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.topology.iter().map(|level| level.name.as_str()).collect()
}

fn applied(documents: &[Value], snapshot: &mut Snapshot) -> Vec<String> {
    let described = DescribedTopology::from_documents(documents).unwrap();
    let mut notes = described.add_levels(&mut snapshot.topology);
    described.hypernodes.label(&mut snapshot.hosts, &mut notes);
    notes
}

fn labels_of<'a>(snapshot: &'a Snapshot, host: &str) -> &'a Labels {
    &snapshot.hosts.iter().find(|known| known.name == host).unwrap().labels
}

#[test]
fn described_labels_become_levels() {
    let mut snapshot = Snapshot::default();
    let notes = applied(&[topology("default", &["x/block", "x/rack", "kubernetes.io/hostname"])], &mut snapshot);
    assert_eq!((names(&snapshot), notes), (vec!["block", "rack", "hostname"], vec![]));
    assert_eq!(snapshot.topology[1], level("rack", "x/rack"));
}

#[test]
fn labels_that_levels_have_stay_and_others_find_their_place_between_them() {
    let mut snapshot = Snapshot {
        topology: vec![
            level("zone", "topology.kubernetes.io/zone"),
            TopologyLevel { max_hosts: Some(18), ..level("accelerator", "nvidia.com/gpu.clique") },
            level("host", "kubernetes.io/hostname"),
        ],
        ..Snapshot::default()
    };
    let described = [
        topology("nvl72", &["x/block", "nvidia.com/gpu.clique", "x/tray", "kubernetes.io/hostname"]),
        topology("cpu", &["y/row"]),
    ];
    assert_eq!(applied(&described, &mut snapshot), Vec::<String>::new());
    assert_eq!(names(&snapshot), ["zone", "block", "accelerator", "tray", "row", "host"]);
    assert_eq!(snapshot.topology[2].max_hosts, Some(18));
}

#[test]
fn an_order_that_contradicts_the_levels_in_use_is_noted() {
    let mut snapshot =
        Snapshot { topology: vec![level("block", "x/block"), level("rack", "x/rack")], ..Snapshot::default() };
    let notes = applied(&[topology("upside-down", &["x/rack", "x/block"])], &mut snapshot);
    assert_eq!(names(&snapshot), ["block", "rack"]);
    let expected = "topology upside-down says that x/block is narrower than x/rack, the levels in use say the opposite: they count";
    assert_eq!(notes, [expected]);
}

#[test]
fn two_levels_never_have_one_name() {
    let mut snapshot = Snapshot { topology: vec![level("rack", "x/rack")], ..Snapshot::default() };
    applied(&[topology("other", &["y/rack"])], &mut snapshot);
    assert_eq!(names(&snapshot), ["rack", "y/rack"]);
}

#[test]
fn hypernodes_become_levels_by_tier_and_labels_of_their_hosts() {
    let described = json!({"kind": "HyperNodeList", "items": [
        hypernode("leaf-0", 1, &[("Node", exact("n0")), ("Node", exact("n1")), ("Node", exact("not there"))]),
        hypernode("leaf-1", 1, &[("Node", json!({"regexMatch": {"pattern": "^n[23]$"}}))]),
        hypernode("leaf-2", 1, &[("Node", json!({"labelMatch": {"matchLabels": {"leaf": "two"}}}))]),
        hypernode("spine", 2, &[
            ("HyperNode", exact("leaf-0")),
            ("HyperNode", json!({"regexMatch": {"pattern": "leaf-1"}})),
            ("Node", exact("n5")),
        ]),
    ]});
    assert!(DescribedTopology::is_one(&described));
    let mut snapshot = Snapshot {
        topology: vec![level("zone", "topology.kubernetes.io/zone"), level("host", "kubernetes.io/hostname")],
        hosts: hosts(&["n0", "n1", "n2", "n3", "n4", "n5", "n20"]),
        ..Snapshot::default()
    };
    snapshot.hosts[4].labels = Arc::new([("leaf".to_owned(), "two".to_owned())].into());
    assert_eq!(applied(&[described], &mut snapshot), Vec::<String>::new());
    assert_eq!(names(&snapshot), ["zone", "hypernode-tier-2", "hypernode-tier-1", "host"]);
    assert!(snapshot.topology[1].is_fabric && snapshot.topology[2].is_fabric);
    let of = |host: &str| {
        let labels = labels_of(&snapshot, host);
        [1, 2].map(|at| labels.get(&snapshot.topology[at].keys[0]).map(String::as_str))
    };
    assert_eq!(of("n0"), [Some("spine"), Some("leaf-0")]);
    assert_eq!((of("n1"), of("n3")), (of("n0"), [Some("spine"), Some("leaf-1")]));
    assert_eq!(of("n4"), [None, Some("leaf-2")], "its leaf is below no spine");
    assert_eq!(of("n5"), [Some("spine"), None]);
    assert_eq!(of("n20"), [None, None], "the expression has ends");
}

#[test]
fn a_host_in_two_hypernodes_of_a_tier_is_in_neither() {
    let all = json!({"regexMatch": {"pattern": ""}});
    let described = [hypernode("a", 1, &[("Node", all.clone())]), hypernode("b", 1, &[("Node", all)])];
    let mut snapshot = Snapshot { hosts: hosts(&["n0", "n1", "n2"]), ..Snapshot::default() };
    let notes = applied(&described, &mut snapshot);
    assert_eq!(
        notes,
        ["Kubernetes node n0 and 2 more are in several HyperNodes of tier 1 (a, b): none of them counts"]
    );
    assert!(labels_of(&snapshot, "n0").is_empty());
}

#[test]
fn hypernodes_that_hold_each_other_do_no_harm() {
    let described = [
        hypernode("a", 1, &[("HyperNode", exact("b")), ("Node", exact("n0"))]),
        hypernode("b", 2, &[("HyperNode", exact("a"))]),
        hypernode("c", 2, &[("HyperNode", exact("c"))]),
    ];
    let mut snapshot = Snapshot { hosts: hosts(&["n0"]), ..Snapshot::default() };
    let notes = applied(&described, &mut snapshot);
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[0].starts_with("HyperNode a (tier 1) has b (tier 2) as a member"), "{notes:?}");
    let labels: Vec<&str> = labels_of(&snapshot, "n0").values().map(String::as_str).collect();
    assert_eq!(labels, ["a", "b"]);
}

#[test]
fn a_tier_has_the_name_that_all_of_its_hypernodes_give_it() {
    let named = |name: &str, tier: i64, tier_name: &str| {
        let mut hypernode = hypernode(name, tier, &[]);
        hypernode["spec"]["tierName"] = json!(tier_name);
        hypernode
    };
    let described = [named("a", 1, "leaf"), named("b", 1, "leaf"), named("c", 2, "spine"), named("d", 2, "core")];
    let mut snapshot = Snapshot { hosts: hosts(&["n0"]), ..Snapshot::default() };
    applied(&described, &mut snapshot);
    assert_eq!(names(&snapshot), ["hypernode-tier-2", "leaf"]);
}

#[test]
fn what_cannot_be_used_is_said() {
    let broken = hypernode("a", 1, &[("Node", json!({"regexMatch": {"pattern": "n["}}))]);
    let error = DescribedTopology::from_documents(&[broken]).unwrap_err().to_string();
    let expected = "spec.members[0].selector.regexMatch.pattern of HyperNode a: n[: is not a regular expression as Go (RE2) has \
                    them";
    assert_eq!(error, expected);
    let notes = applied(&[hypernode("a", 1, &[])], &mut Snapshot::default());
    assert!(notes[0].contains("Kubernetes nodes are not known"), "{notes:?}");
    assert!(!DescribedTopology::is_one(&json!({"levels": []})));
}
