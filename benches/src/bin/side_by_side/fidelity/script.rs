//! A scenario of `mobula simulate`, as far as it can be played on real parts. What can't is refused by name.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mobula_api::{GroupShape, RayCluster};
use mobula_tests::node::apply;
use serde_json::{Map, Value, json};

/// What a scenario may say at its top, to be played.
const KNOWN: [&str; 8] = ["about", "horizon", "seeds", "nodes", "pods", "sidecar", "objects", "work"];
/// Parts of `pods` that are the same in both worlds because they are slept through.
const PODS: [&str; 3] = ["pull", "init", "stop"];

/// The scenario.
pub struct Script {
    /// As the file has it.
    pub document: Value,
    /// A sentence about it.
    pub about: String,
    /// How long it is.
    pub horizon: Duration,
    /// Pulling an image that a node does not have.
    pub pull: Duration,
    /// All init containers of a pod together.
    pub init: Duration,
    /// From the deletion of a pod to its end.
    pub stop: Duration,
    /// Shortest time between two polls of the sidecar.
    pub interval: Duration,
    /// Names of the nodes, and what each has.
    pub nodes: Vec<(String, Value)>,
    /// The one RayCluster.
    pub cluster: Value,
    /// What a pod of each group brings.
    pub shapes: Vec<GroupShape>,
    /// The work.
    pub work: Value,
}

impl Script {
    /// Reads a file.
    ///
    /// # Errors
    /// Names what can't be played on real parts.
    pub fn read(file: &Path) -> Result<Script> {
        let mut documents = apply::read(file)?;
        ensure!(documents.len() == 1, "{}: must be one document", file.display());
        Script::of(documents.remove(0)).with_context(|| file.display().to_string())
    }

    fn of(document: Value) -> Result<Script> {
        only(&document, "the scenario", &KNOWN)?;
        only(&document["pods"], "pods", &PODS)?;
        only(&document["sidecar"], "sidecar", &["interval"])?;
        let [cluster] = list(&document, "objects")? else { anyhow::bail!("objects: must be one RayCluster") };
        let typed = RayCluster::from_value(cluster.clone())?;
        for step in list(&document, "work")? {
            only(step, "work", &["at", "tasks", "gang"])?;
            seconds(step, "at")?;
            let what = if step["tasks"].is_null() { &step["gang"] } else { &step["tasks"] };
            only(what, "work", &["count", "needs", "duration", "strategy", "bundles"])?;
            seconds(what, "duration")?;
        }
        Ok(Script {
            about: document["about"].as_str().unwrap_or_default().to_owned(),
            horizon: seconds(&document, "horizon")?,
            pull: seconds(&document["pods"], "pull")?,
            init: seconds(&document["pods"], "init")?,
            stop: seconds(&document["pods"], "stop")?,
            interval: seconds(&document["sidecar"], "interval")?,
            nodes: nodes(&document)?,
            cluster: cluster.clone(),
            shapes: typed.group_shapes()?,
            work: document["work"].clone(),
            document,
        })
    }

    /// Name of the RayCluster.
    pub fn name(&self) -> &str {
        self.cluster["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// The same scenario with latencies that were measured: `{register: …}` of pods, `{workers: …}` of Ray, …
    pub fn with(&self, measured: &[(&str, &str, Value)]) -> Value {
        let mut document = self.document.clone();
        for (part, name, value) in measured {
            document[*part][*name] = value.clone();
        }
        document
    }
}

fn nodes(document: &Value) -> Result<Vec<(String, Value)>> {
    let mut nodes = Vec::new();
    for pool in list(document, "nodes")? {
        only(pool, "nodes", &["name", "count", "capacity"])?;
        let name = pool["name"].as_str().context("nodes: name: must be a text")?;
        let amounts = pool["capacity"].as_object().context("nodes: capacity: must be a map")?;
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let amounts: Map<_, _> = amounts.iter().map(|(name, value)| (name.clone(), json!(text(value)))).collect();
        let count = pool["count"].as_u64().context("nodes: count: must be a number")?;
        nodes.extend((0..count).map(|number| (format!("{name}-{number}"), Value::from(amounts.clone()))));
    }
    Ok(nodes)
}

fn list<'a>(value: &'a Value, name: &str) -> Result<&'a [Value]> {
    value[name].as_array().map(Vec::as_slice).with_context(|| format!("{name}: must be a list"))
}

fn only(value: &Value, what: &str, known: &[&str]) -> Result<()> {
    let fields = value.as_object().with_context(|| format!("{what}: must be a map"))?;
    let other = fields.keys().find(|name| !known.contains(&name.as_str()));
    ensure!(other.is_none(), "{what}: {}: can't be played on real parts", other.map_or("", String::as_str));
    Ok(())
}

/// Times are numbers of seconds here: what varies could not be the same in both worlds.
fn seconds(value: &Value, name: &str) -> Result<Duration> {
    let number = value[name].as_f64().and_then(|number| Duration::try_from_secs_f64(number).ok());
    number.with_context(|| format!("{name}: {}: must be a number of seconds, to be played on real parts", value[name]))
}
