//! Scores of a node for a pod, from 0 to 100; see [`NodeChoice`] for what they mean.

use super::choice::NodeChoice;
use super::fragmentation::Fragmentation;
use super::node::{Node, class};
use super::words::{GPU_MILLI, GpuRequest};

/// The highest score.
const HIGHEST: u32 = 100;

/// What a score depends on beside the node and the pod.
#[derive(Clone, Debug)]
pub(super) struct Scorer {
    pub(super) choice: NodeChoice,
    /// CPU of the largest node.
    pub(super) max_cpu_milli: u32,
    /// GPUs of the node with the most of them.
    pub(super) max_gpu_milli: u32,
    pub(super) fragmentation: Fragmentation,
}

impl Scorer {
    /// The score of a node that can take the pod.
    pub(super) fn score(&self, node: &Node, request: &GpuRequest) -> u8 {
        let score = match self.choice {
            NodeChoice::Random => 0,
            NodeChoice::DotProduct => self.dot_product(node, request),
            NodeChoice::Clustering => self.clustering(node, request),
            NodeChoice::Packing => packing(node, request),
            NodeChoice::BestFit => self.best_fit(node, request),
            NodeChoice::Fgd => return self.least_fragmentation(node, request).0,
        };
        u8::try_from(score.min(HIGHEST)).unwrap_or(u8::MAX)
    }

    /// The devices, one bit each, that the pod gets on a node that can take it.
    pub(super) fn devices(&self, node: &Node, request: &GpuRequest, draw: u64) -> u16 {
        if !request.is_share() {
            return idle_devices(node, request);
        }
        match self.choice {
            NodeChoice::Fgd => self.least_fragmentation(node, request).1,
            NodeChoice::Random => {
                let count = node.fitting(request).count();
                node.fitting(request).nth(drawn(draw, count).0).map_or(0, |(device, _)| 1 << device)
            }
            _ => node.fitting(request).min_by_key(|(_, free)| *free).map_or(0, |(device, _)| 1 << device),
        }
    }

    fn dot_product(&self, node: &Node, request: &GpuRequest) -> u32 {
        let [cpu, gpu] = self.of_largest(node.cpu_free_milli, node.gpu_free_milli());
        let [cpu_asked, gpu_asked] = self.of_largest(request.cpu_milli, gpu_milli(request));
        percent(1.0 - (cpu * cpu_asked + gpu * gpu_asked) / 2.0)
    }

    /// In the simulator of the paper this score is stretched over the candidates, which changes neither order nor ties.
    fn best_fit(&self, node: &Node, request: &GpuRequest) -> u32 {
        let cpu = node.cpu_free_milli.saturating_sub(request.cpu_milli);
        let gpu = node.gpu_free_milli().saturating_sub(gpu_milli(request));
        let [cpu, gpu] = self.of_largest(cpu, gpu);
        percent(1.0 - (cpu * 0.5 + gpu * 0.5))
    }

    fn clustering(&self, node: &Node, request: &GpuRequest) -> u32 {
        const BAND: u32 = HIGHEST / 4;
        let class = class(request);
        if class == 0 {
            return 0;
        }
        let band = match node.classes {
            0 => 1,
            classes if classes == class => 3,
            classes if classes & class != 0 => 2,
            _ => 0,
        };
        let used = self.max_gpu_milli.saturating_sub(node.gpu_free_milli());
        band * BAND + BAND * used / self.max_gpu_milli.max(1)
    }

    /// The best score, and the device that gives it: of equal ones the first.
    fn least_fragmentation(&self, node: &Node, request: &GpuRequest) -> (u8, u16) {
        let score = |devices: u16| {
            let after = node.with(request, devices);
            let fragmentation = self.fragmentation.of(node.model, after.cpu_free_milli, after.gpus_free_milli());
            self.fragmentation.score(node.fragmentation - fragmentation)
        };
        if !request.is_share() {
            let devices = idle_devices(node, request);
            return (score(devices), devices);
        }
        let mut best: Option<(u8, u16)> = None;
        let free = node.gpus_free_milli();
        for (device, milli) in node.fitting(request) {
            // The same is free on an earlier one: so is what comes of it.
            if free[..usize::from(device)].contains(&milli) {
                continue;
            }
            let score = score(1 << device);
            if best.is_none_or(|(highest, _)| score > highest) {
                best = Some((score, 1 << device));
            }
        }
        best.unwrap_or_default()
    }

    fn of_largest(&self, cpu_milli: u32, gpu_milli: u32) -> [f64; 2] {
        let ratio = |part: u32, whole: u32| f64::from(part) / f64::from(whole.max(1));
        [ratio(cpu_milli, self.max_cpu_milli), ratio(gpu_milli, self.max_gpu_milli)]
    }
}

/// Which of `count` a 64-bit number stands for, all equally often, and what is left of it for another draw.
pub(super) fn drawn(draw: u64, count: usize) -> (usize, u64) {
    let product = u128::from(draw) * count as u128;
    ((product >> 64) as usize, product as u64)
}

fn percent(share: f64) -> u32 {
    (share * f64::from(HIGHEST)) as u32
}

fn gpu_milli(request: &GpuRequest) -> u32 {
    u32::from(request.gpus) * u32::from(request.gpu_milli)
}

/// The first idle devices, as many as asked for.
fn idle_devices(node: &Node, request: &GpuRequest) -> u16 {
    let idle = node.fitting(request).take(usize::from(request.gpus));
    idle.fold(0, |devices, (device, _)| devices | 1 << device)
}

fn packing(node: &Node, request: &GpuRequest) -> u32 {
    const WITH_IDLE_DEVICES: u32 = HIGHEST / 2;
    const WITH_IDLE_NODE: u32 = HIGHEST / 3;
    if request.gpus == 0 {
        return 0;
    }
    let idle = u32::from(node.idle_gpus());
    if node.is_idle() {
        return WITH_IDLE_NODE.saturating_sub(idle).max(idle);
    }
    let tightest = node.fitting(request).map(|(_, free)| free).min().unwrap_or_default();
    if request.is_share() && tightest < GPU_MILLI.cast_signed() {
        let free_percent = u32::from(tightest.unsigned_abs()) * 100 / u32::from(GPU_MILLI);
        return (HIGHEST - free_percent / 10).max(WITH_IDLE_DEVICES);
    }
    WITH_IDLE_DEVICES.saturating_sub(u32::from(request.gpus)).max(WITH_IDLE_NODE)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{cpu, node, share, whole};
    use super::super::workload::Workload;
    use super::*;

    fn scorer(choice: NodeChoice) -> Scorer {
        let pods = [share(10, 500), whole(10, 2)];
        let fragmentation = Fragmentation::new(&Workload::new(&pods).unwrap(), &["G2"]).unwrap();
        Scorer { choice, max_cpu_milli: 128_000, max_gpu_milli: 8_000, fragmentation }
    }

    /// A node of 8 GPUs and 128 CPU with these pods on these devices.
    fn used(pods: &[(GpuRequest, u16)]) -> Node {
        let empty = Node::new(&node(128, 8, "G2"), 0);
        pods.iter().fold(empty, |node, (request, devices)| node.with(request, *devices))
    }

    #[test]
    fn dot_product_prefers_where_little_is_free_of_what_is_asked_for() {
        let scorer = scorer(NodeChoice::DotProduct);
        // All free: 1 - (1/2 * 1 + 1/4 * 1) / 2.
        assert_eq!(scorer.score(&used(&[]), &whole(64, 2)), 62);
        // Half the CPU and three quarters of the GPUs free: 1 - (1/2 * 1/2 + 1/4 * 3/4) / 2.
        assert_eq!(scorer.score(&used(&[(whole(64, 2), 0b11)]), &whole(64, 2)), 78);
    }

    #[test]
    fn best_fit_prefers_where_least_stays_free() {
        let scorer = scorer(NodeChoice::BestFit);
        assert_eq!(scorer.score(&used(&[]), &whole(64, 2)), 37);
        assert_eq!(scorer.score(&used(&[(whole(64, 2), 0b11)]), &whole(64, 2)), 75);
        assert_eq!(scorer.score(&used(&[(whole(64, 8), 0xff)]), &cpu(64)), 100);
    }

    #[test]
    fn clustering_has_a_band_for_each_kind_of_company() {
        let scorer = scorer(NodeChoice::Clustering);
        let (one, share) = (whole(1, 1), share(1, 500));
        assert_eq!(scorer.score(&used(&[(one.clone(), 0b1)]), &one), 75 + 3);
        assert_eq!(scorer.score(&used(&[(one.clone(), 0b1), (share.clone(), 0b10)]), &one), 50 + 4);
        assert_eq!(scorer.score(&used(&[]), &one), 25);
        assert_eq!(scorer.score(&used(&[(share, 0b10)]), &one), 1);
        // A pod without a GPU is no company.
        assert_eq!(scorer.score(&used(&[(cpu(1), 0)]), &one), 25);
        assert_eq!(scorer.score(&used(&[(one, 0b1)]), &cpu(1)), 0);
    }

    #[test]
    fn packing_prefers_shared_devices_then_used_nodes_then_small_ones() {
        let scorer = scorer(NodeChoice::Packing);
        let shared = used(&[(share(1, 500), 0b1)]);
        assert_eq!(scorer.score(&shared, &share(1, 500)), 95);
        assert_eq!(scorer.score(&shared, &share(1, 501)), 49);
        assert_eq!(scorer.score(&shared, &whole(1, 4)), 46);
        assert_eq!(scorer.score(&used(&[]), &whole(1, 4)), 25);
        let small = Node::new(&node(128, 2, "G2"), 0);
        assert_eq!(scorer.score(&small, &whole(1, 2)), 31);
        assert_eq!(scorer.score(&small, &cpu(1)), 0);
    }

    #[test]
    fn fgd_keeps_pairs_of_idle_devices_for_those_who_need_them() {
        let scorer = scorer(NodeChoice::Fgd);
        let scored = |pods: &[(GpuRequest, u16)], request: &GpuRequest| {
            let mut node = used(pods);
            let free = node.gpus_free_milli().to_vec();
            node.fragmentation = scorer.fragmentation.of(0, node.cpu_free_milli, &free);
            (scorer.score(&node, request), scorer.devices(&node, request, 0))
        };
        let half = share(10, 500);
        let [broken, whole_node] = [scored(&[(half.clone(), 0b10)], &half), scored(&[], &half)];
        // The broken device is taken although it is not the first, and its node is better than an idle one.
        assert_eq!(broken.1, 0b10);
        assert!(broken.0 > 50 && whole_node.0 < 50, "{broken:?} {whole_node:?}");
    }

    #[test]
    fn a_share_gets_the_tightest_device_and_whole_gpus_the_first_idle_ones() {
        let node = used(&[(share(1, 300), 0b10), (share(1, 600), 0b100), (share(1, 600), 0b1000)]);
        let scorer = scorer(NodeChoice::BestFit);
        assert_eq!(scorer.devices(&node, &share(1, 400), 0), 0b100);
        assert_eq!(scorer.devices(&node, &share(1, 500), 0), 0b10);
        assert_eq!(scorer.devices(&node, &whole(1, 2), 0), 0b1_0001);
        assert_eq!(scorer.devices(&node, &cpu(1), 0), 0);
    }

    #[test]
    fn at_random_any_fitting_device_is_taken() {
        let node = used(&[(share(1, 600), 0b1)]);
        let scorer = scorer(NodeChoice::Random);
        assert_eq!(scorer.devices(&node, &share(1, 500), 0), 0b10);
        assert_eq!(scorer.devices(&node, &share(1, 500), u64::MAX), 0b1000_0000);
    }

    #[test]
    fn a_draw_takes_each_equally_often() {
        assert_eq!(drawn(u64::MAX / 3, 3).0, 0);
        assert_eq!(drawn(u64::MAX / 3 + 1, 3).0, 1);
        assert_eq!(drawn(u64::MAX, 3).0, 2);
        assert_eq!(drawn(u64::MAX, 0).0, 0);
    }
}
