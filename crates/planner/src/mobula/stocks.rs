//! Hosts that are alike: labels, what they are, what is free of them. Ten thousand hosts are a few hundred stocks, and what is
//! found out of a stock is found out of all of its hosts.

use hashbrown::HashTable;

use super::world::{Column, Shape, ShapeId};
use crate::quick_hash;

/// Number of a stock, in the order in which they were met. Nothing is decided by it.
pub(super) type StockId = u32;

/// What stays the same of a host while it is filled.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Traits {
    /// Which labels it has.
    pub kind: u32,
    /// It has scarce resources.
    pub is_scarce: bool,
    /// How much it should be left alone.
    pub state: State,
}

/// How much a host should be left alone, less from one to the next.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum State {
    /// It works already.
    #[default]
    Busy,
    /// It could go.
    Idle,
    /// It is on its way.
    Coming,
    /// The plan launches it.
    New,
}

impl Traits {
    /// All of them in one word.
    pub fn bits(self) -> u64 {
        let Traits { kind, is_scarce, state } = self;
        u64::from(kind) << 3 | u64::from(is_scarce) << 2 | state as u64
    }
}

/// Every stock that was met, each once. It only grows, so that a number means the same on every board of one plan.
#[derive(Clone, Debug, Default)]
pub(super) struct Stocks {
    /// Resources of a host.
    width: usize,
    /// By stock, row by row: what is free, by column.
    free: Vec<i64>,
    traits: Vec<Traits>,
    ids: HashTable<StockId>,
    /// Steps that were taken lately, each at its place: hosts that are alike are mostly filled alike.
    steps: Vec<Option<(Step, StockId)>>,
    /// The stock that was given up last, by its traits.
    last_given_up: Option<(Traits, StockId)>,
    /// A row in the making.
    scratch: Vec<i64>,
}

/// So many requests of a shape are taken from a stock.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Step {
    stock: StockId,
    shape: ShapeId,
    count: i64,
}

/// Places for steps.
const STEPS: usize = 1 << 10;

impl Step {
    fn place(self) -> usize {
        let mixed = quick_hash::of_words(&[i64::from(self.stock), i64::from(self.shape), self.count]);
        (mixed >> 40) as usize % STEPS
    }
}

impl Stocks {
    /// For hosts with so many columns.
    pub fn new(width: usize) -> Self {
        Stocks { width, steps: vec![None; STEPS], ..Stocks::default() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.traits.len()
    }

    /// By column: what is free.
    pub fn free(&self, stock: StockId) -> &[i64] {
        let at = stock as usize * self.width;
        &self.free[at..at + self.width]
    }

    pub fn traits(&self, stock: StockId) -> Traits {
        self.traits[stock as usize]
    }

    /// The stock with these traits and so much free.
    pub fn intern(&mut self, free: &[i64], traits: Traits) -> StockId {
        self.scratch.clear();
        self.scratch.extend_from_slice(free);
        self.intern_scratch(traits)
    }

    /// What a stock becomes when so many requests of `shape` are taken from it (or, with a negative count, given back).
    pub fn after(&mut self, stock: StockId, shapes: &[Shape], shape: ShapeId, count: i64) -> StockId {
        let step = Step { stock, shape, count };
        if let Some((_, after)) = self.steps[step.place()].filter(|(known, _)| *known == step) {
            return after;
        }
        self.copy(stock);
        for &(column, amount) in &shapes[shape as usize].needs {
            self.scratch[usize::from(column)] -= amount * count;
        }
        let after = self.intern_scratch(self.traits(stock));
        self.steps[step.place()] = Some((step, after));
        after
    }

    /// What a stock becomes when so much more of some columns is free.
    pub fn with(&mut self, stock: StockId, more: &[(Column, i64)]) -> StockId {
        self.copy(stock);
        for &(column, amount) in more {
            self.scratch[usize::from(column)] += amount;
        }
        self.intern_scratch(self.traits(stock))
    }

    /// The stock on which nothing fits.
    pub fn given_up(&mut self, stock: StockId) -> StockId {
        let traits = self.traits(stock);
        if let Some((_, given_up)) = self.last_given_up.filter(|(of, _)| *of == traits) {
            return given_up;
        }
        self.scratch.clear();
        self.scratch.resize(self.width, -1);
        let given_up = self.intern_scratch(traits);
        self.last_given_up = Some((traits, given_up));
        given_up
    }

    fn copy(&mut self, stock: StockId) {
        let at = stock as usize * self.width;
        self.scratch.clear();
        self.scratch.extend_from_slice(&self.free[at..at + self.width]);
    }

    fn intern_scratch(&mut self, traits: Traits) -> StockId {
        let Stocks { width, free, traits: all, ids, scratch, .. } = self;
        let row = |free: &Vec<i64>, stock: StockId| {
            let at = stock as usize * *width;
            at..(at + *width).min(free.len())
        };
        let hash = hash(scratch, traits);
        let is_it = |stock: &StockId| all[*stock as usize] == traits && free[row(free, *stock)] == scratch[..];
        if let Some(stock) = ids.find(hash, is_it) {
            return *stock;
        }
        let stock = all.len() as StockId;
        free.extend_from_slice(scratch);
        all.push(traits);
        ids.insert_unique(hash, stock, |stock| hash_of_row(free, all, row(free, *stock), *stock));
        stock
    }

    /// How many requests of `shape` fit, labels left aside.
    #[inline]
    pub fn slots(&self, stock: StockId, shape: &Shape) -> i64 {
        let free = self.free(stock);
        let mut most = i64::MAX;
        for &(column, amount) in &shape.needs {
            let free = free[usize::from(column)];
            if free < amount {
                return 0;
            }
            // One piece of something scarce a host is the rule.
            let fit = if amount == 1 { free } else { free / amount };
            most = most.min(fit);
        }
        most
    }
}

fn hash(free: &[i64], traits: Traits) -> u64 {
    quick_hash::of_words(free) ^ traits.bits().wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn hash_of_row(free: &[i64], traits: &[Traits], row: std::ops::Range<usize>, stock: StockId) -> u64 {
    hash(&free[row], traits[stock as usize])
}
