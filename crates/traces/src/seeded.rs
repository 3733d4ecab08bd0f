//! Chance that is the same on every machine and with every version of every library.

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014), the generator of Java's
/// `SplittableRandom`. Not for secrets.
#[derive(Clone, Debug)]
pub struct Seeded(u64);

impl Seeded {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

    /// The generator that starts at `seed`.
    pub fn new(seed: u64) -> Self {
        Seeded(seed)
    }

    /// One of the generators that belong to this one: what is drawn from it does not depend on how much is drawn from others.
    pub fn child(&self, number: u64) -> Self {
        let mut numbers = Seeded(self.0 ^ number.wrapping_mul(Self::STEP));
        Seeded(numbers.draw())
    }

    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(Self::STEP);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, 0 if there is none. All are equally likely, as far as 64 bits can tell.
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.draw()) * end as u128) >> 64) as usize
    }

    /// Puts the items into an order in which every other would have been as likely.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (2..=items.len()).rev() {
            let taken = self.below(end);
            items.swap(taken, end - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_published_generator() {
        // The first outputs of the reference implementation for the seed 1234567.
        let mut seeded = Seeded::new(1_234_567);
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([(); 3].map(|()| seeded.draw()), expected);
    }

    #[test]
    fn numbers_below_an_end_are_spread_evenly() {
        let mut seeded = Seeded::new(1);
        let mut counts = [0; 6];
        for _ in 0..60_000 {
            counts[seeded.below(6)] += 1;
        }
        assert!(counts.iter().all(|count| (9_700..10_300).contains(count)), "{counts:?}");
        assert_eq!(seeded.below(0), 0);
    }

    #[test]
    fn all_orders_of_three_come_equally_often() {
        let mut counts = std::collections::BTreeMap::new();
        let mut seeded = Seeded::new(2);
        for _ in 0..6_000 {
            let mut items = [1, 2, 3];
            seeded.shuffle(&mut items);
            *counts.entry(items).or_insert(0) += 1;
        }
        assert!(counts.len() == 6 && counts.values().all(|count| (900..1_100).contains(count)), "{counts:?}");
    }

    #[test]
    fn children_draw_on_their_own() {
        let mut parent = Seeded::new(3);
        let mut child = parent.child(1);
        let first = child.draw();
        assert_eq!(parent.child(1).draw(), first);
        assert_ne!(parent.child(2).draw(), first);
        assert_ne!(parent.draw(), first);
    }
}
