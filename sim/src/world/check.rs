//! What must hold whatever goes wrong. Looked at in every turn of a soak.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use super::{Key, World};

impl World {
    /// What is broken now.
    pub fn violation(&self) -> Option<String> {
        self.heads_are_single().or_else(|| self.nodes_hold_what_they_have()).or_else(|| self.groups_are_bounded())
    }

    /// What is not as it should be once nothing goes wrong any more and all work should be done.
    pub fn leftover(&self) -> Option<String> {
        for (key, cluster) in &self.clusters {
            let runtime = cluster.runtime.lock().unwrap_or_else(PoisonError::into_inner);
            let (tasks, groups) = (runtime.waiting_tasks(), runtime.waiting_groups());
            if tasks + groups > 0 {
                return Some(format!("{key}: {tasks} tasks and {groups} gangs still wait"));
            }
        }
        let worker = self.pods.iter().find(|(_, pod)| pod.cluster.is_some() && !pod.is_head);
        worker.map(|(key, pod)| format!("{key}: is still there ({:?}) although nothing is to be done", pod.stage))
    }

    fn heads_are_single(&self) -> Option<String> {
        let mut heads: BTreeMap<&Key, u32> = BTreeMap::new();
        for pod in self.pods.values().filter(|pod| pod.is_head && !pod.is_leaving) {
            if let Some(cluster) = &pod.cluster {
                *heads.entry(cluster).or_default() += 1;
            }
        }
        let double = heads.into_iter().find(|(_, count)| *count > 1);
        double.map(|(cluster, count)| format!("{cluster}: {count} heads"))
    }

    fn nodes_hold_what_they_have(&self) -> Option<String> {
        let over = self.nodes.values().find_map(|node| {
            let (name, _) = node.free.iter().find(|(_, free)| free.steps() < 0)?;
            Some((node, name))
        });
        over.map(|(node, resource)| format!("node {}: more {resource} is taken than there is", node.name))
    }

    /// No group has more pods than its most replicas take; those that leave are left out.
    fn groups_are_bounded(&self) -> Option<String> {
        let mut counts: BTreeMap<(&Key, &str), u64> = BTreeMap::new();
        for pod in self.pods.values().filter(|pod| !pod.is_head && !pod.is_leaving && pod.stage != super::Stage::Ended)
        {
            if let Some(cluster) = &pod.cluster {
                *counts.entry((cluster, &pod.group)).or_default() += 1;
            }
        }
        counts.into_iter().find_map(|((cluster, group), count)| {
            let most = *self.most_pods.get(&(cluster.clone(), group.to_owned()))?;
            (count > most).then(|| format!("{cluster}: group {group} has {count} pods, and {most} at most"))
        })
    }
}
