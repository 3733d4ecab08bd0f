//! Every rule, by the manifest that breaks it.

mod objects;

use serde_json::{Value, json};

use super::{Extent, InvalidReason, Rules};
use crate::{Compat, Gate, Gates, RayCluster};

/// A cluster in which nothing is wrong.
fn clean() -> Value {
    let container = |name: &str| json!({"name": name, "image": "rayproject/ray:2.60.0", "resources": {"limits": {"cpu": 1, "memory": "2Gi"}}});
    json!({
        "apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": "c"},
        "spec": {
            "rayVersion": "2.60.0",
            "headGroupSpec": {"rayStartParams": {}, "template": {"spec": {"containers": [container("ray-head")]}}},
            "workerGroupSpecs": [{
                "groupName": "w", "replicas": 1, "minReplicas": 0, "maxReplicas": 10, "rayStartParams": {},
                "template": {"spec": {"containers": [container("ray-worker")]}},
            }],
        },
    })
}

/// The clean cluster with this merged over it; lists are merged by index.
fn changed(change: &Value) -> RayCluster {
    fn merge(into: &mut Value, from: &Value) {
        match (into, from) {
            (Value::Object(into), Value::Object(from)) => {
                for (key, value) in from {
                    merge(into.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
            (Value::Array(into), Value::Array(from)) if !from.is_empty() => {
                into.resize(into.len().max(from.len()), Value::Null);
                into.iter_mut().zip(from).for_each(|(into, from)| merge(into, from));
            }
            (into, from) => *into = from.clone(),
        }
    }
    let mut cluster = clean();
    merge(&mut cluster, change);
    RayCluster::from_value(cluster).unwrap()
}

fn head(change: &Value) -> Value {
    json!({"spec": {"headGroupSpec": change}})
}

fn worker(change: &Value) -> Value {
    json!({"spec": {"workerGroupSpecs": [change]}})
}

fn head_env(name: &str, value: &str) -> Value {
    head(&json!({"template": {"spec": {"containers": [{"env": [{"name": name, "value": value}]}]}}}))
}

fn autoscaled(version: &str, mut change: Value) -> Value {
    change["spec"]["enableInTreeAutoscaling"] = json!(true);
    change["spec"]["autoscalerOptions"]["version"] = json!(version);
    change
}

/// Each change is allowed, and advised about by one text that begins like that.
fn are_advised_about<const N: usize>(cases: [(Value, String); N]) {
    for (change, expected) in cases {
        let cluster = changed(&change);
        assert_eq!(cluster.validate(&Rules::default()), [], "{change}");
        let said: Vec<String> = cluster.advice().iter().map(ToString::to_string).collect();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].starts_with(&expected), "{said:?} {expected}");
    }
}

fn rules(compat: Compat) -> Rules {
    Rules { compat, gates: Gates::defaults(compat) }
}

/// What is refused in a cluster, as text.
fn refused_by(change: &Value, rules: &Rules) -> Vec<String> {
    let findings = changed(change).validate(rules);
    findings.into_iter().filter(|finding| finding.refused != Extent::None).map(|finding| finding.to_string()).collect()
}

fn refused(change: &Value) -> Vec<String> {
    refused_by(change, &Rules::default())
}

#[test]
fn a_clean_cluster_has_no_findings() {
    for compat in [Compat::V1_6, Compat::V1_7] {
        let cluster = changed(&json!({}));
        assert_eq!(cluster.validate(&rules(compat)), []);
        assert_eq!(cluster.advice(), []);
    }
}

#[test]
fn names_must_leave_room_for_those_of_children() {
    let said = |name: &str| refused(&json!({"metadata": {"name": name}}));
    assert_eq!(said(&"a".repeat(53)), [""; 0]);
    let long = "a".repeat(54);
    assert_eq!(
        said(&long),
        [format!("metadata.name: {long}: has 54 characters: must have at most 53, for names are derived from it")]
    );
    for name in ["a.b", "1a", "a-", "A", "ä"] {
        let must = "must be a DNS-1035 label: lower-case letters, digits and -, a letter first, no - at the end";
        assert_eq!(said(name), [format!("metadata.name: {name}: {must}")]);
    }
    let finding = &changed(&json!({"metadata": {"name": "a.b"}})).validate(&Rules::default())[0];
    assert_eq!((finding.reason.as_str(), finding.refused), ("InvalidRayClusterMetadata", Extent::Whole));
}

#[test]
fn every_rule_of_a_group_names_field_and_value_and_says_what_to_do() {
    let cases = [
        (
            head(&json!({"template": {"spec": {"containers": []}}})),
            "spec.headGroupSpec.template.spec.containers: […]: must hold the Ray container",
        ),
        (
            worker(&json!({"template": {"spec": {"containers": []}}})),
            "spec.workerGroupSpecs[0].template.spec.containers: […]: must hold the Ray container",
        ),
        (
            worker(&json!({"rayStartParams": {"num-gpus": "1"}, "resources": {"GPU": "2"}})),
            "spec.workerGroupSpecs[0].rayStartParams[\"num-gpus\"]: 1: can't be beside \
             spec.workerGroupSpecs[0].resources: say it there and remove it here",
        ),
        (
            head(&json!({"rayStartParams": {"labels": "a=b"}})),
            "spec.headGroupSpec.rayStartParams.labels: a=b: is not supported: move the labels to \
             spec.headGroupSpec.labels",
        ),
        (
            head(&json!({"labels": {"a": "-"}})),
            "spec.headGroupSpec.labels.a: -: is not a label value: write at most 63 letters, digits, -, _ and . with a \
             letter or digit at both ends",
        ),
        (
            worker(&json!({"minReplicas": null})),
            "spec.workerGroupSpecs[0].minReplicas: is required where enableInTreeAutoscaling is off: set it",
        ),
        (worker(&json!({"minReplicas": -1})), "spec.workerGroupSpecs[0].minReplicas: -1: must be 0 or more"),
        (
            worker(&json!({"minReplicas": 5, "maxReplicas": 2})),
            "spec.workerGroupSpecs[0].minReplicas: 5: must be at most maxReplicas, which is 2",
        ),
        (
            worker(&json!({"idleTimeoutSeconds": 5})),
            "spec.workerGroupSpecs[0].idleTimeoutSeconds: 5: needs autoscaler v2: set spec.autoscalerOptions.version to \
             v2, or remove it and use spec.autoscalerOptions.idleTimeoutSeconds",
        ),
        (
            autoscaled("v2", worker(&json!({"idleTimeoutSeconds": -5}))),
            "spec.workerGroupSpecs[0].idleTimeoutSeconds: -5: must be 0 or more",
        ),
        (
            autoscaled("v1", worker(&json!({"priority": 5}))),
            "spec.workerGroupSpecs[0].priority: 5: needs autoscaler v2: set spec.autoscalerOptions.version to v2",
        ),
        (
            autoscaled("v2", json!({"spec": {"rayVersion": "2.55.1", "workerGroupSpecs": [{"priority": 5}]}})),
            "spec.workerGroupSpecs[0].priority: 5: needs Ray 2.56.0 or later: set spec.rayVersion, which is 2.55.1",
        ),
        (
            autoscaled("v2", worker(&json!({"suspend": true}))),
            "spec.workerGroupSpecs[0].suspend: true: can't be where enableInTreeAutoscaling is on: turn one of the two \
             off",
        ),
    ];
    for (change, expected) in cases {
        assert_eq!(refused(&change), [expected], "{change}");
    }
}

#[test]
fn every_rule_of_the_cluster_does_so_too() {
    let gcs = |options: Value| json!({"spec": {"gcsFaultToleranceOptions": options}});
    let redis = || json!({"redisAddress": "r:1"});
    let cases = [
        (
            json!({"metadata": {"annotations": {"ray.io/ft-enabled": "false"}},
                   "spec": {"gcsFaultToleranceOptions": redis()}}),
            "metadata.annotations[\"ray.io/ft-enabled\"]: false: can't be beside spec.gcsFaultToleranceOptions: remove \
             the annotation",
        ),
        (
            json!({"spec": {"headGroupSpec": {"rayStartParams": {"redis-password": "secret"}},
                            "gcsFaultToleranceOptions": redis()}}),
            "spec.headGroupSpec.rayStartParams[\"redis-password\"]: ***: can't be beside spec.gcsFaultToleranceOptions: \
             move it to spec.gcsFaultToleranceOptions.redisPassword",
        ),
        (
            head_env("RAY_REDIS_ADDRESS", "r:1"),
            "spec.headGroupSpec.template.spec.containers[0].env[0]: RAY_REDIS_ADDRESS: turns GCS fault tolerance on \
             behind the operator's back: use spec.gcsFaultToleranceOptions.redisAddress",
        ),
        (
            head_env("REDIS_USERNAME", "u"),
            "spec.headGroupSpec.template.spec.containers[0].env[0]: REDIS_USERNAME: is not supported: move it to \
             spec.gcsFaultToleranceOptions.redisUsername",
        ),
        (gcs(json!({})), "spec.gcsFaultToleranceOptions.redisAddress: is required: set it to redis:PORT"),
        (
            head_env("RAY_enable_autoscaler_v2", "1"),
            "spec.headGroupSpec.template.spec.containers[0].env[0]: RAY_enable_autoscaler_v2: needs an autoscaler: set \
             spec.enableInTreeAutoscaling to true, or remove the variable",
        ),
        (
            autoscaled("v2", head_env("RAY_enable_autoscaler_v2", "1")),
            "spec.headGroupSpec.template.spec.containers[0].env[0]: RAY_enable_autoscaler_v2: can't be beside \
             spec.autoscalerOptions.version: remove the variable",
        ),
        (
            autoscaled("v2", worker(&json!({"template": {"spec": {"restartPolicy": "Always"}}}))),
            "spec.workerGroupSpecs[0].template.spec.restartPolicy: Always: must be Never or unset with autoscaler v2: \
             remove it",
        ),
        (
            json!({"spec": {"autoscalerOptions": {"idleTimeoutSeconds": -1}}}),
            "spec.autoscalerOptions.idleTimeoutSeconds: -1: must be from 0 to 2147483647 seconds",
        ),
        (
            json!({"spec": {"rayVersion": null, "authOptions": {"mode": "token"}}}),
            "spec.rayVersion: is required, for spec.authOptions.mode is token: set it to 2.52.0 or later",
        ),
        (
            json!({"spec": {"rayVersion": "nightly", "authOptions": {"mode": "token"}}}),
            "spec.rayVersion: nightly: is no version: must be 2.52.0 or later, for spec.authOptions.mode is token",
        ),
        (
            json!({"spec": {"rayVersion": "2.54.9", "authOptions": {"mode": "token", "enableK8sTokenAuth": true}}}),
            "spec.rayVersion: 2.54.9: must be 2.55.0 or later, for spec.authOptions.enableK8sTokenAuth is true",
        ),
        (
            json!({"spec": {"authOptions": {"mode": "token", "enableK8sTokenAuth": true, "secretName": "s"}}}),
            "spec.authOptions.secretName: s: can't be beside spec.authOptions.enableK8sTokenAuth: remove one of the two",
        ),
        (
            json!({"spec": {"authOptions": {"enableK8sTokenAuth": true}}}),
            "spec.authOptions.enableK8sTokenAuth: true: needs spec.authOptions.mode: set it to token",
        ),
        (
            json!({"spec": {"upgradeStrategy": {"type": "Rolling"}}}),
            "spec.upgradeStrategy.type: Rolling: must be Recreate or None",
        ),
        (
            json!({"metadata": {"labels": {"ray.io/originated-from-crd": "RayJob"}},
                   "spec": {"upgradeStrategy": {"type": "None"}}}),
            "spec.upgradeStrategy.type: None: can't be on a RayCluster that a RayJob created: set it there, or remove it",
        ),
    ];
    for (change, expected) in cases {
        assert_eq!(refused(&change), [expected], "{change}");
    }
}

/// All gates on.
fn gated(compat: Compat) -> Rules {
    let mut rules = rules(compat);
    Gate::ALL.iter().for_each(|gate| rules.gates.set(*gate, true));
    rules
}

#[test]
fn what_kuberay_1_7_brought_needs_its_gate_under_every_compat() {
    let store = json!([{"name": "STORAGE_BACKEND", "value": "S3"}, {"name": "S3_REGION", "value": "r"}]);
    let cases = [
        (json!({"networkPolicy": {}}), "spec.networkPolicy: {…}: ", "RayClusterNetworkPolicy"),
        (
            json!({"historyServerOptions": {"collectorOptions": {"image": "i", "env": store}}}),
            "spec.historyServerOptions: {…}: ",
            "RayClusterHistoryServer",
        ),
        (
            json!({"gcsFaultToleranceOptions": {"backend": "rocksdb", "storage": {"size": "1Gi"}}}),
            "spec.gcsFaultToleranceOptions.backend: rocksdb: ",
            "GCSFaultToleranceEmbeddedStorage",
        ),
    ];
    for (spec, field, gate) in cases {
        for compat in [Compat::V1_6, Compat::V1_7] {
            let expected = format!(
                "{field}needs the feature gate {gate}: start the operator with --feature-gates {gate}=true, or remove it"
            );
            assert_eq!(refused_by(&json!({"spec": spec}), &rules(compat)), [expected]);
            assert_eq!(refused_by(&json!({"spec": spec}), &gated(compat)), [""; 0]);
        }
    }
}

#[test]
fn what_this_operator_does_not_do_is_refused_under_every_compat_and_gate() {
    for compat in [Compat::V1_6, Compat::V1_7] {
        let said = refused_by(&json!({"spec": {"tlsOptions": {"enabled": true}}}), &gated(compat));
        assert_eq!(
            said,
            [
                "spec.tlsOptions.enabled: true: is not supported: remove it, and mount certificates and set RAY_USE_TLS in \
              the pod templates"
            ]
        );
    }
    assert_eq!(refused(&json!({"spec": {"tlsOptions": {"enabled": false}}})), [""; 0]);
}

#[test]
fn with_its_gate_on_each_newer_field_has_its_rules() {
    let gcs = |options: Value| json!({"spec": {"gcsFaultToleranceOptions": options}});
    let collector = |options: Value| json!({"spec": {"historyServerOptions": {"collectorOptions": options}}});
    let env = |env: Value| collector(json!({"image": "i", "env": env}));
    let policy = |policy: Value| json!({"spec": {"networkPolicy": policy}});
    let at = "spec.gcsFaultToleranceOptions";
    let rocks = |change: Value| {
        let mut options = json!({"backend": "rocksdb"});
        options.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        gcs(options)
    };
    let mut mounted = rocks(json!({}));
    let mount = json!({"name": "x", "mountPath": "/data/gcs"});
    mounted["spec"]["headGroupSpec"] = json!({"template": {"spec": {"containers": [{"volumeMounts": [mount]}]}}});
    let store = "spec.historyServerOptions.collectorOptions.env: must have";
    let cases = [
        (
            rocks(json!({"redisAddress": "r:1"})),
            format!("{at}.redisAddress: r:1: can't be beside {at}.backend rocksdb"),
        ),
        (rocks(json!({"redisPassword": {"value": "p"}})), format!("{at}.redisPassword: {{…}}: can't be beside")),
        (
            rocks(json!({"storage": {"claimName": "c", "size": "1Gi"}})),
            format!("{at}.storage.claimName: c: names an existing claim: remove size"),
        ),
        (mounted, "spec.headGroupSpec.template.spec.containers[0].volumeMounts[0]: gcs-storage: is set by".into()),
        (gcs(json!({"redisAddress": "r:1", "storage": {}})), format!("{at}.storage: {{…}}: has no effect with Redis")),
        (gcs(json!({"backend": "etcd"})), format!("{at}.backend: etcd: must be redis or rocksdb")),
        (collector(Value::Null), "spec.historyServerOptions.collectorOptions: is required".into()),
        (env(json!([])), format!("{store} STORAGE_BACKEND as a literal")),
        (
            env(json!([{"name": "STORAGE_BACKEND", "value": "s3"}])),
            format!("{store} S3_REGION, for STORAGE_BACKEND is S3"),
        ),
        (
            env(json!([{"name": "STORAGE_BACKEND", "value": "AzureBlob"}])),
            format!("{store} AZURE_STORAGE_CONNECTION_STRING or AZURE_STORAGE_ACCOUNT_URL"),
        ),
        (
            env(json!([{"name": "STORAGE_BACKEND", "value": "none"}, {"name": "POD_IP", "value": "1"}])),
            "spec.historyServerOptions.collectorOptions.env[1]: POD_IP: is set by the operator".into(),
        ),
        (policy(json!({"mode": "Allow"})), "spec.networkPolicy.mode: Allow: must be DenyAll, ".into()),
        (
            policy(json!({"mode": "DenyAllEgress", "head": {"ingressRules": [{}]}})),
            "spec.networkPolicy.head.ingressRules: […]: has no effect with spec.networkPolicy.mode DenyAllEgress"
                .into(),
        ),
        (
            policy(json!({"workerGroups": [{"groupName": "other"}]})),
            "spec.networkPolicy.workerGroups[0].groupName: other: no such group in spec.workerGroupSpecs".into(),
        ),
        (
            json!({"spec": {"networkPolicy": {}, "workerGroupSpecs": [{"groupName": "Big"}]}}),
            "spec.workerGroupSpecs[0].groupName: Big: is part of the name of a NetworkPolicy".into(),
        ),
    ];
    for (change, expected) in cases {
        let said = refused_by(&change, &gated(Compat::V1_7));
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].starts_with(&expected), "{said:?} {expected}");
    }
}

#[test]
fn two_groups_of_one_name_are_refused() {
    let second = clean()["spec"]["workerGroupSpecs"][0].clone();
    let said = refused(&json!({"spec": {"workerGroupSpecs": [{}, second]}}));
    let problem = "is the name of spec.workerGroupSpecs[0] too: give every group a name of its own";
    assert_eq!(said, [format!("spec.workerGroupSpecs[1].groupName: w: {problem}")]);
}

#[test]
fn a_suspended_group_needs_its_gate() {
    let suspended = worker(&json!({"suspend": true}));
    assert_eq!(refused(&suspended), [""; 0]);
    let mut rules = Rules::default();
    rules.gates.set(Gate::RayJobDeletionPolicy, false);
    let problem = "true: needs the feature gate RayJobDeletionPolicy: start the operator with --feature-gates \
                   RayJobDeletionPolicy=true";
    assert_eq!(refused_by(&suspended, &rules), [format!("spec.workerGroupSpecs[0].suspend: {problem}")]);
}

#[test]
fn where_the_releases_differ_each_has_its_rule() {
    let generated = json!({"spec": {"autoscalerOptions": {"env": [{"name": "KUBERAY_GEN_AUTOSCALER_START_CMD"}]}}});
    assert_eq!(refused(&generated), [""; 0]);
    assert_eq!(
        refused_by(&generated, &rules(Compat::V1_7)),
        ["spec.autoscalerOptions.env[0]: KUBERAY_GEN_AUTOSCALER_START_CMD: is set by the operator: remove it"]
    );
    let no_address = json!({"spec": {"gcsFaultToleranceOptions": {}}});
    assert_eq!(refused_by(&no_address, &rules(Compat::V1_7)), [""; 0]);
}

#[test]
fn with_autoscaler_v1_a_restart_policy_is_advice_of_1_7() {
    let cluster = changed(&json!({"spec": {
        "enableInTreeAutoscaling": true, "autoscalerOptions": {"version": "v1"},
        "workerGroupSpecs": [{"template": {"spec": {"restartPolicy": "Always"}}}],
    }}));
    assert_eq!(cluster.validate(&rules(Compat::V1_6)), []);
    let findings = cluster.validate(&rules(Compat::V1_7));
    assert_eq!(findings.len(), 1);
    assert_eq!((findings[0].reason, findings[0].refused), (InvalidReason::Spec, Extent::None));
}

#[test]
fn a_part_that_can_not_be_made_is_refused_and_the_rest_is_not() {
    let serve = |ports: Value| {
        json!({"metadata": {"annotations": {"ray.io/enable-serve-service": "true"}},
               "spec": {"headGroupSpec": {"template": {"spec": {"containers": [{"ports": ports}]}}}}})
    };
    let port = |name: &str| json!([{"name": name, "containerPort": 8000}]);
    let cases = [
        (
            serve(port("http")),
            "spec.headGroupSpec.template.spec.containers[0].ports: must hold a port called serve, or serve-…, for the \
             Service of Serve that is asked for by the annotation ray.io/enable-serve-service",
        ),
        (worker(&json!({"numOfHosts": -1})), "spec.workerGroupSpecs[0].numOfHosts: -1: must be from 0 to 2147483647"),
        (
            worker(&json!({"replicas": 200_000, "maxReplicas": 300_000})),
            "spec.workerGroupSpecs[0].replicas: 200000: asks for more than 150000 pods (1 to a replica): lower it",
        ),
    ];
    for (change, expected) in cases {
        let findings = changed(&change).validate(&Rules::default());
        let said: Vec<_> = findings.iter().map(|finding| (finding.to_string(), finding.refused)).collect();
        assert_eq!(said, [(expected.to_owned(), Extent::Part)]);
    }
    for change in [serve(port("serve")), serve(port("serve-grpc")), serve(json!([])), worker(&json!({"replicas": -1}))]
    {
        assert_eq!(changed(&change).validate(&Rules::default()), [], "{change}");
    }
}

#[test]
fn a_status_that_contradicts_itself_is_refused() {
    let conditions = |second: &str| {
        let condition = |name: &str, status: &str| json!({"type": name, "status": status});
        let both = [condition("RayClusterSuspending", "True"), condition("RayClusterSuspended", second)];
        changed(&json!({"status": {"conditions": both}})).validate(&Rules::default())
    };
    assert_eq!(conditions("False"), []);
    let findings = conditions("True");
    assert_eq!((findings.len(), findings[0].reason.as_str()), (1, "InvalidRayClusterStatus"));
}

#[test]
fn every_fault_is_named_not_only_the_first() {
    let said = refused(&json!({
        "metadata": {"name": "a.b"},
        "spec": {"upgradeStrategy": {"type": "x"}, "workerGroupSpecs": [{"minReplicas": -1, "maxReplicas": -2}]},
    }));
    assert_eq!(said.len(), 5, "{said:?}");
}

#[test]
fn every_wrong_label_is_named() {
    let said = refused(&head(&json!({"labels": {"-a": "x", "a//b": "y", "c": "-", "d": "fine"}})));
    let labels =
        ["spec.headGroupSpec.labels: -a: ", "spec.headGroupSpec.labels: a//b: ", "spec.headGroupSpec.labels.c: -: "];
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said.iter().zip(labels).all(|(said, label)| said.starts_with(label)), "{said:?}");
}

#[test]
fn a_variable_that_can_not_be_read_is_named() {
    let unreadable = head(&json!({"template": {"spec": {"containers": [{"env": [{"name": "A", "value": 1}]}]}}}));
    let expected = "spec.headGroupSpec.template.spec.containers[0].env[0].value: 1: must be a string: put it in quotes";
    assert!(refused(&unreadable).contains(&expected.to_owned()));
}

#[test]
fn advice_is_what_only_shows_at_run_time() {
    let container = |change: Value| worker(&json!({"template": {"spec": {"containers": [change]}}}));
    let at = "spec.workerGroupSpecs[0].template.spec.containers";
    let cases = [
        (container(json!({"image": null})), format!("{at}[0].image: is required: name an image")),
        (
            container(json!({"volumeMounts": [{"name": "data", "mountPath": "/d"}]})),
            format!("{at}[0].volumeMounts[0].name: data: no such volume: add it to the volumes of the pod template"),
        ),
        (
            container(json!({"resources": {"requests": {"cpu": "1500m"}}})),
            format!(
                "{at}[0].resources.requests.cpu: 1500m: must be at most the limit: lower it, or raise {at}[0].resources.limits.cpu"
            ),
        ),
        (
            container(json!({"resources": {"limits": {"memory": "2 Gi"}}})),
            format!("{at}[0].resources.limits.memory: 2 Gi: "),
        ),
        (
            worker(&json!({"template": {"spec": {"initContainers": [{"name": "ray-worker", "image": "i"}]}}})),
            format!(
                "{at}[0].name: ray-worker: is the name of spec.workerGroupSpecs[0].template.spec.initContainers[0] too"
            ),
        ),
        (
            worker(&json!({"groupName": "gpu_group"})),
            "spec.workerGroupSpecs[0].groupName: gpu_group: no pod can be".into(),
        ),
        (
            worker(&json!({"groupName": "headgroup"})),
            "spec.workerGroupSpecs[0].groupName: headgroup: is the name".into(),
        ),
        (
            worker(&json!({"replicas": 12})),
            "spec.workerGroupSpecs[0].replicas: 12: is outside of minReplicas and maxReplicas: the group gets 10"
                .into(),
        ),
        (
            worker(&json!({"replicas": -1, "minReplicas": 2})),
            "spec.workerGroupSpecs[0].replicas: -1: is outside of minReplicas and maxReplicas: the group gets 2".into(),
        ),
        (worker(&json!({"numOfHosts": 0})), "spec.workerGroupSpecs[0].numOfHosts: 0: a replica without pods".into()),
        (json!({"spec": {"rayVersion": "latest"}}), "spec.rayVersion: latest: is no version and counts as".into()),
        (
            json!({"spec": {"gcsFaultToleranceOptions": {"redisAddress": ""}}}),
            "spec.gcsFaultToleranceOptions.redisAddress: says nothing: the GCS keeps its state in memory".into(),
        ),
        (json!({"spec": {"autoscalerOptions": {}}}), "spec.autoscalerOptions: has no effect: set".into()),
        (
            worker(&json!({"rayStartParams": {"dashboard-agent-listen-port": "0"}})),
            "spec.workerGroupSpecs[0].rayStartParams[\"dashboard-agent-listen-port\"]: 0: Ray chooses a port that nobody \
             else knows, and the probes of the pod ask port 0"
                .into(),
        ),
        (
            json!({"spec": {"headGroupSpec": {"rayStartParams": {"port": "0"}}}}),
            "spec.headGroupSpec.rayStartParams[\"port\"]: 0: Ray chooses".into(),
        ),
    ];
    are_advised_about(cases);
}
