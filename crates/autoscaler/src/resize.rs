//! In-place pod resize (IPPR): decisions and their execution.
//!
//! ```text
//! PodView ──node_resize──▶ planner::NodeResize ──policy──▶ Plan.resize
//! PodView + Plan.resize ──decide──▶ Vec<Action> ──execute──▶ Kubernetes, GCS
//! ```
//! The state of a resize lives in the pod: its spec (what was asked for), its status (what it has), its conditions and the
//! annotation `ray.io/ippr-status`. So every tick decides from scratch, and a restart forgets nothing.
//!
//! A resize goes: annotation (`resizing-at`) → spec → kubelet → raylet → annotation (`resizing-at` null). Where a dimension
//! shrinks, the raylet is told before the pod, so that it never promises what is taken away. The annotation comes first: a
//! process that dies in between leaves a pod that looks resized, and telling its raylet once more does no harm. What the
//! kubelet says could be had is asked for instead. What fails or takes too long is taken back, and the pod is left as it is
//! from then on. Only resizes that were asked for here are touched.

mod patch;
mod standing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use mobula_api::{ContainerView, FieldError, GroupShape, IpprStatus, PodView, Quantity, keys};
use mobula_gcs as gcs;
use mobula_planner::{NodeResize, Resize};

use crate::kube_access::{KubeAccess, KubeError};

pub use patch::resize_patch;
pub use standing::Size;
use standing::{Next, Standing, standing};

/// One step of one pod's resize.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Bring the pod to new absolute limits.
    Resize(Box<PodResize>),
    /// Tell the raylet what its pod has now, and note that the resize is over.
    Sync {
        /// Pod name.
        pod: String,
        /// Ray node id in hex.
        ray_node_id: String,
        /// What the pod has.
        size: Size,
        /// The annotation as it is afterwards.
        status: IpprStatus,
    },
    /// Write the annotation, nothing else.
    Note {
        /// Pod name.
        pod: String,
        /// The annotation.
        status: IpprStatus,
    },
}

/// New limits for one pod.
#[derive(Clone, Debug, PartialEq)]
pub struct PodResize {
    /// Pod name.
    pub pod: String,
    /// `metadata.uid`: another pod of this name must not be resized.
    pub uid: String,
    /// Ray node id in hex.
    pub ray_node_id: String,
    /// The Ray container as it is.
    pub container: ContainerView,
    /// What it has.
    pub from: Size,
    /// What it shall have.
    pub to: Size,
    /// The annotation as it is from then on.
    pub status: IpprStatus,
}

impl Action {
    /// The pod that it is about.
    pub fn pod(&self) -> &str {
        match self {
            Action::Resize(resize) => &resize.pod,
            Action::Sync { pod, .. } | Action::Note { pod, .. } => pod,
        }
    }

    /// Name in logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Action::Resize(_) => "asked of Kubernetes",
            Action::Sync { .. } => "told to the raylet",
            Action::Note { .. } => "noted as failed",
        }
    }
}

/// The planner's view of one pod's resize at Unix time `now_ms`; `timeout_ms` is the group's `resize-timeout`. `None`: the
/// pod does not say how large it is.
///
/// # Errors
/// If the pod's annotation is no resize status: such a pod is not to be resized.
pub fn node_resize(pod: &PodView, timeout_ms: i64, now_ms: i64) -> Result<Option<NodeResize>, FieldError> {
    Ok(standing(pod, timeout_ms, now_ms)?.and_then(|standing| standing.node_resize()))
}

/// What is to be done about resizes at Unix time `now_ms`: those of the plan, those that Kubernetes is done with, those that
/// are corrected by what the kubelet says, and those that are taken back. At most one action a pod, in the order of `pods`.
///
/// Pods that are leaving, that no group resizes, or whose annotation can't be read are left alone.
pub fn decide(groups: &[GroupShape], pods: &[PodView], plan: &[Resize], now_ms: i64) -> Vec<Action> {
    let timeouts_ms: BTreeMap<&str, i64> =
        groups.iter().filter_map(|group| Some((group.name.as_str(), group.resize.as_ref()?.timeout_ms))).collect();
    let planned: BTreeMap<&str, &Resize> = plan.iter().map(|resize| (resize.instance_id.as_str(), resize)).collect();
    let mut actions = Vec::new();
    for pod in pods.iter().filter(|pod| !pod.terminating) {
        let Some(timeout_ms) = timeouts_ms.get(pod.group.as_str()) else { continue };
        if let Ok(Some(standing)) = standing(pod, *timeout_ms, now_ms) {
            actions.extend(action(pod, standing, planned.get(pod.name.as_str()).copied(), now_ms));
        }
    }
    actions
}

fn action(pod: &PodView, standing: Standing, planned: Option<&Resize>, now_ms: i64) -> Option<Action> {
    let Standing { size, target, mut status, next } = standing;
    if let Some(id) = planned.and_then(|resize| resize.ray_node_id.as_ref()) {
        status.raylet_id = Some(id.clone());
    }
    let target = match next {
        Next::Wait => return None,
        Next::Note => return Some(Action::Note { pod: pod.name.clone(), status }),
        Next::Sync => {
            let ray_node_id = status.raylet_id.clone()?;
            status.resizing_at_s = None;
            return Some(Action::Sync { pod: pod.name.clone(), ray_node_id, size, status });
        }
        Next::Ask => target,
        Next::Settled => planned.filter(|_| status.last_failed_at_s.is_none()).map(planned_size)?,
    };
    let ray_node_id = status.raylet_id.clone()?;
    if target == size && next == Next::Settled {
        return None;
    }
    status.resizing_at_s = Some(now_ms.div_euclid(1_000));
    Some(Action::Resize(Box::new(PodResize {
        pod: pod.name.clone(),
        uid: pod.uid.clone(),
        ray_node_id,
        container: pod.ray_container.clone(),
        from: size,
        to: target,
        status,
    })))
}

/// In the units that Kubernetes resizes by: thousandths of a CPU, whole bytes.
fn planned_size(resize: &Resize) -> Size {
    const STEPS_PER_MILLI: i64 = mobula_planner::Amount::STEPS_PER_UNIT / 1_000;
    Size {
        cpu: Quantity::from_millis(resize.cpu.steps() / STEPS_PER_MILLI),
        memory: Quantity::from_units(resize.memory.steps() / mobula_planner::Amount::STEPS_PER_UNIT),
    }
}

/// Why a step failed. Retryable: the next tick decides again from what is there then.
#[derive(Debug, thiserror::Error)]
pub enum ResizeError {
    /// The API server said no.
    #[error(transparent)]
    Kube(#[from] KubeError),
    /// The GCS or the raylet said no.
    #[error("resize pod {pod}: {source}")]
    Gcs {
        /// Pod name.
        pod: String,
        /// Why.
        source: gcs::Error,
    },
}

/// Executes one action.
///
/// # Errors
/// If the API server, the GCS or the raylet refuses a step; later steps are not taken then.
pub async fn execute(action: &Action, kube: &KubeAccess, gcs: &gcs::Client) -> Result<(), ResizeError> {
    match action {
        Action::Resize(resize) => {
            let to = shrink_raylet(resize, gcs).await?;
            annotate(kube, &resize.pod, &resize.status).await?;
            kube.resize_pod(&resize.pod, &resize_patch(&resize.uid, &resize.container, to)).await?;
        }
        Action::Sync { pod, ray_node_id, size, status } => {
            tell_raylet(gcs, pod, ray_node_id, *size).await?;
            annotate(kube, pod, status).await?;
        }
        Action::Note { pod, status } => annotate(kube, pod, status).await?,
    }
    Ok(())
}

async fn annotate(kube: &KubeAccess, pod: &str, status: &IpprStatus) -> Result<(), ResizeError> {
    kube.annotate_pod(pod, keys::IPPR_STATUS, &status.to_annotation()).await?;
    Ok(())
}

/// Before a pod shrinks its raylet does; the raylet may be able to give up less than asked for.
async fn shrink_raylet(resize: &PodResize, gcs: &gcs::Client) -> Result<Size, ResizeError> {
    let PodResize { from, to, .. } = resize;
    if to.cpu >= from.cpu && to.memory >= from.memory {
        return Ok(*to);
    }
    let least = Size { cpu: to.cpu.min(from.cpu), memory: to.memory.min(from.memory) };
    let totals = tell_raylet(gcs, &resize.pod, &resize.ray_node_id, least).await?;
    // What grows is still as planned: the raylet hears of it once the pod has it.
    Ok(Size {
        cpu: if to.cpu < from.cpu { totals.cpu } else { to.cpu },
        memory: if to.memory < from.memory { totals.memory } else { to.memory },
    })
}

/// Sets a raylet's totals; gives those that it has then.
async fn tell_raylet(gcs: &gcs::Client, pod: &str, ray_node_id: &str, size: Size) -> Result<Size, ResizeError> {
    let wanted = [("CPU".to_owned(), size.cpu.as_f64()), ("memory".to_owned(), size.memory.as_f64())].into();
    let failed = |source| ResizeError::Gcs { pod: pod.to_owned(), source };
    let totals = gcs.resize_node(ray_node_id, &wanted).await.map_err(failed)?;
    totals_size(&totals).ok_or_else(|| {
        failed(gcs::Error::Garbage {
            method: "ResizeRayletResourceInstances",
            endpoint: ray_node_id.to_owned(),
            message: format!("the new totals have no usable CPU and memory: {totals:?}"),
        })
    })
}

fn totals_size(totals: &gcs::ResourceMap) -> Option<Size> {
    let whole = |units: f64| (units.is_finite() && (0.0..9e18).contains(&units)).then_some(units as i64);
    // Totals come in Ray's 1/10,000 of a CPU: the nearest thousandth is meant.
    let cpu = Quantity::from_millis(whole((totals.get("CPU")? * 1_000.0).round())?);
    Some(Size { cpu, memory: Quantity::from_units(whole(*totals.get("memory")?)?) })
}
