//! Where the next pod goes: the placement policies of Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with
//! Fragmentation Gradient Descent" (USENIX ATC 2023).
//!
//! Each [`NodeChoice`] is a way of choosing one of the nodes that can take a pod, and a [`TieBreak`] says which of equal ones.
//! A [`Cluster`] places the pods of a [`Workload`] one by one. GPUs are counted in thousandths of each device, so that pods may
//! share one. Everything is a function of what is passed in, chance included: the caller draws the numbers.
//!
//! ```
//! use mobula_planner::placement::{Cluster, GpuNode, GpuRequest, NodeChoice, TieBreak, Workload};
//!
//! let half = GpuRequest::new(4_000, 16_384, 1, 500, Default::default())?;
//! let nodes = [GpuNode::new(96_000, 393_216, 8, "G2")?, GpuNode::new(16_000, 122_880, 2, "P100")?];
//! let workload = Workload::new(&[half.clone(), half])?;
//! let mut cluster = Cluster::new(NodeChoice::Packing, TieBreak::First, &nodes, &workload)?;
//! let placed: Vec<_> = workload.pods().iter().filter_map(|pod| cluster.place(*pod, 0)).collect();
//! assert_eq!(placed.iter().map(|placed| (placed.node, placed.devices)).collect::<Vec<_>>(), [(1, 1), (1, 1)]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod choice;
mod cluster;
mod fragmentation;
mod node;
mod score;
mod words;
mod workload;

pub use choice::{NodeChoice, TieBreak};
pub use cluster::{Cluster, Placed};
pub use words::{BadShape, GPU_MILLI, GpuNode, GpuRequest, MAX_GPUS};
pub use workload::{MAX_SHAPES, ShapeId, TooVaried, Workload};

#[cfg(test)]
mod tests {
    use super::*;

    /// A node of `cpu` CPUs, a memory that is always enough, and GPUs.
    pub(super) fn node(cpu: u32, gpus: u32, model: &str) -> GpuNode {
        GpuNode::new(cpu * 1_000, u32::MAX, gpus, model).unwrap()
    }

    /// A pod of `cpu` CPUs and no GPU.
    pub(super) fn cpu(cpu: u32) -> GpuRequest {
        GpuRequest::new(cpu * 1_000, 1_024, 0, 0, Default::default()).unwrap()
    }

    /// A pod of `cpu` CPUs and a share of a GPU.
    pub(super) fn share(cpu: u32, gpu_milli: u32) -> GpuRequest {
        GpuRequest::new(cpu * 1_000, 1_024, 1, gpu_milli, Default::default()).unwrap()
    }

    /// A pod of `cpu` CPUs and whole GPUs.
    pub(super) fn whole(cpu: u32, gpus: u32) -> GpuRequest {
        GpuRequest::new(cpu * 1_000, 1_024, gpus, 1_000, Default::default()).unwrap()
    }
}
