//! Fragmentation: GPUs that are free and of no use, because no pod that has asked for GPUs so far would fit beside what is there.
//!
//! Assumptions: only resources are looked at, of the pods that have come so far; labels, taints and affinity are not.

use std::sync::Arc;

use mobula_planner::Resources;

use super::node::GPUS;
use super::pod::PodSpec;
use super::{KubeNode, World};

impl World {
    /// A pod asks for this.
    pub(super) fn note_shape(&mut self, spec: &Arc<PodSpec>) {
        let asks_gpu = GPUS.iter().any(|name| spec.requests.get(*name).is_some_and(|amount| amount.steps() > 0));
        if asks_gpu && self.gpu_shapes.insert(spec.requests.clone()) {
            self.count_stranded();
        }
    }

    /// What is free has changed.
    pub(super) fn count_stranded(&mut self) {
        if !self.gpu_shapes.is_empty() {
            self.measures.strands(self.clock.now_us(), self.stranded());
        }
    }

    /// GPUs that are of no use now.
    pub(super) fn stranded(&self) -> f64 {
        self.nodes.values().map(|node| of_no_use(node, self.gpu_shapes.iter())).sum()
    }
}

fn of_no_use<'a>(node: &KubeNode, mut shapes: impl Iterator<Item = &'a Resources> + Clone) -> f64 {
    let free = node.free_gpus();
    let fits = |shape: &Resources| {
        shape.iter().all(|(name, amount)| amount.steps() <= 0 || node.free.get(name).is_some_and(|free| free >= amount))
    };
    if free <= 0.0 || shapes.clone().next().is_none() || shapes.any(fits) { 0.0 } else { free }
}
