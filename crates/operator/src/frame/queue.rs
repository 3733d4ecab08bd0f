//! Which object is worked on when: a queue with due times, each key in it at most once and worked on by one at a time.

use std::collections::BTreeMap;

/// Keys of one lane do not wait for those of the other.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// They were worked on before.
    Begun,
    /// They never were.
    New,
}

impl Lane {
    /// Both.
    pub const BOTH: [Lane; 2] = [Lane::Begun, Lane::New];
}

/// Lane, due time, order of arrival.
type Position = (Lane, i64, u64);

/// Keys and when they are due. Time is what the caller says; among equals of a lane, first come, first served.
#[derive(Debug)]
pub struct Queue<K> {
    due: BTreeMap<Position, K>,
    waiting: BTreeMap<K, Position>,
    working: BTreeMap<K, Lane>,
    next: u64,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Queue { due: BTreeMap::new(), waiting: BTreeMap::new(), working: BTreeMap::new(), next: 0 }
    }
}

impl<K: Clone + Ord> Queue<K> {
    /// Wants `key` to be worked on at `at_ms`, or earlier if that was wanted before. What is being worked on has begun.
    pub fn add(&mut self, key: &K, at_ms: i64, lane: Lane) {
        let lane = if self.working.contains_key(key) { Lane::Begun } else { lane };
        let position = (lane, at_ms, self.next);
        match self.waiting.get(key) {
            Some((_, earlier_ms, _)) if *earlier_ms <= at_ms => return,
            Some(later) => {
                self.due.remove(later);
            }
            None => {}
        }
        self.next += 1;
        self.due.insert(position, key.clone());
        self.waiting.insert(key.clone(), position);
    }

    /// The first key of a lane that is due and not being worked on, and when it was due. It counts as being worked on until
    /// [`Queue::done`].
    pub fn take(&mut self, lane: Lane, now_ms: i64) -> Option<(K, i64)> {
        let (position, key) = self.idle(lane, now_ms).map(|(position, key)| (*position, key.clone())).next()?;
        self.due.remove(&position);
        self.waiting.remove(&key);
        self.working.insert(key.clone(), lane);
        Some((key, position.1))
    }

    /// Work on `key` has ended.
    pub fn done(&mut self, key: &K) {
        self.working.remove(key);
    }

    /// How many keys of a lane are being worked on.
    pub fn working(&self, lane: Lane) -> usize {
        self.working.values().filter(|other| **other == lane).count()
    }

    /// When the next key of a lane is due that is not being worked on.
    pub fn next_due_ms(&self, lane: Lane) -> Option<i64> {
        self.idle(lane, i64::MAX).map(|((_, at_ms, _), _)| *at_ms).next()
    }

    /// The keys that are due.
    pub fn due(&self, now_ms: i64) -> impl Iterator<Item = &K> {
        Lane::BOTH.into_iter().flat_map(move |lane| self.range(lane, now_ms)).map(|(_, key)| key)
    }

    fn idle(&self, lane: Lane, until_ms: i64) -> impl Iterator<Item = (&Position, &K)> {
        self.range(lane, until_ms).filter(|(_, key)| !self.working.contains_key(*key))
    }

    fn range(&self, lane: Lane, until_ms: i64) -> impl Iterator<Item = (&Position, &K)> {
        self.due.range((lane, i64::MIN, 0)..=(lane, until_ms, u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::{Lane::*, *};

    #[test]
    fn a_key_is_there_once_at_its_earliest_time() {
        let mut queue = Queue::default();
        queue.add(&"a", 10, Begun);
        queue.add(&"b", 5, Begun);
        queue.add(&"a", 3, Begun);
        queue.add(&"a", 7, Begun);
        let taken = (queue.take(Begun, 4), queue.take(Begun, 4), queue.next_due_ms(Begun));
        assert_eq!(taken, (Some(("a", 3)), None, Some(5)));
        assert_eq!((queue.take(Begun, 5), queue.take(Begun, 100)), (Some(("b", 5)), None));
    }

    #[test]
    fn a_key_is_worked_on_by_one_at_a_time_and_holds_nobody_up() {
        let mut queue = Queue::default();
        queue.add(&"a", 0, New);
        assert_eq!(queue.take(New, 0), Some(("a", 0)));
        queue.add(&"a", 0, Begun);
        queue.add(&"b", 0, Begun);
        assert_eq!(
            (queue.take(Begun, 0), queue.take(Begun, 0), queue.next_due_ms(Begun)),
            (Some(("b", 0)), None, None)
        );
        assert_eq!((queue.due(0).count(), queue.working(New), queue.working(Begun)), (1, 1, 1));
        queue.done(&"a");
        assert_eq!((queue.take(Begun, 0), queue.working(New), queue.working(Begun)), (Some(("a", 0)), 0, 2));
    }

    #[test]
    fn a_lane_does_not_wait_for_the_other() {
        let mut queue = Queue::default();
        queue.add(&"new", 0, New);
        queue.add(&"begun", 1, Begun);
        assert_eq!((queue.next_due_ms(New), queue.next_due_ms(Begun)), (Some(0), Some(1)));
        assert_eq!(queue.take(Begun, 1), Some(("begun", 1)));
        assert_eq!((queue.due(1).count(), queue.take(New, 1)), (1, Some(("new", 0))));
    }
}
