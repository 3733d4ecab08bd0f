//! A small world around the planner: it carries plans out, lets pods come or not, and lets time pass.

use std::collections::BTreeMap;
use std::sync::Arc;

use mobula_planner::{
    Amount, DemandRef, Node, NodePhase, NodeType, PendingCause, Plan, Request, Resources, Snapshot, Target,
};

/// What becomes of the pods of a group.
#[derive(Copy, Clone, Debug)]
pub enum Fate {
    /// Ray runs in them after so long.
    ComeAfter { seconds: i64 },
    /// Kubernetes finds no place for them until so long after the beginning.
    StuckUntil { seconds: i64 },
    /// Kubernetes never finds a place for them.
    Stuck,
    /// The API server refuses to create them.
    Refused,
}

/// How the world goes on.
#[derive(Clone, Debug)]
pub struct Ways {
    /// By group.
    pub fates: Vec<Fate>,
    /// Ray starts on running nodes what the plan expects there.
    pub work_starts: bool,
    /// A pod that ends is there for another step.
    pub ends_take_a_step: bool,
    /// A pod that is asked for exists a step later.
    pub pods_take_a_step: bool,
    /// Each host of a replica comes some time after the one before.
    pub hosts_come_apart: bool,
}

pub struct World {
    pub snapshot: Snapshot,
    ways: Ways,
    start_ms: i64,
    /// Pods that were named so far.
    named: usize,
    /// Pods that the quotas allow, by quota.
    quota_pods: Vec<i64>,
    /// Pod → the tick in which it was created.
    pub born: BTreeMap<Arc<str>, usize>,
    /// Plans that were carried out.
    tick: usize,
    /// Whether in the last step Ray came up in a pod that was stuck, or work started: not all of it where it was meant to run, as
    /// gangs take what runs first.
    pub is_other: bool,
}

impl World {
    pub fn new(snapshot: Snapshot, ways: Ways) -> World {
        let mut world = World {
            start_ms: snapshot.now_ms,
            snapshot,
            ways,
            named: 0,
            quota_pods: Vec::new(),
            born: BTreeMap::new(),
            tick: 0,
            is_other: false,
        };
        let pods = world.snapshot.nodes.len() as i64;
        let free = |quota: &mobula_planner::Quota| quota.free.get("pods").map_or(0, |amount| amount.steps() / 10_000);
        world.quota_pods = world.snapshot.quotas.iter().map(|quota| free(quota) + pods).collect();
        world
    }

    /// Carries `plan` out, which is of the snapshot as it is, and lets time pass.
    pub fn go_on(&mut self, plan: &Plan, milliseconds: i64) {
        self.is_other = self.ways.work_starts && self.start_work(plan);
        self.snapshot.nodes.retain(|node| node.phase != NodePhase::Leaving);
        self.end(plan);
        for group in &mut self.snapshot.node_types {
            if let Some(planned) = plan.groups.get(&group.name) {
                group.requested_replicas = planned.desired;
            }
        }
        self.snapshot.now_ms += milliseconds;
        for node in &mut self.snapshot.nodes {
            node.idle_ms = node.idle_ms.map(|idle_ms| idle_ms + milliseconds.max(0));
        }
        self.create();
        self.come();
        self.count_quotas();
        self.tick += 1;
    }

    /// All work ends.
    pub fn end_work(&mut self) {
        (self.snapshot.demand, self.snapshot.gangs) = (Vec::new(), Vec::new());
        for node in self.snapshot.nodes.iter_mut().filter(|node| node.phase == NodePhase::Running) {
            (node.available, node.idle_ms) = (Arc::clone(&node.total), node.idle_ms.or(Some(0)));
            node.dynamic_labels = Arc::default();
        }
    }

    /// Starts what is expected on nodes that run, whole gangs only. Returns whether anything was.
    fn start_work(&mut self, plan: &Plan) -> bool {
        let waiting =
            self.snapshot.demand.iter().map(|class| class.count).sum::<u64>() + self.snapshot.gangs.len() as u64;
        let mut is_waiting = vec![false; self.snapshot.gangs.len()];
        let runs = |target: &Target, snapshot: &Snapshot| match target {
            Target::Node(at) => snapshot.nodes[*at as usize].phase == NodePhase::Running,
            Target::New { .. } => false,
        };
        for place in &plan.placements {
            if let DemandRef::Gang { gang, .. } = place.demand {
                is_waiting[gang as usize] |= !runs(&place.target, &self.snapshot);
            }
        }
        let mut is_started = vec![false; self.snapshot.gangs.len()];
        for place in plan.placements.iter().filter(|place| runs(&place.target, &self.snapshot)).collect::<Vec<_>>() {
            let Target::Node(at) = place.target else { continue };
            let request = match place.demand {
                DemandRef::Class(class) => {
                    let class = &mut self.snapshot.demand[class as usize];
                    class.count -= place.count;
                    class.request.clone()
                }
                DemandRef::Gang { gang, .. } if is_waiting[gang as usize] => continue,
                DemandRef::Gang { gang, first_bundle } => {
                    is_started[gang as usize] = true;
                    self.snapshot.gangs[gang as usize].bundles[first_bundle as usize].clone()
                }
            };
            let mut node = self.snapshot.nodes[at as usize].clone();
            node.available = Arc::new(without(&node.available, &request, place.count));
            node.idle_ms = None;
            self.snapshot.nodes[at as usize] = node;
        }
        self.snapshot.demand.retain(|class| class.count > 0);
        let mut is_started = is_started.into_iter();
        self.snapshot.gangs.retain(|_| !is_started.next().unwrap_or(false));
        let left = self.snapshot.demand.iter().map(|class| class.count).sum::<u64>() + self.snapshot.gangs.len() as u64;
        left < waiting
    }

    fn end(&mut self, plan: &Plan) {
        let ends: Vec<&str> = plan.terminate.iter().map(|end| end.instance_id.as_str()).collect();
        if self.ways.ends_take_a_step {
            for node in self.snapshot.nodes.iter_mut().filter(|node| ends.contains(&&*node.instance_id)) {
                (node.phase, node.idle_ms) = (NodePhase::Leaving, None);
            }
        } else {
            self.snapshot.nodes.retain(|node| !ends.contains(&&*node.instance_id));
        }
    }

    /// Creates pods that are asked for.
    fn create(&mut self) {
        let mut asked: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        for node in self.snapshot.nodes.iter().filter(|node| node.phase == NodePhase::Requested) {
            *asked.entry(Arc::clone(&node.group)).or_default() += 1;
        }
        self.snapshot.nodes.retain(|node| node.phase != NodePhase::Requested);
        for (at, group) in self.snapshot.node_types.clone().into_iter().enumerate() {
            let live = self
                .snapshot
                .nodes
                .iter()
                .filter(|node| *node.group == *group.name && node.phase != NodePhase::Leaving);
            let replicas = (live.count() as u32).div_ceil(group.num_of_hosts);
            let missing = if group.suspended { 0 } else { group.requested_replicas.saturating_sub(replicas) };
            let asked = asked.get(&*group.name).copied().unwrap_or(0) as u32 / group.num_of_hosts;
            let created = match self.ways.fates[at] {
                Fate::Refused => 0,
                _ if self.ways.pods_take_a_step => asked.min(missing),
                _ => missing,
            };
            (0..created).for_each(|_| self.add(&group, NodePhase::Pending));
            (created..missing).for_each(|_| self.add(&group, NodePhase::Requested));
        }
    }

    fn add(&mut self, group: &NodeType, phase: NodePhase) {
        self.named += 1;
        let replica = format!("{}/new-{}", group.name, self.named);
        let cause = (phase == NodePhase::Requested && self.is_refused(group)).then_some(PendingCause::QuotaRefused);
        for host in 0..group.num_of_hosts {
            let id: Arc<str> = format!("{replica}-{host}").into();
            self.born.insert(Arc::clone(&id), self.tick);
            self.snapshot.nodes.push(Node {
                instance_id: id,
                group: group.name.as_str().into(),
                replica: (group.num_of_hosts > 1).then(|| replica.clone()),
                phase,
                total: Arc::clone(&group.resources),
                available: Arc::clone(&group.resources),
                labels: Arc::clone(&group.labels),
                pending_since_ms: (phase == NodePhase::Pending).then_some(self.snapshot.now_ms),
                pending_cause: cause,
                ..Node::default()
            });
        }
    }

    fn is_refused(&self, group: &NodeType) -> bool {
        let at = self.snapshot.node_types.iter().position(|other| other.name == group.name);
        at.is_some_and(|at| matches!(self.ways.fates[at], Fate::Refused))
    }

    /// Lets Ray run where it can.
    fn come(&mut self) {
        let now_ms = self.snapshot.now_ms;
        let names: Vec<String> = self.snapshot.node_types.iter().map(|group| group.name.clone()).collect();
        for node in self.snapshot.nodes.iter_mut().filter(|node| node.phase == NodePhase::Pending) {
            let Some(at) = names.iter().position(|name| **name == *node.group) else { continue };
            let waited_ms = now_ms - node.pending_since_ms.unwrap_or(now_ms);
            let (comes, cause) = match self.ways.fates[at] {
                Fate::ComeAfter { seconds } => (waited_ms >= seconds * 1000, PendingCause::Provisioning),
                Fate::StuckUntil { seconds } => (now_ms - self.start_ms >= seconds * 1000, PendingCause::Unschedulable),
                Fate::Stuck | Fate::Refused => (false, PendingCause::Unschedulable),
            };
            node.pending_cause = Some(cause);
            let later_s = if self.ways.hosts_come_apart {
                20 * node.instance_id.rsplit('-').next().and_then(|host| host.parse().ok()).unwrap_or(0)
            } else {
                0
            };
            if comes && waited_ms >= later_s * 1000 {
                self.is_other |= matches!(self.ways.fates[at], Fate::StuckUntil { .. });
                (node.phase, node.idle_ms, node.pending_cause) = (NodePhase::Running, Some(0), None);
                (node.pending_since_ms, node.ray_node_id) = (None, Some(format!("ray-{}", node.instance_id)));
            }
        }
    }

    fn count_quotas(&mut self) {
        let pods = self.snapshot.nodes.len() as i64;
        for (quota, most) in self.snapshot.quotas.iter_mut().zip(&self.quota_pods) {
            quota.free.insert("pods".to_owned(), Amount::from_units((most - pods).max(0)));
        }
    }
}

fn without(available: &Resources, request: &Request, count: u64) -> Resources {
    let left = |name: &String, amount: Amount| {
        let needs = request.resources.get(name).copied().unwrap_or_default();
        Amount::from_steps(amount.steps() - needs.steps() * count as i64)
    };
    available.iter().map(|(name, amount)| (name.clone(), left(name, *amount))).collect()
}
