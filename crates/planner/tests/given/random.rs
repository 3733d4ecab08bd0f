//! Random snapshots.

use std::collections::BTreeSet;
use std::sync::Arc;

use mobula_planner::{
    Amount, DemandClass, Gang, GangStrategy, LabelConstraint, LabelOperator, LabelSelector, Labels, Locality, Nearness,
    Node, NodePhase, NodeType, Offering, Quota, Request, Resources, Snapshot, TopologyLevel, UpscalingMode,
};
use proptest::prelude::*;

use super::{NOW_MS, busy, cluster, free, gang, group, idle, of_replica, pending, request};

fn a_group(at: usize) -> impl Strategy<Value = NodeType> {
    let sizes = (1..=16_i64, 0..=64_i64, prop::sample::select(vec![0_i64, 0, 1, 8]));
    let limits = (0..3_u32, 0..8_u32, prop::sample::select(vec![1_u32, 1, 2, 4]));
    (sizes, limits, any::<bool>(), prop::bool::weighted(0.1)).prop_map(move |(sizes, limits, zone_a, suspended)| {
        let (cpu, memory, gpu) = sizes;
        let (min, more, hosts) = limits;
        NodeType {
            labels: Arc::new(Labels::from([("zone".into(), if zone_a { "a" } else { "b" }.into())])),
            min_replicas: min,
            max_replicas: min + more,
            num_of_hosts: hosts,
            suspended,
            ..group(&format!("group-{at}"), &[("CPU", cpu), ("memory", memory), ("GPU", gpu)])
        }
    })
}

pub fn a_request() -> impl Strategy<Value = Request> {
    let sizes = (0..=8_i64, 0..=32_i64, prop::sample::select(vec![0_i64, 0, 1, 8]));
    (sizes, prop::option::weighted(0.3, prop::sample::select(vec!["a", "b", "c"]))).prop_map(
        |((cpu, memory, gpu), zone)| {
            let mut asked = request(&[("CPU", cpu), ("memory", memory), ("GPU", gpu)]);
            let constraints = zone.map(|zone| LabelConstraint {
                key: "zone".into(),
                operator: LabelOperator::In,
                values: vec![zone.into()],
            });
            asked.selectors = vec![LabelSelector { constraints: constraints.into_iter().collect() }];
            asked
        },
    )
}

pub fn demand() -> impl Strategy<Value = Vec<DemandClass>> {
    prop::collection::vec((a_request(), 1..40_u64).prop_map(|(request, count)| DemandClass { request, count }), 0..6)
}

fn gangs() -> impl Strategy<Value = Vec<Gang>> {
    let strategies =
        vec![GangStrategy::Pack, GangStrategy::Spread, GangStrategy::StrictPack, GangStrategy::StrictSpread];
    let one = (prop::sample::select(strategies), 0..=4_i64, 1..6_usize);
    prop::collection::vec(one, 0..4).prop_map(|gangs| {
        let gangs = gangs.into_iter().enumerate();
        gangs
            .map(|(at, (strategy, cpu, bundles))| gang(&format!("{at:02x}"), strategy, &[("CPU", cpu)], bundles))
            .collect()
    })
}

/// Replicas of the groups in every phase; those of multi-host groups are named.
fn nodes(groups: Vec<NodeType>) -> impl Strategy<Value = (Vec<NodeType>, Vec<Node>)> {
    let phases = vec![
        NodePhase::Running,
        NodePhase::Running,
        NodePhase::Pending,
        NodePhase::Requested,
        NodePhase::Leaving,
        NodePhase::Stopped,
    ];
    let one = (0..groups.len(), prop::sample::select(phases), 0..3_i64, 0..7200_i64);
    prop::collection::vec(one, 0..8).prop_map(move |replicas| {
        let mut nodes = Vec::new();
        for (at, (which, phase, use_, seconds)) in replicas.into_iter().enumerate() {
            let group = &groups[which];
            for host in 0..group.num_of_hosts {
                let id = format!("pod-{at}-{host}");
                let node = match (phase, use_) {
                    (NodePhase::Running, 0) => busy(group, &id),
                    (NodePhase::Running, 1) => idle(free(group, &id), seconds),
                    (NodePhase::Running, _) => free(group, &id),
                    _ => Node { phase, pending_since_ms: Some(NOW_MS - seconds * 1000), ..pending(group, &id) },
                };
                let several = group.num_of_hosts > 1 && phase != NodePhase::Requested;
                nodes.push(if several { of_replica(node, &format!("replica-{at}")) } else { node });
            }
        }
        (groups.clone(), nodes)
    })
}

pub fn groups() -> impl Strategy<Value = Vec<NodeType>> {
    (a_group(0), a_group(1), a_group(2)).prop_map(|(a, b, c)| vec![a, b, c])
}

pub fn snapshots() -> impl Strategy<Value = Snapshot> {
    let settings =
        (any::<bool>(), prop::option::weighted(0.2, 1..10_u32), prop::option::weighted(0.3, Just(60_000_i64)));
    (groups().prop_flat_map(nodes), demand(), gangs(), settings).prop_map(
        |((groups, nodes), demand, gangs, settings)| {
            let mut snapshot = cluster(&groups.iter().collect::<Vec<_>>(), nodes);
            (snapshot.demand, snapshot.gangs) = (demand, gangs);
            let (conservative, in_flight, pending_idle) = settings;
            if conservative {
                snapshot.settings.upscaling_mode = UpscalingMode::Conservative;
            }
            (snapshot.settings.max_in_flight, snapshot.settings.pending_idle_timeout_ms) = (in_flight, pending_idle);
            snapshot
        },
    )
}

/// What else a snapshot can have: prices, quotas, gangs that are kept together, nodes that are used in part.
#[derive(Clone, Debug)]
struct More {
    /// Price of each group in hundredths.
    prices: Vec<u32>,
    quota_pods: Option<u32>,
    /// For each gang: whether it is kept in one zone, its priority, its age in s.
    gangs: Vec<(bool, i32, i64)>,
    /// For each node: quarters that are in use.
    used: Vec<i64>,
}

fn more() -> impl Strategy<Value = More> {
    let gang = (prop::bool::weighted(0.3), 0..2_i32, 0..100_i64);
    let (prices, gangs) = (prop::collection::vec(1..400_u32, 3), prop::collection::vec(gang, 4));
    let used = prop::collection::vec(0..4_i64, 32);
    (prices, prop::option::weighted(0.2, 0..12_u32), gangs, used).prop_map(|(prices, quota_pods, gangs, used)| More {
        prices,
        quota_pods,
        gangs,
        used,
    })
}

/// Snapshots with everything that a policy may look at.
pub fn rich_snapshots() -> impl Strategy<Value = Snapshot> {
    (snapshots(), more()).prop_map(|(snapshot, more)| enrich(snapshot, &more))
}

/// Rich snapshots in which some gangs have bundles of several kinds.
pub fn mixed_snapshots() -> impl Strategy<Value = Snapshot> {
    let others = prop_oneof![1 => Just(Vec::new()), 2 => prop::collection::vec(a_request(), 1..4)];
    let others = prop::collection::vec((others, 0..6_usize), 4);
    (rich_snapshots(), others).prop_map(|(mut snapshot, others)| {
        for (gang, (others, place)) in snapshot.gangs.iter_mut().zip(others) {
            let place = place.min(gang.bundles.len());
            gang.bundles.splice(place..place, others);
        }
        snapshot
    })
}

/// Mixed snapshots of a cluster that may grow at any rate, in which nothing ends and each request is listed once.
pub fn steady_snapshots() -> impl Strategy<Value = Snapshot> {
    mixed_snapshots().prop_map(|mut snapshot| {
        snapshot.settings.max_in_flight = None;
        snapshot.settings.pending_idle_timeout_ms = None;
        snapshot.settings.upscaling_mode = UpscalingMode::Default;
        snapshot.settings.idle_timeout_ms = None;
        for node in &mut snapshot.nodes {
            if node.phase == NodePhase::Stopped {
                (node.phase, node.available) = (NodePhase::Running, Arc::default());
            }
            node.pending_since_ms = None;
        }
        let mut seen = BTreeSet::new();
        snapshot.demand.retain(|class| seen.insert(class.request.clone()));
        snapshot
    })
}

/// Tasks for a few groups of which there may be few nodes, as much as fits about; without prices.
pub fn small_snapshots() -> impl Strategy<Value = Snapshot> {
    let cpus = || prop::sample::select(vec![2_i64, 4, 8, 16, 64]);
    let groups = prop::collection::vec((cpus(), prop::sample::select(vec![0_i64, 0, 1, 8]), 1..5_u32), 2..4);
    let task = (prop::sample::select(vec![0_i64, 1, 2, 4]), prop::sample::select(vec![0_i64, 0, 0, 1, 4]), 1..20_u64);
    (groups, prop::collection::vec(task, 1..4)).prop_map(|(groups, tasks)| {
        let made = groups.into_iter().enumerate().map(|(at, (cpu, gpu, most))| NodeType {
            max_replicas: most,
            ..group(&format!("group-{at}"), &[("CPU", cpu), ("GPU", gpu)])
        });
        let groups: Vec<NodeType> = made.collect();
        let mut snapshot = cluster(&groups.iter().collect::<Vec<_>>(), vec![]);
        snapshot.settings.conserve_gpu_nodes = true;
        let class = |(cpu, gpu, count)| DemandClass { request: request(&[("CPU", cpu), ("GPU", gpu)]), count };
        snapshot.demand = tasks.into_iter().map(class).collect();
        let mut seen = BTreeSet::new();
        snapshot.demand.retain(|class| seen.insert(class.request.clone()));
        snapshot
    })
}

/// Mixed snapshots in zones and rows, whose groups say how near gangs have to be, or should be.
pub fn near_snapshots() -> impl Strategy<Value = Snapshot> {
    let level = || prop::sample::select(vec![None, None, Some("zone"), Some("row"), Some("aisle")]);
    let row = || prop::sample::select(vec![None, Some("r1"), Some("r2"), Some("r3")]);
    let groups = prop::collection::vec((level(), level(), row()), 3);
    let most = prop::sample::select(vec![None, None, Some(1), Some(3)]);
    let drawn = (mixed_snapshots(), groups, prop::collection::vec(row(), 32), most);
    drawn.prop_map(|(mut snapshot, groups, rows, most)| {
        let named = |name: &str| name.to_owned();
        let level =
            |name: &str| TopologyLevel { name: named(name), keys: vec![named(name)], ..TopologyLevel::default() };
        snapshot.topology = ["zone", "row"].map(level).into();
        snapshot.topology[1].max_hosts = most;
        let with_row = |labels: &mut Arc<Labels>, row: Option<&str>| {
            let labels = Arc::make_mut(labels);
            row.into_iter().for_each(|row| drop(labels.insert(named("row"), format!("{}-{row}", labels["zone"]))));
        };
        for (group, (required, preferred, row)) in snapshot.node_types.iter_mut().zip(&groups) {
            // A misspelled level holds gangs when it is required; it is not what is looked at here.
            let required = required.filter(|level| *level != "aisle").map(named);
            group.facts.nearness = Nearness { required, preferred: preferred.map(named) };
            with_row(&mut group.labels, *row);
        }
        let pinned: Vec<(String, bool)> = snapshot
            .node_types
            .iter()
            .zip(groups)
            .map(|(group, (.., row))| (group.name.clone(), row.is_some()))
            .collect();
        for (node, row) in snapshot.nodes.iter_mut().zip(rows) {
            let group = snapshot.node_types.iter().find(|group| *group.name == *node.group);
            let is_pinned = pinned.iter().any(|(name, is_pinned)| **name == *node.group && *is_pinned);
            match group.filter(|_| is_pinned) {
                Some(group) => node.labels = Arc::clone(&group.labels),
                None if node.phase == NodePhase::Running => with_row(&mut node.labels, row),
                None => {}
            }
        }
        snapshot
    })
}

fn enrich(mut snapshot: Snapshot, more: &More) -> Snapshot {
    for (group, price) in snapshot.node_types.iter_mut().zip(&more.prices) {
        group.offerings = vec![Offering { price_per_hour: f64::from(*price) / 100.0, ..Offering::default() }];
    }
    for (gang, (is_kept_together, priority, age_s)) in snapshot.gangs.iter_mut().zip(&more.gangs) {
        (gang.priority, gang.created_ms) = (*priority, Some(NOW_MS - age_s * 1000));
        gang.locality = is_kept_together.then(|| Locality {
            label: "zone".to_owned(),
            strategy: GangStrategy::StrictPack,
            selector: LabelSelector::default(),
        });
    }
    for (node, quarters) in snapshot.nodes.iter_mut().zip(more.used.iter().cycle()) {
        if node.phase == NodePhase::Running && node.idle_ms.is_none() {
            let part = |(name, amount): (&String, &Amount)| {
                (name.clone(), Amount::from_steps(amount.steps() / 4 * (4 - quarters)))
            };
            node.available = Arc::new(node.available.iter().map(part).collect());
        }
    }
    ask_for_what_is_there(&mut snapshot);
    snapshot.quotas.extend(more.quota_pods.map(|pods| Quota {
        source: "ResourceQuota team-a".to_owned(),
        groups: Vec::new(),
        free: Resources::from([("pods".to_owned(), Amount::from_units(pods.into()))]),
    }));
    snapshot
}

/// The RayCluster asks for the replicas of which there are pods, as far as it may; minima are still to be asked for.
fn ask_for_what_is_there(snapshot: &mut Snapshot) {
    for group in &mut snapshot.node_types {
        let live = |node: &&Node| *node.group == *group.name && node.phase != NodePhase::Leaving;
        let pods = snapshot.nodes.iter().filter(live).count() as u32;
        group.requested_replicas = pods.div_ceil(group.num_of_hosts).min(group.max_replicas);
    }
}
