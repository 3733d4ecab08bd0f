//! What Ray and KubeRay write into Kubernetes, read exactly: RayCluster `ray.io/v1`, pods, quantities, names. No I/O.
//!
//! * [`RayCluster::from_value`] reads a manifest and loses nothing of it; [`RayCluster::to_value`] writes it again.
//! * [`Kind::definition`] is the definition of a kind, made from these types; [`Kind::misfits`] holds an object against it.
//! * [`RayCluster::group_shapes`] says what one pod of each group brings, as Ray's autoscaler derives it.
//! * [`RayCluster::settings`] says how the cluster wants to be scaled.
//! * [`RayCluster::validate`] says what of it is refused, [`RayCluster::advice`] what is allowed and will not work.
//! * [`Kind::faults`] says both of an object of any kind of `ray.io`.
//! * [`PodView::from_value`] says where a pod is on its way to being a Ray node.
//! * [`node`] and [`pod_needs`] say what a Kubernetes node takes, and what a pod takes of it, as the scheduler counts it.
//! * [`sparse::Sparse`] reads JSON without what nobody looks at.
//! * [`TopologyObject::from_value`] reads what other schedulers say of the topology.
//!
//! Whatever can't be used is a [`FieldError`] that names the field, its value and what to do.

mod at;
mod counts;
mod definition;
mod error;
mod gangs;
mod gates;
pub mod keys;
mod labels;
pub mod node;
mod object;
mod options;
mod pod;
pub mod pod_needs;
mod quantity;
mod raycluster;
mod raycronjob;
mod rayjob;
mod rayservice;
mod resize;
mod resources;
mod schema;
mod settings;
mod shape;
pub mod sparse;
mod status;
mod template;
mod time;
mod topology;
mod validate;
mod version;

pub use definition::Kind;
pub use error::FieldError;
pub use gangs::PlannedGangs;
pub use gates::{Compat, Gate, Gates};
pub use options::{
    AuthOptions, AutoscalerOptions, CollectorOptions, Credential, GcsFaultToleranceOptions, GcsStorage,
    HistoryServerOptions, IdleTerminationOptions, IngressOptions, NetworkPolicy, NetworkPolicyGroup,
    NetworkPolicyRules, TlsOptions, UpgradeStrategy,
};
pub use pod::{ContainerResources, ContainerView, PendingClass, PodRole, PodView};
pub use quantity::{Quantity, QuantityError};
pub use raycluster::{
    DEFAULT_GCS_PORT, HeadGroupSpec, ObjectMeta, RayCluster, RayClusterSpec, ScaleStrategy, WorkerGroupSpec,
};
pub use raycronjob::{RayCronJob, RayCronJobSpec, RayCronJobStatus};
pub use rayjob::{
    DeletionCondition, DeletionPolicy, DeletionRule, DeletionStrategy, RayJob, RayJobInfo, RayJobSpec, RayJobStatus,
    SubmitterConfig,
};
pub use rayservice::{
    ApplicationStatus, ClusterUpgradeOptions, DeploymentStatus, RayService, RayServiceSpec, RayServiceStatus,
    RayServiceUpgradeStrategy, ServedCluster,
};
pub use resize::{IpprStatus, ResizeBounds, ResizeCondition, ResizeProgress, ResizeResource, ResizeSuggestion};
pub use schema::Misfit;
pub use settings::{ClusterSettings, DemandVersion, IdlePolicy, IdleTermination, Upscaling};
pub use shape::{GroupShape, group_shapes_from_value};
pub use status::{Condition, HeadInfo, RayClusterStatus, WorkerGroupStatus};
pub use topology::{
    HyperNode, HyperNodeMember, LabelCondition, MemberKind, MemberSelector, TopologyKey, TopologyLevels, TopologyObject,
};
pub use validate::{Extent, Fault, Finding, InvalidReason, MOST_NAME_CHARS, Rules};
pub use version::RayVersion;
