//! Which policy decides and how, as the command line says it.

use std::sync::Arc;

use mobula_planner::{Policy, PolicyOptions};

use crate::input::BadInput;

/// Units of a policy's work that one core does in a millisecond. Budgets are counted in work, because time differs from run
/// to run: the number is what turns the milliseconds that users think in into one that is recorded.
pub const WORK_PER_MS: u64 = 2_000;

/// What users choose about a policy of the workbench, beside its name and budget.
#[derive(Copy, Clone, Debug, Default, clap::Args)]
pub struct Switches {
    /// Never put requests without GPU on GPU nodes, not even if nothing else can take them
    #[arg(long)]
    pub keep_gpu_clean: bool,
    /// Propose to move work that can be drained, so that whole nodes and domains become free
    #[arg(long)]
    pub defragment: bool,
}

impl Switches {
    /// With the work of about `improve_ms` spent on making the plan cheaper.
    pub fn options(self, improve_ms: u64) -> PolicyOptions {
        PolicyOptions {
            improve_work: improve_ms.saturating_mul(WORK_PER_MS),
            keep_gpu_clean: self.keep_gpu_clean,
            defragment: self.defragment,
        }
    }
}

/// The policy of this name.
pub fn named(name: &str, options: &PolicyOptions) -> Result<Arc<dyn Policy>, BadInput> {
    mobula_planner::policy(name, options).ok_or_else(|| {
        let known = mobula_planner::policy_names().join(", ");
        BadInput::new("--policy", format!("{name}: unknown: must be one of {known}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_become_work() {
        let options = Switches { keep_gpu_clean: true, defragment: false }.options(3);
        assert_eq!(options, PolicyOptions { improve_work: 6_000, keep_gpu_clean: true, defragment: false });
        assert_eq!(Switches::default().options(u64::MAX).improve_work, u64::MAX);
    }
}
