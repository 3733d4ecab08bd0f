//! A set of hosts, those that follow one another as one range.

use std::collections::VecDeque;
use std::ops::Range;

use super::world::HostId;

/// A set of hosts. They mostly go from the front and come at the back, many at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HostSet {
    /// In ascending order, with gaps between them.
    ranges: VecDeque<Range<HostId>>,
}

impl HostSet {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The first hosts that follow one another.
    pub fn first(&self) -> Option<Range<HostId>> {
        self.ranges.front().cloned()
    }

    /// All of them, in ascending order.
    pub fn ranges(&self) -> impl Iterator<Item = Range<HostId>> {
        self.ranges.iter().cloned()
    }

    /// Adds hosts, none of which is in it.
    pub fn insert(&mut self, hosts: Range<HostId>) {
        let at = match self.ranges.back() {
            Some(last) if last.start > hosts.start => self.ranges.partition_point(|range| range.start < hosts.start),
            _ => self.ranges.len(),
        };
        let joins_before = at > 0 && self.ranges[at - 1].end == hosts.start;
        let joins_after = self.ranges.get(at).is_some_and(|next| next.start == hosts.end);
        match (joins_before, joins_after) {
            (true, true) => {
                self.ranges[at - 1].end = self.ranges[at].end;
                self.ranges.remove(at);
            }
            (true, false) => self.ranges[at - 1].end = hosts.end,
            (false, true) => self.ranges[at].start = hosts.start,
            (false, false) => self.ranges.insert(at, hosts),
        }
    }

    /// Takes out hosts that are all in it.
    pub fn remove(&mut self, hosts: &Range<HostId>) {
        let at = match self.ranges.front() {
            Some(first) if first.end > hosts.start => 0,
            _ => self.ranges.partition_point(|range| range.end <= hosts.start),
        };
        let Some(range) = self.ranges.get_mut(at) else { return };
        let (before, after) = (range.start..hosts.start, hosts.end..range.end);
        match (before.is_empty(), after.is_empty()) {
            (true, true) => drop(self.ranges.remove(at)),
            (true, false) => *range = after,
            (false, true) => *range = before,
            (false, false) => {
                *range = before;
                self.ranges.insert(at + 1, after);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set_without_touching_ranges(changes in prop::collection::vec((0..40_u32, 1..6_u32), 0..60)) {
            let (mut set, mut plain) = (HostSet::default(), BTreeSet::new());
            for (first, count) in changes {
                let hosts = first..first + count;
                if hosts.clone().all(|host| plain.contains(&host)) {
                    set.remove(&hosts);
                    plain.retain(|host| !hosts.contains(host));
                } else if hosts.clone().all(|host| !plain.contains(&host)) {
                    set.insert(hosts.clone());
                    plain.extend(hosts);
                }
                prop_assert!(set.ranges().flatten().eq(plain.iter().copied()));
                prop_assert!(set.ranges.iter().zip(set.ranges.iter().skip(1)).all(|(a, b)| a.end < b.start));
                prop_assert_eq!((set.is_empty(), set.first().map(|first| first.start)), (plain.is_empty(), plain.first().copied()));
            }
        }
    }
}
