//! How much of the free GPUs is of no use to typical pods.
//!
//! For one node, `F` is the sum over the typical shapes, each with its share of the pods, of the free GPUs that such a pod could
//! not use there: all of them if it does not run on the node (too little CPU, too few devices, the wrong model) or needs no GPU,
//! else those on devices with less free than it asks for of each. Shares are counts here, and `F` is held times their sum, so
//! that all of it is exact in integers.

use std::collections::BTreeMap;

use super::words::GpuRequest;
use super::workload::{TooVaried, Workload};

/// Typical shapes are the most frequent ones that cover so many percent of the pods.
const TYPICAL_PERCENT: u64 = 95;

/// So many different GPU requests are looked at together: 16-bit lanes that the compiler turns into vector instructions.
const LANES: usize = 16;

/// Most entries of the table of weights (16 MiB).
const MAX_WEIGHTS: usize = 1 << 22;

/// `1_000_000 * ln(k / (100 - k))` for k from 51 to 99: what a score of k needs at least, in millionths of a GPU. A table, because
/// the last digit of a logarithm is not the same on every machine.
#[rustfmt::skip]
const ABOVE_HALF_MICRO: [i64; 49] = [
    40_005, 80_043, 120_144, 160_343, 200_671, 241_162, 281_851, 322_773, 363_965, 405_465, 447_312, 489_548,
    532_217, 575_364, 619_039, 663_294, 708_185, 753_772, 800_119, 847_298, 895_384, 944_462, 994_623, 1_045_969,
    1_098_612, 1_152_680, 1_208_311, 1_265_666, 1_324_925, 1_386_294, 1_450_010, 1_516_347, 1_585_627, 1_658_228,
    1_734_601, 1_815_290, 1_900_959, 1_992_430, 2_090_741, 2_197_225, 2_313_635, 2_442_347, 2_586_689, 2_751_535,
    2_944_439, 3_178_054, 3_476_099, 3_891_820, 4_595_120,
];

/// What pods ask for of GPUs, for [`LANES`] groups of typical shapes.
#[derive(Clone, Debug)]
struct Lanes {
    gpus: [i16; LANES],
    gpu_milli: [i16; LANES],
}

/// The typical shapes, arranged so that `F` of a node takes few steps: shapes that ask for the same of GPUs are one group, and
/// a table says how many pods of each group a node has the model and the CPU for.
#[derive(Clone, Debug)]
pub(super) struct Fragmentation {
    /// Pods of typical shapes.
    pods: i64,
    groups: Vec<Lanes>,
    /// Different CPU requests of typical shapes in milli, ascending.
    cpu_milli: Vec<u32>,
    /// By model, then by how many of `cpu_milli` fit, then by group.
    weights: Vec<u32>,
    /// What a score of 1, 2, … 99 needs at least of `F`, times 1,000.
    thresholds: Vec<i64>,
}

impl Fragmentation {
    /// Of a workload, on nodes with these models of GPUs.
    pub(super) fn new(workload: &Workload, models: &[&str]) -> Result<Self, TooVaried> {
        let typical = typical(workload);
        let mut groups: Vec<(u8, u16)> = typical.iter().map(|(shape, _)| (shape.gpus, shape.gpu_milli)).collect();
        groups.retain(|(gpus, _)| *gpus > 0);
        groups.sort_unstable();
        groups.dedup();
        let mut cpu_milli: Vec<u32> = typical.iter().map(|(shape, _)| shape.cpu_milli).collect();
        cpu_milli.sort_unstable();
        cpu_milli.dedup();
        let width = groups.len().next_multiple_of(LANES);
        let rows = models.len().saturating_mul(cpu_milli.len() + 1);
        if rows.saturating_mul(width) > MAX_WEIGHTS {
            return Err(TooVaried {
                what: "combinations of GPU model, CPU request and GPU request",
                most: MAX_WEIGHTS,
            });
        }
        let mut weights = Vec::with_capacity(rows * width);
        for model in models {
            for enough in 0..=cpu_milli.len() {
                let has_cpu =
                    |shape: &GpuRequest| cpu_milli[..enough].last().is_some_and(|cpu| shape.cpu_milli <= *cpu);
                let runs = |shape: &GpuRequest| has_cpu(shape) && accepts(shape, model);
                let mut row = vec![0_u32; width];
                for (shape, count) in typical.iter().filter(|(shape, _)| runs(shape)) {
                    if let Ok(group) = groups.binary_search(&(shape.gpus, shape.gpu_milli)) {
                        row[group] = row[group].saturating_add(u32::try_from(*count).unwrap_or(u32::MAX));
                    }
                }
                weights.extend(row);
            }
        }
        let pods = typical.iter().fold(0_u64, |pods, (_, count)| pods.saturating_add(*count));
        let pods = i64::from(u32::try_from(pods).unwrap_or(u32::MAX));
        Ok(Fragmentation { pods, groups: lanes(&groups), cpu_milli, weights, thresholds: thresholds(pods) })
    }

    /// `F` of a node in milli-GPU, times [`Fragmentation::pods`].
    pub(super) fn of(&self, model: usize, cpu_free_milli: u32, gpus_free_milli: &[i16]) -> i64 {
        let enough = self.cpu_milli.partition_point(|cpu| *cpu <= cpu_free_milli);
        let width = self.groups.len() * LANES;
        let row = (model * (self.cpu_milli.len() + 1) + enough) * width;
        let weights = self.weights.get(row..row + width).unwrap_or_default();
        let free: i64 = gpus_free_milli.iter().map(|free| i64::from(*free)).sum();
        let usable: i64 = self
            .groups
            .iter()
            .zip(weights.chunks_exact(LANES))
            .map(|(group, weights)| group.usable(gpus_free_milli, weights))
            .sum();
        free * self.pods - usable
    }

    /// In milli-GPU, rounded down.
    pub(super) fn milli(&self, fragmentation: i64) -> u64 {
        u64::try_from(fragmentation / self.pods.max(1)).unwrap_or(0)
    }

    /// `100 * sigmoid(lowered by, in GPUs)`, cut to an integer.
    pub(super) fn score(&self, lowered_by: i64) -> u8 {
        let scaled = lowered_by.saturating_mul(1_000);
        self.thresholds.partition_point(|threshold| *threshold <= scaled) as u8
    }
}

impl Lanes {
    /// Free GPUs that the groups can use, times their weights. At most 16 devices of 1,000 fit 16 bits.
    fn usable(&self, gpus_free_milli: &[i16], weights: &[u32]) -> i64 {
        let mut devices = [0_i16; LANES];
        let mut milli = [0_i16; LANES];
        for free in gpus_free_milli {
            for lane in 0..LANES {
                let fits = -i16::from(self.gpu_milli[lane] <= *free);
                devices[lane] -= fits;
                milli[lane] += free & fits;
            }
        }
        for lane in 0..LANES {
            milli[lane] &= -i16::from(self.gpus[lane] <= devices[lane]);
        }
        milli.iter().zip(weights).map(|(milli, weight)| i64::from(*milli) * i64::from(*weight)).sum()
    }
}

fn lanes(groups: &[(u8, u16)]) -> Vec<Lanes> {
    let chunk = |groups: &[(u8, u16)]| {
        // Lanes without a group never fit, and have no weight.
        let mut lanes = Lanes { gpus: [i16::MAX; LANES], gpu_milli: [i16::MAX; LANES] };
        for (lane, (gpus, gpu_milli)) in groups.iter().enumerate() {
            lanes.gpus[lane] = i16::from(*gpus);
            lanes.gpu_milli[lane] = gpu_milli.cast_signed();
        }
        lanes
    };
    groups.chunks(LANES).map(chunk).collect()
}

/// The most frequent shapes, memory aside, until they cover [`TYPICAL_PERCENT`] of the pods; of equally frequent ones the larger.
fn typical(workload: &Workload) -> Vec<(GpuRequest, u64)> {
    let mut counts: BTreeMap<GpuRequest, u64> = BTreeMap::new();
    for (shape, count) in workload.shapes.iter().zip(&workload.counts) {
        *counts.entry(GpuRequest { memory_mib: 0, ..shape.clone() }).or_default() += count;
    }
    let all: u64 = counts.values().sum();
    let mut shapes: Vec<(GpuRequest, u64)> = counts.into_iter().collect();
    let size = |shape: &GpuRequest| (shape.cpu_milli, shape.gpu_milli, shape.gpus);
    shapes.sort_by(|(a, a_count), (b, b_count)| {
        b_count.cmp(a_count).then_with(|| size(b).cmp(&size(a))).then_with(|| b.models.cmp(&a.models))
    });
    let mut covered = 0_u64;
    let is_needed = |(_, count): &(GpuRequest, u64)| {
        let needed = covered.saturating_mul(100) < all.saturating_mul(TYPICAL_PERCENT);
        covered += count;
        needed
    };
    shapes.into_iter().take_while(is_needed).collect()
}

/// Whether a pod that asks for this may run on GPUs of `model`.
pub(super) fn accepts(shape: &GpuRequest, model: &str) -> bool {
    shape.models.is_empty() || shape.models.contains(model)
}

fn thresholds(pods: i64) -> Vec<i64> {
    let below = ABOVE_HALF_MICRO.iter().rev().map(|threshold| -threshold);
    let all = below.chain([0]).chain(ABOVE_HALF_MICRO);
    all.map(|threshold| threshold.saturating_mul(pods)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{cpu, share, whole};
    use super::super::words::{GPU_MILLI, MAX_GPUS};
    use super::*;

    /// Nine pods that ask for half a GPU, and 11 that ask for two; all with 10 CPU.
    fn fragmentation() -> Fragmentation {
        let pods = [vec![share(10, 500); 9], vec![whole(10, 2); 11]].concat();
        Fragmentation::new(&Workload::new(&pods).unwrap(), &["", "G2"]).unwrap()
    }

    #[test]
    fn devices_with_less_than_asked_for_are_lost_to_a_pod_that_fits() {
        let fragmentation = fragmentation();
        // Shares lose the 300; pairs fit and lose both partly used devices.
        assert_eq!(fragmentation.of(1, 10_000, &[1_000, 1_000, 300, 600]), 9 * 300 + 11 * 900);
        // Pairs no longer fit and lose everything.
        assert_eq!(fragmentation.of(1, 10_000, &[1_000, 300]), 9 * 300 + 11 * 1_300);
    }

    #[test]
    fn without_enough_cpu_all_free_gpus_are_lost() {
        let fragmentation = fragmentation();
        assert_eq!(fragmentation.of(1, 9_999, &[1_000, 1_000]), 20 * 2_000);
        assert_eq!(fragmentation.of(1, 10_000, &[1_000, 1_000]), 0);
    }

    #[test]
    fn pods_without_gpus_and_of_other_models_lose_all_free_gpus() {
        let mut other = whole(1, 1);
        other.models.insert("T4".to_owned());
        let pods = [vec![cpu(1); 3], vec![other; 4], vec![whole(1, 1); 5]].concat();
        let fragmentation = Fragmentation::new(&Workload::new(&pods).unwrap(), &["G2", "T4"]).unwrap();
        assert_eq!(fragmentation.of(0, 1_000, &[1_000]), 7 * 1_000);
        assert_eq!(fragmentation.of(1, 1_000, &[1_000]), 3 * 1_000);
        assert_eq!(fragmentation.milli(7 * 1_000), 583);
    }

    #[test]
    fn typical_shapes_cover_95_of_a_hundred_pods_and_no_more() {
        let pods = [vec![share(1, 500); 90], vec![whole(1, 1); 4], vec![whole(2, 1); 4], vec![cpu(1); 2]].concat();
        let typical = typical(&Workload::new(&pods).unwrap());
        // Of two equally frequent shapes the one with more CPU comes first, and 98 is enough.
        let expected = [(share(1, 500), 90), (whole(2, 1), 4), (whole(1, 1), 4)];
        let without_memory = expected.map(|(shape, count)| (GpuRequest { memory_mib: 0, ..shape }, count));
        assert_eq!(typical, without_memory);
    }

    #[test]
    fn scores_are_those_of_the_sigmoid() {
        let fragmentation = fragmentation();
        assert_eq!(fragmentation.score(0), 50);
        for lowered_by_milli in (-8_000..=8_000).step_by(7) {
            let gpus = f64::from(lowered_by_milli) / 1_000.0;
            let expected = (100.0 / (1.0 + (-gpus).exp())) as u8;
            let lowered_by = i64::from(lowered_by_milli) * fragmentation.pods;
            assert_eq!(fragmentation.score(lowered_by), expected, "{lowered_by_milli}");
        }
    }

    #[test]
    fn a_table_too_large_is_refused() {
        let pods: Vec<GpuRequest> = (0..4_000).map(|n| if n % 2 == 0 { cpu(n) } else { share(n, 1 + n / 5) }).collect();
        let names: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        let models: Vec<&str> = names.iter().map(String::as_str).collect();
        let refused = Fragmentation::new(&Workload::new(&pods).unwrap(), &models).unwrap_err();
        assert!(refused.to_string().contains("combinations of GPU model"), "{refused}");
    }

    #[test]
    fn a_whole_gpu_fits_a_lane() {
        assert!(i16::try_from(i32::from(GPU_MILLI) * i32::from(MAX_GPUS)).is_ok());
    }
}
