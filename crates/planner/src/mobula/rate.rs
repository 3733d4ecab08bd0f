//! How fast groups may grow: launches beyond the rate that the settings allow are held back.

use std::collections::BTreeMap;
use std::ops::Range;

use super::world::{HostId, Origin, World};
use crate::UpscalingMode;
use crate::census::Census;

/// The number of a replica that is not launched yet.
pub(super) const WAITS: u32 = u32::MAX;

/// Which launches go ahead.
#[derive(Clone, Debug, Default)]
pub(super) struct HeldBack {
    /// By group: hosts that are launched.
    launched: Vec<u64>,
    /// Hosts below this number are there.
    present: usize,
    /// By new host: number of its replica among those of its group that are launched, or [`WAITS`].
    numbers: Vec<u32>,
    /// Group → why some of it is held back.
    reasons: BTreeMap<usize, String>,
}

impl HeldBack {
    /// Pods of a group that are launched now.
    pub fn launched(&self, group: usize) -> u64 {
        self.launched.get(group).copied().unwrap_or(0)
    }

    /// Whether a new host has to wait.
    pub fn is_held(&self, host: HostId) -> bool {
        let at = (host as usize).checked_sub(self.present);
        at.is_some_and(|at| self.numbers.get(at).is_none_or(|number| *number == WAITS))
    }

    /// By new host: the number of its replica, or [`WAITS`]. Empty for hosts that are there.
    pub fn numbers(&self, hosts: Range<HostId>) -> &[u32] {
        let at = |host: HostId| (host as usize).checked_sub(self.present);
        let range = at(hosts.start).zip(at(hosts.end));
        range.and_then(|(start, end)| self.numbers.get(start..end)).unwrap_or_default()
    }

    /// Whether no host has to wait.
    pub fn is_nothing(&self) -> bool {
        self.reasons.is_empty()
    }

    /// Why launches of groups are held back.
    pub fn reasons(&self) -> &BTreeMap<usize, String> {
        &self.reasons
    }
}

/// Holds back what is launched beyond the rate, the last replicas first. `late` is by group how many of its pods should have come
/// long ago: they hold back only their own group, for they may never come.
pub(super) fn hold_back(world: &World<'_>, census: &[Census<'_>], late: &[u64]) -> HeldBack {
    let (present, hosts) = (world.present, &world.hosts);
    // Hosts of a group mostly follow one another.
    let mut runs: Vec<(usize, Range<usize>)> = Vec::new();
    for of_group in hosts.group[present..].chunk_by(|a, b| a == b) {
        let first = runs.last().map_or(present, |(_, run)| run.end);
        runs.push((of_group[0] as usize, first..first + of_group.len()));
    }
    let new_hosts = |run: &Range<usize>| hosts.origin[run.clone()].iter().zip(&hosts.is_given_up[run.clone()]);
    let mut replicas = vec![0_u64; world.groups.len()];
    for (group, run) in &runs {
        let firsts = new_hosts(run).filter(|(origin, is_given_up)| is_first(**origin) && !**is_given_up);
        replicas[*group] += firsts.count() as u64;
    }
    let settings = &world.snapshot.settings;
    let all_late: u64 = late.iter().sum();
    let on_the_way: u64 = census.iter().map(|pods| pods.kept.count - pods.running.count).sum();
    let mut on_time = on_the_way.saturating_sub(all_late);
    let mut held_back = HeldBack { present, ..HeldBack::default() };
    let mut goes = Vec::with_capacity(replicas.len());
    for (at, replicas) in replicas.into_iter().enumerate() {
        let spec = world.groups[at].spec;
        let hosts = u64::from(world.groups[at].hosts);
        let pods = &census[at];
        let (kept, running) = (pods.kept.replicas(spec), pods.running.count / hosts);
        let on_the_way = u64::from(kept).saturating_sub(running);
        let mut most = u64::MAX;
        let mut reason = String::new();
        if settings.upscaling_mode == UpscalingMode::Conservative {
            most = u64::max(running, 1).saturating_sub(on_the_way);
            reason = format!("upscaling mode Conservative: {running} running, {on_the_way} on their way already");
        }
        if let Some(limit) = settings.max_in_flight.map(u64::from) {
            // A replica that is larger than the limit may come alone, or it would never come.
            let own_late = late.get(at).copied().unwrap_or(0);
            let in_flight = on_time + own_late;
            let fits = limit.saturating_sub(in_flight) / hosts;
            let fits = if fits == 0 && in_flight == 0 { 1 } else { fits };
            if fits < most {
                most = fits;
                reason = format!("at most {limit} pods may be on their way at once, {in_flight} are");
                if all_late > own_late {
                    reason += &format!(" beside {} of other groups that are late", all_late - own_late);
                }
            }
        }
        let below_floor = u64::from(spec.min_replicas.saturating_sub(kept));
        let go = most.max(below_floor).min(replicas);
        on_time += go * hosts;
        held_back.launched.push(go * hosts);
        if go < replicas {
            held_back.reasons.insert(at, reason);
        }
        goes.push(go);
    }
    // By group: replicas that were numbered.
    let mut numbered = vec![0_u64; goes.len()];
    held_back.numbers.reserve(hosts.len() - present);
    for (group, run) in runs {
        let (goes, mut before) = (goes[group], numbered[group]);
        let number = |(origin, is_given_up): (&Origin, &bool)| {
            before += u64::from(is_first(*origin) && !is_given_up);
            if !is_given_up && (1..=goes).contains(&before) { before as u32 - 1 } else { WAITS }
        };
        held_back.numbers.extend(new_hosts(&run).map(number));
        numbered[group] = before;
    }
    held_back
}

/// Whether a replica begins with a host.
fn is_first(origin: Origin) -> bool {
    matches!(origin, Origin::New { host: 0, .. })
}
