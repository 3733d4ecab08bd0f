//! What is free on a node.

use super::words::{GPU_MILLI, GpuNode, GpuRequest, MAX_GPUS};

/// A node in use.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) cpu_free_milli: u32,
    memory_free_mib: u32,
    /// Index of its model of GPUs.
    pub(super) model: usize,
    gpus: u8,
    gpus_free_milli: [i16; MAX_GPUS as usize],
    /// Classes of the pods on it that use GPUs, one bit each.
    pub(super) classes: u32,
    /// `F` in the unit of [`Fragmentation`](super::fragmentation::Fragmentation).
    pub(super) fragmentation: i64,
}

impl Node {
    /// An empty node.
    pub(super) fn new(node: &GpuNode, model: usize) -> Self {
        let mut gpus_free_milli = [0; MAX_GPUS as usize];
        gpus_free_milli.iter_mut().take(usize::from(node.gpus)).for_each(|free| *free = GPU_MILLI.cast_signed());
        Node {
            cpu_free_milli: node.cpu_milli,
            memory_free_mib: node.memory_mib,
            model,
            gpus: node.gpus,
            gpus_free_milli,
            classes: 0,
            fragmentation: 0,
        }
    }

    /// Free thousandths of each GPU.
    pub(super) fn gpus_free_milli(&self) -> &[i16] {
        self.gpus_free_milli.get(..usize::from(self.gpus)).unwrap_or_default()
    }

    /// Free thousandths of all GPUs.
    pub(super) fn gpu_free_milli(&self) -> u32 {
        self.gpus_free_milli.iter().map(|free| u32::from(free.unsigned_abs())).sum()
    }

    /// Whether CPU, memory and devices are enough, where the model is right.
    pub(super) fn fits(&self, request: &GpuRequest) -> bool {
        request.cpu_milli <= self.cpu_free_milli
            && request.memory_mib <= self.memory_free_mib
            && (request.gpus == 0 || self.fitting(request).count() >= usize::from(request.gpus))
    }

    /// Devices with enough free for one of the GPUs asked for, and what is free on them.
    pub(super) fn fitting(&self, request: &GpuRequest) -> impl Iterator<Item = (u8, i16)> {
        let least = request.gpu_milli.cast_signed();
        (0..).zip(self.gpus_free_milli().iter().copied()).filter(move |(_, free)| *free >= least)
    }

    /// How many devices are idle.
    pub(super) fn idle_gpus(&self) -> u8 {
        self.gpus_free_milli().iter().map(|free| u8::from(*free == GPU_MILLI.cast_signed())).sum()
    }

    /// Whether no GPU of it is used.
    pub(super) fn is_idle(&self) -> bool {
        self.idle_gpus() == self.gpus
    }

    /// The node once a pod that fits has these devices, one bit each.
    pub(super) fn with(&self, request: &GpuRequest, devices: u16) -> Node {
        let mut node = self.clone();
        node.cpu_free_milli = node.cpu_free_milli.saturating_sub(request.cpu_milli);
        node.memory_free_mib = node.memory_free_mib.saturating_sub(request.memory_mib);
        for (device, free) in node.gpus_free_milli.iter_mut().enumerate() {
            if devices >> device & 1 == 1 {
                *free -= request.gpu_milli.cast_signed();
            }
        }
        node.classes |= class(request);
        node
    }
}

impl Node {
    /// A pod that had these devices is gone.
    pub(super) fn give_back(&mut self, request: &GpuRequest, devices: u16) {
        self.cpu_free_milli = self.cpu_free_milli.saturating_add(request.cpu_milli);
        self.memory_free_mib = self.memory_free_mib.saturating_add(request.memory_mib);
        for (device, free) in self.gpus_free_milli.iter_mut().enumerate() {
            if devices >> device & 1 == 1 {
                *free += request.gpu_milli.cast_signed();
            }
        }
    }
}

/// The class of a request as a bit: none without a GPU, the lowest for a share, then by the number of GPUs.
pub(super) fn class(request: &GpuRequest) -> u32 {
    match request.gpus {
        0 => 0,
        _ if request.is_share() => 1,
        gpus => 1 << gpus,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{cpu, node, share, whole};
    use super::*;

    #[test]
    fn a_pod_takes_cpu_memory_and_the_devices_named() {
        let empty = Node::new(&node(10, 4, "G2"), 0);
        let used = empty.with(&share(3, 400), 0b0100).with(&whole(2, 2), 0b1001);
        assert_eq!(used.gpus_free_milli(), [0, 1_000, 600, 0]);
        assert_eq!((used.cpu_free_milli, used.gpu_free_milli(), used.idle_gpus()), (5_000, 1_600, 1));
        assert!(empty.is_idle() && !used.is_idle());
        assert_eq!(used.classes, 0b101);
        assert!(used.fits(&whole(5, 1)) && used.fits(&share(5, 601)) && used.fits(&cpu(5)));
        assert!(!used.fits(&whole(5, 2)) && !used.fits(&cpu(6)));
    }

    #[test]
    fn memory_is_enough_or_not() {
        let node = Node::new(&GpuNode::new(1, 10, 0, "").unwrap(), 0);
        let asks = |memory_mib| GpuRequest::new(0, memory_mib, 0, 0, Default::default()).unwrap();
        assert!(node.fits(&asks(10)) && !node.fits(&asks(11)));
    }
}
