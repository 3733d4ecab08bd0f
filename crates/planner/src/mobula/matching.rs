//! Which kinds of bundles go to which kinds of hosts, if each needs a host of its own: a flow of the least weight.

/// How unwelcome it is that a bundle is on a host, the first number that differs decides.
pub(super) type Weight = [i128; 5];

/// Hosts that are alike to all kinds of bundles.
#[derive(Clone, Debug)]
pub(super) struct Bin {
    /// By kind of bundle; `None`: they don't hold it.
    pub weights: Vec<Option<Weight>>,
    /// How many hosts there are.
    pub hosts: u32,
}

/// How many bundles of each kind go to each bin.
#[derive(Clone, Debug)]
pub(super) struct Matching {
    /// By kind, then by bin.
    pub bundles: Vec<Vec<u32>>,
    /// By kind: those that find no host.
    pub left: Vec<u32>,
    /// Arcs that were looked at.
    pub work: usize,
}

impl Matching {
    /// Bundles of all kinds in a bin.
    pub fn in_bin(&self, bin: usize) -> u32 {
        self.bundles.iter().map(|of_kind| of_kind[bin]).sum()
    }

    /// What all of it weighs.
    pub fn weight(&self, bins: &[Bin]) -> Weight {
        let mut sum = Weight::default();
        for (kind, of_kind) in self.bundles.iter().enumerate() {
            for (bin, count) in of_kind.iter().enumerate().filter(|(_, count)| **count > 0) {
                let weight = bins[bin].weights[kind].unwrap_or_default();
                sum = plus(sum, weight.map(|weight| weight * i128::from(*count)));
            }
        }
        sum
    }
}

fn plus(a: Weight, b: Weight) -> Weight {
    std::array::from_fn(|at| a[at] + b[at])
}

fn minus(a: Weight, b: Weight) -> Weight {
    std::array::from_fn(|at| a[at] - b[at])
}

/// Where a path came from.
#[derive(Copy, Clone, Debug)]
enum Step {
    /// This kind still has bundles without a host.
    Start,
    /// A bundle of it gives up its host in this bin.
    Bin(usize),
}

/// Finds hosts for as many of the bundles (given by kind) as possible, of all ways to do that one of the least weight: one
/// shortest path after the other, along each as many bundles as it bears. `None`: that takes more than `most_work`.
pub(super) fn matching(counts: &[u32], bins: &[Bin], most_work: usize) -> Option<Matching> {
    let (kinds, len) = (counts.len(), bins.len());
    let mut found = Matching { bundles: vec![vec![0; len]; kinds], left: counts.to_vec(), work: 0 };
    let mut free: Vec<u32> = bins.iter().map(|bin| bin.hosts).collect();
    loop {
        // By kind and by bin: the weight of the best path there, and its last step.
        let mut to_kind: Vec<Option<(Weight, Step)>> = vec![None; kinds];
        let mut to_bin: Vec<Option<(Weight, usize)>> = vec![None; len];
        for kind in (0..kinds).filter(|kind| found.left[*kind] > 0) {
            to_kind[kind] = Some((Weight::default(), Step::Start));
        }
        let mut changed: Vec<bool> = to_kind.iter().map(Option::is_some).collect();
        while let Some(kind) = changed.iter().position(|changed| *changed) {
            if found.work > most_work {
                return None;
            }
            changed[kind] = false;
            let Some((so_far, _)) = to_kind[kind] else { continue };
            for bin in 0..len {
                found.work += 1;
                let Some(weight) = bins[bin].weights[kind] else { continue };
                let there = plus(so_far, weight);
                if to_bin[bin].is_some_and(|(best, _)| best <= there) {
                    continue;
                }
                to_bin[bin] = Some((there, kind));
                // Other kinds could make room there.
                found.work += kinds;
                for other in (0..kinds).filter(|other| *other != kind && found.bundles[*other][bin] > 0) {
                    let Some(weight) = bins[bin].weights[other] else { continue };
                    let back = minus(there, weight);
                    if to_kind[other].is_none_or(|(best, _)| back < best) {
                        to_kind[other] = Some((back, Step::Bin(bin)));
                        changed[other] = true;
                    }
                }
            }
        }
        let ends = (0..len).filter(|bin| free[*bin] > 0);
        let Some((_, end)) = ends.filter_map(|bin| Some((to_bin[bin]?.0, bin))).min() else { return Some(found) };
        let mut path: Vec<(usize, usize)> = Vec::new();
        let mut bin = end;
        let mut most = free[end];
        while let Some((_, kind)) = to_bin[bin] {
            path.push((kind, bin));
            match to_kind[kind] {
                Some((_, Step::Bin(before))) => {
                    most = most.min(found.bundles[kind][before]);
                    bin = before;
                }
                _ => {
                    most = most.min(found.left[kind]);
                    found.left[kind] -= most;
                    break;
                }
            }
        }
        for (at, (kind, bin)) in path.iter().enumerate() {
            found.bundles[*kind][*bin] += most;
            if let Some((_, before)) = path.get(at + 1) {
                found.bundles[*kind][*before] -= most;
            }
        }
        free[end] -= most;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bin(hosts: u32, weights: &[i128]) -> Bin {
        let weight = |weight: &i128| (*weight >= 0).then_some([*weight, 0, 0, 0, 0]);
        Bin { weights: weights.iter().map(weight).collect(), hosts }
    }

    #[test]
    fn what_fits_elsewhere_makes_room() {
        // The first kind likes the host best that is the only one for the second kind.
        let bins = [bin(1, &[1, 1]), bin(1, &[5, -1])];
        let found = matching(&[1, 1], &bins, usize::MAX).unwrap();
        assert_eq!((found.bundles, found.left), (vec![vec![0, 1], vec![1, 0]], vec![0, 0]));
    }

    #[test]
    fn of_too_few_hosts_none_stays_empty() {
        let bins = [bin(2, &[0, 0, -1]), bin(3, &[-1, 0, 0])];
        let found = matching(&[2, 2, 2], &bins, usize::MAX).unwrap();
        assert_eq!(found.left.iter().sum::<u32>(), 1);
        assert_eq!((found.in_bin(0), found.in_bin(1)), (2, 3));
    }

    /// The least weight of matching all of so many bundles of each kind; `None`: it can't be.
    fn least(counts: &mut [u32], bins: &mut [Bin]) -> Option<i128> {
        let Some(kind) = counts.iter().position(|count| *count > 0) else { return Some(0) };
        counts[kind] -= 1;
        let mut best: Option<i128> = None;
        for at in 0..bins.len() {
            if let Some(weight) = bins[at].weights[kind].filter(|_| bins[at].hosts > 0) {
                bins[at].hosts -= 1;
                let rest = least(counts, bins).map(|rest| rest + weight[0]);
                best = best.into_iter().chain(rest).min();
                bins[at].hosts += 1;
            }
        }
        counts[kind] += 1;
        best
    }

    #[test]
    fn it_is_as_light_as_trying_everything() {
        let mut state = 7_u64;
        let mut below = |limit: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % limit
        };
        let mut whole = 0;
        for _ in 0..400 {
            let kinds = 2 + below(2) as usize;
            let mut counts: Vec<u32> = (0..kinds).map(|_| 1 + below(2) as u32).collect();
            let mut bins: Vec<Bin> = (0..2 + below(3))
                .map(|_| {
                    let weights: Vec<i128> = (0..kinds).map(|_| i128::from(below(12)) - 4).collect();
                    bin(below(3) as u32, &weights)
                })
                .collect();
            let found = matching(&counts, &bins, usize::MAX).unwrap();
            for (at, bin) in bins.iter().enumerate() {
                assert!(found.in_bin(at) <= bin.hosts, "{found:?} in {bins:?}");
            }
            let all = found.left.iter().all(|left| *left == 0);
            let weight = all.then(|| found.weight(&bins)[0]);
            assert_eq!(weight, least(&mut counts, &mut bins), "{counts:?} in {bins:?}: {found:?}");
            whole += u32::from(all);
        }
        assert!(whole > 100, "{whole}");
    }
}
