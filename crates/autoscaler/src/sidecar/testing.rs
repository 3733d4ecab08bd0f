//! Objects for unit tests of the loop.

use mobula_api::{PodRole, PodView};

pub(crate) fn worker_pod(name: &str, group: &str, running: bool) -> PodView {
    let mut pod =
        PodView { name: name.to_owned(), group: group.to_owned(), role: PodRole::Worker, ..PodView::default() };
    pod.ray_container.running = running;
    pod
}

pub(crate) fn replica_pod(name: &str, group: &str, replica: &str) -> PodView {
    PodView { replica: Some(replica.to_owned()), ..worker_pod(name, group, true) }
}
