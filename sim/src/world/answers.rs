//! What a user may ask of a run beside its numbers: a series over time, what sidecars thought at a moment, their recordings.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, PoisonError};

use mobula_autoscaler::http::Board;

use super::{Event, Key, Stage, World};
use crate::log::Sink;
use crate::span::Span;

/// What is asked for.
#[derive(Default)]
pub struct Wishes {
    /// A row of the series so often, and where to.
    pub series: Option<(Span, Sink)>,
    /// What the sidecars thought then.
    pub explain_at: Option<Span>,
    /// Their flight recordings.
    pub record: bool,
}

/// What was answered.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// The decision of each sidecar at the time that was asked for.
    pub explanations: BTreeMap<Key, String>,
    /// The recording of each RayCluster's sidecars, one life after the other.
    pub recordings: BTreeMap<Key, Vec<u8>>,
    /// The first row that could not be written.
    pub series_error: Option<String>,
}

const COLUMNS: &str = "time_s,nodes,gpus,gpus_stranded,pods_waiting,pods_starting,pods_running,replicas,\
                       cpus_used,gpus_used,tasks_waiting,gangs_waiting,cost\n";

impl World {
    /// Sets up what is asked for. Call it before [`World::begin`].
    pub fn wish(&mut self, wishes: Wishes) {
        if let Some(at) = wishes.explain_at {
            self.queue.push(at.as_us(), Event::Explain);
        }
        self.wishes = wishes;
        if self.wishes.series.is_some() {
            self.write_row(COLUMNS);
            self.queue.push(0, Event::Sample);
        }
    }

    pub(super) fn explain(&mut self) {
        let heads = self.clusters.iter().filter_map(|(key, cluster)| Some((key, cluster.head.as_ref()?)));
        let boards = heads.filter_map(|(key, head)| Some((key.clone(), head.sidecar.as_ref()?.board.clone())));
        let told = boards.map(|(key, board)| {
            let decision = board.last_decision();
            (key, decision.map_or_else(|| "nothing is decided yet\n".to_owned(), |decision| decision.to_table()))
        });
        self.answers.explanations = told.collect();
    }

    /// A sidecar has ended: its recording is kept.
    pub(super) fn keep_recording(&mut self, cluster: &Key, board: &Arc<Board>) {
        if self.wishes.record {
            let bytes = board.recorder.bytes().unwrap_or_default();
            self.answers.recordings.entry(cluster.clone()).or_default().extend(bytes);
        }
    }

    pub(super) fn sample(&mut self) {
        let Some((every, _)) = &self.wishes.series else { return };
        let now_us = self.clock.now_us();
        self.queue.push(now_us.saturating_add(every.as_us().max(1_000)), Event::Sample);
        let row = self.row(now_us);
        self.write_row(&row);
    }

    fn row(&self, now_us: u64) -> String {
        let (mut waiting, mut starting, mut running) = (0, 0, 0);
        for pod in self.pods.values().filter(|pod| pod.cluster.is_some() && !pod.is_leaving) {
            match pod.stage {
                Stage::Waiting => waiting += 1,
                Stage::Registered => running += 1,
                Stage::Ended => {}
                _ => starting += 1,
            }
        }
        let mut replicas = 0;
        self.server.each("rayclusters", "", |object| {
            let groups = object["spec"]["workerGroupSpecs"].as_array().into_iter().flatten();
            replicas += groups.filter_map(|group| group["replicas"].as_u64()).sum::<u64>();
        });
        let (mut cpus, mut gpus, mut tasks, mut gangs) = (0.0, 0.0, 0, 0);
        for cluster in self.clusters.values() {
            let runtime = cluster.runtime.lock().unwrap_or_else(PoisonError::into_inner);
            cpus += runtime.used("CPU");
            gpus += runtime.used("GPU");
            tasks += runtime.waiting_tasks();
            gangs += runtime.waiting_groups();
        }
        // The sum of nothing is -0.
        let all_gpus = 0.0 + self.nodes.values().map(super::KubeNode::gpus).sum::<f64>();
        let (stranded, cost) = (self.stranded(), self.cost_until_now());
        let time_s = Span::from_us(now_us).as_f64_s();
        let mut row = String::new();
        let _ = writeln!(
            row,
            "{time_s},{},{all_gpus},{stranded},{waiting},{starting},{running},{replicas},{cpus},{gpus},{tasks},{gangs},{cost:.4}",
            self.nodes.len()
        );
        row
    }

    fn write_row(&mut self, row: &str) {
        let Some((_, sink)) = &mut self.wishes.series else { return };
        if let Err(error) = sink.write_all(row.as_bytes()) {
            self.answers.series_error.get_or_insert_with(|| error.to_string());
        }
    }

    /// Everything that was asked for.
    pub fn take_answers(&mut self) -> Answers {
        if let Some((_, sink)) = &mut self.wishes.series
            && let Err(error) = sink.flush()
        {
            self.answers.series_error.get_or_insert_with(|| error.to_string());
        }
        std::mem::take(&mut self.answers)
    }
}
