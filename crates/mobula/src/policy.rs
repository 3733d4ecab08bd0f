//! Which policy decides and how, as the command line says it.

use std::sync::Arc;

use mobula_planner::{Policy, PolicyOptions};

use crate::input::BadInput;

/// Units of a policy's work that one core does in a millisecond. Budgets are counted in work, because time differs from run
/// to run: the number is what turns the milliseconds that users think in into one that is recorded.
pub const WORK_PER_MS: u64 = 10_000;

/// The work of about so many ms on making a plan cheaper.
pub fn improve_work(ms: u64) -> u64 {
    ms.saturating_mul(WORK_PER_MS)
}

/// The policy of this name.
pub fn named(name: &str, options: &PolicyOptions) -> Result<Arc<dyn Policy>, BadInput> {
    mobula_planner::policy(name, options).ok_or_else(|| {
        let known = mobula_planner::policy_names().join(", ");
        BadInput::new("--policy", format!("{name}: unknown: must be one of {known}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_become_work() {
        assert_eq!(improve_work(3), 3 * WORK_PER_MS);
        assert_eq!(improve_work(u64::MAX), u64::MAX);
    }
}
