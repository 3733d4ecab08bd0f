//! What in-place resize can do with one pod.

use mobula_api::{IpprStatus, PodView, Quantity};
use mobula_planner::{Amount, NodeResize};

use super::Warnings;

/// The pod's part of an in-place resize; `None` if its size is not known.
pub(super) fn translate(pod: &PodView, warnings: &mut Warnings) -> Option<NodeResize> {
    let status = pod.ippr_status().unwrap_or_else(|error| {
        warnings.push(format!("pod {}: {error}: not resized in place", pod.name));
        // Nobody knows where its last resize stands: leave it as it is.
        Some(IpprStatus { last_failed_at_s: Some(0), ..IpprStatus::default() })
    });
    let status = status.unwrap_or_default();
    let (size, wanted) = (&pod.ray_container.actual, &pod.ray_container.wanted);
    let in_progress = status.resizing_at_s.is_some() || pod.resize.is_some();
    Some(NodeResize {
        current_cpu: amount(size.cpu()?)?,
        current_memory: amount(size.memory()?)?,
        desired_cpu: wanted.cpu().filter(|_| in_progress).and_then(amount),
        desired_memory: wanted.memory().filter(|_| in_progress).and_then(amount),
        suggested_max_cpu: status.suggested_max_cpu.and_then(Amount::from_f64),
        suggested_max_memory: status.suggested_max_memory.map(Amount::from_units),
        in_progress,
        failed: status.last_failed_at_s.is_some(),
    })
}

fn amount(quantity: Quantity) -> Option<Amount> {
    Amount::from_f64(quantity.as_f64())
}
