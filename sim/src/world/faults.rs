//! What goes wrong, when the plan says so.
//!
//! Assumptions: chance chooses evenly among those whom a fault can befall, in order of their names. An operator or a sidecar that is
//! killed is replaced at once, with an empty memory. The wall clocks of operator and sidecars step together; the API server's, which stamps
//! objects, never does. While the API server is down every request is refused with 503, and watches
//! that are open go on. A node that is lost takes its raylets along without a goodbye; one that is called unhealthy gets the taint
//! that Kubernetes gives to nodes that can't be reached, and nothing else.

use mobula_apiserver::End;
use serde_json::json;

use super::{Event, Key, Stage, World};
use crate::ray::GcsFault;
use crate::scenario::{Fault, FaultKind, Taint};

const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// What goes wrong for a while.
#[derive(Clone, Debug)]
pub(super) enum Lasting {
    Unhealthy(String),
    Stuck(Key, String),
    Api,
    Gcs(Key),
    StockOut,
    SlowPull,
    /// How many ms they step when it ends.
    Clocks(i64),
}

impl World {
    pub(super) fn begin_faults(&mut self) {
        let scenario = self.scenario.clone();
        for (index, fault) in scenario.faults.iter().enumerate() {
            self.queue.push(fault.value.at.as_us(), Event::Fault { index, number: 0 });
        }
    }

    pub(super) fn fault_comes(&mut self, index: usize, number: u64) {
        let scenario = self.scenario.clone();
        let Some(fault) = scenario.faults.get(index).map(|fault| &fault.value) else { return };
        let now_us = self.clock.now_us();
        let recurrence = fault.recurrence();
        if !recurrence.comes(now_us, number) {
            return;
        }
        let mut chance = self.chance("fault", &format!("{index}/{number}"));
        if let Some(again_us) = recurrence.again_us(now_us, &mut chance) {
            self.queue.push(again_us, Event::Fault { index, number: number + 1 });
        }
        let candidates = self.candidates(fault.kind, fault.of.as_deref());
        let chosen = candidates.get(chance.below(candidates.len())).cloned();
        let name = chosen.clone().unwrap_or_else(|| "nothing".to_owned());
        self.log.note(now_us, &format!("fault {:?}", fault.kind), &name, None);
        let Some(chosen) = chosen else { return };
        self.measures.faults += 1;
        if let Some(lasting) = self.befall(fault, &chosen)
            && let Some(lasts) = fault.lasts
        {
            self.queue.push(now_us.saturating_add(lasts.as_us()), Event::FaultEnds(lasting));
        }
    }

    /// Whom a fault can befall.
    fn candidates(&self, kind: FaultKind, of: Option<&str>) -> Vec<String> {
        let workers = |stage: Stage| {
            let fitting = self.pods.iter().filter(move |(_, pod)| {
                pod.cluster.is_some() && !pod.is_head && !pod.is_leaving && !pod.is_stuck && pod.stage >= stage
            });
            fitting.map(|(key, _)| key.to_string()).collect::<Vec<_>>()
        };
        let heads = || {
            let living = self.clusters.iter().filter(|(_, cluster)| cluster.head.is_some());
            living.map(|(key, _)| key.to_string()).collect::<Vec<_>>()
        };
        let all = match kind {
            FaultKind::NodeLost | FaultKind::NodeUnhealthy => self.nodes.keys().cloned().collect(),
            FaultKind::PodEvicted => workers(Stage::Pulling),
            FaultKind::PodStuck => workers(Stage::Starting),
            FaultKind::HeadLost | FaultKind::SidecarKilled | FaultKind::GcsHangs | FaultKind::GcsGarbage => heads(),
            FaultKind::OperatorKilled
            | FaultKind::WatchesCut
            | FaultKind::HistoryLost
            | FaultKind::ApiDown
            | FaultKind::StockOut
            | FaultKind::SlowPull
            | FaultKind::ClockAhead
            | FaultKind::ClockBehind => return vec!["all".to_owned()],
        };
        let is_meant = |name: &String| {
            let bare = name.split_once('/').map_or(name.as_str(), |(_, bare)| bare);
            of.is_none_or(|of| name.starts_with(of) || bare.starts_with(of))
        };
        all.into_iter().filter(is_meant).collect()
    }

    fn befall(&mut self, fault: &Fault, name: &str) -> Option<Lasting> {
        let kind = fault.kind;
        let key = || {
            let (namespace, name) = name.split_once('/').unwrap_or(("", name));
            Key { namespace: namespace.to_owned(), name: name.to_owned() }
        };
        match kind {
            FaultKind::NodeLost => self.lose_node(name),
            FaultKind::NodeUnhealthy => {
                self.set_unhealthy(name, true);
                return Some(Lasting::Unhealthy(name.to_owned()));
            }
            FaultKind::PodEvicted => self.delete_pod(&key()),
            FaultKind::PodStuck => {
                let pod = self.pods.get_mut(&key())?;
                pod.is_stuck = true;
                return Some(Lasting::Stuck(key(), pod.uid.clone()));
            }
            FaultKind::HeadLost => {
                let pod = self.clusters.get(&key())?.head.as_ref()?.pod.clone();
                self.end_head(&key());
                self.end_container(&pod, 1, "Error");
            }
            FaultKind::OperatorKilled => match (fault.after_writes, &self.operator) {
                (Some(writes), Some(operator)) => operator.death.in_writes(writes),
                _ => self.restart_operator(),
            },
            FaultKind::SidecarKilled => match (fault.after_writes, self.sidecar(&key())) {
                (Some(writes), Some(sidecar)) => sidecar.death.in_writes(writes),
                _ => self.restart_sidecar(&key()),
            },
            FaultKind::ClockAhead | FaultKind::ClockBehind => {
                let by_ms = i64::try_from(fault.by.unwrap_or_default().as_us() / 1_000).unwrap_or(i64::MAX);
                let by_ms = if kind == FaultKind::ClockAhead { by_ms } else { -by_ms };
                self.wall.step(by_ms);
                return Some(Lasting::Clocks(-by_ms));
            }
            FaultKind::WatchesCut => drop(self.server.cut_watches("", End::Closed)),
            FaultKind::HistoryLost => {
                self.server.forget_history();
                self.server.cut_watches("", End::Closed);
            }
            FaultKind::ApiDown => {
                self.outage.set(true);
                return Some(Lasting::Api);
            }
            FaultKind::GcsHangs | FaultKind::GcsGarbage => {
                let fault = if kind == FaultKind::GcsHangs { GcsFault::Hang } else { GcsFault::Garbage };
                self.set_gcs_fault(&key(), Some(fault));
                return Some(Lasting::Gcs(key()));
            }
            FaultKind::StockOut => {
                self.has_no_stock = true;
                return Some(Lasting::StockOut);
            }
            FaultKind::SlowPull => {
                self.pulls_slowly = true;
                return Some(Lasting::SlowPull);
            }
        }
        None
    }

    pub(super) fn fault_ends(&mut self, lasting: Lasting) {
        self.log.note(self.clock.now_us(), "fault-ends", &format!("{lasting:?}"), None);
        match lasting {
            Lasting::Unhealthy(node) => self.set_unhealthy(&node, false),
            Lasting::Stuck(key, uid) => {
                if let Some(pod) = self.pods.get_mut(&key).filter(|pod| pod.uid == uid) {
                    pod.is_stuck = false;
                    if pod.is_leaving {
                        self.step(&key, super::Step::Finish);
                    }
                }
            }
            Lasting::Api => self.outage.set(false),
            Lasting::Gcs(key) => self.set_gcs_fault(&key, None),
            Lasting::StockOut => self.has_no_stock = false,
            Lasting::SlowPull => self.pulls_slowly = false,
            Lasting::Clocks(by_ms) => self.wall.step(by_ms),
        }
    }

    fn set_gcs_fault(&mut self, cluster: &Key, fault: Option<GcsFault>) {
        if let Some(head) = self.clusters.get(cluster).and_then(|cluster| cluster.head.as_ref()) {
            head.gcs.set_fault(fault);
        }
    }

    fn set_unhealthy(&mut self, name: &str, is_unhealthy: bool) {
        let Some(node) = self.nodes.get_mut(name) else { return };
        node.taints.retain(|taint| taint.key != UNREACHABLE);
        if is_unhealthy {
            let taint = Taint { key: UNREACHABLE.into(), value: String::new(), effect: "NoSchedule".into() };
            node.taints.push(taint);
        }
        let (taints, ready) = (node.taint_values(), if is_unhealthy { "Unknown" } else { "True" });
        let _ = self.server.edit("nodes", "", name, |node| {
            node["spec"]["taints"] = taints;
            super::placing::set_condition(node, json!({"type": "Ready", "status": ready}));
        });
        if !is_unhealthy {
            self.plan_scheduling();
        }
    }
}
