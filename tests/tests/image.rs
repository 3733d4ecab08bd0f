//! The image as KubeRay would run it: the release binary in its OCI layout, unpacked, with nothing else in sight, started by
//! the very command, arguments and environment of the autoscaler's container, against a real GCS and a real API server.
//!
//! Real parts: gcs_server of Ray, etcd, kube-apiserver, a token of the service account, namespaces of the kernel.

// Tests wait in real time and read where the cache is.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use mobula_gcs::{PlacementStrategy, ResourceMap, registrar};
use mobula_image::{binary, contents, oci, surroundings, unpacked};
use mobula_tests::apiserver::{ApiServer, Namespace, post};
use mobula_tests::gcs::GcsServer;
use mobula_tests::raycluster::{Group, Options, raycluster};
use mobula_tests::{parts, wait};
use serde_json::{Value, json};
use tempfile::TempDir;

const CLUSTER: &str = "raycluster-autoscaler";
const ACCOUNT_FILES: &str = "var/run/secrets/kubernetes.io/serviceaccount";

/// The autoscaler's container as KubeRay 1.6 makes it, but for its image and resources.
fn container() -> Value {
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    json!({
        "command": ["/bin/bash", "-c", "--"],
        "args": ["ray kuberay-autoscaler --cluster-name $(RAY_CLUSTER_NAME) --cluster-namespace $(RAY_CLUSTER_NAMESPACE)"],
        "env": [
            field("RAY_CLUSTER_NAME", "metadata.labels['ray.io/cluster']"),
            field("RAY_CLUSTER_NAMESPACE", "metadata.namespace"),
            field("RAY_HEAD_POD_NAME", "metadata.name"),
            {"name": "KUBERAY_CRD_VER", "value": "v1"},
        ],
    })
}

/// What the kubelet makes of it: the command line with `$(NAME)` filled in, and the environment.
fn as_kubelet(container: &Value, namespace: &Namespace) -> (Vec<String>, BTreeMap<String, String>) {
    let fields = BTreeMap::from([
        ("metadata.labels['ray.io/cluster']", CLUSTER.to_owned()),
        ("metadata.namespace", namespace.name.clone()),
        ("metadata.name", format!("{CLUSTER}-head")),
    ]);
    let mut env = BTreeMap::from([
        ("KUBERNETES_SERVICE_HOST".to_owned(), namespace.credentials.host.clone()),
        ("KUBERNETES_SERVICE_PORT".to_owned(), namespace.credentials.port.to_string()),
        ("KUBERNETES_SERVICE_PORT_HTTPS".to_owned(), namespace.credentials.port.to_string()),
    ]);
    for entry in container["env"].as_array().unwrap() {
        let field = entry.pointer("/valueFrom/fieldRef/fieldPath").and_then(Value::as_str);
        let value = field.map_or_else(|| entry["value"].as_str().unwrap().to_owned(), |path| fields[path].clone());
        env.insert(entry["name"].as_str().unwrap().to_owned(), value);
    }
    let words = [&container["command"], &container["args"]].into_iter().flat_map(|list| list.as_array().unwrap());
    let expand = |word: &Value| {
        let filled = |word: String, (name, value): (&String, &String)| word.replace(&format!("$({name})"), value);
        env.iter().fold(word.as_str().unwrap().to_owned(), filled)
    };
    (words.map(expand).collect(), env)
}

/// The image, built once.
fn layout() -> &'static Path {
    static LAYOUT: OnceLock<TempDir> = OnceLock::new();
    LAYOUT
        .get_or_init(|| {
            let image = contents::collect(&contents::Ingredients {
                binary: binary::build().unwrap(),
                bash: None,
                ca_bundle: None,
                cache: surroundings::cache().unwrap(),
                name: "mobula".to_owned(),
                tag: "test".to_owned(),
            });
            let layout = tempfile::tempdir().unwrap();
            let written = oci::write(&image.unwrap(), layout.path()).unwrap();
            assert!(written.unpacked_bytes <= contents::MAX_IMAGE_BYTES, "{} bytes", written.unpacked_bytes);
            layout
        })
        .path()
}

fn unpack() -> (TempDir, unpacked::Unpacked) {
    let scratch = tempfile::tempdir().unwrap();
    let image = unpacked::unpack(layout(), &scratch.path().join("root")).unwrap();
    (scratch, image)
}

fn run(image: &unpacked::Unpacked, script: &str) -> Output {
    image.command(&["/bin/bash", "-c", "--", script], &[]).output().unwrap()
}

/// What the kubelet mounts for the service account: its token, the authority, the namespace.
async fn mount_account(image: &unpacked::Unpacked, namespace: &Namespace) {
    let path = format!("/api/v1/namespaces/{}/serviceaccounts/{CLUSTER}/token", namespace.name);
    let request = http::Request::post(path)
        .header("content-type", "application/json")
        .body(serde_json::to_vec(&json!({"spec": {"expirationSeconds": 3600}})).unwrap())
        .unwrap();
    let answer: Value = namespace.admin.request(request).await.unwrap();
    let directory = image.root.join(ACCOUNT_FILES);
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("token"), answer["status"]["token"].as_str().unwrap()).unwrap();
    fs::write(directory.join("namespace"), &namespace.name).unwrap();
    fs::copy(&namespace.credentials.ca_file, directory.join("ca.crt")).unwrap();
}

async fn replicas(namespace: &Namespace) -> anyhow::Result<i64> {
    let path = format!("/apis/ray.io/v1/namespaces/{}/rayclusters/{CLUSTER}", namespace.name);
    let cluster: Value = namespace.admin.request(http::Request::get(path).body(Vec::new())?).await?;
    Ok(cluster["spec"]["workerGroupSpecs"][0]["replicas"].as_i64().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_command_scales_a_cluster_and_ends_on_sigterm() {
    let scratch = tempfile::tempdir().unwrap();
    let server = ApiServer::shared().await.unwrap();
    let namespace = server.namespace("image", CLUSTER).await.unwrap();
    let ray = parts::ray(parts::RAY).unwrap();
    let gcs = GcsServer::start(&ray, scratch.path(), Vec::new()).await.unwrap();
    let gcs_port = gcs.address.rsplit_once(':').unwrap().1.parse().unwrap();
    // No address is given to the sidecar: it finds the GCS as Ray does, by the port in the RayCluster.
    let options = Options { idle_timeout_s: 60, version: "v2", gcs_port };
    let groups = [Group::cpu("gpu-group", 8, 5).with_gpu(8)];
    let path = format!("/apis/ray.io/v1/namespaces/{}/rayclusters", namespace.name);
    post(&namespace.admin, &path, &raycluster(CLUSTER, &groups, &options)).await.unwrap();

    let (_image_scratch, image) = unpack();
    mount_account(&image, &namespace).await;
    let (argv, env) = as_kubelet(&container(), &namespace);
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let log = scratch.path().join("sidecar.log");
    let output = fs::File::create(&log).unwrap();
    let mut command = image.command(&argv, &env);
    let mut sidecar = command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output).spawn().unwrap();

    let bundle = ResourceMap::from([("GPU".to_owned(), 8.0)]);
    let group = registrar::PlacementGroup {
        id: format!("{:0>28}01000000", 1),
        strategy: PlacementStrategy::StrictSpread,
        bundles: vec![bundle; 3],
        ..registrar::PlacementGroup::default()
    };
    registrar::create_placement_group(&gcs.client().unwrap(), &group).await.unwrap();
    let scaled =
        wait::until("three replicas", Duration::from_secs(60), async || replicas(&namespace).await, |n| *n == 3).await;

    let init = unpacked::init_pid(sidecar.id());
    let asked_at = Instant::now();
    if let Some(init) = init {
        assert!(Command::new("kill").args(["-TERM", &init.to_string()]).status().unwrap().success());
    }
    let mut ended = None;
    while ended.is_none() && asked_at.elapsed() < Duration::from_secs(15) {
        ended = sidecar.try_wait().unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let _ = sidecar.kill();
    let _ = sidecar.wait();
    let words = fs::read_to_string(&log).unwrap();
    assert!(init.is_some(), "the container had ended already:\n{words}");
    assert!(scaled.is_ok(), "{scaled:?}\n{words}");
    assert_eq!(ended.and_then(|status| status.code()), Some(0), "after SIGTERM:\n{words}");
    namespace.must_not_be_refused_twice().unwrap();
    println!("real parts: gcs_server of Ray {}, kube-apiserver, the unpacked image; scaled in {scaled:?}", ray.version);
}

/// Policies, faults and chance included: the hash is that of everything that happened.
#[test]
fn the_optimised_binary_has_the_same_histories_as_the_one_of_the_tests() {
    let (_scratch, image) = unpack();
    let scenarios = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sim/scenarios");
    let copied = Command::new("cp").arg("-r").arg(&scenarios).arg(image.root.join("scenarios")).status().unwrap();
    assert!(copied.success());
    for name in ["gangs-queue-for-whole-nodes", "killed-between-writes-with-wrong-clocks", "two-clusters-share-nodes"] {
        let optimised = run(&image, &format!("mobula simulate /scenarios/{name}.yaml -o json"));
        let file = scenarios.join(format!("{name}.yaml"));
        let plain = Command::new(parts::mobula().unwrap()).args(["simulate", "-o", "json"]).arg(file).output().unwrap();
        assert!(plain.status.success() && !plain.stdout.is_empty(), "{name}: {plain:?}");
        assert_eq!(String::from_utf8_lossy(&optimised.stdout), String::from_utf8_lossy(&plain.stdout), "{name}");
    }
}

#[test]
fn as_ray_it_says_what_it_is() {
    let (_scratch, image) = unpack();
    let output = run(&image, "ray start --head");
    assert_eq!(output.status.code(), Some(2));
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(words.contains("Mobula") && words.contains("kuberay-autoscaler"), "{words}");
}

#[test]
fn host_names_resolve() {
    let (_scratch, image) = unpack();
    fs::write(image.root.join("etc/hosts"), "127.0.0.1 ray-head.example\n").unwrap();
    let plan = "mobula plan --raycluster /cluster.json --demand gcs://ray-head.example:1";
    let options = Options { idle_timeout_s: 60, version: "v2", gcs_port: 1 };
    let cluster = raycluster(CLUSTER, &[Group::cpu("small", 1, 1)], &options);
    fs::write(image.root.join("cluster.json"), cluster.to_string()).unwrap();
    let output = run(&image, plan);
    let words = String::from_utf8_lossy(&output.stderr);
    // Nobody listens at port 1: the name was resolved if it is the connection that is refused.
    assert!(words.to_lowercase().contains("refused"), "{output:?}");
}
