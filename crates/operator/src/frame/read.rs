//! How answers of the API server are read: without what nobody looks at.

use std::{fmt::Debug, marker::PhantomData};

use mobula_api::sparse::{MANAGED_FIELDS, Omit, POD_WORK, Sparse};
use serde::{Deserialize, Deserializer, de::DeserializeSeed as _};
use serde_json::Value;

/// What of an object is left out.
pub trait Reads: Clone + Debug + Send + Sync + 'static {
    /// The fields.
    const OMIT: &'static [Omit];
}

/// Objects of any kind.
#[derive(Clone, Debug)]
pub struct AnyKind;

impl Reads for AnyKind {
    const OMIT: &'static [Omit] = MANAGED_FIELDS;
}

/// Pods: of them there are most, and reconcilers look at little of one. What is read so must never be written back.
#[derive(Clone, Debug)]
pub struct Pods;

impl Reads for Pods {
    const OMIT: &'static [Omit] = POD_WORK;
}

/// An object without what is left out.
#[derive(Clone, Debug)]
pub struct Json<R> {
    /// What there is.
    pub value: Value,
    reads: PhantomData<R>,
}

impl<'de, R: Reads> Deserialize<'de> for Json<R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Json { value: Sparse(R::OMIT).deserialize(deserializer)?, reads: PhantomData })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use mobula_api::pod_needs::{limits, requests};
    use serde_json::json;

    use super::*;
    use crate::frame::{gang_pod::GANG, pod::Pod};

    fn pods(value: &Value, found: &mut Vec<Value>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| pods(item, found)),
            Value::Object(object) if object.get("kind").is_some_and(|kind| kind == "Pod") => found.push(value.clone()),
            Value::Object(object) => object.values().for_each(|field| pods(field, found)),
            _ => {}
        }
    }

    /// Every pod that KubeRay was seen to make, as one that belongs to a gang: so all that is ever read of a pod is read.
    #[test]
    fn what_is_left_out_of_pods_is_read_by_nobody() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/golden");
        let mut found = Vec::new();
        for entry in std::fs::read_dir(golden).unwrap() {
            if let Ok(recorded) = std::fs::read(entry.unwrap().path().join("recorded.json")) {
                pods(&serde_json::from_slice(&recorded).unwrap(), &mut found);
            }
        }
        assert!(found.len() > 100, "{} pods", found.len());
        for mut pod in found {
            pod["metadata"]["annotations"][GANG] = json!("g");
            // In whatever state it was recorded: this is what a node would make of it.
            pod["spec"]["nodeName"] = json!("n");
            pod["spec"]["overhead"] = json!({"cpu": "1"});
            pod["metadata"]["managedFields"] = json!([{"manager": "m"}]);
            let read = serde_json::from_value::<Json<Pods>>(pod.clone()).unwrap().value;
            assert_ne!(read, pod);
            assert_eq!(Pod::read(&read), Pod::read(&pod));
            assert!(Pod::read(&read).unwrap().gang.is_some());
            assert_eq!((requests(&read), limits(&read)), (requests(&pod), limits(&pod)));
        }
    }
}
