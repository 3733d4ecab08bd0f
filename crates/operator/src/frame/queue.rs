//! Which object is worked on when: a queue with due times, each key in it at most once and worked on by one at a time.

use std::collections::{BTreeMap, BTreeSet};

/// Keys and when they are due. Time is what the caller says; among equals, first come, first served.
#[derive(Debug)]
pub struct Queue<K> {
    due: BTreeMap<(i64, u64), K>,
    waiting: BTreeMap<K, (i64, u64)>,
    working: BTreeSet<K>,
    next: u64,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Queue { due: BTreeMap::new(), waiting: BTreeMap::new(), working: BTreeSet::new(), next: 0 }
    }
}

impl<K: Clone + Ord> Queue<K> {
    /// Wants `key` to be worked on at `at_ms`, or earlier if that was wanted before.
    pub fn add(&mut self, key: &K, at_ms: i64) {
        let place = (at_ms, self.next);
        match self.waiting.get(key) {
            Some(earlier) if earlier.0 <= at_ms => return,
            Some(later) => {
                self.due.remove(later);
            }
            None => {}
        }
        self.next += 1;
        self.due.insert(place, key.clone());
        self.waiting.insert(key.clone(), place);
    }

    /// The first key that is due and not being worked on, and when it was due. It counts as being worked on until
    /// [`Queue::done`].
    pub fn take(&mut self, now_ms: i64) -> Option<(K, i64)> {
        let (place, key) = self
            .due
            .iter()
            .take_while(|((at_ms, _), _)| *at_ms <= now_ms)
            .find(|(_, key)| !self.working.contains(key))
            .map(|(place, key)| (*place, key.clone()))?;
        self.due.remove(&place);
        self.waiting.remove(&key);
        self.working.insert(key.clone());
        Some((key, place.0))
    }

    /// Work on `key` has ended.
    pub fn done(&mut self, key: &K) {
        self.working.remove(key);
    }

    /// When the next key is due that is not being worked on.
    pub fn next_due_ms(&self) -> Option<i64> {
        self.due.iter().find(|(_, key)| !self.working.contains(key)).map(|((at_ms, _), _)| *at_ms)
    }

    /// How many keys are due.
    pub fn depth(&self, now_ms: i64) -> usize {
        self.due.range(..=(now_ms, u64::MAX)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_there_once_at_its_earliest_time() {
        let mut queue = Queue::default();
        queue.add(&"a", 10);
        queue.add(&"b", 5);
        queue.add(&"a", 3);
        queue.add(&"a", 7);
        assert_eq!((queue.take(4), queue.take(4), queue.next_due_ms()), (Some(("a", 3)), None, Some(5)));
        assert_eq!((queue.take(5), queue.take(100)), (Some(("b", 5)), None));
    }

    #[test]
    fn a_key_is_worked_on_by_one_at_a_time_and_holds_nobody_up() {
        let mut queue = Queue::default();
        queue.add(&"a", 0);
        assert_eq!(queue.take(0), Some(("a", 0)));
        queue.add(&"a", 0);
        queue.add(&"b", 0);
        assert_eq!((queue.take(0), queue.take(0), queue.next_due_ms()), (Some(("b", 0)), None, None));
        assert_eq!(queue.depth(0), 1);
        queue.done(&"a");
        assert_eq!(queue.take(0), Some(("a", 0)));
    }
}
