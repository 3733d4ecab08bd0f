//! The gangs that an autoscaler has planned, as it names them on the RayCluster.

use std::collections::BTreeMap;

use crate::{FieldError, RayCluster, keys};

/// Pods of each worker group that begin together, by the name of their gang.
pub type PlannedGangs = BTreeMap<String, BTreeMap<String, u32>>;

impl RayCluster {
    /// The gangs that the autoscaler's plan names in the annotation [`keys::GANGS`]; `None`: it says nothing of gangs.
    ///
    /// A pod that no gang needs begins alone: what is not named is not held up. Worker groups that are not there (any more)
    /// mean nothing.
    ///
    /// ```
    /// # let manifest = serde_json::json!({"metadata": {"name": "a", "annotations": {
    /// #     "mobula.dev/gangs": r#"{"29fd": {"gpu": 4, "cpu": 1}}"#}},
    /// #     "spec": {"headGroupSpec": {"template": {}}}});
    /// let cluster = mobula_api::RayCluster::from_value(manifest)?;
    /// assert_eq!(cluster.planned_gangs()?.unwrap()["29fd"]["gpu"], 4);
    /// # Ok::<(), mobula_api::FieldError>(())
    /// ```
    ///
    /// # Errors
    /// Names the annotation if it can't be read.
    pub fn planned_gangs(&self) -> Result<Option<PlannedGangs>, FieldError> {
        let Some(text) = self.metadata.annotations.get(keys::GANGS) else { return Ok(None) };
        let gangs = serde_json::from_str(text).map(Some);
        gangs.map_err(|error| {
            let problem = format!(
                "must be a JSON object of gangs, each an object of worker groups and their numbers of pods, such as \
                 {{\"29fd\": {{\"gpu\": 4}}}}: {error}"
            );
            FieldError::new(format!("metadata.annotations[{:?}]", keys::GANGS), text, problem)
        })
    }

    /// How many pods of a worker group the planned gangs need together; 0 if none needs any, or none can be read.
    pub fn pods_in_planned_gangs(&self, group: &str) -> u64 {
        let gangs = self.planned_gangs().ok().flatten().unwrap_or_default();
        gangs.values().filter_map(|pods| pods.get(group)).map(|pods| u64::from(*pods)).sum()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn planned(text: &str) -> Result<Option<PlannedGangs>, String> {
        let manifest = json!({"metadata": {"name": "a", "annotations": {keys::GANGS: text}},
                              "spec": {"headGroupSpec": {"template": {}}}});
        RayCluster::from_value(manifest).unwrap().planned_gangs().map_err(|error| error.to_string())
    }

    #[test]
    fn planned_gangs_are_read_and_what_is_none_is_named() {
        let gangs = planned(r#"{"a": {"gpu": 4, "cpu": 1}, "b": {}}"#).unwrap().unwrap();
        assert_eq!((gangs["a"]["gpu"], gangs["b"].len()), (4, 0));
        assert_eq!(planned("{}").unwrap(), Some(PlannedGangs::new()));
        for text in ["", "4", r#"{"a": 4}"#, r#"{"a": {"gpu": -1}}"#, r#"{"a": {"gpu": "4"}}"#] {
            let error = planned(text).unwrap_err();
            let begin = format!("metadata.annotations[\"mobula.dev/gangs\"]: {text}: must be a JSON object of gangs");
            assert!(error.replace("]: must", "]: : must").starts_with(&begin), "{error}");
        }
    }
}
