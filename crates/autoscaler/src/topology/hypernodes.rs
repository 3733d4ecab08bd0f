//! Volcano's HyperNodes: which Kubernetes nodes are in them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mobula_api::{FieldError, HyperNode, LabelCondition, MemberKind, MemberSelector};
use mobula_planner::{Host, TopologyLevel};
use regex::bytes::{Regex, RegexBuilder};

/// Label that stands for the HyperNode of a tier in a snapshot; no Kubernetes node has it.
const TIER_LABEL_PREFIX: &str = "mobula.dev/hypernode-tier-";

/// HyperNodes, from narrow to broad.
#[derive(Debug, Default)]
pub(super) struct HyperNodes {
    list: Vec<Domain>,
}

#[derive(Debug)]
struct Domain {
    name: String,
    tier: i64,
    tier_name: Option<String>,
    nodes: Vec<Selector>,
    inner: Vec<Selector>,
}

/// A [`MemberSelector`], ready to be used.
#[derive(Debug)]
enum Selector {
    Exact(String),
    Regex(Regex),
    Labels(Vec<LabelCondition>),
}

impl HyperNodes {
    pub(super) fn new(hypernodes: Vec<HyperNode>) -> Result<Self, FieldError> {
        let mut list = hypernodes.into_iter().map(domain).collect::<Result<Vec<Domain>, FieldError>>()?;
        list.sort_by(|a, b| (a.tier, &a.name).cmp(&(b.tier, &b.name)));
        Ok(HyperNodes { list })
    }

    /// One level a tier, from broad to narrow.
    pub(super) fn levels(&self) -> impl Iterator<Item = TopologyLevel> {
        let mut names: BTreeMap<i64, BTreeSet<Option<&str>>> = BTreeMap::new();
        for domain in &self.list {
            names.entry(domain.tier).or_default().insert(domain.tier_name.as_deref());
        }
        names.into_iter().rev().map(|(tier, names)| {
            // A name that not all of a tier have is none.
            let name = names.first().copied().flatten().filter(|_| names.len() == 1);
            TopologyLevel {
                name: name.map_or_else(|| format!("hypernode-tier-{tier}"), str::to_owned),
                keys: vec![label(tier)],
                is_fabric: true,
                max_hosts: None,
            }
        })
    }

    /// Labels by which members are chosen.
    pub(super) fn label_keys(&self) -> impl Iterator<Item = &str> {
        let conditions = self.list.iter().flat_map(|domain| &domain.nodes).filter_map(|selector| match selector {
            Selector::Labels(conditions) => Some(conditions),
            Selector::Exact(_) | Selector::Regex(_) => None,
        });
        conditions.flatten().map(|condition| match condition {
            LabelCondition::In(key, _) | LabelCondition::NotIn(key, _) => key.as_str(),
            LabelCondition::Exists(key) | LabelCondition::DoesNotExist(key) => key.as_str(),
        })
    }

    /// Labels each host with its HyperNode of each tier. One that is in several of a tier, or in none, has no such label.
    pub(super) fn label(&self, hosts: &mut [Host], notes: &mut Vec<String>) {
        if self.list.is_empty() {
            return;
        }
        if hosts.is_empty() {
            notes.push(
                "HyperNodes say which Kubernetes nodes are near each other, but Kubernetes nodes are not known"
                    .to_owned(),
            );
            return;
        }
        let members = self.members(hosts, notes);
        let mut of_host: BTreeMap<(i64, usize), BTreeSet<usize>> = BTreeMap::new();
        for (at, (domain, members)) in self.list.iter().zip(&members).enumerate() {
            for host in members {
                of_host.entry((domain.tier, *host)).or_default().insert(at);
            }
        }
        // Hosts by the HyperNodes that contradict each other: there can be many.
        let mut torn: BTreeMap<(i64, String), Vec<String>> = BTreeMap::new();
        for ((tier, host), domains) in of_host {
            let names: Vec<&str> = domains.iter().filter_map(|at| Some(self.list.get(*at)?.name.as_str())).collect();
            let Some(host) = hosts.get_mut(host) else { continue };
            match names[..] {
                [name] => drop(Arc::make_mut(&mut host.labels).insert(label(tier), name.to_owned())),
                _ => torn.entry((tier, names.join(", "))).or_default().push(host.name.clone()),
            }
        }
        for ((tier, names), hosts) in torn {
            let first = hosts.first().map(String::as_str).unwrap_or_default();
            let others = match hosts.len() {
                0 | 1 => "is".to_owned(),
                all => format!("and {} more are", all - 1),
            };
            notes.push(format!(
                "Kubernetes node {first} {others} in several HyperNodes of tier {tier} ({names}): none of them counts"
            ));
        }
    }

    /// For each HyperNode the hosts in it, directly or by narrower ones.
    fn members(&self, hosts: &[Host], notes: &mut Vec<String>) -> Vec<BTreeSet<usize>> {
        let by_name: BTreeMap<&str, usize> = hosts.iter().zip(0..).map(|(host, at)| (host.name.as_str(), at)).collect();
        let mut named: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        self.list.iter().enumerate().for_each(|(at, domain)| named.entry(&domain.name).or_default().push(at));
        let mut members: Vec<BTreeSet<usize>> = Vec::with_capacity(self.list.len());
        for domain in &self.list {
            let mut own = BTreeSet::new();
            for selector in &domain.nodes {
                match selector {
                    Selector::Exact(name) => own.extend(by_name.get(name.as_str())),
                    Selector::Regex(pattern) => own.extend(positions(hosts, |h| pattern.is_match(h.name.as_bytes()))),
                    Selector::Labels(all) => {
                        own.extend(positions(hosts, |h| all.iter().all(|one| one.holds(&h.labels))));
                    }
                }
            }
            let mut inner: BTreeSet<usize> = BTreeSet::new();
            for selector in &domain.inner {
                match selector {
                    Selector::Exact(name) => inner.extend(named.get(name.as_str()).into_iter().flatten()),
                    Selector::Regex(pattern) => {
                        let is_meant = |(_, other): &(usize, &Domain)| pattern.is_match(other.name.as_bytes());
                        inner.extend(self.list.iter().enumerate().filter(is_meant).map(|(at, _)| at));
                    }
                    Selector::Labels(_) => {}
                }
            }
            for (at, other) in inner.into_iter().filter_map(|at| Some((at, self.list.get(at)?))) {
                // In this order whatever is narrower is known already; anything else could hold itself.
                match members.get(at).filter(|_| other.tier < domain.tier) {
                    Some(inner) => own.extend(inner),
                    None => notes.push(format!(
                        "HyperNode {} (tier {}) has {} (tier {}) as a member, which is not narrower: left out",
                        domain.name, domain.tier, other.name, other.tier
                    )),
                }
            }
            members.push(own);
        }
        members
    }
}

fn positions(hosts: &[Host], is_meant: impl Fn(&Host) -> bool) -> impl Iterator<Item = usize> {
    hosts.iter().enumerate().filter(move |(_, host)| is_meant(host)).map(|(at, _)| at)
}

fn label(tier: i64) -> String {
    format!("{TIER_LABEL_PREFIX}{tier}")
}

fn domain(hypernode: HyperNode) -> Result<Domain, FieldError> {
    let HyperNode { name, tier, tier_name, members } = hypernode;
    let mut domain = Domain { name, tier, tier_name, nodes: Vec::new(), inner: Vec::new() };
    for member in members {
        let selector = match member.selector {
            MemberSelector::Exact(name) => Selector::Exact(name),
            MemberSelector::Regex { pattern, field } => Selector::Regex(regex(&domain.name, pattern, &field)?),
            MemberSelector::Labels(conditions) => Selector::Labels(conditions),
        };
        match member.kind {
            MemberKind::Node => domain.nodes.push(selector),
            MemberKind::HyperNode => domain.inner.push(selector),
        }
    }
    Ok(domain)
}

/// Names are ASCII, and so are Go's classes.
fn regex(hypernode: &str, pattern: String, field: &str) -> Result<Regex, FieldError> {
    RegexBuilder::new(&pattern).unicode(false).build().map_err(|_| {
        FieldError::new(
            format!("{field} of HyperNode {hypernode}"),
            pattern,
            "is not a regular expression as Go (RE2) has them",
        )
    })
}
