//! How many pods one plan may launch.

use crate::MAX_LAUNCHES;

/// Pods that may still be launched, given away in whole replicas: the first pod of a replica takes the others' share too.
#[derive(Clone)]
pub(super) struct Budget {
    left: u64,
    /// Of each group, the pods that complete a replica that was begun.
    rest: Vec<u64>,
}

impl Budget {
    /// The budget of a plan for so many groups.
    pub fn new(groups: usize) -> Self {
        Budget { left: MAX_LAUNCHES, rest: vec![0; groups] }
    }

    /// Takes one pod of `group`, of which a replica has `hosts` pods; false: nothing is left for it.
    pub fn take(&mut self, group: u16, hosts: u32) -> bool {
        let Some(rest) = self.rest.get_mut(usize::from(group)) else {
            return false;
        };
        if *rest > 0 {
            *rest -= 1;
            return true;
        }
        let hosts = u64::from(hosts.max(1));
        let Some(left) = self.left.checked_sub(hosts) else {
            return false;
        };
        (self.left, *rest) = (left, hosts - 1);
        true
    }

    /// Whether nothing was taken yet.
    pub fn is_whole(&self) -> bool {
        self.left == MAX_LAUNCHES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_paid_for_by_its_first_pod() {
        let mut budget = Budget::new(2);
        assert!(budget.is_whole());
        for _ in 0..MAX_LAUNCHES - 3 {
            assert!(budget.take(0, 1));
        }
        assert!(!budget.take(1, 4), "three pods are left, no replica of four");
        assert!(budget.take(1, 3));
        assert!(!budget.take(0, 1), "what is left belongs to a replica");
        assert!(budget.take(1, 3) && budget.take(1, 3));
        assert!(!budget.take(1, 3) && !budget.is_whole());
    }

    #[test]
    fn a_replica_above_the_limit_is_never_begun() {
        assert!(!Budget::new(1).take(0, u32::MAX));
    }
}
