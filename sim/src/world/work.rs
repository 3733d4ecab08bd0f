//! The workload: what comes when.

use mobula_planner::{Amount, Labels};

use super::{Event, Key, World};
use crate::chance::{Spread, stream};
use crate::ray::{GroupWork, Needs, TaskWork};
use crate::scenario::{Bundles, Gang, Step, Strategy, Tasks, What, find_cluster};

impl World {
    pub(super) fn begin_work(&mut self) {
        let scenario = self.scenario.clone();
        for (index, step) in scenario.work.iter().enumerate() {
            self.queue.push(step.value.at.as_us(), Event::Work { index, number: 0 });
        }
        self.plan_job(0);
    }

    pub(super) fn work_comes(&mut self, index: usize, number: u64) {
        let scenario = self.scenario.clone();
        let Some(step) = scenario.work.get(index).map(|step| &step.value) else { return };
        let now_us = self.clock.now_us();
        let recurrence = step.recurrence();
        if !recurrence.comes(now_us, number) {
            return;
        }
        if let Some(again_us) = recurrence.again_us(now_us, &mut self.steps_chance[index]) {
            self.queue.push(again_us, Event::Work { index, number: number + 1 });
        }
        let Some((namespace, name)) = find_cluster(step.cluster.as_deref(), &self.cluster_names) else { return };
        let cluster = Key { namespace, name };
        self.log.note(now_us, "work", &format!("{cluster} {index}/{number}"), None);
        self.bring(step, &cluster, index, number);
    }

    fn plan_job(&mut self, number: usize) {
        if let Some(job) = self.scenario.jobs.get(number) {
            self.queue.push(job.arrival_ms.saturating_mul(1_000), Event::Job(number));
        }
    }

    /// A job of the trace comes.
    pub(super) fn job_comes(&mut self, number: usize) {
        let scenario = self.scenario.clone();
        self.plan_job(number + 1);
        let (Some(job), Some(trace)) = (scenario.jobs.get(number), &scenario.trace) else { return };
        let Some((namespace, name)) = find_cluster(trace.value.cluster.as_deref(), &self.cluster_names) else { return };
        let cluster = Key { namespace, name };
        self.log.note(self.clock.now_us(), "job", &format!("{cluster} {number}"), None);
        let amount = |(name, units): (&String, &f64)| Some((name.clone(), Amount::from_f64(*units)?));
        let needs = Needs { resources: job.needs.iter().filter_map(amount).collect(), labels: Labels::new() };
        let duration_us = Some(job.duration_ms.saturating_mul(1_000));
        if job.count == 1 {
            let work = TaskWork { needs, durations_us: vec![duration_us], holds_us: None };
            self.measures.tasks += 1;
            self.with_ray(&cluster, |ray, now_us| ray.submit(now_us, work));
            return;
        }
        let strategy = match job.strategy.as_str() {
            "spread" => Strategy::Spread,
            "strict-pack" => Strategy::StrictPack,
            "strict-spread" => Strategy::StrictSpread,
            _ => Strategy::Pack,
        };
        let work = GroupWork {
            id: self.group_id(&format!("job/{number}")),
            strategy,
            needs,
            bundles: job.count,
            locality: job.locality.clone(),
            duration_us,
        };
        self.measures.gangs += 1;
        self.with_ray(&cluster, |ray, now_us| ray.submit_group(now_us, work));
    }

    /// 36 hex digits.
    fn group_id(&self, thing: &str) -> String {
        let mut ids = self.chance("group-id", thing);
        let mut id: String = (0..3).map(|_| format!("{:016x}", ids.draw())).collect();
        id.truncate(36);
        id
    }

    fn bring(&mut self, step: &Step, cluster: &Key, index: usize, number: u64) {
        let mut chance = stream(self.seed, "duration", &format!("{index}/{number}"));
        let mut draw = |spread: Option<&Spread>| spread.map(|spread| spread.draw(&mut chance).as_us());
        match step.what() {
            Some(What::Tasks(tasks) | What::Actors(tasks)) => {
                let Tasks { count, needs, duration, holds, labels } = tasks;
                let work = TaskWork {
                    needs: Needs { resources: needs.clone(), labels: labels.clone() },
                    durations_us: (0..*count).map(|_| draw(duration.as_ref())).collect(),
                    holds_us: draw(holds.as_ref()),
                };
                self.measures.tasks += u64::from(*count);
                self.with_ray(cluster, |ray, now_us| ray.submit(now_us, work));
            }
            Some(What::Gang(gang)) => {
                let Gang { strategy, bundles, needs, duration, locality, labels } = gang;
                let work = GroupWork {
                    id: self.group_id(&format!("{index}/{number}")),
                    strategy: *strategy,
                    needs: Needs { resources: needs.clone(), labels: labels.clone() },
                    bundles: *bundles,
                    locality: locality.clone(),
                    duration_us: draw(duration.as_ref()),
                };
                self.measures.gangs += 1;
                self.with_ray(cluster, |ray, now_us| ray.submit_group(now_us, work));
            }
            Some(What::Request(bundles)) => {
                let requests = bundles.iter().map(|Bundles { count, needs, labels }| {
                    (Needs { resources: needs.clone(), labels: labels.clone() }, i64::from(*count))
                });
                let requests = requests.collect();
                self.with_ray(cluster, |ray, _| ray.request_resources(requests));
            }
            None => {}
        }
    }
}
