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
    /// Which of the level's keys the value was met under first.
    pub(super) key: usize,
    depth: u32,
    /// The domain within which the value names one domain only.
    scope: u32,
}

#[derive(Debug)]
pub(super) struct Tree<'a> {
    graph: DiGraph<Domain<'a>, ()>,
}

/// Where a place is, as far as the levels so far tell.
#[derive(Copy, Clone, Debug)]
struct Around {
    /// The innermost domain.
    outer: u32,
    /// The innermost domain of a level that splits the names within it.
    scope: u32,
}

/// A domain in the making.
#[derive(Copy, Clone, Debug)]
struct Draft {
    value: u32,
    scope: u32,
    /// What holds all places in it.
    outer: u32,
}

impl<'a> Tree<'a> {
    /// The tree that the label values of all places span, and for each place the domain at each level, [`NONE`] where it has
    /// none (row by row, as [`Sight::values`]).
    ///
    /// A value that is met within two domains (rack 1 of block a, rack 1 of block b) names two; a place that lacks the label
    /// of the broader level, and so could be in either, is in none. Networks are otherwise: switches and NVLink domains have
    /// names of their own, and a rack can be at two switches. See [`Level::names_globally`].
    pub(super) fn build(levels: &[Level], sight: &Sight<'a>) -> (Tree<'a>, Vec<u32>) {
        let mut tree = Tree { graph: DiGraph::new() };
        tree.graph.add_node(Domain { level: None, value: "", key: 0, depth: 0, scope: ROOT });
        let width = levels.len();
        let mut domains = vec![NONE; sight.values.len()];
        let everywhere = Around { outer: ROOT, scope: ROOT };
        let mut around = vec![everywhere; sight.values.len().checked_div(width).unwrap_or(0)];
        for (at, level) in levels.iter().enumerate() {
            let values = sight.values.iter().skip(at).step_by(width).copied();
            let of_level = |around: &Around| if level.is_nested { *around } else { everywhere };
            let seen: Vec<(u32, Around)> = values.zip(around.iter().map(of_level)).collect();
            let named = sight.named.get(at).map(Vec::as_slice).unwrap_or_default();
            let made = tree.add_level(at, level, &seen, named, sight);
            let cells = domains.iter_mut().skip(at).step_by(width);
            for ((cell, domain), around) in cells.zip(made).zip(&mut around) {
                *cell = domain;
                if domain != NONE && level.is_nested {
                    around.outer = domain;
                    around.scope = if level.names_globally() { around.scope } else { domain };
                }
            }
        }
        (tree, domains)
    }

    /// Adds the domains of a level; gives that of each place.
    fn add_level(
        &mut self,
        at: usize,
        level: &Level,
        seen: &[(u32, Around)],
        named: &[u32],
        sight: &Sight<'a>,
    ) -> Vec<u32> {
        let scope_of = |around: &Around| if level.names_globally() { ROOT } else { around.scope };
        let places = seen.iter().filter(|(value, _)| *value != NONE);
        let pairs = places.map(|(value, around)| (*value, scope_of(around)));
        let mut pairs: Vec<(u32, u32)> = pairs.chain(named.iter().map(|value| (*value, ROOT))).collect();
        pairs.sort_unstable();
        pairs.dedup();
        let mut drafts: Vec<Draft> = Vec::new();
        for same in pairs.chunk_by(|a, b| a.0 == b.0) {
            let scopes: Vec<u32> = same.iter().map(|(_, scope)| *scope).collect();
            let inmost = inmost(&scopes, |scope| self.domain(scope).map_or(ROOT, |domain| domain.scope));
            let value = same.first().map_or(NONE, |(value, _)| *value);
            drafts.extend(inmost.into_iter().map(|scope| Draft { value, scope, outer: ROOT }));
        }
        let chosen: Vec<Option<usize>> =
            seen.iter().map(|(value, around)| self.choose(&drafts, *value, scope_of(around))).collect();
        let outers = chosen.iter().zip(seen).filter_map(|(draft, (_, around))| Some(((*draft)?, around.outer)));
        let mut outers: Vec<(usize, u32)> = outers.collect();
        outers.sort_unstable();
        outers.dedup();
        for same in outers.chunk_by(|a, b| a.0 == b.0) {
            let around: Vec<u32> = same.iter().map(|(_, outer)| *outer).collect();
            let inmost = inmost(&around, |outer| self.parent(outer).unwrap_or(ROOT));
            let outer = inmost.into_iter().reduce(|a, b| self.common(a, b));
            if let Some(draft) = same.first().and_then(|(draft, _)| drafts.get_mut(*draft)) {
                draft.outer = outer.unwrap_or(ROOT);
            }
        }
        let made: Vec<u32> = drafts.iter().map(|draft| self.add(at, draft, sight)).collect();
        let domain = |draft: &Option<usize>| draft.and_then(|draft| made.get(draft)).copied().unwrap_or(NONE);
        chosen.iter().map(domain).collect()
    }

    fn add(&mut self, level: usize, draft: &Draft, sight: &Sight<'a>) -> u32 {
        let depth = self.domain(draft.outer).map_or(1, |domain| domain.depth.saturating_add(1));
        let value = sight.texts.get(level).and_then(|texts| texts.get(draft.value as usize));
        let key = sight.keys.get(level).and_then(|keys| keys.get(draft.value as usize));
        let (value, key) = (value.copied().unwrap_or_default(), key.copied().unwrap_or_default());
        let domain = self.graph.add_node(Domain { level: Some(level), value, key, depth, scope: draft.scope });
        self.graph.add_edge(NodeIndex::new(draft.outer as usize), domain, ());
        u32::try_from(domain.index()).unwrap_or(NONE)
    }

    /// The domain of a value that a place within `scope` is in; `None` if it could be in several. `drafts` are in the order of
    /// their values and scopes.
    fn choose(&self, drafts: &[Draft], value: u32, scope: u32) -> Option<usize> {
        if let Ok(exact) = drafts.binary_search_by_key(&(value, scope), |draft| (draft.value, draft.scope)) {
            return Some(exact);
        }
        let from = drafts.partition_point(|draft| draft.value < value);
        let same = (from..).zip(drafts.get(from..)?).take_while(|(_, draft)| draft.value == value);
        let mut inside = same.filter(|(_, draft)| self.is_within(draft.scope, scope));
        let (first, _) = inside.next()?;
        inside.next().is_none().then_some(first)
    }

    /// Whether a scope is another one or lies in it.
    fn is_within(&self, inner: u32, outer: u32) -> bool {
        let mut scope = inner;
        while scope != outer && scope != ROOT {
            scope = self.domain(scope).map_or(ROOT, |domain| domain.scope);
        }
        scope == outer
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

/// Of domains (sorted), those that have no other one within them: of a domain and one within it, the inner one says more.
fn inmost(domains: &[u32], outer: impl Fn(u32) -> u32) -> Vec<u32> {
    let mut holds_another = vec![false; domains.len()];
    for domain in domains {
        let mut around = *domain;
        while around != ROOT {
            around = outer(around);
            if let Some(holds) = domains.binary_search(&around).ok().and_then(|at| holds_another.get_mut(at)) {
                *holds = true;
            }
        }
    }
    domains.iter().zip(holds_another).filter(|(_, holds)| !holds).map(|(domain, _)| *domain).collect()
}
