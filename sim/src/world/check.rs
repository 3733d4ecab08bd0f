//! What must hold whatever goes wrong. Looked at in every turn of a soak; what may be written is [`crate::vigil`]'s matter.

use std::sync::PoisonError;

use super::World;

impl World {
    /// What is broken now.
    pub fn violation(&self) -> Option<String> {
        self.vigil.broken().or_else(|| self.nodes_hold_what_they_have()).or_else(|| self.has_ended())
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

    fn nodes_hold_what_they_have(&self) -> Option<String> {
        let over = self.nodes.values().find_map(|node| {
            let (name, _) = node.free.iter().find(|(_, free)| free.steps() < 0)?;
            Some((node, name))
        });
        over.map(|(node, resource)| format!("node {}: more {resource} is taken than there is", node.name))
    }

    /// Neither the operator nor a sidecar ends by itself.
    fn has_ended(&self) -> Option<String> {
        if self.operator.as_ref().is_some_and(|operator| operator.task.is_finished()) {
            return Some("the operator has ended by itself".to_owned());
        }
        let heads = self.clusters.iter().filter_map(|(key, cluster)| Some((key, cluster.head.as_ref()?)));
        let mut sidecars = heads.filter_map(|(key, head)| Some((key, head.sidecar.as_ref()?)));
        let ended = sidecars.find(|(_, sidecar)| sidecar.task.is_finished());
        ended.map(|(key, _)| format!("{key}: the sidecar has ended by itself"))
    }
}
