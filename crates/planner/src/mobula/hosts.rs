//! The hosts of a world, in the order of their numbers.

use std::ops::Range;

use super::stocks::{StockId, Stocks, Traits};
use super::world::{Column, HostId, Origin, Shape, ShapeId};

/// All hosts, one column a property.
#[derive(Clone, Debug, Default)]
pub(super) struct Hosts {
    pub stocks: Stocks,
    /// By host: what it is and what is free of it.
    pub stock: Vec<StockId>,
    /// By host: index of its group in the snapshot; `u32::MAX` for none.
    pub group: Vec<u32>,
    /// By host: where it comes from.
    pub origin: Vec<Origin>,
    /// By host: what it is kept for.
    pub needed: Vec<u8>,
    /// By host: it was to be launched, and is not.
    pub is_given_up: Vec<bool>,
}

impl Hosts {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.stock.len()
    }

    /// What is free of one column.
    pub fn free(&self, host: HostId, column: Column) -> i64 {
        self.stocks.free(self.stock[host as usize])[usize::from(column)]
    }

    /// What stays the same of a host while it is filled.
    pub fn traits(&self, host: HostId) -> Traits {
        self.stocks.traits(self.stock[host as usize])
    }

    /// How many requests of `shape` fit on a host, labels left aside.
    pub fn slots(&self, shape: &Shape, host: HostId) -> i64 {
        let at = host as usize;
        if self.is_given_up[at] { 0 } else { self.stocks.slots(self.stock[at], shape) }
    }

    /// Takes (or, with a negative count, gives back) room for so many requests of `shape` on each of these hosts.
    pub fn take(&mut self, shapes: &[Shape], shape: ShapeId, hosts: Range<HostId>, count: i64) {
        // They are mostly alike.
        for alike in self.stock[as_places(hosts)].chunk_by_mut(|a, b| a == b) {
            alike.fill(self.stocks.after(alike[0], shapes, shape, count));
        }
    }

    /// Notes what hosts are kept for.
    pub fn keep(&mut self, hosts: Range<HostId>, need: u8) {
        self.needed[as_places(hosts)].iter_mut().for_each(|needed| *needed |= need);
    }

    /// Makes so much more of some columns free.
    pub fn add(&mut self, host: HostId, more: &[(Column, i64)]) {
        let stock = &mut self.stock[host as usize];
        *stock = self.stocks.with(*stock, more);
    }

    /// Adds hosts that are alike.
    pub fn extend(&mut self, stock: StockId, group: u32, origins: impl Iterator<Item = Origin>) {
        self.origin.extend(origins);
        let len = self.origin.len();
        self.stock.resize(len, stock);
        self.group.resize(len, group);
        self.needed.resize(len, 0);
        self.is_given_up.resize(len, false);
    }

    /// Makes launched hosts such that are not launched after all: nothing fits there.
    pub fn give_up(&mut self, hosts: Range<HostId>) {
        let hosts = as_places(hosts);
        for alike in self.stock[hosts.clone()].chunk_by_mut(|a, b| a == b) {
            alike.fill(self.stocks.given_up(alike[0]));
        }
        self.is_given_up[hosts].fill(true);
    }

    /// Forgets all but the first `len` hosts.
    pub fn truncate(&mut self, len: usize) {
        self.stock.truncate(len);
        self.group.truncate(len);
        self.origin.truncate(len);
        self.needed.truncate(len);
        self.is_given_up.truncate(len);
    }
}

fn as_places(hosts: Range<HostId>) -> Range<usize> {
    hosts.start as usize..hosts.end as usize
}
