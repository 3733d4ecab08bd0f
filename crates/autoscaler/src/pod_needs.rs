//! What one pod of a template takes, in the planner's words.

use mobula_api::Quantity;
pub use mobula_api::pod_needs::{Quantities, limits, quantities, requests, unreadable};
use mobula_planner::{Amount, Resources};

/// In the planner's resolution; what is beyond it counts as the most that there is.
pub fn amount(quantity: Quantity) -> Amount {
    Amount::from_f64(quantity.as_f64()).unwrap_or(Amount::from_steps(i64::MAX))
}

/// [`amount`] of each.
pub fn amounts(quantities: &Quantities) -> Resources {
    quantities.iter().map(|(name, quantity)| (name.clone(), amount(*quantity))).collect()
}

/// Takes `used`, `count` times, off what is free of the same name. Nothing becomes less than nothing.
pub fn take(free: &mut Resources, used: &Resources, count: u64) {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    for (name, used) in used {
        if let Some(free) = free.get_mut(name) {
            let left = free.steps().saturating_sub(used.steps().saturating_mul(count));
            *free = Amount::from_steps(left.max(0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_never_leaves_less_than_nothing() {
        let of = |cpu: i64| Resources::from([("cpu".to_owned(), Amount::from_units(cpu))]);
        let mut free = of(5);
        take(&mut free, &of(2), 2);
        assert_eq!(free, of(1));
        take(&mut free, &of(2), u64::MAX);
        assert_eq!(free, of(0));
        take(&mut free, &Resources::from([("memory".to_owned(), Amount::from_units(1))]), 1);
        assert_eq!(free, of(0));
    }

    #[test]
    fn more_than_the_planner_can_count_is_the_most_there_is() {
        assert_eq!(amount("9E".parse().unwrap()), Amount::from_steps(i64::MAX));
        assert_eq!(amount("250m".parse().unwrap()), Amount::from_f64(0.25).unwrap());
    }
}
