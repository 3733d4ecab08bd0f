//! What in-place resize can do with one pod.

use mobula_api::PodView;
use mobula_planner::NodeResize;

use super::Warnings;
use crate::resize::node_resize;

/// The pod's part of an in-place resize at Unix time `now_ms`; `None` if its size is not known.
pub(super) fn translate(pod: &PodView, timeout_ms: i64, now_ms: i64, warnings: &mut Warnings) -> Option<NodeResize> {
    node_resize(pod, timeout_ms, now_ms).unwrap_or_else(|error| {
        warnings.push(format!("pod {}: {error}: not resized in place", pod.name));
        // Nobody knows where its last resize stands: leave it as it is.
        Some(NodeResize { failed: true, ..NodeResize::default() })
    })
}
