//! How a cluster wants to be scaled.

use serde::{Deserialize, Serialize};

use crate::{FieldError, RayCluster};

/// Which autoscaler's rules the user asked for (`autoscalerOptions.version`).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DemandVersion {
    /// `v1`.
    V1,
    /// `v2`.
    V2,
    /// Not said: Ray decides by its own version (2.47 and later: v2).
    #[default]
    Unset,
}

/// How fast the cluster may grow (`autoscalerOptions.upscalingMode`).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Upscaling {
    /// Not rate-limited.
    #[default]
    Default,
    /// An alias of `Default`.
    Aggressive,
    /// Rate-limited.
    Conservative,
}

/// What happens to a cluster that was idle for long enough.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum IdlePolicy {
    /// Its pods go, the RayCluster stays.
    #[default]
    Suspend,
    /// The RayCluster is deleted.
    Delete,
}

/// Idle termination, where it is on.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdleTermination {
    /// Time without any driver, in ms.
    pub timeout_ms: i64,
    /// What happens then.
    pub policy: IdlePolicy,
}

/// Settings of a whole cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSettings {
    /// Idle time after which a worker goes, in ms. Groups may override it.
    pub idle_timeout_ms: i64,
    /// How fast the cluster may grow.
    pub upscaling: Upscaling,
    /// Which autoscaler's rules.
    pub version: DemandVersion,
    /// What happens to an idle cluster; `None`: nothing.
    pub idle_termination: Option<IdleTermination>,
    /// The cluster has no pods, or is about to lose them: it must not be scaled.
    pub suspended: bool,
    /// Whether the user asked for an autoscaler at all.
    pub autoscaling_enabled: bool,
}

/// Idle time-out of workers where the RayCluster says nothing.
const DEFAULT_IDLE_TIMEOUT_MS: i64 = 60_000;

const OPTIONS: &str = "spec.autoscalerOptions";
const IDLE_OPTIONS: &str = "spec.idleTerminationOptions";

impl RayCluster {
    /// The settings of the cluster, with Ray's defaults where it says nothing.
    ///
    /// # Errors
    /// Names a negative or absurd time, or a word that is not one of those allowed.
    pub fn settings(&self) -> Result<ClusterSettings, FieldError> {
        let options = self.spec.autoscaler_options.clone().unwrap_or_default();
        let idle_timeout_ms = options
            .idle_timeout_seconds
            .map(|s| seconds_to_ms(&format!("{OPTIONS}.idleTimeoutSeconds"), s))
            .transpose()?;
        let upscaling = match options.upscaling_mode.as_deref() {
            None | Some("Default") => Upscaling::Default,
            Some("Aggressive") => Upscaling::Aggressive,
            Some("Conservative") => Upscaling::Conservative,
            Some(other) => {
                let problem = "must be Default, Aggressive or Conservative";
                return Err(FieldError::new(format!("{OPTIONS}.upscalingMode"), other, problem));
            }
        };
        let version = match options.version.as_deref() {
            None => DemandVersion::Unset,
            Some("v1") => DemandVersion::V1,
            Some("v2") => DemandVersion::V2,
            Some(other) => return Err(FieldError::new(format!("{OPTIONS}.version"), other, "must be v1 or v2")),
        };
        Ok(ClusterSettings {
            idle_timeout_ms: idle_timeout_ms.unwrap_or(DEFAULT_IDLE_TIMEOUT_MS),
            upscaling,
            version,
            idle_termination: self.idle_termination()?,
            suspended: self.spec.suspend == Some(true) || self.spec.idle_suspend == Some(true),
            autoscaling_enabled: self.spec.enable_in_tree_autoscaling == Some(true),
        })
    }

    fn idle_termination(&self) -> Result<Option<IdleTermination>, FieldError> {
        let Some(options) = &self.spec.idle_termination_options else { return Ok(None) };
        let policy = match options.policy.as_deref() {
            None | Some("Suspend") => IdlePolicy::Suspend,
            Some("Delete") => IdlePolicy::Delete,
            Some(other) => {
                return Err(FieldError::new(format!("{IDLE_OPTIONS}.policy"), other, "must be Suspend or Delete"));
            }
        };
        let Some(seconds) = options.timeout_seconds else { return Ok(None) };
        let timeout_ms = seconds_to_ms(&format!("{IDLE_OPTIONS}.timeoutSeconds"), seconds)?;
        Ok(Some(IdleTermination { timeout_ms, policy }))
    }
}

/// Seconds of a 32-bit field in ms.
pub(crate) fn seconds_to_ms(field: &str, seconds: i64) -> Result<i64, FieldError> {
    if !(0..=i64::from(i32::MAX)).contains(&seconds) {
        return Err(FieldError::new(field, seconds.to_string(), format!("must be from 0 to {} seconds", i32::MAX)));
    }
    Ok(seconds * 1_000)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{ClusterSettings, DemandVersion, IdlePolicy, IdleTermination, Upscaling};
    use crate::{FieldError, RayCluster};

    fn settings(spec: &Value) -> Result<ClusterSettings, FieldError> {
        let mut cluster = json!({"metadata": {"name": "c"}, "spec": {"headGroupSpec": {"template": {}}}});
        cluster["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        RayCluster::from_value(cluster)?.settings()
    }

    #[test]
    fn silence_means_rays_defaults() {
        let expected = ClusterSettings {
            idle_timeout_ms: 60_000,
            upscaling: Upscaling::Default,
            version: DemandVersion::Unset,
            idle_termination: None,
            suspended: false,
            autoscaling_enabled: false,
        };
        assert_eq!(settings(&json!({})).unwrap(), expected);
        assert_eq!(settings(&json!({"autoscalerOptions": {}, "idleTerminationOptions": {}})).unwrap(), expected);
    }

    #[test]
    fn what_is_said_is_taken() {
        let read = settings(&json!({
            "enableInTreeAutoscaling": true,
            "autoscalerOptions": {"idleTimeoutSeconds": 0, "upscalingMode": "Conservative", "version": "v1"},
            "idleTerminationOptions": {"timeoutSeconds": 90, "policy": "Delete"},
        }));
        let expected = ClusterSettings {
            idle_timeout_ms: 0,
            upscaling: Upscaling::Conservative,
            version: DemandVersion::V1,
            idle_termination: Some(IdleTermination { timeout_ms: 90_000, policy: IdlePolicy::Delete }),
            suspended: false,
            autoscaling_enabled: true,
        };
        assert_eq!(read.unwrap(), expected);
    }

    #[test]
    fn suspension_by_the_user_or_for_idleness_counts() {
        assert!(settings(&json!({"suspend": true})).unwrap().suspended);
        assert!(settings(&json!({"idleSuspend": true})).unwrap().suspended);
        assert!(!settings(&json!({"suspend": false})).unwrap().suspended);
    }

    #[test]
    fn nonsense_is_named() {
        let nonsense = [
            (
                json!({"autoscalerOptions": {"idleTimeoutSeconds": -1}}),
                "spec.autoscalerOptions.idleTimeoutSeconds: -1: must be from 0 to 2147483647 seconds",
            ),
            (
                json!({"autoscalerOptions": {"upscalingMode": "Fast"}}),
                "spec.autoscalerOptions.upscalingMode: Fast: must be Default, Aggressive or Conservative",
            ),
            (json!({"autoscalerOptions": {"version": "v3"}}), "spec.autoscalerOptions.version: v3: must be v1 or v2"),
            (
                json!({"idleTerminationOptions": {"policy": "Stop"}}),
                "spec.idleTerminationOptions.policy: Stop: must be Suspend or Delete",
            ),
            (
                json!({"idleTerminationOptions": {"timeoutSeconds": i64::MAX}}),
                "spec.idleTerminationOptions.timeoutSeconds: 9223372036854775807: must be from 0 to 2147483647 seconds",
            ),
            (json!({"autoscalerOptions": 5}), "spec.autoscalerOptions: 5: must be an object"),
        ];
        for (spec, expected) in nonsense {
            assert_eq!(settings(&spec).unwrap_err().to_string(), expected);
        }
    }
}
