//! The tree of labelled domains: root → broad → narrow.

use petgraph::Direction;
use petgraph::graph::{DiGraph, NodeIndex};

use super::level::Level;
use super::sight::{NONE, Sight};

/// The root: everything there is.
pub(super) const ROOT: u32 = 0;

/// Nodes with the same value of the label of a level.
#[derive(Clone, Debug)]
pub(super) struct Domain<'a> {
    /// `None`: the root.
    pub(super) level: Option<usize>,
    pub(super) value: &'a str,
    depth: u32,
}

#[derive(Debug)]
pub(super) struct Tree<'a> {
    graph: DiGraph<Domain<'a>, ()>,
}

impl<'a> Tree<'a> {
    /// The tree that the label values of all places span, and for each place the domain at each level, [`NONE`] where it has
    /// none (row by row, as [`Sight::values`]).
    ///
    /// A value that is met below two domains (rack 1 of block a, rack 1 of block b) names two domains; a place that lacks the
    /// label of the broader level, and so could be in either, is in none. Where Ray compares the value, it names one domain.
    pub(super) fn build(levels: &[Level], sight: &Sight<'a>) -> (Tree<'a>, Vec<u32>) {
        let mut tree = Tree { graph: DiGraph::new() };
        tree.graph.add_node(Domain { level: None, value: "", depth: 0 });
        let width = levels.len();
        let mut domains = vec![NONE; sight.values.len()];
        let mut innermost = vec![ROOT; sight.values.len().checked_div(width).unwrap_or(0)];
        for (at, level) in levels.iter().enumerate() {
            let value_of = |place: usize| sight.values.get(place * width + at).copied().filter(|value| *value != NONE);
            let outer = |innermost: &[u32], place: usize| match level.is_nested {
                true => innermost.get(place).copied().unwrap_or(ROOT),
                false => ROOT,
            };
            let places = 0..innermost.len();
            let seen = places.clone().filter_map(|place| Some((value_of(place)?, outer(&innermost, place))));
            let named = sight.named.get(at).into_iter().flatten().map(|value| (*value, ROOT));
            let mut below: Vec<(u32, u32)> = seen.chain(named).collect();
            below.sort_unstable();
            below.dedup();
            let made = tree.add_level(at, level, &below, sight);
            for place in places {
                let Some(value) = value_of(place) else { continue };
                let Some(domain) = tree.choose(&made, value, outer(&innermost, place)) else { continue };
                if let Some(cell) = domains.get_mut(place * width + at) {
                    *cell = domain;
                }
                if let Some(cell) = innermost.get_mut(place).filter(|_| level.is_nested) {
                    *cell = domain;
                }
            }
        }
        (tree, domains)
    }

    /// Adds the domains of a level. `below`: sorted (value, outer domain); gives sorted (value, domain).
    fn add_level(&mut self, at: usize, level: &Level, below: &[(u32, u32)], sight: &Sight<'a>) -> Vec<(u32, u32)> {
        let mut made = Vec::new();
        for group in below.chunk_by(|a, b| a.0 == b.0) {
            let Some((id, _)) = group.first().copied() else { continue };
            let Some(value) = sight.texts.get(at).and_then(|texts| texts.get(id as usize)).copied() else { continue };
            let outers: Vec<u32> = group.iter().map(|(_, outer)| *outer).collect();
            // Of an outer domain and one within it, the inner one says more.
            let inmost = |outer: &u32| !outers.iter().any(|other| other != outer && self.is_within(*other, *outer));
            let mut outers: Vec<u32> = outers.iter().copied().filter(inmost).collect();
            if level.ray_label.is_some() {
                outers = outers.into_iter().reduce(|a, b| self.common(a, b)).into_iter().collect();
            }
            for outer in outers {
                let outer = NodeIndex::new(outer as usize);
                let depth = self.graph.node_weight(outer).map_or(1, |domain| domain.depth.saturating_add(1));
                let domain = self.graph.add_node(Domain { level: Some(at), value, depth });
                self.graph.add_edge(outer, domain, ());
                made.push((id, u32::try_from(domain.index()).unwrap_or(NONE)));
            }
        }
        made
    }

    /// The domain of a value that a place within `outer` is in; `None` if it could be in several.
    fn choose(&self, made: &[(u32, u32)], value: u32, outer: u32) -> Option<u32> {
        let from = made.partition_point(|(other, _)| *other < value);
        let same = made.get(from..)?.iter().take_while(|(other, _)| *other == value).map(|(_, domain)| *domain);
        let mut same = same.peekable();
        let first = same.next()?;
        if same.peek().is_none() {
            return Some(first);
        }
        let mut inside = std::iter::once(first).chain(same).filter(|domain| self.is_within(*domain, outer));
        inside.next().filter(|_| inside.next().is_none())
    }

    /// How many domains there are, the root included.
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.graph.node_count()).unwrap_or(u32::MAX)
    }

    pub(super) fn domain(&self, domain: u32) -> Option<&Domain<'a>> {
        self.graph.node_weight(NodeIndex::new(domain as usize))
    }

    pub(super) fn parent(&self, domain: u32) -> Option<u32> {
        let outer = self.graph.neighbors_directed(NodeIndex::new(domain as usize), Direction::Incoming).next()?;
        u32::try_from(outer.index()).ok()
    }

    /// Domains directly within this one, in the order in which they were met.
    pub(super) fn children(&self, domain: u32) -> Vec<u32> {
        let inner = self.graph.neighbors(NodeIndex::new(domain as usize));
        let mut inner: Vec<u32> = inner.filter_map(|inner| u32::try_from(inner.index()).ok()).collect();
        inner.sort_unstable();
        inner
    }

    /// Whether `inner` is `outer` or lies in it.
    fn is_within(&self, inner: u32, outer: u32) -> bool {
        std::iter::successors(Some(inner), |domain| self.parent(*domain)).any(|domain| domain == outer)
    }

    /// The smallest domain that holds both.
    pub(super) fn common(&self, a: u32, b: u32) -> u32 {
        let depth = |domain: u32| self.domain(domain).map_or(0, |domain| domain.depth);
        let (mut a, mut b) = (a, b);
        while a != b {
            let deeper = if depth(a) >= depth(b) { &mut a } else { &mut b };
            match self.parent(*deeper) {
                Some(outer) => *deeper = outer,
                None => return ROOT,
            }
        }
        a
    }
}
