//! What a plan makes of placement groups: whole or not at all, on the hosts and in the domain that they ask for.

use std::collections::{BTreeMap, BTreeSet};

use super::Check;
use super::places::{Place, satisfied};
use crate::topology::{gpu_steps, gpu_steps_of_hosts, has_accelerator};
use crate::{DemandRef, Gang, GangPlan, GangStrategy, Node, NodePhase, Target, TopologyLevel, UnmetKind};

/// One placement of bundles of a gang.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Bundles {
    gang: u32,
    first: u32,
    count: u64,
    target: Target,
}

impl<'a> Check<'a> {
    /// Checks every gang of the snapshot.
    pub(super) fn gangs(&mut self, places: &[Place<'a>]) {
        let snapshot = self.snapshot;
        let mut bundles: Vec<Bundles> = places
            .iter()
            .filter_map(|place| match place.demand {
                DemandRef::Gang { gang, first_bundle: first } => {
                    Some(Bundles { gang, first, count: place.count, target: place.target })
                }
                DemandRef::Class(_) => None,
            })
            .collect();
        bundles.sort_unstable();
        if self.plan.gangs.len() != snapshot.gangs.len() {
            let (said, asked) = (self.plan.gangs.len(), snapshot.gangs.len());
            self.error("gangs-planned", format!("something is said of {said} gangs, {asked} were asked for"));
        }
        let unmet = self.unmet_gangs();
        let members = self.members();
        let mut rest = bundles.as_slice();
        for (at, gang) in (0_u32..).zip(&snapshot.gangs) {
            let own = rest.partition_point(|bundles| bundles.gang <= at);
            let (mine, others) = rest.split_at(own);
            rest = others;
            if gang.bundles.is_empty() {
                continue;
            }
            let whole = self.is_whole(gang, mine);
            let planned = self.plan.gangs.get(at as usize);
            self.agreement(gang, planned, whole, unmet.contains(&at));
            if whole {
                let mut hosts: Vec<Target> = mine.iter().map(|bundles| bundles.target).collect();
                hosts.sort_unstable();
                hosts.dedup();
                self.strategy(gang, mine, &hosts);
                self.locality(gang, planned.and_then(|planned| planned.domain.as_deref()), &hosts, &members);
                self.nearness(gang, planned.and_then(|planned| planned.domain.as_deref()), &hosts, &members);
                self.fabric(gang, planned.and_then(|planned| planned.fabric.as_deref()), &hosts, &members);
                self.level_sizes(gang, planned.and_then(|planned| planned.domain.as_deref()), &hosts);
                self.hosts_said(gang, planned, &hosts);
            }
        }
    }

    /// Whether all bundles have a place. None placed twice, and no half gangs.
    fn is_whole(&mut self, gang: &Gang, placed: &[Bundles]) -> bool {
        let mut next = 0_u64;
        let mut total = 0_u64;
        for bundles in placed {
            if u64::from(bundles.first) < next {
                self.error("bundle-once", format!("bundle {} of gang {} has two places", bundles.first, gang.id));
            }
            let end = u64::from(bundles.first) + bundles.count;
            total += end.saturating_sub(next.max(bundles.first.into()));
            next = next.max(end);
        }
        let all = gang.bundles.len() as u64;
        if total != 0 && total != all {
            self.error("gang-whole", format!("{total} of {all} bundles of gang {} have a place", gang.id));
        }
        total == all
    }

    /// Placements, what is said of the gang, and unmet demand tell the same.
    fn agreement(&mut self, gang: &Gang, planned: Option<&GangPlan>, whole: bool, unmet: bool) {
        let Some(planned) = planned else { return };
        let id = &gang.id;
        if planned.id != *id {
            self.error("gangs-planned", format!("gang {id} is expected where {} is", planned.id));
        }
        if planned.served != whole || unmet == whole {
            let said = if planned.served { "served" } else { "not served" };
            let (whole, listed) =
                (if whole { "placed" } else { "not placed" }, if unmet { "unmet" } else { "not unmet" });
            self.error("gang-agreement", format!("gang {id} is {said}, {whole} and {listed}"));
        }
        if !planned.served && planned.reason.is_empty() {
            self.warning("gang-reason", format!("no reason is given for gang {id}"));
        }
    }

    fn strategy(&mut self, gang: &Gang, placed: &[Bundles], hosts: &[Target]) {
        match gang.strategy {
            GangStrategy::StrictPack if hosts.len() > 1 => {
                self.error("strict-pack", format!("gang {} is on {} hosts", gang.id, hosts.len()));
            }
            GangStrategy::StrictSpread if (hosts.len() as u64) < placed.iter().map(|bundles| bundles.count).sum() => {
                self.error("strict-spread", format!("gang {} has several bundles on one host", gang.id));
            }
            _ => {}
        }
    }

    /// One domain for the whole gang, with what is still there of one that lost nodes. A node without the label is a domain of
    /// its own; where the label of a node to come is not known, the plan has to say in which domain it will be. Where what is
    /// left is in several domains already, that is no fault of the plan: then what is placed now is in one.
    fn locality(&mut self, gang: &Gang, said: Option<&str>, hosts: &[Target], members: &BTreeMap<&str, Vec<u32>>) {
        let Some(locality) = gang.locality.as_ref().filter(|locality| locality.strategy == GangStrategy::StrictPack)
        else {
            return;
        };
        let label = format!("_PG_{}", gang.id);
        let present = members.get(label.as_str()).into_iter().flatten().map(|at| Target::Node(*at));
        let left: Vec<Target> = present.collect();
        let is_apart = {
            let domains: BTreeSet<Option<&str>> = left.iter().map(|host| self.label(*host, &locality.label)).collect();
            left.len() > 1 && (domains.len() > 1 || domains.contains(&None))
        };
        let left = if is_apart { Vec::new() } else { left };
        let all: BTreeSet<Target> = hosts.iter().copied().chain(left).collect();
        let said = said.and_then(|said| said.split_once('='));
        let of = |host: &Target| {
            let known = self.label(*host, &locality.label);
            known.or_else(|| said.map(|(_, value)| value).filter(|_| self.is_coming(*host)))
        };
        let mut domains: BTreeSet<Option<&str>> = all.iter().map(of).collect();
        domains.extend(said.filter(|(label, _)| *label == locality.label).map(|(_, value)| Some(value)));
        if all.len() > 1 && (domains.len() > 1 || domains.contains(&None)) {
            let text = format!("gang {} is to be in one {}, but is in {domains:?}", gang.id, locality.label);
            self.error("one-domain", text);
        }
        for constraint in &locality.selector.constraints {
            let outside = |host: &&Target| {
                let value = self.label(**host, &constraint.key);
                !satisfied(constraint, value) && (value.is_some() || said.is_none() || !self.is_coming(**host))
            };
            if let Some(host) = hosts.iter().find(outside) {
                let text =
                    format!("{} is not in the domain that gang {} is bound to", self.target_name(*host), gang.id);
                self.error("one-domain", text);
            }
        }
    }

    /// Nodes that hold bundles of gangs which lost others, by `_PG_` label.
    fn members(&self) -> BTreeMap<&'a str, Vec<u32>> {
        let snapshot = self.snapshot;
        let mut members: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        if snapshot.gangs.iter().any(|gang| gang.rescheduling) {
            let running = (0_u32..).zip(&snapshot.nodes).filter(|(_, node)| node.phase == NodePhase::Running);
            for (at, node) in running {
                for label in node.dynamic_labels.keys() {
                    members.entry(label).or_default().push(at);
                }
            }
        }
        members
    }

    /// Nothing is launched for a gang with accelerators that is kept in one domain beyond the hosts that its level allows there: in
    /// GPUs, because pods with few of them may share hosts. What is there already is no fault of the plan. No more than a warning,
    /// because what minima or others launch there may be beyond it, and may be used.
    fn level_sizes(&mut self, gang: &Gang, said: Option<&str>, hosts: &[Target]) {
        let snapshot = self.snapshot;
        let has_accelerators = gang.bundles.iter().any(|bundle| has_accelerator(&bundle.resources));
        let Some((label, domain)) = said.filter(|_| has_accelerators).and_then(|said| said.split_once('=')) else {
            return;
        };
        let is_its = |level: &&TopologyLevel| level.keys.iter().any(|key| key == label);
        let Some(level) = snapshot.topology.iter().find(is_its) else { return };
        let Some(most) = level.max_hosts else { return };
        let new: Vec<u32> = hosts
            .iter()
            .filter_map(|host| match host {
                Target::New { group, .. } => Some(*group),
                Target::Node(_) => None,
            })
            .collect();
        let of_group = |group: u32| snapshot.node_types.get(group as usize).map_or(0, |it| gpu_steps(&it.resources));
        let launched: i64 = new.iter().map(|group| of_group(*group)).sum();
        let (size, all) = if launched > 0 {
            let is_there = |(at, node): &(u32, &Node)| {
                !matches!(node.phase, NodePhase::Leaving | NodePhase::Stopped)
                    && self.domain(Target::Node(*at), level) == Some(domain)
            };
            let nodes = (0_u32..).zip(&snapshot.nodes).filter(is_there);
            let present: Vec<i64> = nodes.map(|(_, node)| gpu_steps(&node.total)).collect();
            let pods = present.iter().copied().chain(new.iter().map(|group| of_group(*group)));
            (present.iter().sum::<i64>() + launched, gpu_steps_of_hosts(most, pods))
        } else {
            (new.len() as i64, i64::from(most))
        };
        if size > all && !new.is_empty() {
            let (id, level, hosts) = (&gang.id, &level.name, hosts.len());
            let text = format!("gang {id} is on {hosts} hosts of {level} {domain}, which has no more than {most}");
            self.warning("domain-size", text);
        }
    }

    /// The domain of a level in which a host is, by its labels in Ray or those of its Kubernetes node.
    pub(super) fn domain(&self, host: Target, level: &'a TopologyLevel) -> Option<&'a str> {
        level.keys.iter().find_map(|key| self.place_label(host, key))
    }

    /// The value of a label of a host in Ray, else of its Kubernetes node.
    pub(super) fn place_label(&self, host: Target, key: &str) -> Option<&'a str> {
        let of_host = || match host {
            Target::Node(at) => {
                let name = self.snapshot.nodes.get(at as usize)?.host.as_deref()?;
                self.host(name)?.labels.get(key).map(String::as_str)
            }
            Target::New { .. } => None,
        };
        self.label(host, key).or_else(of_host)
    }

    /// What is said of a gang's hosts is what the placements say.
    fn hosts_said(&mut self, gang: &Gang, planned: Option<&GangPlan>, hosts: &[Target]) {
        let Some(planned) = planned else { return };
        let mut new: BTreeMap<&str, u32> = BTreeMap::new();
        let mut present = 0;
        for host in hosts {
            match host {
                Target::Node(_) => present += 1,
                Target::New { group, .. } => {
                    let group = self.snapshot.node_types.get(*group as usize);
                    *new.entry(group.map_or("", |group| &group.name)).or_default() += 1;
                }
            }
        }
        let said = planned.new_hosts.iter().map(|(group, hosts)| (group.as_str(), *hosts)).collect();
        if (&new, present) != (&said, planned.present_hosts) {
            let text = format!("gang {} is on {present} present and {new:?} new hosts: {planned:?}", gang.id);
            self.warning("gang-hosts", text);
        }
    }

    /// The gangs that the plan calls unmet, by position in the snapshot.
    fn unmet_gangs(&self) -> BTreeSet<u32> {
        let mut by_id: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        for (at, gang) in (0_u32..).zip(&self.snapshot.gangs) {
            by_id.entry(&gang.id).or_default().push(at);
        }
        let served = |at: u32| self.plan.gangs.get(at as usize).is_some_and(|planned| planned.served);
        let mut found = BTreeSet::new();
        for unmet in &self.plan.unmet {
            let UnmetKind::Gang(gang) = &unmet.kind else { continue };
            let equal = |at: &&u32| self.snapshot.gangs.get(**at as usize) == Some(gang) && !found.contains(*at);
            let candidates = by_id.get(gang.id.as_str()).map(Vec::as_slice).unwrap_or_default();
            // Gangs without id can be equal: the one that is not served is meant.
            let meant = candidates.iter().filter(equal).min_by_key(|at| served(**at)).copied();
            found.extend(meant);
        }
        found
    }
}
