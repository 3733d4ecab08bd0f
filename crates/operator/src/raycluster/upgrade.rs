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

/// What may be made beside pods that go.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Makes {
    /// Nothing: they go first.
    Nothing,
    /// The head: once it is there, it says what the spec was.
    Head,
    /// All pods: none goes.
    All,
}

/// Deletes all pods if the spec has changed. What may be made in this pass.
pub(super) fn recreate(pass: &mut Pass<'_>) -> Makes {
    let strategy = pass.observed.cluster.spec.upgrade_strategy.as_ref();
    if strategy.and_then(|strategy| strategy.strategy.as_deref()) != Some("Recreate") {
        return Makes::All;
    }
    let mut heads = pass.heads();
    // One that has failed or is on its way out says what the spec was, too. The order of standings is that of their word.
    heads.retain(|(head, _)| !head.spec_hash.is_empty());
    heads.sort_by_key(|(_, standing)| *standing);
    let Some((head, standing)) = heads.first().cloned() else { return Makes::All };
    let hash = pass.children.spec_hash();
    let version = pass.config.version();
    if !head.operator_version.is_empty() && head.operator_version != version {
        // Another operator has made it, whose hash says nothing here. What runs is taken as what is wanted.
        let annotations = json!({SPEC_HASH: hash, OPERATOR_VERSION: version});
        let patch = json!({"metadata": {"uid": head.uid, "annotations": annotations}});
        if standing == Standing::Active && pass.may_try(HEAD) {
            let action = Action::Patch { kind: &kind::POD, name: head.name.clone(), patch };
            pass.decision.then(vec![Step::new(HEAD, action)]);
        }
        return Makes::All;
    }
    if head.spec_hash == hash {
        return Makes::All;
    }
    // The head goes last: as long as it is there, it says that the spec has changed.
    let heads: Vec<&str> =
        pass.observed.pods.iter().filter(|pod| pod.role == PodRole::Head).map(|pod| pod.name.as_str()).collect();
    let (of_heads, of_others): (Vec<Step>, Vec<Step>) =
        suspend::deletions(pass).into_iter().partition(|step| heads.contains(&step.action.name()));
    if of_others.is_empty() && of_heads.is_empty() {
        // A lost head may stay as long as its node: what waits for it is up to what makes heads.
        return if standing == Standing::Lost { Makes::Head } else { Makes::Nothing };
    }
    if pass.may_try(ALL_PODS) {
        pass.decision.then(of_others.into_iter().map(Step::blocking).collect());
        pass.decision.then(of_heads);
        let message =
            format!("Deleted all Pods for RayCluster {} due to spec change for Recreate upgradeStrategy", pass.name());
        pass.decision.notices.push(Notice { is_warning: false, reason: "DeletedPod", action: "Delete", message });
    }
    Makes::Nothing
}
