//! What is to happen, in order of time and, at the same time, of being planned.

use std::collections::BTreeMap;

/// A queue of events.
#[derive(Debug)]
pub struct Queue<E> {
    events: BTreeMap<(u64, u64), E>,
    next: u64,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Queue { events: BTreeMap::new(), next: 0 }
    }
}

impl<E> Queue<E> {
    /// Plans an event.
    pub fn push(&mut self, at_us: u64, event: E) {
        self.events.insert((at_us, self.next), event);
        self.next += 1;
    }

    /// The next event, if it is due.
    pub fn pop_due(&mut self, now_us: u64) -> Option<E> {
        let first = self.events.first_entry()?;
        (first.key().0 <= now_us).then(|| first.remove())
    }

    /// When the next event is due.
    pub fn next_us(&self) -> Option<u64> {
        self.events.first_key_value().map(|((at_us, _), _)| *at_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_order_of_time_then_of_planning() {
        let mut queue = Queue::default();
        for (at_us, event) in [(5, 'b'), (3, 'a'), (5, 'c'), (9, 'd')] {
            queue.push(at_us, event);
        }
        let due: String = std::iter::from_fn(|| queue.pop_due(5)).collect();
        assert_eq!((due.as_str(), queue.next_us()), ("abc", Some(9)));
    }
}
