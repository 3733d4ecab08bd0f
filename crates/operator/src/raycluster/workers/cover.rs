//! What a gang covers that an outside scheduler knows, while it is smaller than it should be: it may be that it never grows.

use super::{Group, Standing};
use crate::{
    frame::{
        decision::{Action, Step},
        pod::SLOT,
    },
    raycluster::pass::Pass,
};

/// Pods of one replica that are to be made.
struct Unit {
    /// Which group it is of.
    group: usize,
    /// It was there before, whole or in part.
    is_again: bool,
    creations: Vec<Step>,
}

/// Divides the creations of each group into those that a gang of `covers` pods covers, and the others. The gang has one number
/// for all groups: what was there comes before what is new, and whatever is on its way out holds its place against that.
pub(super) fn divide(
    pass: &Pass<'_>,
    groups: &[Group<'_>],
    creations: Vec<Vec<Step>>,
    covers: usize,
) -> (Vec<Step>, Vec<Step>) {
    let members = pass.children.gang_members();
    let of_gang = |group: &Group<'_>| members.get(&group.spec.group_name).map_or(0, |pods| *pods as usize);
    // Beyond the gang there is only what an autoscaler asks for: that needs no cover, and takes none away.
    let most = |group: &Group<'_>| if pass.children.is_autoscaled() { of_gang(group) } else { usize::MAX };
    let workers = covers.saturating_sub(1);
    let sum = |count: fn(&Group<'_>) -> usize| groups.iter().map(|group| count(group).min(most(group))).sum::<usize>();
    let mut room = workers.saturating_sub(sum(present));
    let mut room_for_new = workers.saturating_sub(sum(in_sight));
    let mut there: Vec<usize> = groups.iter().map(present).collect();
    let (mut covered, mut uncovered) = (Vec::new(), Vec::new());
    let units = groups.iter().zip(creations).enumerate().flat_map(|(number, (group, made))| units(number, group, made));
    let (again, new): (Vec<Unit>, Vec<Unit>) = units.partition(|unit| unit.is_again);
    for unit in again.into_iter().chain(new) {
        let (Some(group), Some(there)) = (groups.get(unit.group), there.get_mut(unit.group)) else { continue };
        let needed = of_gang(group).saturating_sub(*there).min(unit.creations.len());
        if needed <= if unit.is_again { room } else { room_for_new } {
            *there += unit.creations.len();
            room -= needed;
            room_for_new = room_for_new.saturating_sub(needed);
            covered.extend(unit.creations);
        } else {
            uncovered.extend(unit.creations);
        }
    }
    (covered, uncovered)
}

/// Pods that have a place: also one that has failed has it until it is replaced.
fn present(group: &Group<'_>) -> usize {
    group.with(Standing::Active).count() + group.with(Standing::Failed).count()
}

/// Those, and what is on its way out.
fn in_sight(group: &Group<'_>) -> usize {
    present(group) + group.with(Standing::Leaving).count()
}

/// The creations of a group by replica: those of one are side by side.
fn units(number: usize, group: &Group<'_>, creations: Vec<Step>) -> Vec<Unit> {
    let mut units: Vec<(String, Unit)> = Vec::new();
    for creation in creations {
        let (replica, is_first) = place(&creation);
        match units.last_mut() {
            Some((last, unit)) if *last == replica => unit.creations.push(creation),
            _ => units.push((replica, Unit { group: number, is_again: !is_first, creations: vec![creation] })),
        }
    }
    let is_partly_there = |unit: &Unit| unit.creations.len() < group.hosts as usize;
    units.into_iter().map(|(_, unit)| Unit { is_again: unit.is_again || is_partly_there(&unit), ..unit }).collect()
}

/// The replica that a pod is made for, and whether none has had its place before.
fn place(creation: &Step) -> (String, bool) {
    let Action::Create { body, .. } = &creation.action else { return (String::new(), true) };
    let slot = body["metadata"]["annotations"][SLOT].as_str().unwrap_or_default();
    (slot.split('.').next().unwrap_or_default().to_owned(), slot.ends_with(".0"))
}
