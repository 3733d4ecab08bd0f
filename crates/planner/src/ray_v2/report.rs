//! From a decision to a plan: entries, counts, and reasons.

use std::collections::{BTreeMap, BTreeSet};

use super::cluster::{Fate, NodeId, Resizing, Wants};
use super::ending::{KeptFor, idle_timeout_ms};
use super::fits::why_unmet;
use super::schedule::{Cut, Decision, Left};
use super::served::{Share, Shares, name, purposes, shares};
use super::tables::{Run, Work};
use crate::census::Replicas;
use crate::given_up::GivenUp;
use crate::words;
use crate::{
    Amount, DrainKind, Launch, Node, NodePhase, Plan, Reason, Resize, Snapshot, Terminate, TerminateCause, Unmet,
    UnmetCause, UnmetKind, Verdict,
};

/// What a plan is written from.
pub(super) struct Report<'d, 'a> {
    pub snapshot: &'a Snapshot,
    pub work: &'a Work<'a>,
    pub decision: &'d mut Decision<'a>,
    pub given_up: &'d GivenUp<'a>,
    pub replicas: Vec<Replicas>,
    pub held_back: BTreeMap<u16, String>,
}

impl Report<'_, '_> {
    /// Writes the plan.
    pub fn plan(mut self, policy: &str) -> Plan {
        let mut plan = Plan { policy: policy.to_owned(), versions: self.snapshot.versions.clone(), ..Plan::default() };
        let shares = shares(&self.decision.cluster);
        self.groups(&shares, &mut plan);
        self.endings(&mut plan);
        self.resizes(&mut plan);
        self.unmet(&shares, &mut plan);
        self.served(&shares, &mut plan);
        self.kept(&mut plan);
        plan
    }

    fn groups(&self, shares: &Shares, plan: &mut Plan) {
        let floors: Vec<u32> = self
            .replicas
            .iter()
            .map(|replicas| replicas.plan.min.saturating_sub(replicas.plan.current.max(replicas.plan.requested)))
            .collect();
        let purposes = purposes(shares, &floors);
        for (at, (spec, replicas)) in self.snapshot.node_types.iter().zip(&self.replicas).enumerate() {
            if spec.is_head {
                continue;
            }
            plan.groups.insert(spec.name.clone(), replicas.plan.clone());
            if replicas.launch > 0 {
                let purpose = purposes.get(at).filter(|purpose| !purpose.is_empty());
                let reason = purpose.cloned().unwrap_or_else(|| "replicas that end are replaced".to_owned());
                let count = words::counted(u64::from(replicas.launch), "more replica");
                let text = format!("{count}, for {reason}");
                plan.explain.push(Reason { subject: format!("group {}", spec.name), verdict: Verdict::Launch, text });
                plan.launch.push(Launch { group: spec.name.clone(), replicas: replicas.launch, reason });
            }
        }
        for (group, reason) in &self.held_back {
            let subject = format!("group {}", name(self.snapshot, *group));
            let text = format!("more replicas are wanted than may be launched now ({reason})");
            plan.explain.push(Reason { subject, verdict: Verdict::Keep, text });
        }
    }

    fn endings(&self, plan: &mut Plan) {
        let mut ends: BTreeMap<usize, (TerminateCause, String)> = BTreeMap::new();
        for (at, cause, text) in &self.given_up.ends {
            ends.insert(*at, (*cause, text.clone()));
        }
        for (id, node) in (0..).zip(&self.decision.cluster.nodes) {
            if let (Fate::End(cause), Some(at)) = (node.fate, node.observed) {
                ends.insert(at as usize, (cause, self.why_ended(id, cause)));
            }
        }
        for (at, (cause, reason)) in ends {
            // What has no pod yet ends by not being asked for any more.
            let Some(node) = self.snapshot.nodes.get(at).filter(|node| node.phase != NodePhase::Requested) else {
                continue;
            };
            let subject = format!("node {}", node.instance_id);
            plan.explain.push(Reason { subject, verdict: Verdict::Terminate, text: reason.clone() });
            plan.terminate.push(Terminate {
                group: node.group.to_string(),
                instance_id: node.instance_id.to_string(),
                ray_node_id: node.ray_node_id.clone(),
                replica: node.replica.clone(),
                cause,
                reason,
                drain: drain(node, cause),
            });
        }
    }

    fn why_ended(&self, id: NodeId, cause: TerminateCause) -> String {
        let cluster = &self.decision.cluster;
        let node = &cluster.nodes[id as usize];
        match cause {
            TerminateCause::Idle => {
                let idle = words::seconds(node.idle_ms);
                let most = idle_timeout_ms(cluster, id).map(words::seconds).unwrap_or_default();
                let what = if node.phase == NodePhase::Pending { "on its way, but not needed" } else { "idle" };
                format!("{what} for {idle}, longer than {most}")
            }
            TerminateCause::MaxPerGroup => {
                let most = cluster.group_of(id).map_or(0, |group| group.spec.max_replicas);
                format!("its group has more than its maximum of {}", words::counted(u64::from(most), "replica"))
            }
            TerminateCause::MaxNodes => {
                let most = self.snapshot.settings.max_nodes.unwrap_or_default();
                format!("the cluster has more than its maximum of {most} nodes")
            }
            TerminateCause::Outdated => "its group is gone, or makes other pods by now".to_owned(),
            TerminateCause::AllocationTimeout | TerminateCause::RayStopped => String::new(),
        }
    }

    fn resizes(&self, plan: &mut Plan) {
        for node in &self.decision.cluster.nodes {
            let (Resizing::Asked(cpu, memory), NodePhase::Running) = (node.resizing, node.phase) else {
                continue;
            };
            let (Some(at), Some(cpu_amount), Some(memory_amount)) =
                (node.observed, Amount::from_f64(cpu), Amount::from_f64(memory))
            else {
                continue;
            };
            let Some(observed) = self.snapshot.nodes.get(at as usize).filter(|_| node.fate == Fate::Stay) else {
                continue;
            };
            let size = format!("CPU {cpu}, memory {}", words::amount("memory", memory));
            plan.explain.push(Reason {
                subject: format!("node {}", observed.instance_id),
                verdict: Verdict::Resize,
                text: format!("grows in place to {size}, which spares a new node"),
            });
            plan.resize.push(Resize {
                instance_id: observed.instance_id.to_string(),
                ray_node_id: observed.ray_node_id.clone(),
                group: observed.group.to_string(),
                cpu: cpu_amount,
                memory: memory_amount,
            });
        }
    }

    fn unmet(&mut self, shares: &Shares, plan: &mut Plan) {
        let work = self.work;
        for Left { at, cut } in std::mem::take(&mut self.decision.constraints_left) {
            let runs = work.constraints.get(at as usize).map_or(&[][..], Vec::as_slice);
            let (cause, reason) = why_unmet(&mut self.decision.cluster, runs, &cut);
            self.push_unmet(Wants::Constraint, at, 1, cause, reason, plan);
        }
        for Left { at, cut } in std::mem::take(&mut self.decision.gangs_left) {
            let runs = work.gangs.get(at as usize).map_or(&[][..], Vec::as_slice);
            let (cause, reason) = why_unmet(&mut self.decision.cluster, runs, &cut);
            self.push_unmet(Wants::Gang, at, 1, cause, reason, plan);
        }
        let cut = Cut { groups: std::mem::take(&mut self.decision.cut), alone: false };
        for (at, count) in std::mem::take(&mut self.decision.tasks_left) {
            let run: Vec<Run> = work.tasks.iter().copied().filter(|run| run.origin == at).collect();
            let (cause, reason) = why_unmet(&mut self.decision.cluster, &run, &cut);
            self.push_unmet(Wants::Task, at, count, cause, reason, plan);
        }
        for ((wants, at), share) in shares.iter().filter(|(_, share)| share.waiting() > 0) {
            let count = if *wants == Wants::Task { share.waiting() } else { 1 };
            self.push_unmet(*wants, *at, count, UnmetCause::Waiting, self.waits_for(share), plan);
        }
    }

    fn waits_for(&self, share: &Share) -> String {
        let groups = share.later.keys().map(|group| {
            let why = self.held_back.get(group).map_or("", String::as_str);
            format!("{} ({why})", name(self.snapshot, *group))
        });
        format!("it waits until more replicas may be launched of {}", words::list(&groups.collect::<Vec<_>>()))
    }

    fn push_unmet(&self, wants: Wants, at: u32, count: u64, cause: UnmetCause, reason: String, plan: &mut Plan) {
        let snapshot = self.snapshot;
        let kind = match wants {
            Wants::Constraint => snapshot.constraints.get(at as usize).cloned().map(UnmetKind::Constraint),
            Wants::Gang => snapshot.gangs.get(at as usize).cloned().map(UnmetKind::Gang),
            Wants::Task => snapshot.demand.get(at as usize).map(|class| UnmetKind::Task(class.request.clone())),
        };
        let Some(kind) = kind else {
            return;
        };
        let subject = self.subject(wants, at, count);
        plan.explain.push(Reason { subject, verdict: Verdict::Unmet, text: reason.clone() });
        plan.unmet.push(Unmet { kind, count, cause, reason });
    }

    fn subject(&self, wants: Wants, at: u32, count: u64) -> String {
        let (snapshot, at) = (self.snapshot, at as usize);
        match wants {
            Wants::Constraint => "request_resources".to_owned(),
            Wants::Gang => snapshot.gangs.get(at).map(words::gang).unwrap_or_default(),
            Wants::Task => {
                let shape = snapshot.demand.get(at).map(|class| words::request(&class.request)).unwrap_or_default();
                format!("demand {shape} x {count}")
            }
        }
    }

    fn served(&self, shares: &Shares, plan: &mut Plan) {
        for ((wants, at), share) in shares {
            let verdict = match share {
                share if share.launches() => Verdict::Launch,
                share if share.resizes() => Verdict::Resize,
                _ => Verdict::Fits,
            };
            let count = self.snapshot.demand.get(*at as usize).map_or(0, |class| class.count);
            let (subject, text) = (self.subject(*wants, *at, count), share.text(self.snapshot));
            plan.explain.push(Reason { subject, verdict, text });
        }
    }

    fn kept(&self, plan: &mut Plan) {
        let ended: BTreeSet<&str> = plan.terminate.iter().map(|end| end.instance_id.as_str()).collect();
        let mut reasons = Vec::new();
        for (id, why) in &self.decision.kept {
            let cluster = &self.decision.cluster;
            let node = &cluster.nodes[*id as usize];
            let Some(observed) = node.observed.and_then(|at| self.snapshot.nodes.get(at as usize)) else {
                continue;
            };
            if ended.contains(&*observed.instance_id) {
                continue;
            }
            let least = cluster.group_of(*id).map_or(0, |group| group.floor());
            let why = match why {
                KeptFor::Demand => "pending work fits on it".to_owned(),
                KeptFor::Constraint => "request_resources needs it".to_owned(),
                KeptFor::Floor => format!("its group keeps at least {}", words::counted(u64::from(least), "replica")),
                KeptFor::Replica => "other pods of its replica are needed or not idle".to_owned(),
                KeptFor::Launch => "its group gets new nodes in the same plan".to_owned(),
            };
            let text = format!("idle for {}, but stays: {why}", words::seconds(node.idle_ms));
            reasons.push(Reason { subject: format!("node {}", observed.instance_id), verdict: Verdict::Keep, text });
        }
        plan.explain.extend(reasons);
        plan.explain.extend(self.given_up.kept.iter().cloned());
    }
}

fn drain(node: &Node, cause: TerminateCause) -> DrainKind {
    match (node.phase, cause) {
        (NodePhase::Running, TerminateCause::MaxPerGroup | TerminateCause::MaxNodes | TerminateCause::Outdated) => {
            DrainKind::Stop
        }
        (NodePhase::Running, _) => DrainKind::IfIdle,
        _ => DrainKind::NotNeeded,
    }
}
