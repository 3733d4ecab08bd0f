//! In-place pod resize (IPPR): decisions and their execution.
//!
//! ```text
//! GroupShape.resize + PodView ──node_resize──▶ planner::NodeResize ──policy──▶ Plan.resize
//! GroupShape.resize + PodView + Plan.resize ──decide──▶ Vec<Action> ──execute──▶ Kubernetes, GCS
//! ```
//! The state of a resize lives in the pod: its spec (what was asked for), its status (what it has), its conditions and the
//! annotation `ray.io/ippr-status`. So every tick decides from scratch, and a restart forgets nothing.

use mobula_api::{GroupShape, IpprStatus, PodView};
use mobula_gcs as gcs;
use mobula_planner::{NodeResize, Resize};
use serde_json::Value;

use crate::kube_access::{KubeAccess, KubeError};

/// One step of one pod's resize. Steps of a pod are executed in order; the first that fails ends that pod's turn.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Bring the pod to new absolute limits.
    ResizePod {
        /// Pod name.
        pod: String,
    },
    /// Tell the raylet how much it has now, and then that the resize is over.
    SyncRaylet {
        /// Pod name.
        pod: String,
    },
}

/// Fills the planner's view of one pod's resize at Unix time `now_ms`. `None`: its group is not resized, or the pod is
/// leaving.
pub fn node_resize(group: &GroupShape, pod: &PodView, now_ms: i64) -> Option<NodeResize> {
    let _ = (group, pod, now_ms);
    None
}

/// What is to be done about resizes now: those of the plan, those that wait for the raylet, and those to be taken back.
pub fn decide(groups: &[GroupShape], pods: &[PodView], plan: &[Resize], now_ms: i64) -> Vec<Action> {
    let _ = (groups, pods, plan, now_ms);
    Vec::new()
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

/// Executes one action at Unix time `now_ms`.
///
/// # Errors
/// If the API server, the GCS or the raylet refuses a step; later steps of this action are not taken then.
pub async fn execute(action: &Action, kube: &KubeAccess, gcs: &gcs::Client, now_ms: i64) -> Result<(), ResizeError> {
    let _ = (action, kube, gcs, now_ms);
    Ok(())
}
