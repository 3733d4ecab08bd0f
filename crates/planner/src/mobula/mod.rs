//! The policy `mobula`: whole gangs, topology, money.
//!
//! Nodes are looked at in one order, whatever the order of the snapshot ([`order`]).
//!
//! A plan is made in this order; what is decided earlier is capacity for what comes later:
//! 1. Pods that have stopped or do not come are set aside ([`crate::given_up`], [`pending`]).
//! 2. Minimum replicas, then what `request_resources` asks for ([`floors`]).
//! 3. Gangs by priority and age, each whole or not at all ([`gangs`]), within one domain or fabric where it asks for that
//!    ([`pools`], [`choose`]), on what is there or on its way, and on as few new hosts as money allows.
//!    Kinds of bundles that must be apart are matched with hosts together where one by one is not enough ([`apart`]).
//!    Gangs with accelerators come near each other where that costs nothing ([`close`]).
//! 4. Tasks and actors, the hardest first, on what is there, on its way or launched ([`tasks`]), then on new hosts ([`lots`]).
//! 5. What is launched is packed once more, all together, with a bound on what it could cost at the least ([`repack`]).
//!    What found no place is packed together with all that may be elsewhere ([`squeeze`]).
//! 6. Nodes that nothing needs go ([`shrink`]).
//!
//! Requests, nodes and groups are dense integers all the way ([`world`]); everything is said with its reason ([`report`],
//! [`reasons`]).

mod advice;
mod apart;
mod asked;
mod board;
mod choose;
mod close;
mod cover;
mod decide;
mod demand;
mod exchange;
mod floors;
mod gangs;
mod host_set;
mod hosts;
mod limits;
mod lots;
mod matching;
mod moves;
pub(crate) mod order;
mod over_maximum;
mod pending;
mod pools;
mod price;
mod rate;
mod reasons;
mod repack;
mod report;
mod resize;
mod rooms;
mod runs;
mod second_look;
mod shrink;
mod slots;
mod squeeze;
mod stocks;
mod tasks;
mod waiting;
mod world;

use crate::{Memory, Plan, Policy, PolicyOptions, Snapshot};

/// The policy `mobula`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mobula {
    /// What users can choose.
    pub options: PolicyOptions,
}

/// What stays the same while a plan is made.
#[derive(Clone, Debug)]
struct Rules<'a> {
    prices: &'a price::Prices,
    /// Requests without accelerators never go to groups with accelerators.
    keep_gpu_clean: bool,
    /// Without prices, they go there only if nothing else can take them.
    conserve_gpu_nodes: bool,
    /// Work that may be spent on packing anew.
    improve_work: u64,
}

impl Rules<'_> {
    /// The rules for the first attempt. Without prices nothing says what the time of accelerators is worth: work that needs
    /// none stays off them wherever something else can take it, even if they are there anyway. `None`: there is one attempt.
    fn clean(&self) -> Option<Self> {
        let is_new = !self.prices.is_priced && self.conserve_gpu_nodes && !self.keep_gpu_clean;
        is_new.then(|| Rules { keep_gpu_clean: true, ..self.clone() })
    }
}

impl Policy for Mobula {
    fn name(&self) -> &'static str {
        "mobula"
    }

    fn plan(&self, snapshot: &Snapshot, memory: &Memory) -> (Plan, Memory) {
        let ordered = order::Ordered::new(snapshot);
        let mut memory = memory.clone();
        let decision = decide::decide(&ordered.snapshot, &ordered.roster, &self.options, &mut memory);
        let mut plan = report::plan(self.name(), &decision, &memory);
        if self.options.defragment {
            moves::propose(&decision, &mut plan);
        }
        ordered.restore(&mut plan);
        (plan, memory)
    }
}
