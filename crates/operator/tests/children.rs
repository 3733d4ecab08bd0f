//! Children that the recorded corpus does not show: what 1.7 adds, what a configuration adds, clean-up, gangs.
// Helpers of tests may fail loudly.
#![allow(clippy::unwrap_used)]

use mobula_api::{Compat, Gate, RayCluster};
use mobula_operator::{
    config::{BatchScheduler, Config, GangMode},
    raycluster::children::{Children, GangMembers, Slot},
    render,
};
use serde_json::{Value, json};

/// A RayCluster called `c` with a worker group `w`; `change` is merged over its spec.
fn cluster(change: Value) -> RayCluster {
    let container = |name: &str| {
        json!({
            "name": name,
            "image": "rayproject/ray:2.54.0",
            "resources": { "limits": { "cpu": "2", "memory": "4Gi" }, "requests": { "cpu": "1" } },
        })
    };
    let mut object = json!({
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": { "name": "c", "namespace": "ns", "uid": "0123456789", "labels": {}, "annotations": {} },
        "spec": {
            "rayVersion": "2.54.0",
            "headGroupSpec": { "template": { "spec": { "containers": [container("head")] } } },
            "workerGroupSpecs": [{
                "groupName": "w",
                "replicas": 2,
                "minReplicas": 1,
                "maxReplicas": 5,
                "template": { "spec": { "containers": [container("worker")] } },
            }],
        },
    });
    merge(&mut object, change);
    RayCluster::from_value(object).unwrap()
}

fn merge(into: &mut Value, change: Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (key, value) in change {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, change) => *into = change,
    }
}

fn with_gate(gate: Gate) -> Config {
    let mut config = Config { compat: Compat::V1_7, ..Config::default() };
    config.gates.set(gate, true);
    config
}

fn head(cluster: &RayCluster, config: &Config) -> Value {
    Children { cluster, config }.head_pod("c-head-x").unwrap()
}

fn worker(cluster: &RayCluster, config: &Config) -> Value {
    let group = &cluster.spec.worker_group_specs[0];
    Children { cluster, config }.worker_pod(group, &Slot::default(), "c-w-worker-x").unwrap()
}

/// The containers' names, and one of them.
fn names(pod: &Value, list: &str) -> Vec<String> {
    let containers = pod["spec"][list].as_array().into_iter().flatten();
    containers.map(|container| container["name"].as_str().unwrap().to_owned()).collect()
}

fn container<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let lists = ["containers", "initContainers"].into_iter().filter_map(|list| pod["spec"][list].as_array());
    lists.flatten().find(|container| container["name"] == name).unwrap()
}

/// The value of a variable; what it comes from, if it is no literal.
fn env<'a>(container: &'a Value, name: &str) -> Option<&'a Value> {
    let variable = container["env"].as_array()?.iter().rfind(|variable| variable["name"] == name)?;
    variable.get("value").or_else(|| variable.get("valueFrom"))
}

#[test]
fn every_child_is_owned_by_the_cluster_and_in_its_namespace() {
    let cluster = cluster(json!({
        "metadata": { "annotations": { "ray.io/enable-serve-service": "true" } },
        "spec": {
            "enableInTreeAutoscaling": true,
            "authOptions": { "mode": "token" },
            "headGroupSpec": { "enableIngress": true },
            "gcsFaultToleranceOptions": { "backend": "rocksdb" },
            "networkPolicy": { "mode": "DenyAllIngress" },
        },
    }));
    let config = with_gate(Gate::RayClusterNetworkPolicy);
    let children = Children { cluster: &cluster, config: &config };
    let mut objects = children.fixed(&[7; 32]).unwrap();
    let kinds: Vec<&str> = objects.iter().map(|object| object["kind"].as_str().unwrap()).collect();
    let expected = [
        "ServiceAccount",
        "Role",
        "RoleBinding",
        "Ingress",
        "Secret",
        "Service",
        "Service",
        "PersistentVolumeClaim",
        "NetworkPolicy",
        "NetworkPolicy",
    ];
    assert_eq!(kinds, expected);
    objects.push(children.redis_cleanup_job().unwrap());
    objects.push(head(&cluster, &config));
    objects.push(worker(&cluster, &config));
    for object in objects {
        let owner = &object["metadata"]["ownerReferences"][0];
        assert_eq!((&owner["uid"], &owner["controller"]), (&json!("0123456789"), &json!(true)), "{object}");
        assert_eq!(object["metadata"]["namespace"], "ns", "{object}");
    }
}

#[test]
fn the_autoscaler_is_ours_where_configured_and_rays_where_asked_for() {
    let mut config = Config::default();
    config.autoscaler.image = Some("mobula:1".to_owned());
    config.autoscaler.wide_role = true;
    let image_and_rules = |change: Value| {
        let mut spec = json!({ "spec": { "enableInTreeAutoscaling": true } });
        merge(&mut spec, change);
        let cluster = cluster(spec);
        let rules =
            Children { cluster: &cluster, config: &config }.role().unwrap().unwrap()["rules"].as_array().unwrap().len();
        (container(&head(&cluster, &config), "autoscaler")["image"].as_str().unwrap().to_owned(), rules)
    };
    let ray = "rayproject/ray:2.54.0".to_owned();
    assert_eq!(image_and_rules(json!({})), ("mobula:1".to_owned(), 6));
    assert_eq!(
        image_and_rules(json!({"metadata": {"annotations": {"mobula.dev/autoscaler": "ray"}}})),
        (ray.clone(), 3)
    );
    assert_eq!(image_and_rules(json!({"spec": {"autoscalerOptions": {"version": "v1"}}})), (ray, 3));
    assert_eq!(image_and_rules(json!({"spec": {"autoscalerOptions": {"image": "own"}}})), ("own".to_owned(), 3));
}

#[test]
fn the_autoscaler_says_its_version_and_command_as_the_release_does() {
    let of = |compat, version: &str| {
        let options = json!({ "version": version, "args": ["$KUBERAY_GEN_AUTOSCALER_START_CMD"] });
        let cluster = cluster(json!({ "spec": { "enableInTreeAutoscaling": true, "autoscalerOptions": options } }));
        let config = Config { compat, ..Config::default() };
        (head(&cluster, &config), worker(&cluster, &config))
    };
    let (head, worker) = of(Compat::V1_7, "v1");
    assert_eq!(env(container(&head, "head"), "RAY_enable_autoscaler_v2"), Some(&json!("false")));
    assert!(env(container(&head, "autoscaler"), "KUBERAY_GEN_AUTOSCALER_START_CMD").is_some());
    assert_eq!(container(&head, "autoscaler")["args"], json!(["$KUBERAY_GEN_AUTOSCALER_START_CMD"]));
    assert_eq!(worker["spec"].get("restartPolicy"), None);
    assert!(
        container(&head, "head")["args"][0]
            .as_str()
            .unwrap()
            .starts_with("ulimit -n ${RAY_START_ULIMIT_OPEN_FILES:-65536}; ")
    );
    let (head, worker) = of(Compat::V1_6, "v1");
    assert_eq!(env(container(&head, "head"), "RAY_enable_autoscaler_v2"), None);
    assert_eq!(worker["spec"].get("restartPolicy"), None);
    let (head, worker) = of(Compat::V1_6, "v2");
    assert_eq!(env(container(&head, "head"), "RAY_enable_autoscaler_v2"), Some(&json!("true")));
    assert_eq!((&head["spec"]["restartPolicy"], &worker["spec"]["restartPolicy"]), (&json!("Never"), &json!("Never")));
}

#[test]
fn a_configuration_adds_to_every_pod_and_takes_nothing_away() {
    let mut config = Config::default();
    config.pods.head_sidecars = vec![json!({ "name": "logs", "image": "l" })];
    config.pods.default_env =
        vec![json!({ "name": "A", "value": "default" }), json!({ "name": "B", "value": "default" })];
    config.pods.default_labels =
        [("team", "x"), ("ray.io/group", "evil")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    config.pods.wait_for_gcs = false;
    config.pods.probes = false;
    let cluster = cluster(json!({ "spec": { "headGroupSpec": { "template": { "spec": { "containers": [
        { "name": "head", "image": "i", "env": [{ "name": "A", "value": "own" }] }
    ] } } } } }));
    let (head, worker) = (head(&cluster, &config), worker(&cluster, &config));
    assert_eq!(names(&head, "containers"), ["head", "logs"]);
    assert_eq!(names(&worker, "containers"), ["worker"]);
    assert_eq!(worker["spec"].get("initContainers"), None);
    assert_eq!(container(&head, "head").get("livenessProbe"), None);
    let ray = container(&head, "head");
    assert_eq!((env(ray, "A"), env(ray, "B")), (Some(&json!("own")), Some(&json!("default"))));
    let labels = &head["metadata"]["labels"];
    assert_eq!((&labels["team"], &labels["ray.io/group"]), (&json!("x"), &json!("headgroup")));
}

#[test]
fn pods_of_a_ray_service_are_ready_when_they_serve() {
    let cluster = cluster(json!({
        "metadata": { "labels": { "ray.io/originated-from-crd": "RayService", "ray.io/originated-from-cr-name": "s" } },
    }));
    let config = Config::default();
    let (head, worker) = (head(&cluster, &config), worker(&cluster, &config));
    assert_eq!(
        (&head["metadata"]["labels"]["ray.io/serve"], &worker["metadata"]["labels"]["ray.io/serve"]),
        (&json!("false"), &json!("true"))
    );
    let ray = container(&worker, "worker");
    assert_eq!(ray["readinessProbe"]["failureThreshold"], 1);
    let command = ray["readinessProbe"]["exec"]["command"][2].as_str().unwrap();
    assert!(command.ends_with("http://localhost:8000/-/healthz | grep success"), "{command}");
    assert_eq!(ray["livenessProbe"]["httpGet"]["path"], "/api/healthz");
    assert_eq!(env(ray, "RAY_SERVE_KV_TIMEOUT_S"), Some(&json!("5")));
    let tags = env(container(&head, "head"), "RAY_USAGE_STATS_EXTRA_TAGS").unwrap().as_str().unwrap();
    assert!(tags.ends_with(";kuberay_crd=RayService"), "{tags}");
}

#[test]
fn the_collector_sits_beside_ray_and_shares_its_logs() {
    let cluster = cluster(json!({ "spec": {
        "authOptions": { "mode": "token", "secretName": "own" },
        "historyServerOptions": { "collectorOptions": { "image": "col", "env": [{ "name": "STORAGE_BACKEND", "value": "S3" }] } },
    } }));
    let config = with_gate(Gate::RayClusterHistoryServer);
    let (head, worker) = (head(&cluster, &config), worker(&cluster, &config));
    let collector = container(&head, "ray-history-collector");
    assert_eq!(env(collector, "RAY_ROLE"), Some(&json!("Head")));
    assert_eq!(env(collector, "RAY_DASHBOARD_ADDRESS"), Some(&json!("http://localhost:8265")));
    assert_eq!(env(collector, "RAY_AUTH_TOKEN").unwrap()["secretKeyRef"]["name"], "own");
    assert_eq!(env(container(&worker, "ray-history-collector"), "RAY_DASHBOARD_ADDRESS"), None);
    for (pod, ray) in [(&head, "head"), (&worker, "worker")] {
        for name in [ray, "ray-history-collector"] {
            let mounts = container(pod, name)["volumeMounts"].as_array().unwrap();
            assert!(mounts.iter().any(|mount| mount["mountPath"] == "/tmp/ray"), "{name}");
        }
        assert_eq!(env(container(pod, ray), "RAY_enable_ray_event"), Some(&json!("true")));
    }
    assert_eq!(Children { cluster: &cluster, config: &config }.auth_secret(&[0; 32]), None);
}

#[test]
fn the_embedded_store_has_a_volume_that_may_outlive_the_cluster() {
    let of = |storage: Value| {
        cluster(json!({ "spec": { "gcsFaultToleranceOptions": { "backend": "rocksdb", "storage": storage } } }))
    };
    let config = with_gate(Gate::GCSFaultToleranceEmbeddedStorage);
    let retained = of(json!({ "size": "5Gi", "storageClassName": "fast", "subPath": "d", "deletionPolicy": "Retain" }));
    let children = Children { cluster: &retained, config: &config };
    let claim = children.gcs_pvc().unwrap();
    assert_eq!(claim["metadata"].get("ownerReferences"), None);
    assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "5Gi");
    let pod = head(&retained, &config);
    let ray = container(&pod, "head");
    assert_eq!(ray["volumeMounts"][0], json!({ "name": "gcs-storage", "mountPath": "/data/gcs", "subPath": "d" }));
    assert_eq!(pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"], "c-gcs-pvc");
    assert_eq!(env(ray, "RAY_external_storage_namespace"), None);
    assert!(children.is_fault_tolerant() && !children.keeps_state_in_redis());
    let own = of(json!({ "claimName": "mine" }));
    assert_eq!(Children { cluster: &own, config: &config }.gcs_pvc(), None);
    assert_eq!(head(&own, &config)["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"], "mine");
}

#[test]
fn the_clean_up_job_knows_the_way_to_redis_and_nothing_else() {
    let cluster = cluster(json!({ "spec": {
        "enableInTreeAutoscaling": true,
        "gcsFaultToleranceOptions": { "redisAddress": "redis:6379", "redisPassword": { "value": "p" } },
    } }));
    let config = Config { batch_scheduler: Some(BatchScheduler::Volcano), ..Config::default() };
    let job = Children { cluster: &cluster, config: &config }.redis_cleanup_job().unwrap();
    assert_eq!((&job["metadata"]["name"], &job["spec"]["backoffLimit"]), (&json!("c-redis-cleanup"), &json!(0)));
    assert_eq!(job["metadata"]["labels"]["ray.io/node-type"], "redis-cleanup");
    assert_eq!(job["metadata"]["annotations"].get("ray.io/upgrade-strategy-recreate-hash"), None);
    let pod = &job["spec"]["template"];
    assert_eq!(names(pod, "containers"), ["head"]);
    assert_eq!(pod["spec"].get("schedulerName"), None);
    assert_eq!(pod["spec"]["restartPolicy"], "Never");
    let ray = container(pod, "head");
    assert_eq!((ray.get("livenessProbe"), &ray["resources"]["limits"]["cpu"]), (None, &json!("200m")));
    assert_eq!(env(ray, "REDIS_PASSWORD"), Some(&json!("p")));
    assert_eq!(env(ray, "RAY_external_storage_namespace"), Some(&json!("0123456789")));
    let script = ray["args"][0].as_str().unwrap();
    assert!(script.contains("cleanup_redis_storage") && !script.contains("username"), "{script}");
}

#[test]
fn network_policies_let_the_cluster_talk_to_itself_and_what_is_named() {
    let rule = json!({ "ports": [{ "port": 1 }] });
    let cluster = cluster(json!({
        "metadata": { "labels": {
            "ray.io/originated-from-crd": "RayJob",
            "ray.io/originated-from-cr-name": "j",
            "ray.io/job-submission-mode": "K8sJobMode",
        } },
        "spec": { "networkPolicy": {
            "mode": "DenyAllIngress",
            "worker": { "ingressRules": [{}] },
            "workerGroups": [{ "groupName": "w", "ingressRules": [rule] }],
        } },
    }));
    let config = with_gate(Gate::RayClusterNetworkPolicy);
    let policies = Children { cluster: &cluster, config: &config }.network_policies();
    assert_eq!(
        (&policies[0]["metadata"]["name"], &policies[1]["metadata"]["name"]),
        (&json!("c-head"), &json!("c-workers-w"))
    );
    let spec = &policies[0]["spec"];
    assert_eq!((&spec["policyTypes"], spec.get("egress")), (&json!(["Ingress"]), None));
    assert_eq!(spec["ingress"][1]["ports"][0]["port"], 8265);
    assert_eq!(policies[1]["spec"]["ingress"][1], rule);
    assert_eq!(policies[1]["spec"]["podSelector"]["matchLabels"]["ray.io/group"], "w");
    assert!(Children { cluster: &cluster, config: &Config::default() }.network_policies().is_empty());
}

#[test]
fn gangs_are_as_large_as_the_spec_says_or_as_the_caller_does() {
    let labels = json!({ "ray.io/gang-scheduling-enabled": "true", "volcano.sh/queue-name": "q",
        "volcano.sh/network-topology-mode": "hard", "volcano.sh/network-topology-highest-tier-allowed": "2" });
    let fixed = cluster(json!({ "metadata": { "labels": labels } }));
    let scaled = cluster(json!({ "metadata": { "labels": labels }, "spec": { "enableInTreeAutoscaling": true } }));
    let of = |cluster: &RayCluster, scheduler, members: Option<GangMembers>| {
        let config = Config { batch_scheduler: Some(scheduler), ..Config::default() };
        let children = Children { cluster, config: &config };
        let members = members.unwrap_or_else(|| children.gang_members());
        children.pod_groups(&members).unwrap()
    };
    let volcano = &of(&fixed, BatchScheduler::Volcano, None)[0]["spec"];
    assert_eq!(volcano["minMember"], 3);
    assert_eq!(volcano["minResources"], json!({ "cpu": "3", "memory": "12Gi" }));
    assert_eq!(volcano["networkTopology"], json!({ "mode": "hard", "highestTierAllowed": 2 }));
    assert_eq!(volcano["queue"], "q");
    assert_eq!(of(&scaled, BatchScheduler::Volcano, None)[0]["spec"]["minMember"], 2);
    let planned = GangMembers::from([("w".to_owned(), 4)]);
    let grown = &of(&scaled, BatchScheduler::SchedulerPlugins, Some(planned.clone()))[0]["spec"];
    assert_eq!((&grown["minMember"], &grown["minResources"]["cpu"]), (&json!(5), &json!("5")));
    let native = of(&scaled, BatchScheduler::Kubernetes, Some(planned));
    assert_eq!((&native[0]["kind"], &native[1]["kind"]), (&json!("Workload"), &json!("PodGroup")));
    assert_eq!(native[1]["spec"]["schedulingPolicy"]["gang"]["minCount"], 5);
    assert!(of(&fixed, BatchScheduler::YuniKorn, None).is_empty());
    let config = Config { batch_scheduler: Some(BatchScheduler::Kubernetes), ..Config::default() };
    assert_eq!(worker(&fixed, &config)["spec"]["schedulingGroup"]["podGroupName"], "c-cluster");
    let bad = cluster(json!({ "metadata": { "labels": {
        "volcano.sh/network-topology-mode": "hard", "volcano.sh/network-topology-highest-tier-allowed": "top" } } }));
    let config = Config { batch_scheduler: Some(BatchScheduler::Volcano), ..Config::default() };
    let error = Children { cluster: &bad, config: &config }.pod_groups(&GangMembers::new()).unwrap_err().to_string();
    assert_eq!(error, "metadata.labels[\"volcano.sh/network-topology-highest-tier-allowed\"]: top: must be a number");
}

/// What each scheduler is told of one RayCluster: how many pods begin together, with the plan's gangs `planned`.
fn told(scheduler: BatchScheduler, planned: &str) -> Value {
    let cluster = cluster(json!({
        "metadata": {
            "labels": { "ray.io/gang-scheduling-enabled": "true", "kai.scheduler/queue": "q" },
            "annotations": { "mobula.dev/gangs": planned },
        },
        "spec": { "enableInTreeAutoscaling": true },
    }));
    let config = Config { batch_scheduler: Some(scheduler), ..Config::default() };
    let children = Children { cluster: &cluster, config: &config };
    let groups = children.pod_groups(&children.gang_members()).unwrap();
    let group = groups.iter().find(|object| object["kind"] == "PodGroup");
    let pod = worker(&cluster, &config);
    let named = |of: &str| pod.pointer(of).cloned().unwrap_or_default();
    let of_group = |count: &str| group.and_then(|group| group.pointer(count)).cloned().unwrap_or_default();
    match scheduler {
        BatchScheduler::Volcano => {
            json!([named("/metadata/annotations/scheduling.k8s.io~1group-name"), of_group("/spec/minMember")])
        }
        BatchScheduler::SchedulerPlugins => {
            json!([named("/metadata/labels/scheduling.x-k8s.io~1pod-group"), of_group("/spec/minMember")])
        }
        BatchScheduler::Kubernetes => {
            let count = of_group("/spec/schedulingPolicy/gang/minCount");
            json!([named("/spec/schedulingGroup/podGroupName"), count])
        }
        BatchScheduler::YuniKorn => {
            let text = named("/metadata/annotations/yunikorn.apache.org~1task-groups");
            let groups: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
            json!([groups[1]["name"], groups[0]["minMember"].as_u64().zip(groups[1]["minMember"].as_u64())])
        }
        BatchScheduler::Kai => json!([named("/metadata/labels/kai.scheduler~1queue"), group]),
    }
}

#[test]
fn a_planned_gang_is_told_to_each_scheduler_that_can_be_told() {
    use BatchScheduler::{Kai, Kubernetes, SchedulerPlugins, Volcano, YuniKorn};
    let says = |scheduler| (told(scheduler, "{}"), told(scheduler, r#"{"29fd": {"w": 2}}"#));
    for (scheduler, name) in [(Volcano, "ray-c-pg"), (SchedulerPlugins, "c"), (Kubernetes, "c-cluster")] {
        assert_eq!(says(scheduler), (json!([name, 2]), json!([name, 3])), "{scheduler:?}");
    }
    // It reads task groups from the first pod of an application: nothing that comes later changes them.
    assert_eq!(says(YuniKorn), (json!(["w", [1, 1]]), json!(["w", [1, 1]])));
    // It makes its groups itself, from the RayCluster's spec.
    assert_eq!(says(Kai), (json!(["q", null]), json!(["q", null])));
}

#[test]
fn dashboards_are_reached_by_ingress_or_route() {
    let options = json!({ "host": "h", "tls": [{ "secretName": "t" }] });
    let cluster = cluster(json!({
        "metadata": { "annotations": { "kubernetes.io/ingress.class": "nginx", "a": "b" } },
        "spec": { "headGroupSpec": { "enableIngress": true, "ingressOptions": options } },
    }));
    let mut config = Config { compat: Compat::V1_7, ..Config::default() };
    let ingress = Children { cluster: &cluster, config: &config }.ingress().unwrap().unwrap();
    assert_eq!(ingress["metadata"]["annotations"], json!({ "a": "b" }));
    let rule = &ingress["spec"]["rules"][0];
    assert_eq!((&rule["host"], &rule["http"]["paths"][0]["path"]), (&json!("h"), &json!("/")));
    assert_eq!(
        (&ingress["spec"]["ingressClassName"], &ingress["spec"]["tls"][0]["secretName"]),
        (&json!("nginx"), &json!("t"))
    );
    config.routes = true;
    let route = Children { cluster: &cluster, config: &config }.ingress().unwrap().unwrap();
    assert_eq!(
        (&route["kind"], &route["metadata"]["name"], &route["spec"]["port"]["targetPort"]),
        (&json!("Route"), &json!("c-head-route"), &json!(8265))
    );
}

#[test]
fn the_service_of_serve_needs_a_port() {
    let with = |ports: Value| {
        cluster(json!({
            "metadata": { "annotations": { "ray.io/enable-serve-service": "true" } },
            "spec": { "headGroupSpec": { "template": { "spec": { "containers": [{ "name": "h", "image": "i", "ports": ports }] } } } },
        }))
    };
    let config = Config::default();
    let ports = json!([{ "name": "serve-grpc", "containerPort": 9000 }, { "name": "x", "containerPort": 1 }]);
    let service = Children { cluster: &with(ports), config: &config }.serve_service().unwrap().unwrap();
    assert_eq!(service["metadata"]["name"], "c-serve-svc");
    assert_eq!(service["spec"]["ports"], json!([{ "name": "serve-grpc", "port": 9000 }]));
    let none = with(json!([{ "name": "x", "containerPort": 1 }]));
    let error = Children { cluster: &none, config: &config }.serve_service().unwrap_err().to_string();
    assert!(
        error.starts_with("spec.headGroupSpec.template.spec.containers[0].ports: must hold a port called serve"),
        "{error}"
    );
}

#[test]
fn the_hash_changes_with_what_pods_are_made_from_and_with_nothing_else() {
    let config = Config::default();
    let hash = |change: Value| {
        let cluster = cluster(change);
        Children { cluster: &cluster, config: &config }.spec_hash()
    };
    let first = hash(json!({}));
    assert_eq!(first.len(), 32);
    let group = |change: Value| {
        let mut group = serde_json::to_value(cluster(json!({}))).unwrap()["spec"]["workerGroupSpecs"][0].take();
        merge(&mut group, change);
        json!({ "spec": { "workerGroupSpecs": [group] } })
    };
    let same = [
        json!({ "spec": { "suspend": true, "headServiceAnnotations": { "a": "b" }, "upgradeStrategy": { "type": "Recreate" } } }),
        json!({ "spec": { "headGroupSpec": { "enableIngress": true, "serviceType": "NodePort", "rayStartParams": {} } } }),
        json!({ "spec": { "headGroupSpec": { "template": { "metadata": {}, "spec": { "tolerations": [{}], "schedulingGates": [{}] } } } } }),
        group(
            json!({ "replicas": 4, "minReplicas": 0, "maxReplicas": 9, "numOfHosts": 1, "scaleStrategy": { "workersToDelete": ["x"] } }),
        ),
    ];
    for change in same {
        assert_eq!(hash(change.clone()), first, "{change}");
    }
    let other = [
        json!({ "spec": { "rayVersion": "2.55.0" } }),
        json!({ "spec": { "headGroupSpec": { "rayStartParams": { "num-cpus": "0" } } } }),
        json!({ "spec": { "headGroupSpec": { "template": { "spec": { "nodeSelector": { "a": "b" } } } } } }),
        json!({ "spec": { "autoscalerOptions": { "image": "i" } } }),
        group(json!({ "numOfHosts": 2 })),
        group(json!({ "template": { "spec": { "priorityClassName": "p" } } })),
    ];
    for change in other {
        assert_ne!(hash(change.clone()), first, "{change}");
    }
}

#[test]
fn multi_host_pods_say_which_of_their_replica_they_are() {
    let mut cluster = cluster(json!({}));
    cluster.spec.worker_group_specs[0].num_of_hosts = Some(2);
    let mut config = Config::default();
    let slot = Slot { replica: 3, replica_name: Some("w-abcde".to_owned()), host: 1 };
    let label = |config: &Config, key: &str| {
        let group = &cluster.spec.worker_group_specs[0];
        let pod = Children { cluster: &cluster, config }.worker_pod(group, &slot, "x").unwrap();
        pod["metadata"]["labels"].get(key).cloned()
    };
    assert_eq!(label(&config, "ray.io/worker-group-replica-index"), Some(json!("3")));
    assert_eq!(label(&config, "ray.io/worker-group-replica-name"), Some(json!("w-abcde")));
    assert_eq!(label(&config, "ray.io/replica-host-index"), Some(json!("1")));
    config.gates.set(Gate::RayMultiHostIndexing, false);
    assert_eq!(label(&config, "ray.io/worker-group-replica-index"), None);
}

#[test]
fn what_is_rendered_is_gated_and_suspended_as_what_is_sent() {
    let pods = |change: Value, config: &Config| {
        let mut objects = render::objects(&cluster(change), config).unwrap();
        objects.retain(|object| object["kind"] == "Pod");
        objects
    };
    let mut admits = Config::default();
    admits.gangs.mode = GangMode::All;
    let gates = |pod: &Value| pod["spec"]["schedulingGates"].clone();
    let gated = pods(json!({}), &admits);
    assert_eq!(
        gated.iter().map(gates).collect::<Vec<_>>()[1..],
        [json!([{"name": "mobula.dev/gang"}]), json!([{"name": "mobula.dev/gang"}])]
    );
    assert!(gates(&gated[0]).is_null(), "the head is of no gang");
    assert!(pods(json!({}), &Config::default()).iter().all(|pod| gates(pod).is_null()));
    for field in ["suspend", "idleSuspend"] {
        assert!(pods(json!({"spec": {field: true}}), &admits).is_empty(), "{field}");
    }
}
