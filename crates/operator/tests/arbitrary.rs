//! No RayCluster makes the builders panic; what they accept they make the same way again.
// A test reads the files beside it; helpers of tests may fail loudly.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::{fs, path::Path};

use mobula_api::{Compat, Gates, RayCluster};
use mobula_operator::{
    config::{BatchScheduler, Config},
    raycluster::children::Children,
    render,
};
use proptest::prelude::*;
use serde_json::{Value, json};

/// RayClusters of the corpus.
fn recorded() -> Vec<Value> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/golden");
    let names = [
        "ray-cluster.autoscaler",
        "ray-cluster.external-redis-uri",
        "x-auth",
        "x-headsvc",
        "x-ingress",
        "x-numhosts",
        "x-sidecars",
    ];
    let read = |name: &str| {
        let text = fs::read_to_string(corpus.join(name).join("input.yaml")).unwrap();
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        documents.into_iter().find(|document| document["kind"] == "RayCluster").unwrap()
    };
    names.map(read).to_vec()
}

/// Values that tend to be trouble.
fn trouble() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        json!(null),
        json!(true),
        json!(-1),
        json!(i64::MAX),
        json!(1.5),
        json!(""),
        json!("é".repeat(60)),
        json!("true"),
        json!("-9Ei"),
        json!("1e400"),
        json!("'{\"TPU\": 1e300}'"),
        json!([]),
        json!([null]),
        json!([{}]),
        json!({}),
        json!({"name": {}}),
        json!({"limits": {"cpu": "1n", "google.com/tpu": "9Ei"}}),
    ])
}

/// All places in a document.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(object) => {
            for (key, inner) in object {
                places(inner, &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), found);
            }
        }
        Value::Array(list) => list.iter().enumerate().for_each(|(i, inner)| places(inner, &format!("{at}/{i}"), found)),
        _ => {}
    }
}

fn config(compat: bool, scheduler: Option<BatchScheduler>) -> Config {
    let compat = if compat { Compat::V1_7 } else { Compat::V1_6 };
    let gates = "RayClusterHistoryServer=true,RayClusterNetworkPolicy=true,GCSFaultToleranceEmbeddedStorage=true";
    Config { compat, gates: Gates::parse(gates, compat).unwrap(), batch_scheduler: scheduler, ..Config::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn any_document_is_rendered_or_refused(
        base in prop::sample::select(recorded()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), trouble()), 1..4),
        compat in any::<bool>(),
        scheduler in prop::sample::select(vec![
            None,
            Some(BatchScheduler::Volcano),
            Some(BatchScheduler::YuniKorn),
            Some(BatchScheduler::Kai),
            Some(BatchScheduler::SchedulerPlugins),
            Some(BatchScheduler::Kubernetes),
        ]),
    ) {
        let mut document = base;
        for (index, value) in changes {
            let mut found = Vec::new();
            places(&document, "", &mut found);
            if let Some(place) = document.pointer_mut(index.get(&found).as_str()) {
                *place = value;
            }
        }
        let Ok(cluster) = RayCluster::from_value(document) else { return Ok(()) };
        let config = config(compat, scheduler);
        // What validation would refuse must not bring the builders down either.
        let children = Children { cluster: &cluster, config: &config };
        let _ = (children.fixed(&[1; 32]), children.head_pod("h"), children.redis_cleanup_job(), children.spec_hash());
        let _ = children.pod_groups(&children.gang_members());
        let first = render::objects(&cluster, &config);
        prop_assert_eq!(&first, &render::objects(&cluster, &config));
        for object in first.iter().flatten() {
            prop_assert!(object["metadata"]["name"].is_string(), "{}", object);
            prop_assert!(object["metadata"]["ownerReferences"][0]["controller"] == true, "{}", object);
        }
    }
}
