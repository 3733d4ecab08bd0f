//! Nodes and requests, valid by construction.

use std::collections::BTreeSet;
use std::fmt;

/// One whole GPU in thousandths.
pub const GPU_MILLI: u16 = 1_000;

/// Most GPUs of one node.
pub const MAX_GPUS: u8 = 16;

/// A node and its GPUs, empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuNode {
    pub(super) cpu_milli: u32,
    pub(super) memory_mib: u32,
    pub(super) gpus: u8,
    pub(super) model: String,
}

impl GpuNode {
    /// A node with `gpus` whole GPUs of one `model`; the model may be empty.
    pub fn new(cpu_milli: u32, memory_mib: u32, gpus: u32, model: &str) -> Result<Self, BadShape> {
        let gpus = few(gpus)?;
        Ok(GpuNode { cpu_milli, memory_mib, gpus, model: model.to_owned() })
    }

    /// Number of GPUs.
    pub fn gpus(&self) -> u8 {
        self.gpus
    }
}

/// What one pod asks for: CPU and memory, and no GPU, a share of one GPU, or whole GPUs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GpuRequest {
    pub(super) cpu_milli: u32,
    pub(super) memory_mib: u32,
    pub(super) gpus: u8,
    pub(super) gpu_milli: u16,
    pub(super) models: BTreeSet<String>,
}

impl GpuRequest {
    /// `gpu_milli` thousandths of each of `gpus` GPUs, of one of `models`; no models: of any.
    pub fn new(
        cpu_milli: u32,
        memory_mib: u32,
        gpus: u32,
        gpu_milli: u32,
        models: BTreeSet<String>,
    ) -> Result<Self, BadShape> {
        let gpus = few(gpus)?;
        let gpu_milli = match (gpus, u16::try_from(gpu_milli)) {
            (0, Ok(0)) => 0,
            (0, _) => return Err(BadShape::ShareOfNothing),
            (_, Ok(GPU_MILLI)) => GPU_MILLI,
            (1, Ok(share @ 1..GPU_MILLI)) => share,
            (1, _) => return Err(BadShape::Share),
            (_, _) => return Err(BadShape::ShareOfMany),
        };
        // Where no GPU is asked for, its model does not matter.
        let models = if gpus == 0 { BTreeSet::new() } else { models };
        Ok(GpuRequest { cpu_milli, memory_mib, gpus, gpu_milli, models })
    }

    /// Thousandths of GPUs in all.
    pub fn total_gpu_milli(&self) -> u64 {
        u64::from(self.gpus) * u64::from(self.gpu_milli)
    }

    /// Whether it asks for less than a whole GPU, which others may share.
    pub(super) fn is_share(&self) -> bool {
        self.gpus == 1 && self.gpu_milli < GPU_MILLI
    }
}

fn few(gpus: u32) -> Result<u8, BadShape> {
    u8::try_from(gpus).ok().filter(|gpus| *gpus <= MAX_GPUS).ok_or(BadShape::Gpus)
}

/// Why a node or a request can't be.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum BadShape {
    /// Too many GPUs.
    Gpus,
    /// A share of no GPU.
    ShareOfNothing,
    /// A share of one GPU that is none or more than all of it.
    Share,
    /// A share of each of several GPUs.
    ShareOfMany,
}

impl BadShape {
    /// Whether the number of GPUs is wrong, rather than the share of each.
    pub fn is_about_gpus(self) -> bool {
        self == BadShape::Gpus
    }
}

impl fmt::Display for BadShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadShape::Gpus => write!(f, "must be from 0 to {MAX_GPUS}"),
            BadShape::ShareOfNothing => f.write_str("must be 0 where no GPU is asked for"),
            BadShape::Share => write!(f, "must be from 1 to {GPU_MILLI} where a GPU is asked for"),
            BadShape::ShareOfMany => write!(f, "must be {GPU_MILLI} where several GPUs are asked for"),
        }
    }
}

impl std::error::Error for BadShape {}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(gpus: u32, gpu_milli: u32) -> Result<GpuRequest, BadShape> {
        GpuRequest::new(1, 1, gpus, gpu_milli, BTreeSet::from(["G2".to_owned()]))
    }

    #[test]
    fn shares_are_of_one_gpu_and_whole_gpus_are_whole() {
        assert_eq!(request(1, 1).unwrap().total_gpu_milli(), 1);
        assert_eq!(request(1, 1_000).unwrap().total_gpu_milli(), 1_000);
        assert_eq!(request(8, 1_000).unwrap().total_gpu_milli(), 8_000);
        assert_eq!(request(1, 0), Err(BadShape::Share));
        assert_eq!(request(1, 1_001), Err(BadShape::Share));
        assert_eq!(request(1, 70_000), Err(BadShape::Share));
        assert_eq!(request(2, 500), Err(BadShape::ShareOfMany));
        assert_eq!(request(17, 1_000), Err(BadShape::Gpus));
        assert_eq!(GpuNode::new(1, 1, 300, "G2"), Err(BadShape::Gpus));
    }

    #[test]
    fn without_a_gpu_its_model_does_not_matter() {
        assert_eq!(request(0, 0), GpuRequest::new(1, 1, 0, 0, BTreeSet::new()));
        assert_eq!(request(0, 1), Err(BadShape::ShareOfNothing));
    }
}
