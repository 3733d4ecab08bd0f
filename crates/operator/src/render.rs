//! What the operator would create for a RayCluster, without a cluster: what `mobula render` prints.

use mobula_api::{Extent, FieldError, RayCluster, WorkerGroupSpec};
use serde_json::{Value, json};

use crate::{
    config::Config,
    raycluster::{
        children::{Children, Slot},
        is_managed_elsewhere, suspend,
    },
};

/// Stands for what only the API server knows: the unique id of the RayCluster.
const UID: &str = "UID";
/// Stands for what is drawn at random.
const RANDOM: &str = "RANDOM";

/// Every object that the operator would create for a new RayCluster, as it would send it, in the order of creation: none
/// for a cluster that another controller manages, no pods for one that is suspended.
///
/// Pods lack `mobula.dev/slot` alone, the operator's own note of what their names follow from. Random suffixes are `RAND-000`, `RAND-001`, … in each group, the unique id is `UID`, the token is `RANDOM`.
///
/// # Errors
/// Names the field of the RayCluster that can't be used.
pub fn objects(cluster: &RayCluster, config: &Config) -> Result<Vec<Value>, FieldError> {
    if is_managed_elsewhere(cluster.spec.managed_by.as_deref()) {
        return Ok(Vec::new());
    }
    let mut cluster = with_defaults(cluster);
    if let Some(finding) = cluster.validate(&config.rules()).into_iter().find(|finding| finding.refused != Extent::None)
    {
        return Err(finding.error);
    }
    if cluster.metadata.uid.is_empty() {
        UID.clone_into(&mut cluster.metadata.uid);
    }
    let children = Children { cluster: &cluster, config };
    let mut objects = children.fixed(&[0; 32])?;
    for secret in objects.iter_mut().filter(|object| object["kind"] == "Secret") {
        secret["data"] = json!({ "auth_token": RANDOM });
    }
    if suspend::is_wanted(&cluster) {
        return Ok(objects);
    }
    objects.extend(children.pod_groups(&children.gang_members())?);
    let name = children.head_pod_name().unwrap_or_else(|| format!("{}RAND-000", children.head_pod_prefix()));
    objects.push(children.head_pod(&name)?);
    for (index, group) in cluster.spec.worker_group_specs.iter().enumerate() {
        objects.extend(workers(&children, index, group)?);
    }
    Ok(objects)
}

/// What the API server fills in.
fn with_defaults(cluster: &RayCluster) -> RayCluster {
    let mut cluster = cluster.clone();
    for group in &mut cluster.spec.worker_group_specs {
        group.replicas.get_or_insert(0);
        group.min_replicas.get_or_insert(0);
        group.max_replicas.get_or_insert(i32::MAX.into());
        group.num_of_hosts.get_or_insert(1);
    }
    cluster
}

fn workers(children: &Children<'_>, index: usize, group: &WorkerGroupSpec) -> Result<Vec<Value>, FieldError> {
    let prefix = children.worker_pod_prefix(group);
    let (replicas, hosts) = children.replicas_and_hosts(index, group)?;
    let slots = (0..replicas).flat_map(|replica| (0..hosts).map(move |host| (replica, host)));
    let pod = |(number, (replica, host)): (usize, (u32, u32))| {
        let replica_name = (hosts > 1).then(|| format!("{}-RAND-{replica:03}", group.group_name));
        let slot = Slot { replica, replica_name, host };
        children.worker_pod(group, &slot, &format!("{prefix}RAND-{number:03}"))
    };
    slots.enumerate().map(pod).collect()
}
