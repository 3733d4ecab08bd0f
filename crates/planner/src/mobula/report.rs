//! From a decision to a plan: entries, counts, and reasons.

use std::collections::{BTreeMap, BTreeSet};

use super::board::Put;
use super::decide::{Decision, GangFate};
use super::demand::GangWork;
use super::pending;
use super::rate;
use super::reasons;
use super::resize;
use super::world::{HostId, Origin, World};
use crate::census::{Census, Replicas, census, replicas};
use crate::{
    Cost, DemandRef, DrainKind, GangPlan, GangStrategy, Launch, Memory, Node, NodePhase, PendingCause, Placement, Plan,
    Reason, Terminate, TerminateCause, Unmet, UnmetCause, UnmetKind, Verdict, words,
};

/// Writes the plan.
pub(super) fn plan(policy: &str, decision: &Decision<'_>, memory: &Memory) -> Plan {
    let report = Report::new(decision, memory);
    let mut plan = Plan { policy: policy.to_owned(), versions: decision.snapshot.versions.clone(), ..Plan::default() };
    report.groups(&mut plan);
    report.endings(&mut plan);
    report.resizes(&mut plan);
    report.constraints(&mut plan);
    report.gangs(&mut plan);
    report.classes(&mut plan);
    report.kept(&mut plan);
    report.placements(&mut plan);
    plan.cost = Some(report.cost());
    plan
}

/// Where the pieces of one class or gang are.
#[derive(Clone, Debug, Default)]
struct Share {
    /// On nodes where Ray runs.
    there: u64,
    /// On nodes that are on their way.
    coming: u64,
    /// Of these, by what their pods wait for: how many, and for how long at most in ms.
    waiting: BTreeMap<PendingCause, (u64, i64)>,
    /// On new hosts, by group.
    launched: BTreeMap<usize, u64>,
    /// On new hosts that may not be launched yet, by group.
    later: BTreeMap<usize, u64>,
    /// Of a gang: hosts that are there or on their way, in order, each once.
    present_hosts: Vec<u32>,
    /// Of a gang: new hosts, each with its group before it; in order, each once.
    new_hosts: Vec<(usize, u32)>,
}

impl Share {
    /// Notes what the pod of a host waits for, on which so many pieces are.
    fn note_waiting(&mut self, world: &World<'_>, host: HostId, pieces: u64) {
        let Some((node, cause)) = world.node(host).and_then(|node| Some((node, node.pending_cause?))) else { return };
        let waited_ms = node.pending_since_ms.map_or(0, |since| world.snapshot.now_ms.saturating_sub(since));
        let (count, most_ms) = self.waiting.entry(cause).or_default();
        (*count, *most_ms) = (count.saturating_add(pieces), waited_ms.max(*most_ms));
    }
}

struct Report<'d, 'a> {
    decision: &'d Decision<'a>,
    memory: &'d Memory,
    /// Nodes of the snapshot that end.
    ending: BTreeSet<usize>,
    /// Pods by group, by what becomes of them.
    census: Vec<Census<'a>>,
    held_back: rate::HeldBack,
    classes: Vec<Share>,
    gangs: Vec<Share>,
}

impl<'d, 'a> Report<'d, 'a> {
    fn new(decision: &'d Decision<'a>, memory: &'d Memory) -> Self {
        let snapshot = decision.snapshot;
        let given_up = decision.given_up.nodes.iter().enumerate().filter(|(_, out)| **out).map(|(at, _)| at);
        let ending: BTreeSet<usize> = given_up.chain(decision.shrink.ends.iter().map(|(at, ..)| *at)).collect();
        let census = match decision.shrink.ends.is_empty() {
            true => decision.census.clone(),
            false => census(snapshot, decision.roster, |at| ending.contains(&at)),
        };
        let is_limited = snapshot.settings.max_in_flight.is_some();
        let late = if is_limited {
            pending::late_pods(snapshot, decision.roster, |at| ending.contains(&at), memory)
        } else {
            Default::default()
        };
        let held_back = rate::hold_back(&decision.board.world, &census, &late);
        let mut report = Report {
            decision,
            memory,
            ending,
            census,
            held_back,
            classes: vec![Share::default(); snapshot.demand.len()],
            gangs: vec![Share::default(); snapshot.gangs.len()],
        };
        report.share();
        report
    }

    fn share(&mut self) {
        let world = &self.decision.board.world;
        for put in &self.decision.board.puts {
            let (share, is_gang) = match put.demand {
                DemandRef::Class(at) => (self.classes.get_mut(at as usize), false),
                DemandRef::Gang { gang, .. } => (self.gangs.get_mut(gang as usize), true),
            };
            let Some(share) = share else { continue };
            if put.host as usize >= world.present {
                let group = world.hosts.group[put.host as usize] as usize;
                let launched = put.range().filter(|host| !self.held_back.is_held(*host));
                let number = if is_gang {
                    let before = share.new_hosts.len();
                    share.new_hosts.extend(launched.map(|host| (group, host)));
                    (share.new_hosts.len() - before) as u32
                } else if self.held_back.is_nothing() {
                    put.hosts
                } else {
                    launched.count() as u32
                };
                for (number, places) in [(number, &mut share.launched), (put.hosts - number, &mut share.later)] {
                    if number > 0 {
                        let place = places.entry(group).or_default();
                        *place = place.saturating_add(put.count.saturating_mul(u64::from(number)));
                    }
                }
                continue;
            }
            if is_gang {
                share.present_hosts.extend(put.range());
            }
            if world.is_coming(put.host) {
                share.coming = share.coming.saturating_add(put.pieces());
                put.range().for_each(|host| share.note_waiting(world, host, put.count));
            } else {
                share.there = share.there.saturating_add(put.pieces());
            }
        }
        for share in &mut self.gangs {
            share.present_hosts.sort_unstable();
            share.present_hosts.dedup();
            share.new_hosts.sort_unstable();
            share.new_hosts.dedup();
        }
    }

    fn name(&self, group: usize) -> &'a str {
        self.decision.snapshot.node_types.get(group).map_or("no group", |group| &group.name)
    }

    fn groups(&self, plan: &mut Plan) {
        let snapshot = self.decision.snapshot;
        let purposes = self.purposes();
        for (at, spec) in snapshot.node_types.iter().enumerate().filter(|(_, spec)| !spec.is_head) {
            let launched = self.held_back.launched(at);
            let Replicas { plan: counts, launch } = replicas(&self.census[at], spec, launched);
            plan.groups.insert(spec.name.clone(), counts);
            if launch == 0 {
                continue;
            }
            let purpose = purposes.get(at).filter(|purpose| !purpose.is_empty());
            let reason = purpose.cloned().unwrap_or_else(|| "replicas that end are replaced".to_owned());
            let count = words::counted(u64::from(launch), "more replica");
            let text = format!("{count}, for {reason}{}", self.price_text(at, launch));
            plan.explain.push(Reason { subject: format!("group {}", spec.name), verdict: Verdict::Launch, text });
            plan.launch.push(Launch { group: spec.name.clone(), replicas: launch, reason });
        }
        for (group, why) in self.held_back.reasons() {
            let subject = format!("group {}", self.name(*group));
            let text = format!("more replicas are wanted than may be launched now ({why})");
            plan.explain.push(Reason { subject, verdict: Verdict::Keep, text });
        }
        for (group, blocked) in self.memory.blocked.iter().filter(|(_, blocked)| blocked.until_ms > snapshot.now_ms) {
            let text = pending::left_alone_text(blocked.until_ms, blocked.cause, snapshot.now_ms);
            plan.explain.push(Reason { subject: format!("group {group}"), verdict: Verdict::Keep, text });
        }
    }

    fn price_text(&self, group: usize, replicas: u32) -> String {
        let prices = &self.decision.prices;
        if !prices.is_priced {
            return String::new();
        }
        let hosts = replicas * self.decision.board.world.groups[group].hosts;
        if prices.unpriced.contains(&group) {
            return ", at an unknown price".to_owned();
        }
        format!(", at {} an hour", words::money(prices.per_hour[group] * f64::from(hosts)))
    }

    /// What the launches of each group are for.
    fn purposes(&self) -> Vec<String> {
        let specs = &self.decision.snapshot.node_types;
        // By group: gangs, and tasks or actors.
        let mut counts = vec![(0_u64, 0_u64); specs.len()];
        for (group, _) in self.gangs.iter().flat_map(|share| &share.launched) {
            counts[*group].0 += 1;
        }
        for (group, count) in self.classes.iter().flat_map(|share| &share.launched) {
            counts[*group].1 = counts[*group].1.saturating_add(*count);
        }
        let purpose = |(group, (gangs, tasks)): (usize, (u64, u64))| {
            let mut parts = Vec::new();
            if self.decision.floors.get(group).is_some_and(|floor| *floor > 0) {
                let least = specs[group].min_replicas;
                parts.push(format!("the minimum of {}", words::counted(u64::from(least), "replica")));
            }
            if self.decision.reserved.get(group).is_some_and(|reserved| *reserved > 0) {
                parts.push("request_resources".to_owned());
            }
            match gangs {
                0 => {}
                gangs => parts.push(words::counted(gangs, "gang")),
            }
            match tasks {
                0 => {}
                1 => parts.push("1 task or actor".to_owned()),
                tasks => parts.push(format!("{tasks} tasks or actors")),
            }
            words::list(&parts)
        };
        counts.into_iter().enumerate().map(purpose).collect()
    }

    fn endings(&self, plan: &mut Plan) {
        let snapshot = self.decision.snapshot;
        let mut ends: BTreeMap<usize, (TerminateCause, &String)> = BTreeMap::new();
        for (at, cause, text) in self.decision.given_up.ends.iter().chain(&self.decision.shrink.ends) {
            ends.insert(*at, (*cause, text));
        }
        for (at, (cause, reason)) in ends {
            // What has no pod yet ends by not being asked for any more.
            let Some(node) = snapshot.nodes.get(at).filter(|node| node.phase != NodePhase::Requested) else {
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
                reason: reason.clone(),
                drain: drain(node),
            });
        }
    }

    fn resizes(&self, plan: &mut Plan) {
        for to in resize::resizes(&self.decision.board.world) {
            let size = format!("CPU {}, memory {}", to.cpu.as_f64(), words::amount("memory", to.memory.as_f64()));
            plan.explain.push(Reason {
                subject: format!("node {}", to.instance_id),
                verdict: Verdict::Resize,
                text: format!("grows in place to {size}, which spares a new node"),
            });
            plan.resize.push(to);
        }
    }

    fn constraints(&self, plan: &mut Plan) {
        for lacking in &self.decision.lacking {
            let Some(constraint) = self.decision.snapshot.constraints.get(lacking.at) else { continue };
            let mut cause = UnmetCause::Waiting;
            let mut texts = Vec::new();
            for class in &lacking.classes {
                let (why, text) = reasons::of_class(self.decision, self.memory, class);
                cause = if why == UnmetCause::NeverFits || cause == UnmetCause::Waiting { why } else { cause };
                let shape = reasons::shape_text(&self.decision.board.world, class.shape);
                texts.push(format!("{} of {shape} find no place: {text}", class.count));
            }
            let kind = UnmetKind::Constraint(constraint.clone());
            self.unmet(plan, "request_resources".to_owned(), kind, 1, cause, texts.join("; "));
        }
    }

    fn gangs(&self, plan: &mut Plan) {
        let mut gangs: Vec<&GangWork<'_>> = self.decision.gangs.iter().collect();
        gangs.sort_by_key(|work| work.at);
        for work in gangs {
            let (fate, share) = (&self.decision.fates[work.at as usize], &self.gangs[work.at as usize]);
            plan.gangs.push(self.gang(work, fate, share));
            let subject = words::gang(work.gang);
            if !fate.is_placed {
                let (cause, text) = reasons::of_gang(self.decision, self.memory, work, fate);
                if let Some(entry) = plan.gangs.last_mut() {
                    entry.reason.clone_from(&text);
                }
                self.unmet(plan, subject, UnmetKind::Gang(work.gang.clone()), 1, cause, text);
            } else if !share.later.is_empty() {
                let text = self.waits_for(share);
                if let Some(entry) = plan.gangs.last_mut() {
                    entry.reason.clone_from(&text);
                }
                self.unmet(plan, subject, UnmetKind::Gang(work.gang.clone()), 1, UnmetCause::Waiting, text);
            } else {
                let verdict = if share.launched.is_empty() { Verdict::Fits } else { Verdict::Launch };
                let mut text = self.share_text(share);
                let place = fate.domain.as_ref().map(|domain| format!("; all in {domain}"));
                text += &place.unwrap_or_default();
                let fabric = fate.fabric.as_ref().map(|fabric| format!("; one fabric, {fabric}"));
                text += &fabric.unwrap_or_default();
                if !fate.drawback.is_empty() {
                    text += &format!("; {}", fate.drawback);
                }
                plan.explain.push(Reason { subject, verdict, text });
            }
        }
    }

    fn gang(&self, work: &GangWork<'_>, fate: &GangFate, share: &Share) -> GangPlan {
        let served = fate.is_placed && share.later.is_empty();
        let by_group = share.new_hosts.chunk_by(|a, b| a.0 == b.0);
        let new_hosts = by_group.map(|hosts| (self.name(hosts[0].0).to_owned(), hosts.len() as u32));
        GangPlan {
            id: work.gang.id.clone(),
            served,
            new_hosts: new_hosts.collect(),
            present_hosts: share.present_hosts.len() as u32,
            domain: fate.domain.clone(),
            fabric: fate.fabric.clone(),
            reason: if share.coming > 0 && served {
                format!("it waits for nodes that are on their way{}", waiting_text(share))
            } else {
                String::new()
            },
        }
    }

    fn classes(&self, plan: &mut Plan) {
        let snapshot = self.decision.snapshot;
        let mut left: BTreeMap<u32, &super::demand::Class> = BTreeMap::new();
        for class in self.decision.classes.iter().filter(|class| class.count > 0) {
            left.insert(class.at, class);
        }
        for (at, class) in snapshot.demand.iter().enumerate() {
            let share = &self.classes[at];
            let shape = words::request(&class.request);
            if let Some(left) = left.get(&(at as u32)) {
                let (cause, text) = reasons::of_class(self.decision, self.memory, left);
                let kind = UnmetKind::Task(class.request.clone());
                self.unmet(plan, format!("demand {shape} x {}", left.count), kind, left.count, cause, text);
            }
            let later = share.later.values().fold(0_u64, |sum, count| sum.saturating_add(*count));
            if later > 0 {
                let kind = UnmetKind::Task(class.request.clone());
                let subject = format!("demand {shape} x {later}");
                self.unmet(plan, subject, kind, later, UnmetCause::Waiting, self.waits_for(share));
            }
            if share.there > 0 || share.coming > 0 || !share.launched.is_empty() {
                let verdict = if share.launched.is_empty() { Verdict::Fits } else { Verdict::Launch };
                let subject = format!("demand {shape} x {}", class.count);
                plan.explain.push(Reason { subject, verdict, text: self.share_text(share) });
            }
        }
    }

    fn unmet(&self, plan: &mut Plan, subject: String, kind: UnmetKind, count: u64, cause: UnmetCause, reason: String) {
        plan.explain.push(Reason { subject, verdict: Verdict::Unmet, text: reason.clone() });
        plan.unmet.push(Unmet { kind, count, cause, reason });
    }

    fn waits_for(&self, share: &Share) -> String {
        let groups = share.later.keys().map(|group| {
            let why = self.held_back.reasons().get(group).map_or("", String::as_str);
            format!("{} ({why})", self.name(*group))
        });
        format!("it waits until more replicas may be launched of {}", words::list(&groups.collect::<Vec<_>>()))
    }

    /// `3 fit on running nodes and 5 on new nodes of gpu`.
    fn share_text(&self, share: &Share) -> String {
        if share.there > 0 && share.coming == 0 && share.launched.is_empty() && share.later.is_empty() {
            let mut text = String::with_capacity(32);
            words::push_count(&mut text, share.there);
            return text + if share.there == 1 { " fits on running nodes" } else { " fit on running nodes" };
        }
        let mut parts = Vec::new();
        let mut part = |count: u64, place: std::fmt::Arguments<'_>| {
            if count > 0 {
                let verb = match (parts.is_empty(), count) {
                    (true, 1) => " fits",
                    (true, _) => " fit",
                    _ => "",
                };
                parts.push(format!("{count}{verb} {place}"));
            }
        };
        part(share.there, format_args!("on running nodes"));
        part(share.coming, format_args!("on nodes that are on their way{}", waiting_text(share)));
        for (group, count) in &share.launched {
            part(*count, format_args!("on new nodes of {}", self.name(*group)));
        }
        for (group, count) in &share.later {
            part(*count, format_args!("on nodes of {} that can't be launched yet", self.name(*group)));
        }
        match &mut parts[..] {
            [only] => std::mem::take(only),
            parts => words::list(parts),
        }
    }

    fn kept(&self, plan: &mut Plan) {
        for (at, why) in &self.decision.shrink.kept {
            let Some(node) = self.decision.snapshot.nodes.get(*at).filter(|_| !self.ending.contains(at)) else {
                continue;
            };
            let idle = words::seconds(node.idle_ms.unwrap_or_default());
            let text = format!("idle for {idle}, but stays: {why}");
            let subject = format!("node {}", node.instance_id);
            plan.explain.push(Reason { subject, verdict: Verdict::Keep, text });
        }
        plan.explain.extend(self.decision.given_up.kept.iter().cloned());
        self.unfit(plan);
    }

    /// Nodes that take nothing new because of what is said of their Kubernetes nodes.
    fn unfit(&self, plan: &mut Plan) {
        let snapshot = self.decision.snapshot;
        let unfit = snapshot.hosts.iter().filter_map(|host| Some((host.name.as_str(), host.unfit.as_deref()?)));
        let unfit: BTreeMap<&str, &str> = unfit.collect();
        if unfit.is_empty() {
            return;
        }
        for (at, node) in snapshot.nodes.iter().enumerate() {
            let Some((host, why)) = node.host.as_deref().and_then(|host| unfit.get_key_value(host)) else { continue };
            if node.phase != NodePhase::Leaving && !self.ending.contains(&at) {
                let text = format!("takes nothing new: {host} is unfit ({why})");
                plan.explain.push(Reason {
                    subject: format!("node {}", node.instance_id),
                    verdict: Verdict::Keep,
                    text,
                });
            }
        }
    }

    /// Where served demand is meant to run. New hosts are numbered as they are launched.
    fn placements(&self, plan: &mut Plan) {
        let world = &self.decision.board.world;
        let is_waiting = |demand: DemandRef| match demand {
            DemandRef::Class(_) => false,
            DemandRef::Gang { gang, .. } => !self.gangs[gang as usize].later.is_empty(),
        };
        let puts = || self.decision.board.puts.iter().filter(|put| !is_waiting(put.demand));
        plan.placements.reserve(puts().map(|put| put.hosts as usize).sum());
        let is_nothing_held = self.held_back.is_nothing();
        for put in puts() {
            let group = world.hosts.group[put.host as usize];
            let origins = &world.hosts.origin[put.host as usize..(put.host + put.hosts) as usize];
            let at = |(place, origin): (u32, &Origin), replica: u32| Placement {
                demand: put.demand_at(place),
                target: origin.target(group, replica),
                count: put.count,
            };
            if let DemandRef::Gang { gang, .. } = put.demand
                && self.decision.snapshot.gangs[gang as usize].strategy == GangStrategy::StrictPack
            {
                self.placements_of_one_host(plan, (gang, put), group);
                continue;
            }
            let origins = (0..).zip(origins);
            let numbered = origins.clone().zip(self.held_back.numbers(put.range()));
            if (put.host as usize) < world.present {
                plan.placements.extend(origins.map(|origin| at(origin, 0)));
            } else if is_nothing_held {
                plan.placements.extend(numbered.map(|(origin, replica)| at(origin, *replica)));
            } else {
                let goes = numbered.filter(|(_, replica)| **replica != rate::WAITS);
                plan.placements.extend(goes.map(|(origin, replica)| at(origin, *replica)));
            }
        }
    }

    /// All bundles of a gang are on one host: a placement for each run of equal ones.
    fn placements_of_one_host(&self, plan: &mut Plan, (gang, put): (u32, &Put), group: u32) {
        let world = &self.decision.board.world;
        let numbers = self.held_back.numbers(put.range());
        let replica = if (put.host as usize) < world.present { Some(&0) } else { numbers.first() };
        let Some(replica) = replica.filter(|replica| **replica != rate::WAITS) else { return };
        let target = world.hosts.origin[put.host as usize].target(group, *replica);
        let mut first_bundle = 0;
        for run in self.decision.snapshot.gangs[gang as usize].bundles.chunk_by(|a, b| a == b) {
            let (demand, count) = (DemandRef::Gang { gang, first_bundle }, run.len() as u64);
            plan.placements.push(Placement { demand, target, count });
            first_bundle += run.len() as u32;
        }
    }

    fn cost(&self) -> Cost {
        let Decision { board, prices, repacked, fixed_cost, .. } = self.decision;
        let launched = |at: &usize| self.held_back.launched(*at);
        let cost_of = |at: usize| {
            let price = if prices.is_priced { prices.per_hour[at] } else { prices.cost[at] };
            price * launched(&at) as f64
        };
        // A price that is guessed decides, but is nothing that anybody pays.
        let priced = (0..board.world.groups.len()).filter(|at| !prices.unpriced.contains(at));
        let launched_per_hour: f64 = priced.map(cost_of).sum();
        let unpriced_hosts = prices.unpriced.iter().map(launched).sum();
        // Scarcity, which tells equal prices apart, is at most a millionth of a price.
        let bound = (fixed_cost + repacked.lower_bound) * if prices.is_priced { 1.0 - 1e-6 } else { 1.0 };
        let is_comparable = prices.unpriced.is_empty();
        let is_reached = bound >= launched_per_hour * (1.0 - 2e-6);
        Cost {
            is_priced: prices.is_priced,
            launched_per_hour,
            unpriced_hosts,
            lower_bound_per_hour: is_comparable.then_some(if is_reached { launched_per_hour } else { bound.max(0.0) }),
            // Minima are given. What else there is of hosts counts as free in the bound, so that it holds whatever they cost.
            is_proven: repacked.is_proven && is_comparable,
            work: repacked.work,
        }
    }
}

/// ` (2 unschedulable for up to 60 s, 1 pulling images)`; empty where nothing is known.
fn waiting_text(share: &Share) -> String {
    let text = |(cause, (count, most_ms)): (&PendingCause, &(u64, i64))| {
        let time = if *most_ms > 0 { format!(" for up to {}", words::seconds(*most_ms)) } else { String::new() };
        format!("{count} {}{time}", pending::cause_text(Some(*cause)))
    };
    let waiting: Vec<String> = share.waiting.iter().map(text).collect();
    if waiting.is_empty() { String::new() } else { format!(" ({})", waiting.join(", ")) }
}

fn drain(node: &Node) -> DrainKind {
    if node.phase == NodePhase::Running { DrainKind::IfIdle } else { DrainKind::NotNeeded }
}
