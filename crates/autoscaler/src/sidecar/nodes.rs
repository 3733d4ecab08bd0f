//! Kubernetes nodes as plans look at them: from the watch while it goes, else from a list.

use std::{collections::BTreeSet, sync::Arc};

use mobula_api::{PodView, RayCluster};
use serde_json::Value;

use super::{Context, LoopState};
use crate::{hosts, surroundings, topology::DescribedTopology};

/// What the surroundings are those of.
pub(super) struct Around<'a> {
    pub(super) cluster: &'a RayCluster,
    pub(super) pods: &'a [PodView],
    /// Groups whose pods are asked for and not there.
    pub(super) waiting: BTreeSet<&'a str>,
    /// Labels by which gangs ask for one domain.
    pub(super) asked: BTreeSet<&'a str>,
}

/// Nodes from a list, or else from the watch. `listed`: what was answered, where a list was asked for. False: labels are asked for
/// that the watch does not keep yet, so they must be listed with the next tick.
pub(super) fn read_nodes(
    context: &Context,
    state: &mut LoopState,
    around: &Around<'_>,
    (listed, described): (Option<Option<&Value>>, &DescribedTopology),
    notes: &mut Vec<String>,
) -> bool {
    let mut keys = label_keys(state, around);
    keys.extend(described.label_keys().map(str::to_owned));
    let watched = context.nodes.ask(&keys);
    let (mut read, made_of) = match (listed, watched) {
        (Some(Some(nodes)), _) => {
            notes.extend(surroundings::node_notes(surroundings::troubles_in(nodes), around.pods));
            (hosts::read(nodes, hosts::keeps(&keys)), None)
        }
        (_, Some(version)) => {
            notes.extend(surroundings::node_notes(|name| context.nodes.troubles(name), around.pods));
            let made_of = NodesMadeOf { version, keys };
            // What HyperNodes say of labels may have changed.
            if !described.has_hypernodes() && state.nodes_made_of.as_ref() == Some(&made_of) {
                return true;
            }
            (context.nodes.nodes(), Some(made_of))
        }
        (Some(None), None) => return true,
        (None, None) => return false,
    };
    notes.extend(described.label_nodes(&mut read));
    state.nodes_made_of = made_of.filter(|_| !described.has_hypernodes());
    // What is equal stays the same object: it is compared in every tick.
    if *state.kube_nodes != read {
        state.kube_nodes = Arc::new(read);
    }
    true
}

/// What the nodes that are known were made of.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NodesMadeOf {
    version: u64,
    keys: BTreeSet<String>,
}

/// Labels of Kubernetes nodes that a plan may look at. The others, often a hundred a node, are not kept.
pub(super) fn label_keys(state: &LoopState, around: &Around<'_>) -> BTreeSet<String> {
    let levels = state.options.topology.iter().flat_map(|level| level.keys.iter().cloned());
    let groups = around.cluster.spec.worker_group_specs.iter();
    let selectors = groups.filter_map(|group| group.template.pointer("/spec/nodeSelector")?.as_object());
    let selected = selectors.flat_map(|selector| selector.keys().cloned());
    levels.chain(selected).chain(around.asked.iter().map(|label| (*label).to_owned())).collect()
}
