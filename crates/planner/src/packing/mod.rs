//! Which hosts to buy for a set of items, as cheaply as possible: the numeric core, without a word of Ray or Kubernetes.
//!
//! [`greedy()`] is the tick's plan and [`lower_bound`] its certificate; both are flat in the counts. [`improve()`] spends work,
//! counted and never timed, on column generation with rounding, and proves how far from the optimum it ended.
//! Placement is exact in integers. Floating point only prices and steers; [`check`] is the judge of every packing.
//!
//! **What comes first.** A packing that leaves less is better, whatever it costs. `left` is compared item by item, in the
//! caller's order: when limits bind, an earlier item is served before a later one. Among packings that leave the same,
//! the cheaper is better.
//!
//! **Input from outside.** A size or capacity that is missing or negative counts as 0, a negative price as 0, a bin whose
//! price is no finite number holds nothing, `hosts` 0 counts as 1, and a bin that an item's mask doesn't reach is not allowed.

mod bound;
mod branch;
mod duals;
mod exact;
mod greedy;
mod improve;
mod knapsack;
mod model;
mod relaxation;
mod rounding;
mod simplex;
mod work;

pub use bound::lower_bound;
pub use greedy::{greedy, greedy_with_bound};
pub use improve::{ColumnPool, Improved, improve};

/// One kind of host that can be bought.
#[derive(Clone, Debug, PartialEq)]
pub struct Bin {
    /// What one host holds, by resource.
    pub capacity: Vec<i64>,
    /// Price of one host; 0: paid already.
    pub price: f64,
    /// Hosts that are bought together: a replica.
    pub hosts: u32,
    /// Most replicas; `u64::MAX`: no limit.
    pub most: u64,
}

/// A class of identical things to place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    /// What one takes, by resource.
    pub size: Vec<i64>,
    /// How many there are.
    pub count: u64,
    /// Which bins may hold it (labels, fabric), by bin.
    pub bins: Vec<bool>,
    /// Most of it on one host; `u32::MAX`: no limit.
    pub most_per_bin: u32,
}

/// Items and the bins that can be bought for them.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The kinds of hosts.
    pub bins: Vec<Bin>,
    /// What is to be placed; earlier items have priority when limits bind.
    pub items: Vec<Item>,
    /// Most hosts over all bins, counted in whole replicas; `u64::MAX`: no limit.
    pub most_hosts: u64,
}

/// Hosts of one kind that are filled alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern {
    /// Index of the bin.
    pub bin: usize,
    /// Item and how many of it each host holds, by item.
    pub items: Vec<(usize, u32)>,
    /// How many hosts.
    pub times: u64,
}

/// Hosts and what they hold.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Packing {
    /// The hosts that hold something, sorted, each kind of filling once.
    pub patterns: Vec<Pattern>,
    /// How many of each item found no place.
    pub left: Vec<u64>,
}

impl Bin {
    /// Hosts of a replica, at least 1.
    fn hosts(&self) -> u64 {
        u64::from(self.hosts.max(1))
    }

    /// Price of one host as it is counted: finite and not negative; `None` if the bin can't be bought.
    fn price(&self) -> Option<f64> {
        self.price.is_finite().then(|| self.price.max(0.0))
    }

    fn capacity(&self, resource: usize) -> i64 {
        self.capacity.get(resource).copied().unwrap_or(0).max(0)
    }
}

impl Item {
    fn size(&self, resource: usize) -> i64 {
        self.size.get(resource).copied().unwrap_or(0).max(0)
    }

    fn may_use(&self, bin: usize) -> bool {
        self.bins.get(bin).copied().unwrap_or(false)
    }
}

impl Packing {
    /// Hosts used, by bin.
    fn hosts(&self, problem: &Problem) -> Vec<u64> {
        let mut hosts = vec![0_u64; problem.bins.len()];
        for pattern in &self.patterns {
            if let Some(count) = hosts.get_mut(pattern.bin) {
                *count = count.saturating_add(pattern.times);
            }
        }
        hosts
    }

    /// Whole replicas by bin: the hosts used, rounded up.
    pub fn replicas(&self, problem: &Problem) -> Vec<u64> {
        let hosts = self.hosts(problem);
        hosts.into_iter().zip(&problem.bins).map(|(hosts, bin)| hosts.div_ceil(bin.hosts())).collect()
    }

    /// Price of the whole replicas.
    pub fn cost(&self, problem: &Problem) -> f64 {
        let replicas = self.replicas(problem);
        let priced = replicas.iter().zip(&problem.bins);
        priced.map(|(&count, bin)| count as f64 * bin.hosts() as f64 * bin.price().unwrap_or(0.0)).sum()
    }

    /// Sorts the patterns, joins equal ones and drops what holds nothing: one form for one meaning.
    fn normalise(&mut self) {
        for pattern in &mut self.patterns {
            pattern.items.retain(|&(_, count)| count > 0);
            pattern.items.sort_unstable();
        }
        self.patterns.retain(|pattern| pattern.times > 0 && !pattern.items.is_empty());
        self.patterns.sort_unstable();
        self.patterns.dedup_by(|next, first| {
            let is_same = next.bin == first.bin && next.items == first.items;
            if is_same {
                first.times = first.times.saturating_add(next.times);
            }
            is_same
        });
    }

    /// Whether this leaves less than `other`, or as much at a lower cost. A cost counts as lower from one part in 10⁹ on.
    fn is_better_than(&self, other: &Packing, problem: &Problem) -> bool {
        match self.left.cmp(&other.left) {
            std::cmp::Ordering::Less => true,
            std::cmp::Ordering::Greater => false,
            std::cmp::Ordering::Equal => self.cost(problem) < other.cost(problem) * (1.0 - 1e-9),
        }
    }
}

/// Checks `packing` against `problem` in exact integers: capacities, masks, limits, and that every item is counted once.
///
/// # Errors
/// The first thing that doesn't hold, for people.
pub fn check(problem: &Problem, packing: &Packing) -> Result<(), String> {
    if packing.left.len() != problem.items.len() {
        return Err(format!("left counts {} items, the problem has {}", packing.left.len(), problem.items.len()));
    }
    let mut placed = vec![0_u128; problem.items.len()];
    let mut hosts = vec![0_u128; problem.bins.len()];
    for pattern in &packing.patterns {
        check_host(problem, pattern)?;
        hosts[pattern.bin] += u128::from(pattern.times);
        for &(item, count) in &pattern.items {
            placed[item] += u128::from(count) * u128::from(pattern.times);
        }
    }
    for (index, item) in problem.items.iter().enumerate() {
        let found = placed[index] + u128::from(packing.left[index]);
        if found != u128::from(item.count) {
            return Err(format!("item {index}: {found} placed or left, there are {}", item.count));
        }
    }
    let mut all_hosts = 0_u128;
    for (index, bin) in problem.bins.iter().enumerate() {
        let replicas = hosts[index].div_ceil(u128::from(bin.hosts()));
        if replicas > u128::from(bin.most) {
            return Err(format!("bin {index}: {replicas} replicas, at most {} can be bought", bin.most));
        }
        all_hosts += replicas * u128::from(bin.hosts());
    }
    if problem.most_hosts != u64::MAX && all_hosts > u128::from(problem.most_hosts) {
        return Err(format!("{all_hosts} hosts, at most {} are allowed", problem.most_hosts));
    }
    Ok(())
}

/// Checks one host of `pattern` for itself.
fn check_host(problem: &Problem, pattern: &Pattern) -> Result<(), String> {
    let number = pattern.bin;
    let Some(bin) = problem.bins.get(number) else {
        return Err(format!("bin {number}: there is none of that number"));
    };
    if pattern.times > 0 && bin.price().is_none() {
        return Err(format!("bin {number}: its price {} is no finite number", bin.price));
    }
    for (position, &(index, count)) in pattern.items.iter().enumerate() {
        let Some(item) = problem.items.get(index) else {
            return Err(format!("bin {number}: it holds item {index}, and there is none of that number"));
        };
        if pattern.items[..position].iter().any(|&(earlier, _)| earlier == index) {
            return Err(format!("bin {number}: item {index} is listed twice"));
        }
        if !item.may_use(number) {
            return Err(format!("bin {number}: item {index} may not use it"));
        }
        if count > item.most_per_bin {
            return Err(format!("bin {number}: {count} of item {index}, at most {} per host", item.most_per_bin));
        }
    }
    let resources = pattern.items.iter().map(|&(index, _)| problem.items[index].size.len()).max().unwrap_or(0);
    for resource in 0..resources {
        let sizes = pattern.items.iter().map(|&(index, count)| (problem.items[index].size(resource), count));
        let used: i128 = sizes.map(|(size, count)| i128::from(size) * i128::from(count)).sum();
        if used > i128::from(bin.capacity(resource)) {
            return Err(format!("bin {number}: {used} of resource {resource} used of {}", bin.capacity(resource)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
