//! The instances of a snapshot, shared with the snapshot before where they are the same.

use std::collections::HashMap;
use std::ops::{Index, IndexMut};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Node;

/// A list of instances. A copy of it is the same list; what is changed is copied first.
///
/// From tick to tick most instances stay as they are. [`Nodes::share`] makes those of the new list the same as in the old one,
/// so that comparing the two looks at addresses: at one, if nothing has changed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nodes(Arc<Vec<Arc<Node>>>);

impl Nodes {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One of them.
    pub fn get(&self, at: usize) -> Option<&Node> {
        self.0.get(at).map(|node| &**node)
    }

    /// The first one.
    pub fn first(&self) -> Option<&Node> {
        self.get(0)
    }

    /// All, in their order.
    pub fn iter(&self) -> Iter<'_> {
        self.0.iter().map(as_node)
    }

    /// All, to be changed.
    pub fn iter_mut(&mut self) -> IterMut<'_> {
        Arc::make_mut(&mut self.0).iter_mut().map(Arc::make_mut)
    }

    /// Adds one at the end.
    pub fn push(&mut self, node: Node) {
        Arc::make_mut(&mut self.0).push(Arc::new(node));
    }

    /// Takes one out.
    ///
    /// # Panics
    /// Where there is none.
    pub fn remove(&mut self, at: usize) {
        Arc::make_mut(&mut self.0).remove(at);
    }

    /// Takes out those that are not to be kept.
    pub fn retain(&mut self, mut is_kept: impl FnMut(&Node) -> bool) {
        Arc::make_mut(&mut self.0).retain(|node| is_kept(node));
    }

    /// Takes out all.
    pub fn clear(&mut self) {
        Arc::make_mut(&mut self.0).clear();
    }

    /// Turns the order round.
    pub fn reverse(&mut self) {
        Arc::make_mut(&mut self.0).reverse();
    }

    /// Moves so many of the first to the end.
    ///
    /// # Panics
    /// Where there are not so many.
    pub fn rotate_left(&mut self, count: usize) {
        Arc::make_mut(&mut self.0).rotate_left(count);
    }

    /// The same instances, shared, in another order: by place, where each of them was.
    pub(crate) fn in_order(&self, order: &[usize]) -> Nodes {
        Nodes(Arc::new(order.iter().filter_map(|at| self.0.get(*at)).map(Arc::clone).collect()))
    }

    /// Whether `is_same` holds for each pair of what is not shared, and nothing is left over.
    pub(crate) fn is_equal_by(&self, other: &Nodes, is_same: impl Fn(&Node, &Node) -> bool) -> bool {
        let is_same = |(a, b): (&Arc<Node>, &Arc<Node>)| Arc::ptr_eq(a, b) || is_same(a, b);
        Arc::ptr_eq(&self.0, &other.0) || (self.len() == other.len() && self.0.iter().zip(&*other.0).all(is_same))
    }

    /// Shares with an earlier list what is equal in both.
    pub fn share(&mut self, earlier: &Nodes) {
        if Arc::ptr_eq(&self.0, &earlier.0) {
            return;
        }
        // Mostly nothing comes or goes; where something does, what follows is found by name.
        let mut by_name: Option<HashMap<&str, &Arc<Node>>> = None;
        for (at, node) in Arc::make_mut(&mut self.0).iter_mut().enumerate() {
            let same_place = earlier.0.get(at).filter(|old| old.instance_id == node.instance_id);
            let old = same_place.or_else(|| {
                let by_name =
                    by_name.get_or_insert_with(|| earlier.0.iter().map(|old| (&*old.instance_id, old)).collect());
                by_name.get(&*node.instance_id).copied()
            });
            if let Some(old) = old.filter(|old| *old == node) {
                *node = Arc::clone(old);
            }
        }
        if self.0.iter().map(Arc::as_ptr).eq(earlier.0.iter().map(Arc::as_ptr)) {
            self.0 = Arc::clone(&earlier.0);
        }
    }
}

/// Equal by content; what is shared is equal at a glance.
impl PartialEq for Nodes {
    fn eq(&self, other: &Self) -> bool {
        self.is_equal_by(other, |a, b| a == b)
    }
}

/// The instances of a list, in their order.
pub type Iter<'a> = std::iter::Map<std::slice::Iter<'a, Arc<Node>>, fn(&'a Arc<Node>) -> &'a Node>;

fn as_node(node: &Arc<Node>) -> &Node {
    node
}

/// The instances of a list, in their order, to be changed.
pub type IterMut<'a> = std::iter::Map<std::slice::IterMut<'a, Arc<Node>>, fn(&'a mut Arc<Node>) -> &'a mut Node>;

impl<'a> IntoIterator for &'a mut Nodes {
    type Item = &'a mut Node;
    type IntoIter = IterMut<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

impl<'a> IntoIterator for &'a Nodes {
    type Item = &'a Node;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter().map(as_node)
    }
}

impl From<Vec<Node>> for Nodes {
    fn from(nodes: Vec<Node>) -> Self {
        nodes.into_iter().collect()
    }
}

impl FromIterator<Node> for Nodes {
    fn from_iter<I: IntoIterator<Item = Node>>(nodes: I) -> Self {
        Nodes(Arc::new(nodes.into_iter().map(Arc::new).collect()))
    }
}

impl Extend<Node> for Nodes {
    fn extend<I: IntoIterator<Item = Node>>(&mut self, nodes: I) {
        Arc::make_mut(&mut self.0).extend(nodes.into_iter().map(Arc::new));
    }
}

impl Index<usize> for Nodes {
    type Output = Node;

    fn index(&self, at: usize) -> &Node {
        &self.0[at]
    }
}

impl IndexMut<usize> for Nodes {
    fn index_mut(&mut self, at: usize) -> &mut Node {
        Arc::make_mut(&mut Arc::make_mut(&mut self.0)[at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Nodes {
        names.iter().map(|name| Node { instance_id: (*name).into(), ..Node::default() }).collect()
    }

    #[test]
    fn what_is_equal_is_shared_and_what_changed_is_not() {
        let old = named(&["a", "b", "c", "d"]);
        let mut new = named(&["a", "new", "b", "c"]);
        new[3].idle_ms = Some(1);
        new.share(&old);
        let is_old = |at: usize, other: usize| Arc::ptr_eq(&new.0[at], &old.0[other]);
        assert!(is_old(0, 0) && is_old(2, 1) && !is_old(3, 2));
        assert_eq!(new[3].idle_ms, Some(1));
    }

    #[test]
    fn where_nothing_changed_it_is_the_same_list() {
        let old = named(&["a", "b"]);
        let is_the_same = |mut new: Nodes| {
            new.share(&old);
            Arc::ptr_eq(&new.0, &old.0)
        };
        assert!(is_the_same(named(&["a", "b"])));
        assert!(
            !["a", "a b c", "b a"]
                .map(|names| is_the_same(named(&names.split(' ').collect::<Vec<_>>())))
                .contains(&true)
        );
        let mut busy = named(&["a", "b"]);
        busy[1].idle_ms = Some(1);
        assert!(!is_the_same(busy));
    }

    #[test]
    fn a_change_does_not_reach_a_copy() {
        let old = named(&["a", "b"]);
        let mut new = old.clone();
        assert_eq!(new, old);
        new.iter_mut().for_each(|node| node.is_head = true);
        assert_ne!(new, old);
        assert!(old.iter().all(|node| !node.is_head));
    }
}
