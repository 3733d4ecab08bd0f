//! Who adds and removes nodes.
//!
//! Assumptions: at each scan, pods that no node takes are packed (first fit, in order of age) onto nodes that are on order, then onto
//! new ones of the cheapest pool in which they fit, the first by order among equals. An order is answered after the pool's
//! latency by a node, or with probability `stock-out` by none; then the pool is left alone for a while. A node that has been
//! empty for long enough goes; nodes in use are not consolidated. Like the cluster-autoscaler: a scan each 10 s, empty for
//! 10 min, back-off 5 min. Like Karpenter: each second, 30 s, 3 min. A spot node is reclaimed after its life without notice.

use std::collections::{BTreeMap, BTreeSet};

use mobula_planner::Resources;

use super::node::{self, KubeNode};
use super::pod::PodSpec;
use super::scheduler::{matches_labels, misfit};
use super::{Event, World};
use crate::chance::happens;
use crate::scenario::{Provisioner, ProvisionerKind};
use crate::span::Span;

/// What is known of a pool.
#[derive(Clone, Debug, Default)]
pub(super) struct PoolState {
    /// Numbers of nodes that are on order.
    on_order: BTreeSet<u32>,
    /// Numbers of nodes that are there.
    there: BTreeSet<u32>,
    /// Left alone until then, in µs.
    blocked_until_us: u64,
    orders: u64,
}

impl Provisioner {
    fn defaults(&self) -> (Span, Span, Span) {
        match self.like {
            ProvisionerKind::ClusterAutoscaler => (Span::from_s(10), Span::from_s(600), Span::from_s(300)),
            ProvisionerKind::Karpenter => (Span::from_s(1), Span::from_s(30), Span::from_s(180)),
        }
    }

    fn scan(&self) -> Span {
        self.scan.unwrap_or(self.defaults().0)
    }

    fn empty_for(&self) -> Span {
        self.empty_for.unwrap_or(self.defaults().1)
    }

    fn back_off(&self) -> Span {
        self.back_off.unwrap_or(self.defaults().2)
    }
}

impl World {
    pub(super) fn begin_nodes(&mut self) {
        let scenario = self.scenario.clone();
        for (number, pool) in scenario.nodes.iter().enumerate() {
            for index in 0..pool.value.count {
                self.add_node(KubeNode::new(number, &pool.value, index, 0, true));
            }
        }
    }

    fn add_node(&mut self, node: KubeNode) {
        let pool = &self.scenario.nodes[node.pool].value;
        let object = node.to_value(pool);
        // Refused only if it is there already, as one that the user has written.
        let _ = self.server.create("nodes", object);
        self.measures.node_comes();
        self.nodes.insert(node.name.clone(), node);
        self.count_stranded();
        self.plan_scheduling();
    }

    /// A node is gone, however that came.
    pub(super) fn remove_node(&mut self, name: &str) -> Option<KubeNode> {
        let node = self.nodes.remove(name)?;
        let _ = self.server.delete("nodes", "", name);
        self.account(&node);
        self.count_stranded();
        if let Some(index) = name.rsplit('-').next().and_then(|index| index.parse().ok()) {
            self.pools[node.pool].there.remove(&index);
        }
        Some(node)
    }

    /// What a node has cost until now.
    fn account(&mut self, node: &KubeNode) {
        let hours = Span::from_us(self.clock.now_us().saturating_sub(node.since_us)).as_f64_s() / 3_600.0;
        let price = self.scenario.nodes[node.pool].value.price_per_hour;
        self.measures.node_used(hours, node.gpus(), price);
    }

    /// What all nodes have cost until now, those that are there included.
    pub(super) fn cost_until_now(&self) -> f64 {
        let now_us = self.clock.now_us();
        let living = self.nodes.values().map(|node| {
            let hours = Span::from_us(now_us.saturating_sub(node.since_us)).as_f64_s() / 3_600.0;
            hours * self.scenario.nodes[node.pool].value.price_per_hour
        });
        self.measures.cost + living.sum::<f64>()
    }

    /// Accounts for all nodes that are still there.
    pub(super) fn settle_accounts(&mut self) {
        let nodes: Vec<KubeNode> = self.nodes.values().cloned().collect();
        nodes.iter().for_each(|node| self.account(node));
    }

    pub(super) fn plan_scan(&mut self) {
        if !self.is_scan_planned && self.scenario.nodes.iter().any(|pool| pool.value.most > 0) {
            self.is_scan_planned = true;
            let scan_us = self.scenario.provisioner.scan().as_us().max(1_000);
            // The scans of a loop that goes on whether or not there is something to do.
            let at_us = (self.clock.now_us() / scan_us + 1) * scan_us;
            self.queue.push(at_us, Event::Scan);
        }
    }

    pub(super) fn scan(&mut self) {
        self.is_scan_planned = false;
        let blocked_until_us = self.order_nodes();
        let next_empty_us = self.remove_empty_nodes();
        let next_us = [blocked_until_us, next_empty_us].into_iter().flatten().min();
        if let Some(next_us) = next_us.filter(|_| !self.is_scan_planned) {
            self.is_scan_planned = true;
            let scan_us = self.scenario.provisioner.scan().as_us().max(1_000);
            self.queue.push(
                next_us.div_ceil(scan_us).saturating_mul(scan_us).max(self.clock.now_us() + scan_us),
                Event::Scan,
            );
        }
    }

    /// Orders what pods wait for. When a pool that is left alone could be asked again, in µs.
    fn order_nodes(&mut self) -> Option<u64> {
        let now_us = self.clock.now_us();
        let waiting = self.unschedulable();
        if waiting.is_empty() {
            return None;
        }
        let scenario = self.scenario.clone();
        let mut coming: Vec<KubeNode> = Vec::new();
        for (number, pool) in scenario.nodes.iter().enumerate() {
            let on_order = self.pools[number].on_order.iter();
            coming.extend(on_order.map(|index| KubeNode::new(number, &pool.value, *index, now_us, false)));
        }
        let mut cheapest: Vec<usize> = (0..scenario.nodes.len()).collect();
        let price = |number: usize| scenario.nodes[number].value.price_per_hour;
        cheapest.sort_by(|a, b| price(*a).total_cmp(&price(*b)));
        let mut blocked_until_us: Option<u64> = None;
        let mut hopeless: Vec<std::sync::Arc<PodSpec>> = Vec::new();
        for (key, spec) in waiting {
            if hopeless.iter().any(|other| super::scheduler::ask_alike(other, &spec)) {
                continue;
            }
            if let Some(node) = coming.iter_mut().find(|node| misfit(&spec, node, &node.free).is_none()) {
                node.take(key, &spec.requests);
                continue;
            }
            let mut found = None;
            for number in &cheapest {
                let pool = &scenario.nodes[*number].value;
                let state = &self.pools[*number];
                if !would_fit(&spec, pool) {
                    continue;
                }
                if state.blocked_until_us > now_us {
                    let until_us = state.blocked_until_us;
                    blocked_until_us = Some(blocked_until_us.map_or(until_us, |first| first.min(until_us)));
                    continue;
                }
                let Some(index) = state.free_index(pool.count, pool.most) else { continue };
                let node = KubeNode::new(*number, pool, index, now_us, false);
                if matches_labels(&spec, &node.name, &node.labels) {
                    found = Some((*number, index, node));
                    break;
                }
            }
            match found {
                Some((number, index, mut node)) => {
                    node.take(key, &spec.requests);
                    coming.push(node);
                    self.order(number, index);
                }
                None => hopeless.push(spec),
            }
        }
        blocked_until_us
    }

    fn order(&mut self, number: usize, index: u32) {
        let now_us = self.clock.now_us();
        let pool = &self.scenario.nodes[number].value;
        let name = format!("{}-{index}", pool.name);
        self.pools[number].on_order.insert(index);
        self.pools[number].orders += 1;
        let orders = self.pools[number].orders;
        let latency = pool.latency.draw(&mut self.chance("latency", &format!("{name}/{orders}")));
        self.log.note(now_us, "node-ordered", &name, None);
        self.queue.push(now_us.saturating_add(latency.as_us()), Event::Delivered { pool: number, index });
    }

    pub(super) fn delivered(&mut self, number: usize, index: u32) {
        let now_us = self.clock.now_us();
        let pool = self.scenario.nodes[number].value.clone();
        let name = format!("{}-{index}", pool.name);
        self.pools[number].on_order.remove(&index);
        let orders = self.pools[number].orders;
        let is_out = self.has_no_stock;
        if is_out || happens(&mut self.chance("stock-out", &format!("{name}/{orders}")), pool.stock_out) {
            self.log.note(now_us, "stock-out", &name, None);
            self.measures.stock_outs += 1;
            self.pools[number].blocked_until_us = now_us + self.scenario.provisioner.back_off().as_us();
            self.plan_scan();
            return;
        }
        self.pools[number].there.insert(index);
        self.log.note(now_us, "node-ready", &name, None);
        if let Some(life) = &pool.spot_life {
            let life = life.draw(&mut self.chance("spot", &format!("{name}/{now_us}")));
            let event = Event::Reclaimed { node: name, since_us: now_us };
            self.queue.push(now_us.saturating_add(life.as_us()), event);
        }
        self.add_node(KubeNode::new(number, &pool, index, now_us, false));
        self.plan_scan();
    }

    /// When the next one could go, in µs.
    fn remove_empty_nodes(&mut self) -> Option<u64> {
        let now_us = self.clock.now_us();
        let empty_for_us = self.scenario.provisioner.empty_for().as_us();
        let mut next_us: Option<u64> = None;
        let mut gone = Vec::new();
        for node in self.nodes.values().filter(|node| !node.is_fixed) {
            let Some(since_us) = node.empty_since_us else { continue };
            let at_us = since_us.saturating_add(empty_for_us);
            if at_us <= now_us {
                gone.push(node.name.clone());
            } else {
                next_us = Some(next_us.map_or(at_us, |first| first.min(at_us)));
            }
        }
        for name in gone {
            self.log.note(now_us, "node-removed", &name, None);
            self.remove_node(&name);
        }
        next_us
    }

    pub(super) fn reclaimed(&mut self, name: &str, since_us: u64) {
        if self.nodes.get(name).is_some_and(|node| node.since_us == since_us) {
            self.log.note(self.clock.now_us(), "spot-reclaimed", name, None);
            self.measures.reclaimed += 1;
            self.lose_node(name);
        }
    }

    /// A node vanishes with everything on it: raylets say no goodbye, and the pods go when their absence is noticed.
    pub(super) fn lose_node(&mut self, name: &str) {
        let Some(node) = self.nodes.get(name) else { return };
        let pods: Vec<super::Key> = node.pods.iter().cloned().collect();
        pods.iter().for_each(|key| self.end_ray(key, false));
        self.remove_node(name);
        for key in pods {
            if let Some(pod) = self.pods.get(&key) {
                let event = Event::Pod { key: key.clone(), uid: pod.uid.clone(), step: super::Step::Finish };
                self.queue.push(self.clock.now_us() + POD_COLLECTION.as_us(), event);
            }
        }
        self.plan_scan();
    }
}

/// From a lost node to the deletion of its pods by Kubernetes' pod garbage collector.
const POD_COLLECTION: Span = Span::from_s(40);

impl PoolState {
    fn free_index(&self, count: u32, most: u32) -> Option<u32> {
        let in_use = self.on_order.len() + self.there.len();
        if in_use >= most as usize {
            return None;
        }
        (count..).find(|index| !self.on_order.contains(index) && !self.there.contains(index))
    }
}

/// Whether a fresh node of the pool would take the pod.
fn would_fit(spec: &PodSpec, pool: &crate::scenario::NodePool) -> bool {
    let free: Resources = node::capacity(pool);
    let any = KubeNode { labels: node::labels(pool, &pool.name, 0), ..KubeNode::new(0, pool, 0, 0, false) };
    // Which value of a label a node has is only known when it is ordered.
    let mut labels = any.labels.clone();
    let differing: BTreeMap<&String, ()> =
        pool.spread_labels.keys().chain(pool.block_labels.keys()).map(|key| (key, ())).collect();
    for (key, value) in spec.node_selector.iter().filter(|(key, _)| differing.contains_key(key)) {
        labels.insert(key.clone(), value.clone());
    }
    misfit(spec, &KubeNode { labels, ..any }, &free).is_none()
}
