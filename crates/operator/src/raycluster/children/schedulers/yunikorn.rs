//! Apache YuniKorn: everything is on the pods.

use mobula_api::FieldError;
use serde_json::{Value, json};

use super::super::{Children, draft::PodDraft, group::Group, resources};
use super::copy_label;

const TASK_GROUPS: &str = "yunikorn.apache.org/task-groups";

pub(super) fn mark(children: &Children<'_>, group: &Group<'_>, pod: &mut PodDraft) -> Result<(), FieldError> {
    pod.set_spec("schedulerName", "yunikorn");
    copy_label(children, "yunikorn.apache.org/app-id", "applicationId", pod);
    copy_label(children, "yunikorn.apache.org/queue", "queue", pod);
    if !children.wants_gang() {
        return Ok(());
    }
    let own = children.cluster.metadata.annotations.get(TASK_GROUPS).filter(|groups| !groups.is_empty());
    let groups = own.cloned().map_or_else(|| task_groups(children), Ok)?;
    pod.annotations.insert(TASK_GROUPS.to_owned(), groups);
    pod.annotations.insert("yunikorn.apache.org/task-group-name".to_owned(), group.name.to_owned());
    Ok(())
}

/// All groups of the RayCluster with the least pods of each, as JSON. Placeholders hold their place until the pods are there.
/// YuniKorn makes them once, when the first pod of an application comes, and looks at no later pod's: no plan can change them.
fn task_groups(children: &Children<'_>) -> Result<String, FieldError> {
    let mut groups = vec![task_group(&Group::head(children.cluster), 1)?];
    for group in &children.cluster.spec.worker_group_specs {
        let pods = group.min_replicas.unwrap_or(0).saturating_mul(group.num_of_hosts.unwrap_or(1));
        groups.push(task_group(&Group::workers(children.cluster, group), pods)?);
    }
    Ok(format!("[{}]", groups.join(",")))
}

/// The members in the order in which KubeRay has them.
fn task_group(group: &Group<'_>, pods: i64) -> Result<String, FieldError> {
    let amounts = resources::of_template(&group.template_path(), group.template)?;
    let field = |name: &str| group.template.pointer(&format!("/spec/{name}")).filter(|value| says_something(value));
    let members = [
        ("minResource", Some(resources::to_value(&amounts))),
        ("nodeSelector", field("nodeSelector").cloned()),
        ("affinity", field("affinity").cloned()),
        ("name", Some(json!(group.name))),
        ("tolerations", field("tolerations").cloned()),
        ("minMember", Some(json!(pods))),
    ];
    let members: Vec<String> =
        members.into_iter().filter_map(|(key, value)| Some(format!("\"{key}\":{}", value?))).collect();
    Ok(format!("{{{}}}", members.join(",")))
}

fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Object(object) => !object.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => true,
    }
}
