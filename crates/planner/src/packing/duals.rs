//! Prices of items and limits, and the lower bound that they prove.

use super::model::Model;

/// Prices under which no filling of a bin is worth more than `price + bins + hosts - least`: whatever serves the items
/// costs at least what they are worth, less what the limits are, plus what the least hosts are.
#[derive(Clone, Debug)]
pub(super) struct Duals {
    /// Worth of one piece, by item.
    pub items: Vec<f64>,
    /// Worth of one more host where a limit binds, by bin.
    pub bins: Vec<f64>,
    /// The same for the limit over all bins.
    pub hosts: f64,
    /// What each host costs that must be bought because of a lower limit, above what it is worth, by bin.
    pub least: Vec<f64>,
    /// The bound they prove for the counts they were made for.
    pub bound: f64,
}

impl Duals {
    /// Prices that prove nothing.
    pub fn nothing(model: &Model<'_>) -> Duals {
        let (items, bins) = (vec![0.0; model.items()], vec![0.0; model.bins()]);
        Duals { items, least: bins.clone(), bins, hosts: 0.0, bound: 0.0 }
    }

    /// What a filling of `bin` may be worth.
    pub fn allowed(&self, model: &Model<'_>, bin: usize) -> f64 {
        model.prices[bin] + self.bins[bin] + self.hosts - self.least[bin]
    }

    /// `part` of these prices and the rest of `other`'s.
    pub fn mixed(&self, other: &Duals, part: f64) -> Duals {
        let mix = |one: &f64, other: &f64| one * part + other * (1.0 - part);
        let mix_all = |one: &[f64], other: &[f64]| one.iter().zip(other).map(|(a, b)| mix(a, b)).collect();
        Duals {
            items: mix_all(&self.items, &other.items),
            bins: mix_all(&self.bins, &other.bins),
            hosts: mix(&self.hosts, &other.hosts),
            least: mix_all(&self.least, &other.least),
            bound: 0.0,
        }
    }

    /// These prices, scaled so that no filling is worth more than it may be, and the bound that they prove for `counts` within
    /// `ranges`. No filling of a bin is worth more than `worths` at the prices as they are.
    pub fn scaled(&self, model: &Model<'_>, counts: &[u64], ranges: &[Range], worths: &[f64]) -> Duals {
        let mut scale = f64::INFINITY;
        for (bin, worth) in worths.iter().enumerate() {
            // What must be covered by the price of the host.
            let excess = worth + self.least[bin] - self.bins[bin] - self.hosts;
            if excess > (worth + self.least[bin]) * 1e-15 {
                scale = scale.min(model.prices[bin] / excess);
            }
        }
        if scale == f64::INFINITY {
            scale = 0.0;
        }
        let scale = scale * (1.0 - 1e-12);
        let scaled = |worths: &[f64]| worths.iter().map(|worth| worth * scale).collect::<Vec<f64>>();
        let (items, bins, least) = (scaled(&self.items), scaled(&self.bins), scaled(&self.least));
        let hosts = self.hosts * scale;
        let mut bound: f64 = items.iter().zip(counts).map(|(worth, &count)| worth * count as f64).sum();
        bound += least.iter().zip(ranges).map(|(worth, range)| worth * range.least as f64).sum::<f64>();
        let gross = bound;
        for (worth, range) in bins.iter().zip(ranges) {
            if *worth > 0.0 {
                bound -= worth * range.most as f64;
            }
        }
        if hosts > 0.0 {
            bound -= hosts * model.problem.most_hosts as f64;
        }
        // Sums of a few hundred products: their rounding errors are far below this.
        Duals { items, bins, hosts, least, bound: (bound - gross * 1e-10).max(0.0) }
    }
}

/// How many hosts of a bin are paid for: limits that branching sets.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub least: u64,
    pub most: u64,
}

impl Range {
    /// What each bin's limits are without branching.
    pub fn full(model: &Model<'_>) -> Vec<Range> {
        model.most_hosts.iter().map(|&most| Range { least: 0, most }).collect()
    }
}
