//! How answers of the API server are read: without what nobody looks at.

use mobula_api::sparse::{Sparse, UNREAD};
use serde::{Deserialize, Deserializer, de::DeserializeSeed as _};
use serde_json::Value;

/// An object of any kind without what is left out ([`UNREAD`]). A pod that was read so must never be written back.
#[derive(Clone, Debug)]
pub struct Json(pub Value);

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Sparse(UNREAD).deserialize(deserializer).map(Json)
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
            let read = serde_json::from_value::<Json>(pod.clone()).unwrap().0;
            assert_ne!(read, pod);
            assert_eq!(Pod::read(&read), Pod::read(&pod));
            assert!(Pod::read(&read).unwrap().gang.is_some());
            assert_eq!((requests(&read), limits(&read)), (requests(&pod), limits(&pod)));
        }
    }
}
