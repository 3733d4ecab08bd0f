//! Hosts of a domain in GPUs, because pods may share hosts.

use crate::{Amount, Resources};

/// Hosts of NVLink domains have so many GPUs at least (GB200 and GB300: four).
const GPUS_OF_A_HOST: i64 = 4;

/// What is of the cluster in a domain: nodes that are there or on their way.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Hosts: nodes on one Kubernetes node are counted once.
    pub hosts: u32,
    /// GPUs of all nodes, in steps of an amount.
    pub gpu_steps: i64,
    /// Those of the node that has most of them.
    pub most_gpu_steps: i64,
}

impl Tally {
    /// Counts a node; `is_counted`: its host was counted before.
    pub(super) fn count(&mut self, resources: &Resources, is_counted: bool) {
        let steps = gpu_steps(resources);
        self.hosts = self.hosts.saturating_add(u32::from(!is_counted));
        self.gpu_steps = self.gpu_steps.saturating_add(steps);
        self.most_gpu_steps = self.most_gpu_steps.max(steps);
    }
}

/// GPUs, in steps of an amount.
pub(crate) fn gpu_steps(resources: &Resources) -> i64 {
    resources.get("GPU").map_or(0, |amount| amount.steps().max(0))
}

/// GPUs of so many hosts on which these pods may be, in steps of an amount: a host has as many as the pod with most of them, and
/// no fewer than those of NVLink domains.
pub(crate) fn gpu_steps_of_hosts(hosts: u32, pods: impl Iterator<Item = i64>) -> i64 {
    pods.fold(Amount::from_units(GPUS_OF_A_HOST).steps(), i64::max).saturating_mul(hosts.into())
}
