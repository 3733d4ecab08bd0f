//! How long to wait before something is tried again. Pure: the jitter comes from what is tried.

use super::{hash, outcome::Class};

/// After so much time without breakage, in ms, the next one is the first.
pub const BREAKAGE_FORGOTTEN_MS: i64 = 600_000;

/// First and longest delay of a class, in ms.
const fn bounds_ms(class: Class) -> (i64, i64) {
    match class {
        Class::Conflict => (20, 1_000),
        Class::Throttled => (500, 30_000),
        Class::Unavailable => (250, 30_000),
        Class::Refused | Class::Taken => (1_000, 30_000),
        Class::Invalid => (5_000, 300_000),
    }
}

/// Delay in ms before try number `attempts + 1`: doubled each time, up to a limit, and up to a quarter longer so that what
/// failed together does not come back together.
pub fn delay_ms(class: Class, attempts: u32, what: &str) -> i64 {
    let (first_ms, longest_ms) = bounds_ms(class);
    let doublings = attempts.saturating_sub(1).min(16);
    let delay_ms = (first_ms << doublings).min(longest_ms);
    let jitter = hash::fnv1a(what.bytes().chain(attempts.to_le_bytes())) % 256;
    delay_ms + delay_ms / 4 * jitter as i64 / 256
}

/// Delay in ms before a pod that broke is replaced when `count` broke in a row: the first at once.
pub fn breakage_delay_ms(count: u32) -> i64 {
    if count <= 1 { 0 } else { (10_000_i64 << (count - 2).min(16)).min(300_000) }
}

/// Age in ms from which a pod that broke is replaced at once, though others broke `count` times in a row: it is none of those
/// that were made in their place. Well over the delay, for the server's clock, by which it was created, may be behind.
pub fn old_ms(count: u32) -> i64 {
    (breakage_delay_ms(count) * 2).max(60_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_limit() {
        for class in
            [Class::Conflict, Class::Throttled, Class::Unavailable, Class::Refused, Class::Taken, Class::Invalid]
        {
            let (first_ms, longest_ms) = bounds_ms(class);
            assert!((first_ms..=first_ms * 5 / 4).contains(&delay_ms(class, 1, "a")));
            assert!((longest_ms..=longest_ms * 5 / 4).contains(&delay_ms(class, u32::MAX, "a")));
        }
    }

    #[test]
    fn the_first_broken_pod_is_replaced_at_once_and_a_crash_loop_slows_down() {
        let delays: Vec<i64> = (1..8).map(breakage_delay_ms).collect();
        assert_eq!(delays, [0, 10_000, 20_000, 40_000, 80_000, 160_000, 300_000]);
    }
}
