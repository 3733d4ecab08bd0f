//! Flags that the operator and the commands about it have in common.

use mobula_api::{Compat, FieldError, Gates, Rules};
use mobula_operator::config::{BatchScheduler, Config, GangMode};

use crate::input::{self, BadInput};

/// Which KubeRay, and which of its gates, count: by these alone manifests are judged.
#[derive(Debug, clap::Args)]
pub struct ReleaseFlags {
    /// Behave as this KubeRay where its releases differ: 1.6 or 1.7
    #[arg(long, value_name = "VERSION", default_value = "1.6", value_parser = compat)]
    compat: Compat,
    /// Feature gates, as NAME=true,NAME=false
    #[arg(
        long = "feature-gates",
        visible_alias = "gates",
        value_name = "GATES",
        default_value = "",
        hide_default_value = true
    )]
    gates: String,
}

impl ReleaseFlags {
    /// The rules that these flags make. A gate that there is not, or not in this release, is named by the error.
    pub fn rules(&self) -> Result<Rules, BadInput> {
        let gates = Gates::parse(&self.gates, self.compat).map_err(|error| in_flags(&error))?;
        Ok(Rules { compat: self.compat, gates })
    }
}

fn in_flags(error: &FieldError) -> BadInput {
    BadInput::new(&error.field, format!("{}: {}", error.value, error.problem))
}

/// What decides about the objects that are made.
#[derive(Debug, clap::Args)]
pub struct OperatorFlags {
    #[command(flatten)]
    release: ReleaseFlags,
    /// Hand pods to this scheduler: volcano, yunikorn, kai-scheduler or scheduler-plugins
    #[arg(long, value_name = "NAME", value_parser = batch_scheduler)]
    batch_scheduler: Option<BatchScheduler>,
    /// Whose gangs wait until they fit as a whole: off, annotated (mobula.dev/gang-admission: "true") or all
    ///
    /// Not where a batch scheduler or Kueue sees to it. Nodes and all pods are watched for it.
    #[arg(long, value_name = "WHOSE", value_parser = gang_mode)]
    gang_admission: Option<GangMode>,
    /// Image of the autoscaler container where the RayCluster names none [default: the head's]
    ///
    /// A RayCluster keeps Ray's own autoscaler by the annotation mobula.dev/autoscaler: ray, by autoscalerOptions.image,
    /// or by autoscalerOptions.version: v1.
    #[arg(long, value_name = "IMAGE")]
    autoscaler_image: Option<String>,
    /// Let that autoscaler also watch its RayCluster, read quotas and write Events
    ///
    /// Nobody can give rights away that he does not hold: the operator needs them, too (deploy/rbac/operator.yaml has them).
    /// Without this flag the operator withdraws them from Roles that it gave them to.
    #[arg(long, requires = "autoscaler_image")]
    autoscaler_wide_role: bool,
    /// Configuration file (kind: Configuration) as KubeRay takes it; flags go before it
    #[arg(long, value_name = "FILE")]
    config: Option<String>,
}

fn compat(text: &str) -> Result<Compat, String> {
    Compat::parse(text).map_err(|error| error.problem)
}

fn gang_mode(text: &str) -> Result<GangMode, String> {
    text.parse().map_err(|error: FieldError| error.problem)
}

fn batch_scheduler(text: &str) -> Result<BatchScheduler, String> {
    text.parse().map_err(|error: FieldError| error.problem)
}

impl OperatorFlags {
    /// The configuration that flags, file and environment (the operator's variables by name) make.
    pub fn config(&self, env: impl Fn(&str) -> Option<String>) -> Result<Config, BadInput> {
        let Rules { compat, gates } = self.release.rules()?;
        let mut config = Config { compat, gates, ..Config::default() };
        if let Some(file) = &self.config {
            let text = input::text(file)?;
            config.read_file(&text).map_err(|error| BadInput::new(file, error))?;
        }
        config.batch_scheduler = self.batch_scheduler.or(config.batch_scheduler);
        config.gangs.mode = self.gang_admission.unwrap_or(config.gangs.mode);
        config.autoscaler.image.clone_from(&self.autoscaler_image);
        config.autoscaler.wide_role = self.autoscaler_wide_role;
        config.read_env(env);
        config.settle().map_err(|error| in_flags(&error))
    }
}
