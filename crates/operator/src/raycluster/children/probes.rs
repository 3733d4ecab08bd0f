//! Probes of the Ray container.

use std::collections::BTreeMap;

use mobula_api::RayVersion;
use serde_json::{Value, json};

use super::{Children, draft::ContainerDraft, env::Origin, group::Group};

/// From this version on, one address tells whether a node is healthy.
const UNIFIED_HEALTH: RayVersion = RayVersion::new(2, 53, 0);
/// Port of the dashboard's agent, port of the dashboard.
const AGENT_PORT: i32 = 52365;
const DASHBOARD_PORT: i32 = 8265;
/// Port where Serve's proxy listens, unless the container has a port of the name `serve`.
const SERVE_PORT: i64 = 8000;
/// How long one look may take, in seconds, on workers and on the head, which has two things to look at.
const WORKER_TIMEOUT_S: u32 = 2;
const HEAD_TIMEOUT_S: u32 = 5;
/// Failures in a row after which a container is not ready, and after which it is killed.
const READINESS_FAILURES: u32 = 10;
const LIVENESS_FAILURES: u32 = 120;

impl Children<'_> {
    /// Adds the probes that the user has not set.
    pub(super) fn set_probes(&self, group: &Group<'_>, ray: &mut ContainerDraft, params: &BTreeMap<String, String>) {
        if !self.config.pods.probes {
            return;
        }
        let port = |name: &str, default: i32| params.get(name).and_then(|port| port.parse().ok()).unwrap_or(default);
        let agent = port("dashboard-agent-listen-port", AGENT_PORT);
        let mut looks = vec![wget(2, agent.into(), "api/local_raylet_healthz")];
        if group.is_head {
            looks.push(wget(10, port("dashboard-port", DASHBOARD_PORT).into(), "api/gcs_healthz"));
        }
        let (handler, action) = match self.cluster.ray_version() {
            Some(version) if version >= UNIFIED_HEALTH => ("httpGet", json!({ "path": "/api/healthz", "port": agent })),
            _ => ("exec", exec(&looks)),
        };
        let timeout_s = if group.is_head { HEAD_TIMEOUT_S } else { WORKER_TIMEOUT_S };
        if !has(ray, "livenessProbe") {
            ray.set("livenessProbe", probe(handler, &action, 30, timeout_s, LIVENESS_FAILURES));
        }
        if !has(ray, "readinessProbe") {
            // A worker that serves is ready when its proxy is; of the head, the RayService looks itself.
            let readiness = if self.origin() == Origin::Service && !group.is_head {
                looks.push(wget(10, ray.port("serve").unwrap_or(SERVE_PORT), "-/healthz"));
                probe("exec", &exec(&looks), 10, timeout_s, 1)
            } else {
                probe(handler, &action, 10, timeout_s, READINESS_FAILURES)
            };
            ray.set("readinessProbe", readiness);
        }
    }
}

fn has(ray: &ContainerDraft, probe: &str) -> bool {
    ray.rest.get(probe).is_some_and(|probe| !probe.is_null())
}

fn wget(timeout_s: u32, port: i64, path: &str) -> String {
    format!("wget --tries 1 -T {timeout_s} -q -O- http://localhost:{port}/{path} | grep success")
}

fn exec(looks: &[String]) -> Value {
    json!({ "command": ["bash", "-c", looks.join(" && ")] })
}

fn probe(handler: &str, action: &Value, initial_delay_s: u32, timeout_s: u32, failures: u32) -> Value {
    json!({
        handler: action,
        "initialDelaySeconds": initial_delay_s,
        "timeoutSeconds": timeout_s,
        "periodSeconds": 5,
        "successThreshold": 1,
        "failureThreshold": failures,
    })
}
