//! The workload: what comes when.

use mobula_planner::Labels;

use super::{Event, Key, World};
use crate::chance::{Spread, stream};
use crate::ray::{GroupWork, Needs, TaskWork};
use crate::scenario::{Bundles, Gang, Step, Tasks, What};

impl World {
    pub(super) fn begin_work(&mut self) {
        let scenario = self.scenario.clone();
        for (index, step) in scenario.work.iter().enumerate() {
            self.queue.push(step.value.at.as_us(), Event::Work { index, number: 0 });
        }
    }

    pub(super) fn work_comes(&mut self, index: usize, number: u64) {
        let scenario = self.scenario.clone();
        let Some(step) = scenario.work.get(index).map(|step| &step.value) else { return };
        let now_us = self.clock.now_us();
        if step.until.is_some_and(|until| now_us > until.as_us()) || step.times.is_some_and(|times| number >= times) {
            return;
        }
        if let Some(every) = &step.every {
            let gap = every.draw(&mut self.steps_chance[index]);
            let event = Event::Work { index, number: number + 1 };
            self.queue.push(now_us.saturating_add(gap.as_us().max(1)), event);
        }
        let Some((namespace, name)) = scenario.cluster_of(step) else { return };
        let cluster = Key { namespace, name };
        self.log.note(now_us, "work", &format!("{cluster} {index}/{number}"), None);
        self.bring(step, &cluster, index, number);
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
                let mut ids = self.chance("group-id", &format!("{index}/{number}"));
                let id: String = (0..3).map(|_| format!("{:016x}", ids.draw())).collect();
                let work = GroupWork {
                    id: id[..36].to_owned(),
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
                let requests = bundles.iter().map(|Bundles { count, needs }| {
                    (Needs { resources: needs.clone(), labels: Labels::new() }, i64::from(*count))
                });
                let requests = requests.collect();
                self.with_ray(cluster, |ray, _| ray.request_resources(requests));
            }
            None => {}
        }
    }
}
