//! What all reconcilers share.
//!
//! ```text
//! watches ─► World (stores with indices) ─► Reconciler: observe, decide ─► Decision ─► Executor ─► API server
//!                  ▲                                    ▲                                 │
//!                  └── what the answers say ────────────┴── Memory: failures, look-ups ◄──┘
//! ```
//!
//! * [`decision`]: what is to be done, as a value.
//! * [`world`]: everything that is watched, in stores with indices. A reconcile lists nothing from the API server.
//! * [`read`]: how answers of the API server are read: without what nobody looks at.
//! * [`capacity`]: what nodes offer and pods hold, for gang admission.
//! * [`executor`]: carries a decision out: in batches, a bounded number of requests at once for each object, and fairly.
//! * [`turns`]: whose request goes next when there are many.
//! * [`controller`]: which object is worked on when.
//! * [`lease`]: who leads. What is not the leader's is not done.

pub mod backoff;
pub mod capacity;
pub mod condition;
pub mod controller;
pub mod decision;
pub mod executor;
pub mod gang_pod;
pub mod hash;
pub mod http;
pub mod kind;
pub mod lease;
pub mod metrics;
pub mod neighbours;
pub mod notices;
pub mod outcome;
pub mod pace;
pub mod pod;
pub mod queue;
pub mod read;
pub mod store;
pub mod time;
pub mod turns;
pub mod watch;
pub mod world;
