//! Production code in a simulated world, in virtual time.
//!
//! The operator, the sidecars and the planner are those of production. Simulated is what is around them: the API server is
//! [`mobula_apiserver`], GCSs are in this process, and scheduler, kubelets, the provisioner of nodes and Ray are models, each a
//! small file with its assumptions at the top ([`world`], [`ray`]).
//!
//! One run is one thread with one paused runtime of tokio: time goes on when nothing is left to do. Chance is a seed. Everything
//! that happens is in one log, whose hash is the run's fingerprint: the same binary, scenario, policy and seed give the same.
//!
//! No file is opened here, and no clock asked: [`scenario::Files`] brings files, [`run::Progress`] shows how far a run is.

pub mod chance;
pub mod clock;
pub mod compare;
pub mod inbox;
pub mod log;
pub mod measure;
pub mod network;
pub mod placement;
pub mod queue;
pub mod ray;
pub mod run;
pub mod scenario;
pub mod soak;
pub mod span;
pub mod summary;
pub mod vigil;
pub mod world;
