//! Random RayClusters: mostly such as users write, some with one thing wrong.

use mobula_tests::dice::Dice;
use serde_json::{Map, Value, json};

/// Amounts that are right.
const QUANTITIES: [&str; 16] = [
    "0",
    "1",
    "4",
    "500m",
    "1.5",
    "2Gi",
    "1.5Gi",
    "3k",
    "3K",
    "100M",
    "1e3",
    "2E2",
    "250u",
    "0.1",
    "+8",
    "1000000001n",
];
/// Amounts that at least one of the two refuses.
const ODD_QUANTITIES: [&str; 10] = ["-1", "-500m", "", "x", "1.2.3", "4 Gi", "9E", "1Yi", "1ee3", ".5"];
const CUSTOM: [&str; 4] = ["rdma/hca", "bar", "gpu-ish", "cpu"];
const CONTAINER: [&str; 7] =
    ["cpu", "memory", "nvidia.com/gpu", "amd.com/gpu", "google.com/tpu", "rdma/hca", "ephemeral-storage"];
const TPUS: [&str; 6] =
    ["tpu-v4-podslice", "tpu-v5-lite-podslice", "tpu-v5p-slice", "tpu-v6e-slice", "tpu7x", "tpu-unknown"];
const LABELS: [(&str, &str); 5] =
    [("rack", "r1"), ("ray.io/zone", "a"), ("example.com/tier.x", "A_b-9"), ("empty", ""), ("x", "1")];
const ODD_LABELS: [(&str, &str); 6] =
    [("-a", "b"), ("a", "b c"), ("a/b/c", "d"), ("A.Com/x", "y"), ("a_b/x", "y"), ("/x", "y")];

/// A RayCluster with nothing special.
pub fn plain() -> Value {
    let group = json!({
        "groupName": "w", "minReplicas": 0, "maxReplicas": 3, "rayStartParams": {},
        "template": {"spec": {"containers": [{"resources": {"limits": {"cpu": "2", "memory": "4Gi"}}}]}},
    });
    whole(&json!({"rayStartParams": {"num-cpus": "0"}, "template": group["template"]}), &[group])
}

/// The RayCluster of this number in the series of `seed`.
pub fn cluster(seed: u64, number: u64) -> Value {
    let dice = &mut Dice::new(seed, number);
    let mut groups: Vec<Value> = (0..dice.below(4)).map(|index| worker(dice, index)).collect();
    if dice.one_in(4)
        && let Some(group) = groups.last_mut()
    {
        break_something(dice, group);
    }
    whole(&group(dice), &groups)
}

fn whole(head: &Value, workers: &[Value]) -> Value {
    json!({
        "apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": "c", "namespace": "n"},
        "spec": {"headGroupSpec": head, "workerGroupSpecs": workers},
    })
}

fn worker(dice: &mut Dice, index: u64) -> Value {
    let mut group = group(dice);
    let min = dice.below(4);
    group["groupName"] = json!(format!("group-{index}"));
    group["minReplicas"] = json!(min);
    group["maxReplicas"] = json!(min + dice.below(1000));
    group["replicas"] = json!(dice.below(8));
    if dice.one_in(3) {
        group["numOfHosts"] = json!(dice.between(1, 8));
    }
    if dice.one_in(3) {
        group["idleTimeoutSeconds"] = json!(dice.pick(&[0, 1, 60, 2_147_483_647]));
    }
    if dice.one_in(3) {
        group["priority"] = json!(dice.pick(&[-2_147_483_648_i64, -1, 0, 7, 2_147_483_647]));
    }
    group
}

/// What head and workers have in common.
fn group(dice: &mut Dice) -> Value {
    let mut container = json!({"name": "ray"});
    for kind in ["limits", "requests"] {
        if !dice.one_in(3) {
            container["resources"][kind] = amounts(dice, &CONTAINER);
        }
    }
    // A group without CPUs is refused by both: that should be rare.
    if !dice.one_in(10) {
        let kind = dice.pick(&["limits", "requests"]);
        container["resources"][kind]["cpu"] = amount(dice);
    }
    let mut pod = json!({"containers": [container, {"resources": {"limits": {"cpu": "99", "nvidia.com/gpu": "99"}}}]});
    if dice.one_in(2) {
        pod["nodeSelector"] = node_selector(dice);
    }
    let mut group = json!({"rayStartParams": start_params(dice), "template": {"spec": pod}});
    if dice.one_in(4) {
        let names: Vec<&str> = ["CPU", "GPU", "TPU", "memory"].into_iter().chain(CUSTOM).collect();
        let resources = amounts(dice, &names);
        // Strings in the definition, unlike those of a pod.
        let texts = resources.as_object().into_iter().flatten().filter(|(_, amount)| amount.is_string());
        group["resources"] = texts.map(|(name, amount)| (name.clone(), amount.clone())).collect();
    }
    if dice.one_in(3) {
        let labels = (0..dice.below(3)).map(|_| dice.pick(&LABELS)).map(|(key, value)| (key.to_owned(), json!(value)));
        group["labels"] = labels.collect();
    }
    group
}

fn amounts(dice: &mut Dice, names: &[&str]) -> Value {
    let mut amounts = Map::new();
    for name in names {
        if dice.one_in(2) {
            amounts.insert((*name).to_owned(), amount(dice));
        }
    }
    Value::Object(amounts)
}

/// Mostly text; the API server also keeps numbers.
fn amount(dice: &mut Dice) -> Value {
    match dice.below(8) {
        0 => json!(dice.below(64)),
        1 => json!(0.5),
        _ => json!(dice.pick(&QUANTITIES)),
    }
}

fn node_selector(dice: &mut Dice) -> Value {
    let mut selector = json!({"kubernetes.io/arch": "amd64"});
    if !dice.one_in(4) {
        selector["cloud.google.com/gke-tpu-topology"] = json!(dice.pick(&["2x2x1", "2x2x2", "4x4", "2X2x4", "16x16"]));
    }
    if !dice.one_in(4) {
        selector["cloud.google.com/gke-tpu-accelerator"] = json!(dice.pick(&TPUS));
    }
    selector
}

fn start_params(dice: &mut Dice) -> Value {
    let mut params = json!({"dashboard-host": "0.0.0.0"});
    for (name, values) in
        [("num-cpus", ["0", "4", " 16 "]), ("num-gpus", ["0", "1", "8"]), ("memory", ["0", "1000000000", "7"])]
    {
        if dice.one_in(4) {
            params[name] = json!(dice.pick(&values));
        }
    }
    if dice.one_in(3) {
        let custom: Map<String, Value> = (0..dice.below(3))
            .map(|_| (dice.pick(&["rdma/hca", "TPU", "GPU", "bar"]).to_owned(), json!(dice.below(9))))
            .collect();
        let text = Value::Object(custom).to_string();
        // As KubeRay's examples write it, and without the escapes.
        let text = if dice.one_in(2) { text.replace('"', "\\\"") } else { text };
        let quote = dice.pick(&['"', '\'']);
        params["resources"] = json!(format!("{quote}{text}{quote}"));
    }
    if dice.one_in(5) {
        params["labels"] = json!("rack=r1,zone=z");
    }
    params
}

/// One thing that a user or another controller may have got wrong.
fn break_something(dice: &mut Dice, group: &mut Value) {
    let odd = dice.pick(&ODD_QUANTITIES);
    match dice.below(11) {
        0 => group["minReplicas"] = json!(-1),
        1 => group["minReplicas"] = json!(5_000),
        2 => group["numOfHosts"] = json!(0),
        3 => drop(group.as_object_mut().and_then(|group| group.remove(dice.pick(&["minReplicas", "maxReplicas"])))),
        4 => group["groupName"] = json!("group-0"),
        5 => group["template"]["spec"]["containers"] = json!([]),
        6 => group["rayStartParams"]["num-cpus"] = json!(dice.pick(&["-1", "four", "1.5", "", "99999999999999999999"])),
        7 => group["rayStartParams"]["resources"] = json!(dice.pick(&["{}", "'[1]'", "'{\"a\": 1.5}'", "", "x"])),
        8 => group["labels"] = dice.pick(&ODD_LABELS.map(|(key, value)| json!({key: value}))),
        9 => group["resources"] = json!({"CPU": "1", dice.pick(&CUSTOM): odd}),
        _ => {
            group["resources"] = json!({});
            group["rayStartParams"] = json!({});
            group["template"]["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": odd}});
        }
    }
}
