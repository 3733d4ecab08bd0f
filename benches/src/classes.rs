//! Sixteen classes of problems that say how well a policy buys: seeded, priced, and served wholly by any sound policy.

use std::fmt;

use clap::ValueEnum;
use mobula_planner::{CapacityType, DemandClass, Gang, GangStrategy, NodeType, Request, Snapshot};

use crate::full_size::{self, Mix};
use crate::random::Random;
use crate::shapes::{NOW_MS, gang, group, labelled, node, pinned, request, with_cpu};

const GIB: i64 = 1 << 30;

/// A class of problems.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Class {
    /// One group of 8-GPU hosts; requests for 1, 2, 4 and 8 GPUs.
    HomogeneousGpu,
    /// Three kinds of GPU hosts; every request names its accelerator by label.
    PinnedGpu,
    /// Multi-host TPU groups of 2 and 4 hosts; gangs that take whole slices of a named topology.
    TpuSlices,
    /// Requests for a third of a host, and a little of everything else.
    Thirds,
    /// CPU hosts from 4 to 64 cores at nearly the same price a core; requests for CPU alone.
    CpuOnly,
    /// Compute, general and memory hosts; requests between them.
    CpuAndMemory,
    /// Requests for one GPU that hosts of 1, 4 and 8 GPUs of several prices can serve.
    AnyGpu,
    /// Training gangs (PACK): a leader without GPU and workers with one each, on any of several GPU groups.
    PackGangs,
    /// Each group twice, on demand and spot; requests for CPU and memory.
    SpotTwins,
    /// A few requests for accelerators, many small ones that may fill what accelerators leave of their hosts.
    ScarceShared,
    /// STRICT_PACK gangs of 1 to 8 GPUs: what goes on one host decides its size.
    StrictPackGangs,
    /// STRICT_SPREAD gangs: how many hosts there must be is given, what they are is not.
    StrictSpreadGangs,
    /// SPREAD gangs of CPU bundles, which must not buy a host more for being spread.
    SpreadGangs,
    /// The cheap CPU group is at its maximum: what is left goes to large CPU hosts or to GPU hosts.
    CpuOverflow,
    /// Everything together: shapes, groups, gangs and nodes of a large platform, scaled.
    FullMix,
    /// Running nodes that are used in part, and more demand than they can hold.
    PartlyUsed,
}

/// How large a problem is.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Size {
    /// At most 12 pieces and 4 groups: an exact solver finds the optimum.
    Small,
    /// Some hundred pieces in a dozen shapes.
    Medium,
    /// Many thousand pieces in dozens of shapes.
    Large,
}

impl fmt::Display for Class {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_possible_value().map_or(Ok(()), |value| out.write_str(value.get_name()))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_possible_value().map_or(Ok(()), |value| out.write_str(value.get_name()))
    }
}

/// How much of each kind there is.
struct Scale {
    shapes: u64,
    /// Tasks and actors together.
    pieces: u64,
    gangs: usize,
    /// Most bundles of one gang.
    bundles: u64,
    nodes: usize,
}

const fn scale(size: Size) -> Scale {
    match size {
        Size::Small => Scale { shapes: 4, pieces: 11, gangs: 3, bundles: 4, nodes: 3 },
        Size::Medium => Scale { shapes: 12, pieces: 300, gangs: 12, bundles: 16, nodes: 40 },
        Size::Large => Scale { shapes: 50, pieces: 20_000, gangs: 200, bundles: 64, nodes: 1_000 },
    }
}

/// The problem of that class, size and seed; the same on every machine.
pub fn problem(class: Class, size: Size, seed: u64) -> Snapshot {
    let mut make = Make {
        scale: scale(size),
        small: size == Size::Small,
        random: Random(seed.wrapping_mul(0x9e37_79b9) ^ ((class as u64) << 40) ^ ((size as u64) << 48)),
        snapshot: Snapshot { now_ms: NOW_MS, ..Snapshot::default() },
    };
    match class {
        Class::HomogeneousGpu => make.homogeneous_gpu(),
        Class::PinnedGpu => make.pinned_gpu(),
        Class::TpuSlices => make.tpu_slices(),
        Class::Thirds => make.thirds(),
        Class::CpuOnly => make.cpu_only(),
        Class::CpuAndMemory => make.cpu_and_memory(),
        Class::AnyGpu => make.any_gpu(),
        Class::PackGangs => make.pack_gangs(),
        Class::SpotTwins => make.spot_twins(),
        Class::ScarceShared => make.scarce_shared(),
        Class::StrictPackGangs => make.strict_pack_gangs(),
        Class::StrictSpreadGangs => make.strict_spread_gangs(),
        Class::SpreadGangs => make.spread_gangs(),
        Class::CpuOverflow => make.cpu_overflow(),
        Class::FullMix => return full_mix(size, seed),
        Class::PartlyUsed => make.partly_used(),
    }
    make.snapshot
}

/// The mixture of the full-size problem, in the proportion of the size.
fn full_mix(size: Size, seed: u64) -> Snapshot {
    let mix = match size {
        Size::Small => Mix { requests: 6, shapes: 3, gangs: 1, max_bundles: 4, groups: 4, nodes: 2 },
        Size::Medium => Mix { requests: 500, shapes: 20, gangs: 10, max_bundles: 32, groups: 12, nodes: 100 },
        Size::Large => Mix { requests: 20_000, shapes: 100, gangs: 100, max_bundles: 256, groups: 30, nodes: 1_000 },
    };
    full_size::mix(mix, seed)
}

struct Make {
    scale: Scale,
    small: bool,
    random: Random,
    snapshot: Snapshot,
}

const ACCELERATOR: &str = "ray.io/accelerator-type";

impl Make {
    /// A number from `low` to `high`, both included.
    fn between(&mut self, low: i64, high: i64) -> i64 {
        low + self.random.below((high - low + 1) as u64) as i64
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.random.below(from.len() as u64) as usize]
    }

    /// A price that differs by up to 5 % from seed to seed, so that no two groups are the same by accident.
    fn price(&mut self, thousandths_per_hour: u64) -> u64 {
        thousandths_per_hour * (950 + self.random.below(101)) / 1000
    }

    fn group(&mut self, name: &str, thousandths_per_hour: u64, amounts: &[(&str, i64)]) -> NodeType {
        let price = self.price(thousandths_per_hour);
        group(name, price, amounts)
    }

    /// CPU hosts, two groups in small problems.
    fn cpu_groups(&mut self) {
        let sizes: &[(&str, u64, i64)] =
            &[("cpu-4", 190, 4), ("cpu-16", 720, 16), ("cpu-8", 370, 8), ("cpu-32", 1_420, 32), ("cpu-64", 2_800, 64)];
        let count = if self.small { 2 } else { sizes.len() };
        for (name, price, cpu) in &sizes[..count] {
            let made = self.group(name, *price, &[("CPU", *cpu), ("memory", 4 * cpu * GIB)]);
            self.snapshot.node_types.push(made);
        }
    }

    /// GPU hosts with 1, 4, 8 and 8 GPUs; the first two in small problems.
    fn gpu_groups(&mut self, most: usize) {
        let kinds: &[(&str, u64, i64, i64, i64)] = &[
            ("l4", 800, 8, 32, 1),
            ("l4-x4", 4_000, 48, 192, 4),
            ("a100", 32_800, 96, 1_152, 8),
            ("h100", 98_300, 192, 2_048, 8),
        ];
        for (name, price, cpu, gib, gpu) in &kinds[..most.min(kinds.len())] {
            let made = self.group(name, *price, &[("CPU", *cpu), ("memory", gib * GIB), ("GPU", *gpu)]);
            self.snapshot.node_types.push(labelled(made, ACCELERATOR, name));
        }
    }

    /// `pieces` tasks of as many shapes as the scale says, each made by `shape`.
    fn tasks(&mut self, pieces: u64, mut shape: impl FnMut(&mut Self) -> Request) {
        let shapes = self.scale.shapes.min(pieces);
        for index in 0..shapes {
            let count = pieces / shapes + u64::from(index < pieces % shapes);
            let request = shape(self);
            // Two draws of the same shape are one class, as the GCS would say it.
            match self.snapshot.demand.iter_mut().find(|class| class.request == request) {
                Some(class) => class.count += count,
                None => self.snapshot.demand.push(DemandClass { request, count }),
            }
        }
    }

    /// Gangs made by `make`, which is told the number of the gang.
    fn gangs(&mut self, mut make: impl FnMut(&mut Self, usize) -> Gang) {
        for number in 0..self.scale.gangs {
            let gang = make(self, number);
            self.snapshot.gangs.push(gang);
        }
    }

    fn homogeneous_gpu(&mut self) {
        let gpu = self.group("gpu", 32_800, &[("CPU", 96), ("memory", 1_152 * GIB), ("GPU", 8)]);
        self.snapshot.node_types.push(gpu);
        let pieces = self.scale.pieces / if self.small { 1 } else { 3 };
        self.tasks(pieces, |make| {
            let gpu = make.pick(&[1, 2, 4, 8]);
            request(&[("CPU", gpu * 4), ("GPU", gpu)])
        });
    }

    fn pinned_gpu(&mut self) {
        self.gpu_groups(3);
        self.tasks(self.scale.pieces / 2 + 3, |make| {
            let (accelerator, most) = make.pick(&[("l4", 1), ("l4-x4", 4), ("a100", 8)]);
            let gpu = make.pick(&[1, 1, 2, 4]).min(most);
            pinned(request(&[("CPU", gpu * 4), ("GPU", gpu)]), ACCELERATOR, accelerator)
        });
    }

    fn tpu_slices(&mut self) {
        for (name, price, hosts) in [("v5e-2x4", 4_800, 2), ("v5e-4x4", 4_800, 4)] {
            let slice = self.group(name, price, &[("CPU", 112), ("memory", 192 * GIB), ("TPU", 4)]);
            let slice = NodeType { num_of_hosts: hosts, ..labelled(slice, "ray.io/tpu-topology", name) };
            self.snapshot.node_types.push(slice);
        }
        self.gangs(|make, number| {
            let (topology, hosts) = make.pick(&[("v5e-2x4", 2), ("v5e-4x4", 4)]);
            let host = pinned(request(&[("CPU", 8), ("TPU", 4)]), "ray.io/tpu-topology", topology);
            gang(number, GangStrategy::StrictSpread, [(host, hosts)])
        });
    }

    fn thirds(&mut self) {
        let amounts = [("CPU", 48), ("memory", 192 * GIB), ("GPU", 6)];
        let (large, small) =
            (self.group("large", 12_000, &amounts), self.group("cpu", 680, &[("CPU", 16), ("memory", 64 * GIB)]));
        self.snapshot.node_types.extend([large, small]);
        let pieces = self.scale.pieces;
        self.tasks(pieces / 2, |_| request(&[("CPU", 16), ("memory", 60 * GIB), ("GPU", 2)]));
        self.tasks(pieces / 3, |make| request(&[("CPU", make.pick(&[5, 8, 16])), ("memory", 16 * GIB)]));
    }

    fn cpu_only(&mut self) {
        self.cpu_groups();
        self.tasks(self.scale.pieces, |make| {
            let tenths = make.between(5, if make.small { 120 } else { 40 });
            with_cpu(request(&[]), tenths)
        });
    }

    fn cpu_and_memory(&mut self) {
        for (name, price, cpu, gib) in [
            ("compute", 680, 16, 32),
            ("general", 770, 16, 64),
            ("memory", 1_010, 16, 128),
            ("memory-big", 4_040, 64, 512),
        ] {
            let made = self.group(name, price, &[("CPU", cpu), ("memory", gib * GIB)]);
            self.snapshot.node_types.push(made);
        }
        self.tasks(self.scale.pieces, |make| {
            let (cpu, gib) = (make.between(1, 8), make.between(1, 48));
            request(&[("CPU", cpu), ("memory", gib * GIB)])
        });
    }

    fn any_gpu(&mut self) {
        self.gpu_groups(4);
        self.tasks(self.scale.pieces, |make| request(&[("CPU", make.between(1, 8)), ("GPU", 1)]));
    }

    fn pack_gangs(&mut self) {
        self.gpu_groups(4);
        self.gangs(|make, number| {
            let workers = make.between(2, make.scale.bundles as i64 - 1) as usize;
            let worker = request(&[("CPU", make.between(2, 8)), ("GPU", 1)]);
            gang(number, GangStrategy::Pack, [(request(&[("CPU", 2)]), 1), (worker, workers)])
        });
    }

    fn spot_twins(&mut self) {
        let sizes: &[(&str, u64, i64)] = if self.small {
            &[("cpu-8", 370, 8), ("cpu-16", 720, 16)]
        } else {
            &[("cpu-8", 370, 8), ("cpu-16", 720, 16), ("cpu-32", 1_420, 32)]
        };
        for (name, price, cpu) in sizes {
            let amounts = [("CPU", *cpu), ("memory", 4 * cpu * GIB)];
            let on_demand = self.group(name, *price, &amounts);
            let mut spot = self.group(&format!("{name}-spot"), price * 35 / 100, &amounts);
            for offering in &mut spot.offerings {
                offering.capacity_type = CapacityType::Spot;
            }
            self.snapshot.node_types.extend([on_demand, spot]);
        }
        self.tasks(self.scale.pieces, |make| {
            let (cpu, gib) = (make.between(1, 6), make.between(1, 24));
            request(&[("CPU", cpu), ("memory", gib * GIB)])
        });
    }

    fn scarce_shared(&mut self) {
        self.cpu_groups();
        self.gpu_groups(if self.small { 2 } else { 4 });
        let pieces = self.scale.pieces;
        let scarce = (pieces / 6).max(2);
        self.tasks(scarce, |make| request(&[("CPU", make.between(2, 8)), ("GPU", make.pick(&[1, 1, 2, 4]))]));
        self.tasks(pieces - scarce, |make| {
            let cpu = make.between(1, 4);
            request(&[("CPU", cpu), ("memory", cpu * make.between(1, 6) * GIB)])
        });
    }

    fn strict_pack_gangs(&mut self) {
        self.gpu_groups(4);
        self.scale.gangs *= 3;
        self.gangs(|make, number| {
            let worker = request(&[("CPU", make.between(2, 10)), ("GPU", 1)]);
            let workers = make.pick(&[1, 2, 2, 3, 4, 5, 8]);
            gang(number, GangStrategy::StrictPack, [(worker, workers)])
        });
    }

    fn strict_spread_gangs(&mut self) {
        self.cpu_groups();
        self.gpu_groups(2);
        self.gangs(|make, number| {
            let (cpu, gpu) = make.pick(&[(2, 0), (3, 0), (6, 0), (4, 1), (8, 2)]);
            let cpu = if gpu == 0 && !make.small { make.between(1, 12) } else { cpu };
            let bundles = make.between(2, make.scale.bundles as i64) as usize;
            gang(number, GangStrategy::StrictSpread, [(request(&[("CPU", cpu), ("GPU", gpu)]), bundles)])
        });
    }

    fn spread_gangs(&mut self) {
        self.cpu_groups();
        self.gangs(|make, number| {
            let bundles = make.between(2, make.scale.bundles as i64) as usize;
            let (cpu, gib) = (make.between(1, 6), make.between(1, 12));
            gang(number, GangStrategy::Spread, [(request(&[("CPU", cpu), ("memory", gib * GIB)]), bundles)])
        });
    }

    fn cpu_overflow(&mut self) {
        let cheap = self.group("cpu-16", 720, &[("CPU", 16), ("memory", 64 * GIB)]);
        let pieces = self.scale.pieces;
        // Room for about half of what is asked for.
        let cheap = NodeType { max_replicas: (pieces as u32 * 3 / 16 / 2).max(1), ..cheap };
        let large = self.group("cpu-64", 3_600, &[("CPU", 64), ("memory", 256 * GIB)]);
        self.snapshot.node_types.extend([cheap, large]);
        self.gpu_groups(2);
        self.tasks(pieces, |make| {
            let (cpu, gib) = (make.between(1, if make.small { 8 } else { 5 }), make.between(1, 16));
            request(&[("CPU", cpu), ("memory", gib * GIB)])
        });
    }

    fn partly_used(&mut self) {
        self.cpu_groups();
        self.gpu_groups(2);
        for number in 0..self.scale.nodes {
            let at = self.random.below(self.snapshot.node_types.len() as u64) as usize;
            let used = 5 + self.random.below(5);
            let group = &mut self.snapshot.node_types[at];
            group.requested_replicas += 1;
            self.snapshot.nodes.push(node(group, number, used));
        }
        self.tasks(self.scale.pieces, |make| match make.random.below(4) {
            0 => request(&[("CPU", make.between(1, 4)), ("GPU", 1)]),
            _ => {
                let cpu = make.between(1, 6);
                request(&[("CPU", cpu), ("memory", cpu * make.between(1, 4) * GIB)])
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use mobula_planner::{Memory, Policy, RayV2, lint};

    use super::*;

    fn problems(size: Size, seeds: u64) -> impl Iterator<Item = (Class, Snapshot)> {
        let classes = Class::value_variants().iter();
        classes.flat_map(move |class| (0..seeds).map(move |seed| (*class, problem(*class, size, seed))))
    }

    #[test]
    fn small_problems_are_small() {
        for (class, snapshot) in problems(Size::Small, 20) {
            let tasks: u64 = snapshot.demand.iter().map(|class| class.count).sum();
            let of_gang = |gang: &Gang| if gang.strategy == GangStrategy::StrictPack { 1 } else { gang.bundles.len() };
            let pieces = tasks as usize + snapshot.gangs.iter().map(of_gang).sum::<usize>();
            assert!((1..=12).contains(&pieces), "{class}: {pieces} pieces");
            assert!(snapshot.node_types.len() <= 4, "{class}: {} groups", snapshot.node_types.len());
        }
    }

    #[test]
    fn seeds_differ_and_repeat() {
        for (class, snapshot) in problems(Size::Medium, 1) {
            assert_eq!(snapshot, problem(class, Size::Medium, 0));
            assert_ne!(snapshot, problem(class, Size::Medium, 1), "{class}");
        }
    }

    #[test]
    fn all_of_it_can_be_served() {
        for size in [Size::Small, Size::Medium] {
            for (class, snapshot) in problems(size, 3) {
                let (plan, _) = RayV2.plan(&snapshot, &Memory::default());
                assert_eq!(lint(&snapshot, &plan), []);
                assert_eq!(plan.unmet, [], "{class} {size}");
                assert!(!plan.launch.is_empty(), "{class} {size} asks for nothing");
            }
        }
    }
}
