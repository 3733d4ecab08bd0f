//! The nodes of a cluster: those that are there, and the dead ones, of which a GCS goes on listing up to a thousand.

use std::sync::Arc;

use super::{NodeState, NodeStatus};

/// Living and dead nodes. They can be shared by states that say the same of them, so that a copy costs little, and who compares states can
/// pass over what is one and the same.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Nodes {
    living: Vec<Arc<NodeState>>,
    dead: Arc<Vec<Arc<NodeState>>>,
}

impl Nodes {
    /// Of nodes that are known to be living and dead.
    pub fn new(living: Vec<Arc<NodeState>>, dead: Arc<Vec<Arc<NodeState>>>) -> Nodes {
        let is_dead = |node: &Arc<NodeState>| node.status == NodeStatus::Dead;
        debug_assert!(!living.iter().any(is_dead) && dead.iter().all(is_dead), "the living among the dead");
        Nodes { living, dead }
    }

    /// Running, idle and draining nodes and those of unknown status, in the order of the reply.
    pub fn living(&self) -> &[Arc<NodeState>] {
        &self.living
    }

    /// Dead nodes, in the order of the reply.
    pub fn dead(&self) -> &[Arc<NodeState>] {
        &self.dead
    }

    /// The living, then the dead.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<NodeState>> {
        self.living.iter().chain(self.dead.iter())
    }

    /// How many there are, the dead among them.
    pub fn len(&self) -> usize {
        self.living.len() + self.dead.len()
    }

    /// Whether there is none, not even a dead one.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One more.
    pub fn push(&mut self, node: impl Into<Arc<NodeState>>) {
        let node = node.into();
        match node.status {
            NodeStatus::Dead => Arc::make_mut(&mut self.dead).push(node),
            _ => self.living.push(node),
        }
    }

    /// Changes all that live, each a copy of its own then; those that die of it are the last of the dead.
    pub fn change_all(&mut self, mut change: impl FnMut(&mut NodeState)) {
        for mut node in std::mem::take(&mut self.living) {
            change(Arc::make_mut(&mut node));
            self.push(node);
        }
    }

    /// Changes a node that is living; one that dies of it is the last of the dead. `None`: no such node lives.
    pub fn change<R>(&mut self, node_id: &str, change: impl FnOnce(&mut NodeState) -> R) -> Option<R> {
        let index = self.living.iter().position(|node| node.node_id == node_id)?;
        let node = Arc::make_mut(self.living.get_mut(index)?);
        let result = change(node);
        if node.status == NodeStatus::Dead {
            let node = self.living.remove(index);
            self.push(node);
        }
        Some(result)
    }
}

impl<N: Into<Arc<NodeState>>> FromIterator<N> for Nodes {
    fn from_iter<I: IntoIterator<Item = N>>(nodes: I) -> Nodes {
        let (dead, living) =
            nodes.into_iter().map(Into::into).partition(|node: &Arc<NodeState>| node.status == NodeStatus::Dead);
        Nodes { living, dead: Arc::new(dead) }
    }
}

impl From<Vec<NodeState>> for Nodes {
    fn from(nodes: Vec<NodeState>) -> Nodes {
        nodes.into_iter().collect()
    }
}

impl IntoIterator for Nodes {
    type Item = Arc<NodeState>;
    type IntoIter = std::iter::Chain<std::vec::IntoIter<Arc<NodeState>>, std::vec::IntoIter<Arc<NodeState>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.living.into_iter().chain(Arc::unwrap_or_clone(self.dead))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: &str, status: NodeStatus) -> NodeState {
        NodeState { node_id: id.into(), status, ..NodeState::default() }
    }

    fn ids(nodes: &[Arc<NodeState>]) -> Vec<&str> {
        nodes.iter().map(|node| node.node_id.as_str()).collect()
    }

    #[test]
    fn the_living_and_the_dead_are_told_apart_in_their_order() {
        let all = [
            node("a", NodeStatus::Dead),
            node("b", NodeStatus::Idle),
            node("c", NodeStatus::Dead),
            node("d", NodeStatus::Unspecified),
        ];
        let mut nodes: Nodes = all.into_iter().collect();
        assert_eq!((ids(nodes.living()), ids(nodes.dead())), (vec!["b", "d"], vec!["a", "c"]));
        nodes.push(node("e", NodeStatus::Dead));
        nodes.push(node("f", NodeStatus::Running));
        assert_eq!((ids(nodes.living()), ids(nodes.dead())), (vec!["b", "d", "f"], vec!["a", "c", "e"]));
        assert_eq!((nodes.len(), nodes.iter().count(), nodes.clone().into_iter().count()), (6, 6, 6));
    }

    #[test]
    fn who_dies_is_dead_and_copies_made_before_do_not_change() {
        let mut nodes = Nodes::from(vec![node("a", NodeStatus::Idle), node("b", NodeStatus::Idle)]);
        let before = nodes.clone();
        assert_eq!(nodes.change("a", |node| std::mem::replace(&mut node.idle_ms, 5)), Some(0));
        nodes.change("b", |node| node.status = NodeStatus::Dead).unwrap();
        assert_eq!(nodes.change("b", |node| node.idle_ms = 5), None, "the dead do not change");
        assert_eq!((ids(nodes.living()), ids(nodes.dead())), (vec!["a"], vec!["b"]));
        assert_eq!(nodes.living()[0].idle_ms, 5);
        assert_eq!((before.living().len(), before.living()[0].idle_ms), (2, 0));
    }
}
