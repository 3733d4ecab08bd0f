//! Work is counted, never timed: the same work gives the same result on every machine.

/// What was spent of what may be spent. One unit is a search node, or as many numbers as take about as long: a pivot or a
/// priced column counts by the numbers it touches.
#[derive(Clone, Debug)]
pub(super) struct Work {
    limit: u64,
    spent: u64,
}

/// Numbers that are touched in about the time of a search node.
const NUMBERS: usize = 256;

impl Work {
    pub fn new(limit: u64) -> Work {
        Work { limit, spent: 0 }
    }

    pub fn spent(&self) -> u64 {
        self.spent
    }

    pub fn rest(&self) -> u64 {
        self.limit.saturating_sub(self.spent)
    }

    pub fn is_out(&self) -> bool {
        self.spent >= self.limit
    }

    pub fn spend(&mut self, units: u64) {
        self.spent = self.spent.saturating_add(units);
    }

    pub fn spend_numbers(&mut self, numbers: usize) {
        self.spend(1 + (numbers / NUMBERS) as u64);
    }

    /// A budget of its own, no larger than what is left; put what it spent back with [`Work::spend`].
    pub fn share(&self, units: u64) -> Work {
        Work::new(self.rest().min(units))
    }
}
