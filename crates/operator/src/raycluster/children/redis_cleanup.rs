//! The Job that frees what a cluster has kept in Redis, before the cluster goes.

use mobula_api::{FieldError, keys};
use serde_json::{Value, json};

use super::{Children, command::shell};
use crate::names::check_label;

/// Value of the label [`keys::NODE_TYPE`] on the Job and its pod.
pub const CLEANUP_NODE_TYPE: &str = "redis-cleanup";
/// The Job gives up after this time, in seconds.
const DEADLINE_S: u32 = 300;

impl Children<'_> {
    /// The Job, made from the head pod: its image and environment know the way to Redis.
    ///
    /// # Errors
    /// Names the field of the head's template that can't be used.
    pub fn redis_cleanup_job(&self) -> Result<Value, FieldError> {
        let mut pod = self.head_draft()?;
        pod.labels.insert(keys::NODE_TYPE.to_owned(), CLEANUP_NODE_TYPE.to_owned());
        pod.others.clear();
        pod.set_spec("restartPolicy", "Never");
        let with_username = pod.ray.has_env("REDIS_USERNAME");
        pod.ray.command = shell(self.config);
        pod.ray.args = vec![script(with_username)];
        pod.ray.push_env("RAY_redis_db_connect_retries", "120");
        pod.ray.push_env("RAY_redis_db_connect_wait_milliseconds", "500");
        let resources = json!({ "cpu": "200m", "memory": "256Mi" });
        pod.ray.set("resources", json!({ "limits": resources, "requests": resources }));
        for probe in ["livenessProbe", "readinessProbe"] {
            pod.ray.rest.remove(probe);
        }
        let mut metadata = self.metadata(&self.redis_cleanup_job_name(), json!(pod.labels));
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.insert("annotations".to_owned(), json!(pod.annotations));
        }
        Ok(json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": metadata,
            "spec": {
                "backoffLimit": 0,
                "activeDeadlineSeconds": DEADLINE_S,
                "template": pod.into_template(),
            },
        }))
    }

    /// Name of the Job.
    pub fn redis_cleanup_job_name(&self) -> String {
        check_label(&format!("{}-redis-cleanup", self.cluster.metadata.name))
    }
}

/// Ray deletes its keys itself. Versions before 2.41 know no user name, so it is only said where there is one.
fn script(with_username: bool) -> String {
    let username = if with_username { "\n    username=os.environ['REDIS_USERNAME']," } else { "" };
    format!(
        "python -c \"
import os, sys
from urllib.parse import urlparse
from ray._private.gcs_utils import cleanup_redis_storage
address = os.environ.get('RAY_REDIS_ADDRESS', '').split(',')[0]
url = urlparse(address if '://' in address else 'redis://' + address)
done = cleanup_redis_storage(
    host=url.hostname,
    port=url.port,{username}
    password=os.environ.get('REDIS_PASSWORD', url.password or ''),
    use_ssl=url.scheme == 'rediss',
    storage_namespace=os.environ.get('RAY_external_storage_namespace'),
)
sys.exit(0 if done else 'Redis still holds the state of this cluster: delete it by hand')
\"
"
    )
    .trim_end()
    .to_owned()
}
