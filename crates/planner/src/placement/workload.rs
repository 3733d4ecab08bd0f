//! The pods that will come, as classes of identical requests.

use std::collections::BTreeMap;
use std::fmt;

use super::words::GpuRequest;

/// Most different requests of one workload: every one of them may hold a score for every node.
pub const MAX_SHAPES: usize = 4_096;

/// A class of identical requests in a [`Workload`].
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShapeId(pub(super) usize);

/// All that is known of the pods that will come.
#[derive(Clone, Debug)]
pub struct Workload {
    pub(super) shapes: Vec<GpuRequest>,
    pub(super) counts: Vec<u64>,
    pods: Vec<ShapeId>,
}

impl Workload {
    /// The workload of these pods.
    pub fn new(pods: &[GpuRequest]) -> Result<Self, TooVaried> {
        let mut classes: BTreeMap<&GpuRequest, u64> = BTreeMap::new();
        for pod in pods {
            *classes.entry(pod).or_default() += 1;
        }
        if classes.len() > MAX_SHAPES {
            return Err(TooVaried { what: "different requests", most: MAX_SHAPES });
        }
        let ids: BTreeMap<&GpuRequest, ShapeId> =
            classes.keys().enumerate().map(|(index, shape)| (*shape, ShapeId(index))).collect();
        Ok(Workload {
            pods: pods.iter().filter_map(|pod| ids.get(pod).copied()).collect(),
            shapes: classes.keys().map(|shape| (*shape).clone()).collect(),
            counts: classes.into_values().collect(),
        })
    }

    /// The class of each pod, in the order in which they were given.
    pub fn pods(&self) -> &[ShapeId] {
        &self.pods
    }

    /// What pods of a class ask for; `None` for a class of another workload.
    pub fn request(&self, shape: ShapeId) -> Option<&GpuRequest> {
        self.shapes.get(shape.0)
    }
}

/// A workload of more variety than there is room for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct TooVaried {
    pub(super) what: &'static str,
    pub(super) most: usize,
}

impl fmt::Display for TooVaried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there may be at most {} {}", self.most, self.what)
    }
}

impl std::error::Error for TooVaried {}

#[cfg(test)]
mod tests {
    use super::super::tests::{share, whole};
    use super::*;

    #[test]
    fn identical_requests_are_one_class() {
        let workload = Workload::new(&[share(1, 500), whole(1, 2), share(1, 500)]).unwrap();
        let [first, second, third] = workload.pods()[..] else { panic!("{workload:?}") };
        assert_eq!(first, third);
        assert_eq!(workload.request(first), Some(&share(1, 500)));
        assert_eq!(workload.request(second), Some(&whole(1, 2)));
        assert_eq!(workload.counts[first.0], 2);
    }

    #[test]
    fn too_many_classes_are_refused() {
        let pods: Vec<GpuRequest> = (0..=MAX_SHAPES as u32).map(|cpu_milli| share(cpu_milli, 500)).collect();
        assert!(Workload::new(&pods[1..]).is_ok());
        assert_eq!(Workload::new(&pods).unwrap_err().to_string(), "there may be at most 4096 different requests");
    }
}
