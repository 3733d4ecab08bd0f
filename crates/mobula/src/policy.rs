//! Which policy decides, as the command line says it.

use std::sync::Arc;

use mobula_planner::{Policy, PolicyOptions};

use crate::input::BadInput;

/// The policy of this name.
pub fn named(name: &str, options: &PolicyOptions) -> Result<Arc<dyn Policy>, BadInput> {
    mobula_planner::policy(name, options).ok_or_else(|| {
        let known = mobula_planner::policy_names().join(", ");
        BadInput::new("--policy", format!("{name}: unknown: must be one of {known}"))
    })
}
