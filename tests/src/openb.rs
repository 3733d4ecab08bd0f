//! A made-up data centre in the form of the openb lists: what tests of the placement policies run where the real lists are not.

use std::fmt::Write as _;

use crate::dice::Dice;

/// Kinds of nodes: how many, CPU in milli, memory in MiB, GPUs, model.
const NODES: [(u32, u32, u32, u32, &str); 5] = [
    (55, 96_000, 393_216, 8, "G2"),
    (39, 104_000, 524_288, 2, "T4"),
    (13, 16_000, 122_880, 2, "P100"),
    (5, 32_000, 131_072, 4, "V100"),
    (4, 128_000, 786_432, 8, "G3"),
];

/// Kinds of pods: how many of a thousand, CPU in milli from and to, GPUs, thousandths of each from and to.
const PODS: [(u64, [u64; 2], u32, [u64; 2]); 6] = [
    (480, [4_000, 19_000], 1, [1_000, 1_000]),
    (380, [3_000, 12_000], 1, [150, 850]),
    (130, [4_000, 33_000], 0, [0, 0]),
    (3, [12_000, 24_000], 2, [1_000, 1_000]),
    (2, [24_000, 48_000], 4, [1_000, 1_000]),
    (5, [48_000, 90_000], 8, [1_000, 1_000]),
];

/// CPU and shares are multiples of this part of their range, so that pods repeat.
const STEPS: u64 = 6;

/// A list of 116 nodes with 620 GPUs.
pub fn nodes() -> String {
    let mut list = String::from("sn,cpu_milli,memory_mib,gpu,model\n");
    let kinds = NODES.iter().flat_map(|(count, cpu, memory, gpus, model)| {
        (0..*count).map(move |_| format!("{cpu},{memory},{gpus},{model}"))
    });
    for (number, kind) in kinds.enumerate() {
        // Writing to a string does not fail.
        let _ = writeln!(list, "node-{number:04},{kind}");
    }
    list
}

/// A list of 1,000 pods.
pub fn pods(seed: u64) -> String {
    let mut dice = Dice::new(seed, 0);
    let mut list = String::from("name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n");
    for number in 0..1_000 {
        let mut rolled = dice.below(PODS.iter().map(|(frequency, ..)| frequency).sum());
        let kind = PODS.iter().find(|(frequency, ..)| match rolled.checked_sub(*frequency) {
            Some(rest) => {
                rolled = rest;
                false
            }
            None => true,
        });
        let Some((_, cpu, gpus, gpu_milli)) = kind else { continue };
        let mut within = |[from, to]: [u64; 2]| from + (to - from) * dice.below(STEPS) / STEPS;
        let [cpu, gpu_milli] = [within(*cpu), within(*gpu_milli)];
        let spec = if *gpus == 1 && dice.one_in(10) { "G2|T4" } else { "" };
        let _ = writeln!(list, "pod-{number:04},{cpu},{},{gpus},{gpu_milli},{spec}", cpu * 4);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_pods() {
        assert_eq!(nodes().lines().count(), 117);
        assert_eq!(pods(1).lines().count(), 1_001);
        assert_eq!(pods(1), pods(1));
        assert_ne!(pods(1), pods(2));
    }
}
