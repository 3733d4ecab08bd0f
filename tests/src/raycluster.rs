//! RayClusters as a user would write them, and what their nodes will declare.

use std::collections::BTreeMap;

use mobula_api::keys;
use serde_json::{Value, json};

use crate::ray::NodeSpec;

/// A worker group.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its name.
    pub name: &'static str,
    /// Fewest replicas, and how many it starts with.
    pub min: u32,
    /// Most replicas.
    pub max: u32,
    /// Pods of a replica.
    pub hosts: u32,
    /// CPUs of a pod.
    pub cpu: u32,
    /// GPUs of a pod.
    pub gpu: u32,
    /// Custom resources, as rayStartParams declare them.
    pub custom: BTreeMap<&'static str, u32>,
    /// Labels of the group, which its nodes will have.
    pub labels: BTreeMap<&'static str, &'static str>,
    /// CPUs and memory to which its pods may be resized in place.
    pub resize: Option<(u32, &'static str)>,
}

impl Group {
    /// A group of single pods with so many CPUs.
    pub fn cpu(name: &'static str, cpu: u32, max: u32) -> Group {
        let (custom, labels) = (BTreeMap::new(), BTreeMap::new());
        Group { name, min: 0, max, hosts: 1, cpu, gpu: 0, custom, labels, resize: None }
    }

    /// With so many GPUs in each pod.
    pub fn with_gpu(mut self, gpu: u32) -> Group {
        self.gpu = gpu;
        self
    }

    /// With a custom resource.
    pub fn with_custom(mut self, name: &'static str, amount: u32) -> Group {
        self.custom.insert(name, amount);
        self
    }

    /// With a label.
    pub fn with_label(mut self, key: &'static str, value: &'static str) -> Group {
        self.labels.insert(key, value);
        self
    }

    /// With so many pods in each replica.
    pub fn with_hosts(mut self, hosts: u32) -> Group {
        self.hosts = hosts;
        self
    }

    /// With at least so many replicas.
    pub fn with_min(mut self, min: u32) -> Group {
        self.min = min;
        self
    }

    /// With pods that may be resized in place up to this.
    pub fn with_resize(mut self, max_cpu: u32, max_memory: &'static str) -> Group {
        self.resize = Some((max_cpu, max_memory));
        self
    }

    /// Limits of the Ray container, which are also its requests.
    pub fn limits(&self) -> Value {
        let mut limits = json!({"cpu": self.cpu.to_string(), "memory": "2G"});
        if self.gpu > 0 {
            limits["nvidia.com/gpu"] = self.gpu.to_string().into();
        }
        limits
    }

    /// What a node of this group declares when it runs in this pod.
    pub fn node(&self, pod: &str) -> NodeSpec {
        let mut resources = BTreeMap::from([("CPU".to_owned(), f64::from(self.cpu))]);
        if self.gpu > 0 {
            resources.insert("GPU".into(), f64::from(self.gpu));
        }
        resources.extend(self.custom.iter().map(|(name, amount)| ((*name).to_owned(), f64::from(*amount))));
        let labels = self.labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        NodeSpec { instance_id: pod.into(), group: self.name.into(), resources, labels }
    }

    /// Its entry in `workerGroupSpecs`.
    fn spec(&self) -> Value {
        let mut start = json!({});
        if !self.custom.is_empty() {
            // KubeRay puts it on a command line as it is: JSON within quotes.
            start["resources"] = json!(json!(self.custom).to_string()).to_string().into();
        }
        json!({
            "groupName": self.name, "replicas": self.min, "minReplicas": self.min, "maxReplicas": self.max,
            "numOfHosts": self.hosts, "rayStartParams": start, "labels": self.labels,
            "template": template("ray-worker", &self.limits()),
        })
    }
}

/// What varies between the RayClusters of the tests.
#[derive(Clone, Debug)]
pub struct Options {
    /// `autoscalerOptions.idleTimeoutSeconds`.
    pub idle_timeout_s: u32,
    /// `autoscalerOptions.version`.
    pub version: &'static str,
    /// Port of the GCS, in the head's rayStartParams.
    pub gcs_port: u16,
}

/// The RayCluster.
pub fn raycluster(name: &str, groups: &[Group], options: &Options) -> Value {
    let mut metadata = json!({"name": name});
    let resized: BTreeMap<&str, Value> = groups.iter().filter_map(|group| Some((group.name, bounds(group)?))).collect();
    if !resized.is_empty() {
        metadata["annotations"] = json!({keys::IPPR: json!({"groups": resized}).to_string()});
    }
    json!({
        "apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": metadata,
        "spec": {
            "rayVersion": crate::parts::RAY,
            "enableInTreeAutoscaling": true,
            "autoscalerOptions": {
                "version": options.version, "upscalingMode": "Default", "idleTimeoutSeconds": options.idle_timeout_s,
            },
            "headGroupSpec": {
                "rayStartParams": {"num-cpus": "0", "port": options.gcs_port.to_string()},
                "template": template("ray-head", &json!({"cpu": "1", "memory": "2G"})),
            },
            "workerGroupSpecs": groups.iter().map(Group::spec).collect::<Vec<_>>(),
        },
    })
}

fn bounds(group: &Group) -> Option<Value> {
    let (cpu, memory) = group.resize?;
    Some(json!({"max-cpu": cpu.to_string(), "max-memory": memory, "resize-timeout": 60}))
}

fn template(container: &str, limits: &Value) -> Value {
    let container = json!({"name": container, "image": "rayproject/ray:2.60.0", "resources": {"limits": limits, "requests": limits}});
    json!({"spec": {"containers": [container]}})
}
