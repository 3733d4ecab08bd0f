//! See ARCHITECTURE.md.
mod types;
pub use types::*;
