//! A problem made ready for arithmetic: dense columns, only the resources that matter, and how many of each item fit.

use super::Problem;

/// What the solvers read. Indices of bins and items are those of the problem.
pub(super) struct Model<'a> {
    pub problem: &'a Problem,
    /// Resources that some item takes, after those that none takes are dropped.
    pub resources: usize,
    /// Sizes, item by item.
    sizes: Vec<i64>,
    /// Capacities, bin by bin.
    capacities: Vec<i64>,
    /// How many of an item one empty host holds, bin by bin; 0: none, or not allowed.
    fits: Vec<u32>,
    /// Price of one host, by bin.
    pub prices: Vec<f64>,
    /// Most hosts of a bin that can be bought, whole replicas within both limits.
    pub most_hosts: Vec<u64>,
}

impl<'a> Model<'a> {
    pub fn new(problem: &'a Problem) -> Model<'a> {
        let widest = problem.items.iter().map(|item| item.size.len()).max().unwrap_or(0);
        let is_used = |resource: &usize| problem.items.iter().any(|item| item.size(*resource) > 0);
        let used: Vec<usize> = (0..widest).filter(is_used).collect();
        let mut sizes = Vec::with_capacity(problem.items.len() * used.len());
        for item in &problem.items {
            sizes.extend(used.iter().map(|&resource| item.size(resource)));
        }
        let mut capacities = Vec::with_capacity(problem.bins.len() * used.len());
        for bin in &problem.bins {
            capacities.extend(used.iter().map(|&resource| bin.capacity(resource)));
        }
        let most_hosts = problem.bins.iter().map(|bin| {
            let replicas = bin.most.min(problem.most_hosts / bin.hosts());
            replicas.saturating_mul(bin.hosts())
        });
        let mut model = Model {
            problem,
            resources: used.len(),
            sizes,
            capacities,
            fits: Vec::new(),
            prices: problem.bins.iter().map(|bin| bin.price().unwrap_or(0.0)).collect(),
            most_hosts: most_hosts.collect(),
        };
        model.fits = model.count_fits();
        model
    }

    fn count_fits(&self) -> Vec<u32> {
        let mut fits = Vec::with_capacity(self.bins() * self.items());
        for (bin, kind) in self.problem.bins.iter().enumerate() {
            let is_sold = kind.price().is_some() && self.most_hosts[bin] > 0;
            for (index, item) in self.problem.items.iter().enumerate() {
                let may_hold = is_sold && item.may_use(bin);
                fits.push(if may_hold { how_many(self.capacity(bin), self.size(index), item.most_per_bin) } else { 0 });
            }
        }
        fits
    }

    pub fn bins(&self) -> usize {
        self.problem.bins.len()
    }

    pub fn items(&self) -> usize {
        self.problem.items.len()
    }

    #[inline]
    pub fn size(&self, item: usize) -> &[i64] {
        &self.sizes[item * self.resources..(item + 1) * self.resources]
    }

    #[inline]
    pub fn capacity(&self, bin: usize) -> &[i64] {
        &self.capacities[bin * self.resources..(bin + 1) * self.resources]
    }

    /// By resource: the least that any of these items takes.
    pub fn least(&self, items: &[usize]) -> Vec<i64> {
        let of_all = |resource: usize| items.iter().map(move |&item| self.size(item)[resource]).min();
        (0..self.resources).map(|resource| of_all(resource).unwrap_or(0)).collect()
    }

    /// How many of `item` one empty host of `bin` holds; 0: none, or not allowed.
    #[inline]
    pub fn fit(&self, bin: usize, item: usize) -> u32 {
        self.fits[bin * self.items() + item]
    }

    /// The cheapest price per piece of each item when a host holds nothing else; infinite if no bin can hold it. Hosts that
    /// are bought together are all paid for, also by the few pieces that leave some of them empty.
    pub fn alone(&self, prices: &[f64], counts: &[u64]) -> Vec<f64> {
        let mut alone = vec![f64::INFINITY; self.items()];
        for (bin, price) in prices.iter().enumerate() {
            let hosts = self.problem.bins[bin].hosts() as f64;
            for (item, best) in alone.iter_mut().enumerate() {
                let fit = f64::from(self.fit(bin, item));
                if fit > 0.0 {
                    let pieces = if hosts > 1.0 { (hosts * fit).min((counts[item] as f64).max(1.0)) } else { fit };
                    *best = best.min(price * hosts / pieces);
                }
            }
        }
        alone
    }
}

/// How many of `size` fit in `free`, at most `most`.
#[inline]
pub(super) fn how_many(free: &[i64], size: &[i64], most: u32) -> u32 {
    let mut count = i64::from(most);
    for (resource, &size) in size.iter().enumerate() {
        let Some(&free) = free.get(resource) else { return 0 };
        if size > free {
            return 0;
        }
        // A division only where it can change the count: it is the dearest step of the greedy plan.
        if size > 0 && size.checked_mul(count).is_none_or(|all| all > free) {
            count = free / size;
        }
    }
    count as u32
}
