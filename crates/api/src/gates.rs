//! Which KubeRay is stood in for, and which of its feature gates are on.

use std::collections::BTreeSet;

use crate::FieldError;

/// The KubeRay whose behaviour is wanted, where its releases differ.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Compat {
    /// KubeRay 1.6.2.
    #[default]
    V1_6,
    /// KubeRay 1.7.0.
    V1_7,
}

impl Compat {
    /// Reads what `--compat` says: `1.6` or `1.7`, with or without a `v` and a third number.
    ///
    /// # Errors
    /// For any other version.
    pub fn parse(text: &str) -> Result<Compat, FieldError> {
        let mut numbers = text.trim().trim_start_matches('v').splitn(3, '.');
        match (numbers.next(), numbers.next()) {
            (Some("1"), Some("6")) => Ok(Compat::V1_6),
            (Some("1"), Some("7")) => Ok(Compat::V1_7),
            _ => Err(FieldError::new("--compat", text, "must be 1.6 or 1.7")),
        }
    }

    /// As `--compat` takes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Compat::V1_6 => "1.6",
            Compat::V1_7 => "1.7",
        }
    }
}

macro_rules! gates {
    ($( $(#[$meta:meta])* $name:ident: $default_1_6:literal, $default_1_7:literal; )*) => {
        /// A feature gate of KubeRay, under its name there.
        #[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Gate {
            $( $(#[$meta])* $name, )*
        }

        impl Gate {
            /// Every gate.
            pub const ALL: &[Gate] = &[$(Gate::$name),*];

            /// As `--feature-gates` spells it.
            pub fn as_str(self) -> &'static str {
                match self { $(Gate::$name => stringify!($name),)* }
            }

            /// Whether it is on where nothing is said.
            pub fn is_default(self, compat: Compat) -> bool {
                match (self, compat) {
                    $( (Gate::$name, Compat::V1_6) => $default_1_6, (Gate::$name, Compat::V1_7) => $default_1_7, )*
                }
            }
        }
    };
}

gates! {
    /// Conditions in the status of a RayCluster.
    RayClusterStatusConditions: true, true;
    /// Deletion rules of a RayJob, and suspended worker groups.
    RayJobDeletionPolicy: true, true;
    /// Labels that number replicas and hosts.
    RayMultiHostIndexing: true, true;
    /// `NewClusterWithIncrementalUpgrade` of a RayService.
    RayServiceIncrementalUpgrade: false, true;
    /// The kind RayCronJob.
    RayCronJob: false, false;
    /// 1.6 only: job information is asked for in the background.
    AsyncJobInfoQuery: false, false;
    /// 1.7 only: restarts of a sidecar submitter.
    SidecarSubmitterRestart: false, false;
    /// 1.7 only: `spec.networkPolicy`.
    RayClusterNetworkPolicy: false, false;
    /// 1.7 only: the GCS keeps its state in RocksDB.
    GCSFaultToleranceEmbeddedStorage: false, false;
    /// 1.7 only: `spec.tlsOptions`.
    RayClusterMTLS: false, false;
    /// 1.7 only: `spec.historyServerOptions`.
    RayClusterHistoryServer: false, false;
    /// 1.7 only: `scheduling.k8s.io` Workloads.
    KubernetesWAS: false, false;
}

/// The gates that are on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gates(BTreeSet<Gate>);

impl Default for Gates {
    fn default() -> Self {
        Gates::defaults(Compat::default())
    }
}

impl Gates {
    /// What is on where nothing is said.
    pub fn defaults(compat: Compat) -> Gates {
        Gates(Gate::ALL.iter().copied().filter(|gate| gate.is_default(compat)).collect())
    }

    /// Reads what `--feature-gates` says, `NAME=true,NAME=false`, over the defaults.
    ///
    /// # Errors
    /// For a name that is no gate and a value that is neither `true` nor `false`.
    pub fn parse(text: &str, compat: Compat) -> Result<Gates, FieldError> {
        let mut gates = Gates::defaults(compat);
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            let Some(gate) = Gate::ALL.iter().find(|gate| gate.as_str() == name) else {
                let known = Gate::ALL.iter().map(|gate| gate.as_str()).collect::<Vec<_>>().join(", ");
                return Err(FieldError::new("--feature-gates", name, format!("is no gate: must be one of {known}")));
            };
            match value.to_ascii_lowercase().as_str() {
                "true" => gates.set(*gate, true),
                "false" => gates.set(*gate, false),
                _ => {
                    let problem = format!("must be {name}=true or {name}=false");
                    return Err(FieldError::new("--feature-gates", entry, problem));
                }
            }
        }
        Ok(gates)
    }

    /// Turns one on or off.
    pub fn set(&mut self, gate: Gate, on: bool) {
        if on {
            self.0.insert(gate);
        } else {
            self.0.remove(&gate);
        }
    }

    /// Whether it is on.
    pub fn has(&self, gate: Gate) -> bool {
        self.0.contains(&gate)
    }
}

#[cfg(test)]
mod tests {
    use super::{Compat, Gate, Gates};

    #[test]
    fn a_release_is_named_by_its_first_two_numbers() {
        for (text, expected) in [("1.6", Compat::V1_6), ("v1.6.2", Compat::V1_6), ("1.7.0", Compat::V1_7)] {
            assert_eq!(Compat::parse(text), Ok(expected), "{text}");
        }
        assert_eq!(Compat::parse("1.5").unwrap_err().to_string(), "--compat: 1.5: must be 1.6 or 1.7");
    }

    #[test]
    fn gates_are_read_over_the_defaults_of_the_release() {
        let gates = Gates::parse("RayCronJob=true, RayMultiHostIndexing=False,", Compat::V1_6).unwrap();
        assert!(gates.has(Gate::RayCronJob) && gates.has(Gate::RayJobDeletionPolicy));
        assert!(!gates.has(Gate::RayMultiHostIndexing) && !gates.has(Gate::RayServiceIncrementalUpgrade));
        assert!(Gates::defaults(Compat::V1_7).has(Gate::RayServiceIncrementalUpgrade));
    }

    #[test]
    fn what_is_no_gate_is_named() {
        let said = |text| Gates::parse(text, Compat::V1_6).unwrap_err().to_string();
        assert!(said("Nonsense=true").starts_with("--feature-gates: Nonsense: is no gate: must be one of Ray"));
        assert_eq!(said("RayCronJob=1"), "--feature-gates: RayCronJob=1: must be RayCronJob=true or RayCronJob=false");
    }
}
