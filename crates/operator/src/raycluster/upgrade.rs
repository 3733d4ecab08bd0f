//! `upgradeStrategy: Recreate`: all pods go when the spec has changed. Which spec a cluster runs is written on its head pod.

use mobula_api::PodRole;
use serde_json::json;

use super::{
    classify::Standing,
    pass::{ALL_PODS, HEAD, Pass},
    suspend,
};
use crate::frame::{
    decision::{Action, Notice, Step},
    kind,
    pod::{OPERATOR_VERSION, SPEC_HASH},
};

/// True if all pods go: then none is made in this pass.
pub(super) fn recreate(pass: &mut Pass<'_>) -> bool {
    let strategy = pass.observed.cluster.spec.upgrade_strategy.as_ref();
    if strategy.and_then(|strategy| strategy.strategy.as_deref()) != Some("Recreate") {
        return false;
    }
    let heads = pass.heads();
    let Some((head, _)) = heads.iter().find(|(_, standing)| *standing == Standing::Active) else { return false };
    let hash = pass.children.spec_hash();
    let version = pass.config.version();
    if !head.operator_version.is_empty() && head.operator_version != version {
        // Another operator has made it, whose hash says nothing here. What runs is taken as what is wanted.
        let annotations = json!({SPEC_HASH: hash, OPERATOR_VERSION: version});
        let patch = json!({"metadata": {"uid": head.uid, "annotations": annotations}});
        if pass.may_try(HEAD) {
            let action = Action::Patch { kind: &kind::POD, name: head.name.clone(), patch };
            pass.decision.then(vec![Step::new(HEAD, action)]);
        }
        return false;
    }
    if head.spec_hash.is_empty() || head.spec_hash == hash {
        return false;
    }
    // The head goes last: as long as it is there, it says that the spec has changed.
    let heads: Vec<&str> =
        pass.observed.pods.iter().filter(|pod| pod.role == PodRole::Head).map(|pod| pod.name.as_str()).collect();
    let (of_heads, of_others): (Vec<Step>, Vec<Step>) =
        suspend::deletions(pass).into_iter().partition(|step| heads.contains(&step.action.name()));
    if pass.may_try(ALL_PODS) {
        pass.decision.then(of_others.into_iter().map(Step::blocking).collect());
        pass.decision.then(of_heads);
        let message =
            format!("Deleted all Pods for RayCluster {} due to spec change for Recreate upgradeStrategy", pass.name());
        pass.decision.notices.push(Notice { is_warning: false, reason: "DeletedPod", action: "Delete", message });
    }
    true
}
