//! How many pods a worker group gets.

use crate::{FieldError, WorkerGroupSpec, at::member};

/// Most pods that a group may ask for: more than a Kubernetes cluster can hold is a slip of the pen.
pub(crate) const MOST_PODS: u64 = 150_000;

impl WorkerGroupSpec {
    /// How many replicas the group (at `path` in the spec) is to have, and hosts in each. As KubeRay counts: replicas are
    /// brought within their bounds, whatever they are, and of replicas without hosts there is none.
    ///
    /// # Errors
    /// Names a count that is none, or too many pods.
    pub fn replicas_and_hosts(&self, path: &str) -> Result<(u32, u32), FieldError> {
        let count = |name: &str, value: i64| {
            let valid = i32::try_from(value).ok().and_then(|value| u32::try_from(value).ok());
            let problem = || format!("must be from 0 to {}", i32::MAX);
            valid.ok_or_else(|| FieldError::new(member(path, name), value.to_string(), problem()))
        };
        if self.suspend == Some(true) {
            let hosts = self.num_of_hosts.and_then(|hosts| u32::try_from(hosts).ok());
            return Ok((0, hosts.filter(|hosts| u64::from(*hosts) <= MOST_PODS).unwrap_or(1).max(1)));
        }
        let hosts = count("numOfHosts", self.num_of_hosts.unwrap_or(1))?;
        if u64::from(hosts) > MOST_PODS {
            let problem = format!("asks for more than {MOST_PODS} pods to a replica: lower it");
            return Err(FieldError::new(member(path, "numOfHosts"), hosts.to_string(), problem));
        }
        if hosts == 0 {
            return Ok((0, 1));
        }
        let min = count("minReplicas", self.min_replicas.unwrap_or(0))?;
        let max = count("maxReplicas", self.max_replicas.unwrap_or(i32::MAX.into()))?;
        let asked = self.replicas.unwrap_or(0);
        let replicas = count("replicas", asked.min(max.into()).max(min.into()))?;
        if u64::from(replicas) * u64::from(hosts) > MOST_PODS {
            let field = if asked > i64::from(min) { "replicas" } else { "minReplicas" };
            let problem = format!("asks for more than {MOST_PODS} pods ({hosts} to a replica): lower it");
            return Err(FieldError::new(member(path, field), replicas.to_string(), problem));
        }
        Ok((replicas, hosts))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::{WorkerGroupSpec, at::At, object::Field as _};

    fn counted(counts: &Value) -> Result<(u32, u32), String> {
        let mut group = json!({"groupName": "w", "template": {}, "minReplicas": 2, "maxReplicas": 5});
        group.as_object_mut().unwrap().extend(counts.as_object().unwrap().clone());
        let group = WorkerGroupSpec::read(&At::new("g", &group)).unwrap();
        group.replicas_and_hosts("g").map_err(|error| error.to_string())
    }

    #[test]
    fn replicas_are_brought_within_their_bounds() {
        for (replicas, expected) in [(i64::from(i32::MIN), 2), (-1, 2), (0, 2), (3, 3), (9, 5)] {
            assert_eq!(counted(&json!({"replicas": replicas})), Ok((expected, 1)), "{replicas}");
        }
        assert_eq!(counted(&json!({"replicas": 3, "suspend": true, "numOfHosts": 4})), Ok((0, 4)));
        // Whatever else is said of it, a suspended group has no pods.
        assert_eq!(counted(&json!({"suspend": true, "numOfHosts": -1})), Ok((0, 1)));
    }

    #[test]
    fn of_replicas_without_hosts_there_is_none() {
        assert_eq!(counted(&json!({"replicas": 3, "numOfHosts": 0})), Ok((0, 1)));
    }

    #[test]
    fn what_is_no_count_or_too_many_is_named() {
        let cases = [
            (json!({"numOfHosts": -1}), "g.numOfHosts: -1: must be from 0 to 2147483647"),
            (
                json!({"numOfHosts": 150_001}),
                "g.numOfHosts: 150001: asks for more than 150000 pods to a replica: lower it",
            ),
            (json!({"minReplicas": -1}), "g.minReplicas: -1: must be from 0 to 2147483647"),
            (
                json!({"replicas": 200_000, "maxReplicas": 300_000}),
                "g.replicas: 200000: asks for more than 150000 pods (1 to a replica): lower it",
            ),
            (
                json!({"minReplicas": 90_000, "maxReplicas": 90_000, "numOfHosts": 2}),
                "g.minReplicas: 90000: asks for more than 150000 pods (2 to a replica): lower it",
            ),
        ];
        for (counts, expected) in cases {
            assert_eq!(counted(&counts), Err(expected.to_owned()));
        }
    }
}
