//! When the GCS tries a placement group again that has found no place.
//!
//! Assumptions (Ray 2.60, read and then measured): a group that nodes like those which are there could hold is tried again after a back-off
//! of 100 ms, half as long again each time and 1 s at most, by the first thing that makes the GCS go through its groups: a node that
//! registers, a group that comes, is placed or goes, or else its tick every second. That a task ends, or a node dies, is none
//! of these. A group that such nodes could not hold waits for a node to register. One that has lost bundles goes before all others and knows
//! no back-off; that the others wait until it has found a place is not modelled.

/// How often the GCS goes through its groups by itself.
const TICK_US: u64 = 1_000_000;
const FIRST_DELAY_US: u64 = 100_000;
const LONGEST_DELAY_US: u64 = 1_000_000;

/// What makes the GCS go through its groups after something has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trigger {
    /// The change itself.
    Event,
    /// Only the next tick: it hears of the change, and does nothing about it.
    Tick,
}

/// The ticks of one GCS.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticks {
    phase_us: u64,
}

impl Ticks {
    /// Of a GCS that began then.
    pub(super) fn since(began_us: u64) -> Ticks {
        Ticks { phase_us: began_us % TICK_US }
    }

    /// The first tick at that time or later.
    fn from(self, at_us: u64) -> u64 {
        self.phase_us + at_us.saturating_sub(self.phase_us).div_ceil(TICK_US) * TICK_US
    }
}

/// When a group may be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Retry {
    /// Not before; who may be tried first is.
    due_us: u64,
    /// How long it waits after the next try; longer than the first delay once one has failed.
    delay_us: u64,
    waits_for_node: bool,
}

impl Retry {
    /// Of a group that comes now, or whose chances are new.
    pub(super) fn fresh(now_us: u64) -> Retry {
        Retry { due_us: now_us, delay_us: FIRST_DELAY_US, waits_for_node: false }
    }

    /// It was tried, and there was no place; `waits_for_node`: nor would there be one if all nodes were free.
    pub(super) fn failed(&mut self, now_us: u64, waits_for_node: bool) {
        let delay_us = (self.delay_us.saturating_mul(3) / 2).min(LONGEST_DELAY_US);
        *self = Retry { due_us: now_us.saturating_add(self.delay_us), delay_us, waits_for_node };
    }

    /// Not before this time, in µs; the group with the smallest is tried first.
    pub(super) fn due_us(&self) -> u64 {
        self.due_us
    }

    /// A node has registered.
    pub(super) fn node_has_come(&mut self, now_us: u64) {
        if self.waits_for_node {
            *self = Retry::fresh(now_us);
        }
    }

    /// When it is tried because of what has changed now; `None`: only another node helps. Up to now nothing had changed since it was tried
    /// last, so that the tries in between are known to have failed.
    pub(super) fn next_us(&mut self, now_us: u64, trigger: Trigger, ticks: Ticks) -> Option<u64> {
        if self.waits_for_node {
            return None;
        }
        while self.delay_us > FIRST_DELAY_US && ticks.from(self.due_us) < now_us {
            if self.delay_us == LONGEST_DELAY_US {
                // From here on at each tick.
                self.due_us = ticks.from(now_us);
            } else {
                self.failed(ticks.from(self.due_us), false);
            }
        }
        let due_us = self.due_us.max(now_us);
        Some(if trigger == Trigger::Event && due_us == now_us { now_us } else { ticks.from(due_us) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000;

    #[test]
    fn a_group_is_tried_at_the_next_tick_or_by_something_that_happens_after_its_back_off() {
        let ticks = Ticks::since(300 * MS);
        let mut retry = Retry::fresh(0);
        assert_eq!(retry.next_us(50 * MS, Trigger::Event, ticks), Some(50 * MS));
        retry.failed(50 * MS, false);
        assert_eq!(retry.next_us(100 * MS, Trigger::Event, ticks), Some(300 * MS), "the back-off is not over");
        assert_eq!(retry.next_us(150 * MS, Trigger::Event, ticks), Some(150 * MS), "it is over");
        assert_eq!(retry.next_us(150 * MS, Trigger::Tick, ticks), Some(300 * MS));
    }

    #[test]
    fn after_some_tries_a_group_is_tried_at_each_tick_and_never_in_between() {
        let ticks = Ticks::since(300 * MS);
        let mut retry = Retry::fresh(0);
        retry.failed(50 * MS, false);
        // Tried at 0.3 s (next not before 0.45), 1.3 (1.525), 2.3 (2.637), 3.3 (3.806), 4.3 (5.059), 5.3 (6.3), 6.3 (7.3), …
        let mut at = |ms: u64| retry.next_us(ms * MS, Trigger::Event, ticks).map(|us| us / MS);
        assert_eq!(at(1_290), Some(1_290));
        assert_eq!(at(1_400), Some(2_300));
        assert_eq!(at(5_058), Some(5_300));
        assert_eq!(at(7_299), Some(7_300));
        assert_eq!(at(1_000_301), Some(1_001_300));
        assert_eq!(at(1_001_300), Some(1_001_300));
    }

    #[test]
    fn a_group_that_no_node_could_hold_waits_for_one() {
        let ticks = Ticks::since(0);
        let mut retry = Retry::fresh(0);
        retry.failed(0, true);
        assert_eq!(retry.next_us(5_000 * MS, Trigger::Event, ticks), None);
        retry.node_has_come(5_001 * MS);
        assert_eq!(retry.next_us(5_001 * MS, Trigger::Event, ticks), Some(5_001 * MS));
    }
}
