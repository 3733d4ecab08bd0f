//! Random scenarios with faults, whose invariants are looked at in every turn: what finds bugs before users do.
//!
//! Assumptions: all faults and all work come in the first ten minutes. Half an hour later everything must be as if nothing had gone
//! wrong: all work done, and no worker left.

use std::fmt::Write as _;

use mobula_traces::Seeded;

use crate::chance::stream;

/// A scenario in parts, so that it can be made smaller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Soak {
    /// The seed that it came from.
    pub seed: u64,
    policy: &'static str,
    network: &'static str,
    nodes: &'static str,
    pods: &'static str,
    /// What the RayCluster says beyond the plain one.
    cluster: &'static str,
    /// Whose gangs wait until they fit as a whole.
    gangs: &'static str,
    work: Vec<String>,
    faults: Vec<String>,
}

const CLUSTER: &str = include_str!("../scenarios/manifests/small.yaml");
const NETWORKS: [&str; 3] = [
    "{latency: {uniform: [2ms, 8ms]}}",
    "{latency: {uniform: [2ms, 60ms]}, watch-lag: {uniform: [0ms, 500ms]}}",
    "{latency: {uniform: [2ms, 30ms]}, errors: 0.03, losses: 0.02, watch-lag: {uniform: [0ms, 200ms]}}",
];
const NODES: [&str; 2] = [
    "  - {name: base, count: 12, capacity: {cpu: 8, memory: 32Gi}}\n",
    "  - {name: base, count: 1, capacity: {cpu: 4, memory: 32Gi}}\n  - {name: more, most: 24, capacity: {cpu: 8, memory: 32Gi}}\n",
];
const PODS: [&str; 2] = ["{}", "{fail: 0.1, stop: {uniform: [1s, 20s]}}"];
const CLUSTERS: [&str; 2] = ["", "gcsFaultToleranceOptions: {redisAddress: \"redis:6379\"}"];
const GANGS: [&str; 2] = ["off", "all"];
const LASTING: [&str; 6] = ["api-down", "gcs-hangs", "gcs-garbage", "node-unhealthy", "slow-pull", "pod-stuck"];
const SUDDEN: [&str; 5] = ["node-lost", "pod-evicted", "head-lost", "watches-cut", "history-lost"];
const KILLED: [&str; 2] = ["operator-killed", "sidecar-killed"];
const CLOCKS: [&str; 2] = ["clock-ahead", "clock-behind"];
/// No fault comes later.
const LAST_FAULT_S: usize = 540;

impl Soak {
    /// The scenario of this seed.
    pub fn of(seed: u64) -> Soak {
        let mut chance = stream(seed, "soak", "");
        let work = (0..1 + chance.below(4)).map(|_| work(&mut chance)).collect();
        let faults = (0..chance.below(7)).map(|_| fault(&mut chance)).collect();
        let soak = Soak {
            seed,
            policy: if chance.below(4) == 0 { "ray-v2" } else { "mobula" },
            network: NETWORKS[chance.below(NETWORKS.len())],
            nodes: NODES[chance.below(NODES.len())],
            pods: PODS[chance.below(PODS.len())],
            cluster: CLUSTERS[chance.below(CLUSTERS.len())],
            gangs: GANGS[chance.below(GANGS.len())],
            work,
            faults,
        };
        // Who buys nodes does not see pods that are held back: for them there would never be room.
        if soak.nodes == NODES[0] { soak } else { Soak { gangs: GANGS[0], ..soak } }
    }

    /// As a file.
    pub fn to_yaml(&self) -> String {
        let mut text = format!(
            "about: Soak {}.\nhorizon: 40m\nseeds: [{}]\npolicies: [{}]\nnetwork: {}\npods: {}\nsidecar: {{interval: 10s}}\n\
             operator: {{gang-admission: {}}}\n\
             provisioner: {{like: karpenter}}\nobjects:\n",
            self.seed, self.seed, self.policy, self.network, self.pods, self.gangs
        );
        for (number, line) in CLUSTER.lines().enumerate() {
            let _ = writeln!(text, "  {} {line}", if number == 0 { "-" } else { " " });
            if line == "spec:" && !self.cluster.is_empty() {
                let _ = writeln!(text, "      {}", self.cluster);
            }
        }
        let _ = write!(text, "nodes:\n{}", self.nodes);
        for (name, lines) in [("work", &self.work), ("faults", &self.faults)] {
            if !lines.is_empty() {
                let _ = writeln!(text, "{name}:");
                lines.iter().for_each(|line| text += &format!("  - {line}\n"));
            }
        }
        text
    }

    /// The same with one part less, for each part.
    pub fn smaller(&self) -> Vec<Soak> {
        let mut all = Vec::new();
        for index in 0..self.faults.len() {
            let mut one = self.clone();
            one.faults.remove(index);
            all.push(one);
        }
        for index in 0..self.work.len() {
            let mut one = self.clone();
            one.work.remove(index);
            all.push(one);
        }
        let plain = [
            Soak { network: NETWORKS[0], ..self.clone() },
            Soak { pods: PODS[0], ..self.clone() },
            Soak { cluster: CLUSTERS[0], ..self.clone() },
            Soak { gangs: GANGS[0], ..self.clone() },
        ];
        all.extend(plain.into_iter().filter(|plain| plain != self));
        all
    }
}

fn work(chance: &mut Seeded) -> String {
    let (at, count, minutes) = (1 + chance.below(7), 1 + chance.below(40), 1 + chance.below(3));
    match chance.below(4) {
        0 => format!(
            "{{at: {at}m, gang: {{strategy: strict-spread, bundles: {}, needs: {{CPU: 4}}, duration: {minutes}m}}}}",
            1 + count % 8
        ),
        1 => format!(
            "{{at: {at}m, gang: {{strategy: pack, bundles: {}, needs: {{CPU: 2}}, duration: {minutes}m}}}}",
            1 + count % 12
        ),
        2 => format!(
            "{{at: {at}m, every: {{exponential: 2m}}, until: 8m, tasks: {{needs: {{CPU: 2}}, duration: {minutes}m}}}}"
        ),
        _ => format!("{{at: {at}m, tasks: {{count: {count}, needs: {{CPU: 1}}, duration: {minutes}m}}}}"),
    }
}

fn fault(chance: &mut Seeded) -> String {
    let at_s = 60 + chance.below(LAST_FAULT_S - 60);
    match chance.below(8) {
        0..3 => {
            let (kind, lasts_s) = (LASTING[chance.below(LASTING.len())], 5 + chance.below(120));
            format!("{{at: {at_s}s, kind: {kind}, lasts: {lasts_s}s}}")
        }
        3..5 => {
            let (kind, writes) = (KILLED[chance.below(KILLED.len())], 1 + chance.below(8));
            format!("{{at: {at_s}s, kind: {kind}, after-writes: {writes}}}")
        }
        5 => {
            let (kind, by_s, lasts_s) = (CLOCKS[chance.below(2)], 1 + chance.below(400), 5 + chance.below(300));
            format!("{{at: {at_s}s, kind: {kind}, by: {by_s}s, lasts: {lasts_s}s}}")
        }
        _ => {
            let kind = SUDDEN[chance.below(SUDDEN.len())];
            // A fixed node that is lost never comes back: only bought ones are, where there are some.
            let of = if kind == "node-lost" { ", of: more" } else { "" };
            format!("{{at: {at_s}s, kind: {kind}{of}}}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn every_seed_is_a_scenario_and_becomes_smaller() {
        for seed in 0..50 {
            let soak = Soak::of(seed);
            let text = soak.to_yaml();
            if let Err(error) = Scenario::read("soak", &text, &|_| Err(String::new())) {
                panic!("{error}\n{text}");
            }
            assert!(soak.smaller().iter().all(|smaller| smaller.to_yaml() != text));
        }
    }
}
