use serde_json::json;

use super::*;

/// Groups `gpu` (requests are limits), `cpu` (limits are twice the requests) and `best` (neither).
fn cluster(metadata: &Value) -> RayCluster {
    let template = |resources: Value, class: &str| json!({"spec": {"containers": [{"name": "ray", "resources": resources}], "priorityClassName": class}});
    let groups = [
        ("gpu", template(json!({"limits": {"cpu": 8, "nvidia.com/gpu": 8}}), "high")),
        ("cpu", template(json!({"limits": {"cpu": 4}, "requests": {"cpu": 2}}), "")),
        ("best", template(json!({}), "")),
    ];
    let groups = groups.map(|(name, template)| json!({"groupName": name, "template": template}));
    let mut cluster = json!({
        "metadata": {"name": "a", "namespace": "team"},
        "spec": {"headGroupSpec": {"template": template(json!({"limits": {"cpu": 1}}), "")}, "workerGroupSpecs": groups},
    });
    json_patch::merge(&mut cluster["metadata"], metadata);
    RayCluster::from_value(cluster).unwrap()
}

fn pod(name: &str, group: &str) -> PodView {
    let role = if group == keys::HEAD_GROUP { PodRole::Head } else { PodRole::Worker };
    PodView { name: name.to_owned(), group: group.to_owned(), role, phase: "Running".to_owned(), ..PodView::default() }
}

/// Each quota as `source [groups] name amount, …`.
fn shown(quotas: &[Quota]) -> Vec<String> {
    let amounts = |free: &Resources| {
        let amounts: Vec<String> = free.iter().map(|(name, amount)| format!("{name} {}", amount.as_f64())).collect();
        amounts.join(", ")
    };
    quotas.iter().map(|q| format!("{} [{}] {}", q.source, q.groups.join(" "), amounts(&q.free))).collect()
}

fn read(object: &Value) -> Vec<String> {
    let pods = [pod("h", keys::HEAD_GROUP), pod("g0", "gpu"), pod("g1", "gpu")];
    let tenant = Tenant::of(&cluster(&json!({})), &pods);
    shown(&Source::of(object).unwrap().quotas(object, &tenant))
}

fn resource_quota(spec: &Value, hard: &Value, used: &Value) -> Value {
    json!({"kind": "ResourceQuota", "metadata": {"name": "q", "namespace": "team"}, "spec": spec,
        "status": {"hard": hard, "used": used}})
}

#[test]
fn of_a_resource_quota_what_is_hard_and_not_used_is_free() {
    let hard = json!({"requests.cpu": "20", "cpu": "30", "requests.nvidia.com/gpu": 16, "pods": "10", "count/pods": "5",
        "requests.memory": "1Ti", "services": "3", "requests.storage": "1Gi", "count/secrets": "7"});
    let used = json!({"requests.cpu": "12500m", "requests.nvidia.com/gpu": "24", "count/pods": "2"});
    assert_eq!(
        read(&resource_quota(&json!({}), &hard, &used)),
        ["ResourceQuota q [] cpu 7.5, memory 1099511627776, nvidia.com/gpu 0, pods 3"]
    );
}

#[test]
fn a_resource_quota_that_counts_no_pods_or_is_of_another_namespace_is_none() {
    assert_eq!(read(&resource_quota(&json!({}), &json!({"services": "3"}), &json!({}))), [""; 0]);
    let mut other = resource_quota(&json!({}), &json!({"pods": "3"}), &json!({}));
    other["metadata"]["namespace"] = json!("other");
    assert_eq!(read(&other), [""; 0]);
}

#[test]
fn a_resource_quota_that_was_not_counted_yet_says_what_it_will_allow() {
    let quota = json!({"kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": {"pods": "3"}}});
    assert_eq!(read(&quota), ["ResourceQuota q [] pods 3"]);
}

#[test]
fn scopes_say_which_groups_are_counted() {
    let counted = |spec: Value| read(&resource_quota(&spec, &json!({"pods": "3"}), &json!({})));
    assert_eq!(counted(json!({"scopes": ["NotBestEffort", "NotTerminating"]})), ["ResourceQuota q [gpu cpu] pods 3"]);
    assert_eq!(counted(json!({"scopes": ["BestEffort"]})), ["ResourceQuota q [best] pods 3"]);
    assert_eq!(counted(json!({"scopes": ["Terminating"]})), [""; 0]);
    let class = |operator: &str| {
        counted(json!({"scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": operator, "values": ["high"]}]}}))
    };
    assert_eq!(class("In"), ["ResourceQuota q [gpu] pods 3"]);
    assert_eq!(class("NotIn"), ["ResourceQuota q [cpu best] pods 3"]);
}

#[test]
fn a_quota_on_limits_is_one_on_requests_where_they_are_equal_and_one_on_pods_elsewhere() {
    let gpu = resource_quota(&json!({}), &json!({"limits.nvidia.com/gpu": "16"}), &json!({}));
    assert_eq!(read(&gpu), ["ResourceQuota q [] nvidia.com/gpu 16"]);
    let cpu = resource_quota(&json!({}), &json!({"limits.cpu": "20", "pods": "9"}), &json!({"limits.cpu": "3"}));
    assert_eq!(
        read(&cpu),
        ["ResourceQuota q [] pods 9", "ResourceQuota q [gpu] cpu 17", "ResourceQuota q [cpu] pods 4"]
    );
}

#[test]
fn of_an_elastic_quota_tree_every_node_above_the_namespace_counts_with_the_own_pods() {
    let tree = json!({"kind": "ElasticQuotaTree", "spec": {"root": {
    "name": "root", "max": {"cpu": 100, "nvidia.com/gpu": 32, "kube-queue/max-jobs": 10},
    "children": [
        {"name": "x", "namespaces": ["x"], "max": {"cpu": 1}},
        {"name": "dept", "children": [{"name": "team", "namespaces": ["y", "team"], "max": {"nvidia.com/gpu": 20}}]},
    ]}}});
    // The head takes one CPU, two pods of `gpu` take 8 CPU and 8 GPU each.
    assert_eq!(
        read(&tree),
        ["ElasticQuotaTree root [] cpu 83, nvidia.com/gpu 16", "ElasticQuotaTree root/dept/team [] nvidia.com/gpu 4"]
    );
    assert_eq!(
        read(&json!({"kind": "ElasticQuotaTree", "spec": {"root": {"name": "root", "max": {"cpu": 1}}}})),
        [""; 0]
    );
}

#[test]
fn of_an_elastic_quota_what_it_says_is_used_counts() {
    let quota = json!({"kind": "ElasticQuota", "metadata": {"name": "e", "namespace": "team"},
        "spec": {"min": {"cpu": 1}, "max": {"cpu": 10}}, "status": {"used": {"cpu": "4"}}});
    assert_eq!(read(&quota), ["ElasticQuota e [] cpu 6"]);
}

fn workload(metadata: &Value) -> Value {
    let mut workload = json!({
        "kind": "Workload",
        "metadata": {"name": "w", "namespace": "team", "ownerReferences": [{"kind": "RayCluster", "name": "a"}]},
        "status": {"admission": {"podSetAssignments": [
            {"name": "head", "count": 1}, {"name": "gpu", "count": 5}, {"name": "CPU", "count": 2}]}},
    });
    json_patch::merge(&mut workload["metadata"], metadata);
    workload
}

#[test]
fn what_kueue_granted_is_a_number_of_pods_of_each_group() {
    let expected = ["Kueue Workload w [gpu] pods 3", "Kueue Workload w [cpu] pods 2"];
    assert_eq!(read(&workload(&json!({}))), expected);
}

#[test]
fn a_workload_of_somebody_else_a_finished_one_and_an_elastic_one_do_not_count() {
    assert_eq!(read(&workload(&json!({"ownerReferences": [{"kind": "RayCluster", "name": "b"}]}))), [""; 0]);
    assert_eq!(read(&workload(&json!({"annotations": {ELASTIC_JOB: "true"}}))), [""; 0]);
    let mut finished = workload(&json!({}));
    finished["status"]["conditions"] = json!([{"type": "Finished", "status": "True"}]);
    assert_eq!(read(&finished), [""; 0]);
    let elastic = Tenant::of(&cluster(&json!({"annotations": {ELASTIC_JOB: "true"}})), &[]);
    assert_eq!(Source::Workload.quotas(&workload(&json!({})), &elastic), []);
}

#[test]
fn a_workload_of_the_job_that_owns_the_raycluster_counts() {
    let owned = cluster(&json!({"ownerReferences": [{"kind": "RayJob", "name": "j"}]}));
    let of_job = workload(&json!({"ownerReferences": [{"kind": "RayJob", "name": "j"}]}));
    assert_eq!(Source::Workload.quotas(&of_job, &Tenant::of(&owned, &[])).len(), 2);
}

#[test]
fn pods_that_came_after_a_reading_are_taken_off_until_the_next() {
    let cluster = cluster(&json!({}));
    let quota = resource_quota(&json!({}), &json!({"cpu": "20", "pods": "4"}), &json!({"cpu": "8", "pods": "1"}));
    let then = [pod("g0", "gpu")];
    let reading = Reading::new(Source::ResourceQuota, [&quota], &cluster, &then);
    assert_eq!(shown(&reading.now(&cluster, &then)), ["ResourceQuota q [] cpu 12, pods 3"]);
    let failed = PodView { phase: "Failed".to_owned(), ..pod("g2", "gpu") };
    let now = [pod("g0", "gpu"), pod("g1", "gpu"), pod("c0", "cpu"), failed];
    assert_eq!(shown(&reading.now(&cluster, &now)), ["ResourceQuota q [] cpu 2, pods 1"]);
}

#[test]
fn nonsense_is_no_quota() {
    let tenant = Tenant::of(&cluster(&json!({})), &[]);
    for odd in [json!(3), json!({}), json!({"spec": 3, "status": [], "metadata": "x"}), json!({"spec": {"root": []}})] {
        for source in Source::ALL {
            assert_eq!(source.quotas(&odd, &tenant), [], "{odd} {source:?}");
        }
    }
}

#[test]
fn amounts_that_can_not_be_read_are_said_with_what_is_assumed() {
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"cpu": "ten", "pods": "3"}}, "status": {"used": {"cpu": -1}}});
    assert_eq!(
        Source::ResourceQuota.doubts(&quota),
        [
            "ResourceQuota q: cpu \"ten\" is no amount: it is taken for no limit",
            "ResourceQuota q: cpu -1 is no amount: nothing is taken to be used",
        ]
    );
    let tree = json!({"metadata": {"name": "t"}, "spec": {"root": {"name": "r", "children": [{"name": "a", "max": {"cpu": []}}]}}});
    assert_eq!(
        Source::ElasticQuotaTree.doubts(&tree),
        ["ElasticQuotaTree t: cpu [] is no amount: it is taken for no limit"]
    );
    let workload = json!({"metadata": {"name": "w"}, "status": {"admission": {"podSetAssignments": [{"name": "gpu", "count": "4"}]}}});
    assert_eq!(
        Source::Workload.doubts(&workload),
        ["Workload w: count \"4\" of gpu is no number: it is taken for no limit"]
    );
    assert_eq!(Source::ElasticQuota.doubts(&json!({"spec": {"max": {"cpu": "1"}}})), [""; 0]);
}

#[test]
fn only_workloads_of_the_raycluster_and_of_its_owners_are_asked_for() {
    assert_eq!(workload::selector(&cluster(&json!({}))), None);
    let owned = json!({"uid": "u-1", "ownerReferences": [{"kind": "RayJob", "name": "j", "uid": "u-2"}]});
    let expected = "kueue.x-k8s.io%2Fjob-uid%20in%20%28u-2%2Cu-1%29";
    assert_eq!(workload::selector(&cluster(&owned)).as_deref(), Some(expected));
    // What is no uid does not come into a URL.
    assert_eq!(workload::selector(&cluster(&json!({"uid": "a&b"}))), None);
}
