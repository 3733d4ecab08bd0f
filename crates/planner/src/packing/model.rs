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
    /// Bins that hold the same and are bought in the same way: in which they differ is price and limit.
    pub kinds: Vec<Vec<usize>>,
    /// By bin: its kind.
    pub kind_of: Vec<usize>,
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
            kinds: Vec::new(),
            kind_of: Vec::new(),
        };
        model.count_fits();
        model
    }

    /// Counts how many of each item every bin holds, and finds the bins that are of one kind.
    fn count_fits(&mut self) {
        let mut fits: Vec<u32> = Vec::with_capacity(self.bins() * self.items());
        // Bins of one capacity hold the same, as far as they may.
        let mut known: Vec<(usize, Vec<u32>)> = Vec::new();
        for (bin, sold) in self.problem.bins.iter().enumerate() {
            let at = known.iter().position(|(other, _)| self.capacity(*other) == self.capacity(bin));
            let at = at.unwrap_or_else(|| {
                known.push((bin, self.holds(bin)));
                known.len() - 1
            });
            let is_sold = sold.price().is_some() && self.most_hosts[bin] > 0;
            let holds = self.problem.items.iter().zip(&known[at].1);
            fits.extend(holds.map(|(item, count)| if is_sold && item.may_use(bin) { *count } else { 0 }));
        }
        self.fits = fits;
        for bin in 0..self.bins() {
            let is_alike = |other: usize| {
                self.problem.bins[other].hosts() == self.problem.bins[bin].hosts()
                    && self.capacity(other) == self.capacity(bin)
                    && self.row(other) == self.row(bin)
            };
            let kind = self.kinds.iter().position(|bins| is_alike(bins[0])).unwrap_or(self.kinds.len());
            if kind == self.kinds.len() {
                self.kinds.push(Vec::new());
            }
            self.kinds[kind].push(bin);
            self.kind_of.push(kind);
        }
    }

    /// By item: how many of it one empty host of `bin` has room for.
    fn holds(&self, bin: usize) -> Vec<u32> {
        let items = self.problem.items.iter().enumerate();
        items.map(|(at, item)| how_many(self.capacity(bin), self.size(at), item.most_per_bin)).collect()
    }

    /// By item: how many of it one empty host of `bin` holds; 0: none, or not allowed.
    pub fn row(&self, bin: usize) -> &[u32] {
        &self.fits[bin * self.items()..(bin + 1) * self.items()]
    }

    /// The cheapest bin of each kind at these prices, with its price.
    pub fn cheapest<'m>(&'m self, prices: &'m [f64]) -> impl Iterator<Item = (usize, f64)> + 'm {
        self.kinds.iter().filter_map(|bins| {
            let priced = bins.iter().map(|bin| (*bin, prices[*bin]));
            priced.min_by(|a, b| a.1.total_cmp(&b.1))
        })
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
        for (bin, price) in self.cheapest(prices) {
            let hosts = self.problem.bins[bin].hosts() as f64;
            for (item, (best, fit)) in alone.iter_mut().zip(self.row(bin)).enumerate() {
                let fit = f64::from(*fit);
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
