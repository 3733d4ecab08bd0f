//! Hosts in ascending order, those that follow one another as one range.

use std::ops::Range;

use super::world::HostId;

/// A list of hosts. Hosts that are alike mostly follow one another ([`super::world`]), so that it is short.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Runs {
    ranges: Vec<Range<HostId>>,
    len: usize,
}

impl Runs {
    /// How many hosts there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The ranges.
    pub fn ranges(&self) -> impl Iterator<Item = Range<HostId>> {
        self.ranges.iter().cloned()
    }

    /// The hosts, one by one.
    pub fn hosts(&self) -> impl Iterator<Item = HostId> {
        self.ranges().flatten()
    }

    /// Adds hosts at the end; `joins`: they may be one range with those before.
    pub fn push(&mut self, hosts: Range<HostId>, joins: bool) {
        self.len += hosts.len();
        match self.ranges.last_mut() {
            Some(last) if joins && last.end == hosts.start => last.end = hosts.end,
            _ => self.ranges.push(hosts),
        }
    }

    /// Takes out the first hosts, at most so many.
    pub fn take(&mut self, most: usize) -> Runs {
        let mut taken = Runs::default();
        let mut empty = 0;
        for range in &mut self.ranges {
            let count = range.len().min(most - taken.len);
            if count == 0 {
                break;
            }
            let end = range.start + count as HostId;
            taken.push(range.start..end, false);
            range.start = end;
            empty += usize::from(range.start == range.end);
        }
        self.ranges.drain(..empty);
        self.len -= taken.len;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_is_one_range_and_the_first_are_taken_first() {
        let mut runs = Runs::default();
        for (hosts, joins) in [(3..5, true), (5..6, true), (6..8, false), (9..10, true)] {
            runs.push(hosts, joins);
        }
        assert_eq!(runs.ranges().collect::<Vec<_>>(), [3..6, 6..8, 9..10]);
        assert_eq!(runs.take(4).ranges().collect::<Vec<_>>(), [3..6, 6..7]);
        assert_eq!((runs.len(), runs.hosts().collect::<Vec<_>>()), (2, vec![7, 9]));
        assert_eq!(runs.take(9).len(), 2);
        assert_eq!(runs.take(1), Runs::default());
    }
}
