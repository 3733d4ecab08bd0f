//! Shapes of groups against those that Ray 2.60.0 itself derives, on the example manifests and on random RayClusters.
//!
//! `MOBULA_DIFF_PROBLEMS` (500) sets how many, `MOBULA_DIFF_SEED` (1) which series. A difference is printed with its
//! RayCluster as a line of JSON; `tests/python/group_shapes_oracle.py` answers it again.
#![allow(clippy::disallowed_methods)] // the number of problems comes from the environment

#[path = "group_shapes/clusters.rs"]
mod clusters;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use mobula_api::{FieldError, GroupShape, group_shapes_from_value};
use mobula_tests::parts;
use serde::Deserialize;
use serde_json::{Value, json};

/// Ray's derivation in one Python process, asked over a pipe.
struct Oracle {
    process: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Groups(BTreeMap<String, RayGroup>),
    Refused(String),
}

/// A group as Ray sees it; workers are pods.
#[derive(Debug, Deserialize)]
struct RayGroup {
    resources: BTreeMap<String, f64>,
    labels: BTreeMap<String, String>,
    min_workers: i64,
    max_workers: i64,
    idle_timeout_s: Option<f64>,
    priority: Option<i64>,
}

impl Oracle {
    fn start() -> Result<Oracle> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/group_shapes_oracle.py");
        let mut process = Command::new(parts::ray(parts::RAY)?.bin.join("python"))
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("could not start Python")?;
        let questions = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().context("no pipe from the oracle")?);
        eprintln!("real part: the RayCluster reader of Ray {}", parts::RAY);
        Ok(Oracle { process, questions, answers })
    }

    fn ask(&mut self, cluster: &Value) -> Result<Answer> {
        let questions = self.questions.as_mut().context("the oracle has ended")?;
        writeln!(questions, "{cluster}")?;
        let mut line = String::new();
        ensure!(self.answers.read_line(&mut line)? > 0, "the oracle ended without an answer");
        serde_json::from_str(&line).with_context(|| format!("not an answer: {line}"))
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        drop(self.questions.take());
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Both refuse, both agree, or one of the listed reasons to differ.
type Verdict = &'static str;
const SAME: Verdict = "the same shapes";
const BOTH_REFUSE: Verdict = "both refuse";

/// Why we refuse what Ray takes. Each would give a plan that the operator or a raylet can't follow.
fn stricter(error: &FieldError) -> Option<Verdict> {
    let reasons = [
        ("must be 0 or more", "we refuse negative amounts and counts"),
        ("must be a whole number from 0", "we refuse negative amounts and counts"),
        ("must be 1 or more", "we refuse replicas without pods"),
        ("must not be more than maxReplicas", "we refuse a minimum above its maximum"),
        ("is the name of another group", "we refuse two groups of one name"),
        ("is more than a Ray node can have", "we refuse more than a raylet accepts"),
        ("is out of range", "we refuse more than a raylet accepts"),
        ("is not a label key", "we refuse labels that Kubernetes refuses"),
    ];
    // Python's decimals allow blanks around them, so Ray reads `4 Gi`.
    if error.problem.contains("is not a quantity") && error.value.contains(' ') {
        return Some("we refuse quantities with blanks, as Kubernetes does");
    }
    reasons.iter().find(|(problem, _)| error.problem.contains(problem)).map(|(_, verdict)| *verdict)
}

/// Why Ray refuses what we take: the API server fills these fields in, so Ray never meets a RayCluster without them.
fn laxer(cluster: &Value, refused: &str) -> Option<Verdict> {
    let groups = cluster["spec"]["workerGroupSpecs"].as_array()?;
    let lacks = |field: &str| groups.iter().any(|group| group.get(field).is_none());
    ["minReplicas", "maxReplicas"]
        .into_iter()
        .any(|field| lacks(field) && refused == format!("KeyError: '{field}'"))
        .then_some("we fill absent bounds in as the API server does")
}

fn compare(cluster: &Value, answer: Answer) -> Result<Verdict> {
    match (group_shapes_from_value(cluster.clone()), answer) {
        (Ok(ours), Answer::Groups(rays)) => same_shapes(&ours, &rays).map(|()| SAME),
        (Err(_), Answer::Refused(_)) => Ok(BOTH_REFUSE),
        (Err(error), Answer::Groups(_)) => stricter(&error).with_context(|| format!("only we refuse: {error}")),
        (Ok(_), Answer::Refused(why)) => laxer(cluster, &why).with_context(|| format!("only Ray refuses: {why}")),
    }
}

fn same_shapes(ours: &[GroupShape], rays: &BTreeMap<String, RayGroup>) -> Result<()> {
    ensure!(ours.len() == rays.len(), "{} groups, Ray has {}", ours.len(), rays.len());
    for shape in ours {
        let name = &shape.name;
        let ray = rays.get(name).with_context(|| format!("Ray has no group {name}"))?;
        ensure!(shape.resources == ray.resources, "{name}: resources {:?}, Ray {:?}", shape.resources, ray.resources);
        ensure!(shape.labels == ray.labels, "{name}: labels {:?}, Ray {:?}", shape.labels, ray.labels);
        let idle_timeout_s = shape.idle_timeout_ms.map(|ms| ms as f64 / 1000.0);
        ensure!(idle_timeout_s == ray.idle_timeout_s, "{name}: idle {idle_timeout_s:?}, Ray {:?}", ray.idle_timeout_s);
        let priority = (i64::from(shape.priority), ray.priority.unwrap_or_default());
        ensure!(priority.0 == priority.1, "{name}: priority {}, Ray {}", priority.0, priority.1);
        // To Ray the head is no worker, hence has no bounds.
        let pods = |replicas: u32| i64::from(replicas) * i64::from(shape.num_of_hosts);
        let bounds = if shape.is_head { (0, 0) } else { (pods(shape.min_replicas), pods(shape.max_replicas)) };
        ensure!(bounds == (ray.min_workers, ray.max_workers), "{name}: workers {bounds:?}, Ray {ray:?}");
    }
    Ok(())
}

/// The RayClusters that ship in the repository, each as the API server would store it: with a namespace, without nulls.
fn examples() -> Result<Vec<(String, Value)>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut examples = Vec::new();
    for directory in ["deploy/examples", "crates/api/testdata"] {
        for entry in std::fs::read_dir(root.join(directory)).with_context(|| directory.to_owned())? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                let text = std::fs::read_to_string(&path)?;
                let documents: Vec<Value> =
                    serde_saphyr::from_multiple(&text).with_context(|| path.display().to_string())?;
                let clusters = documents.into_iter().filter(|document| document["kind"] == "RayCluster");
                for mut cluster in clusters {
                    cluster["metadata"]["namespace"] = json!("default");
                    drop_nulls(&mut cluster);
                    examples.push((path.display().to_string(), cluster));
                }
            }
        }
    }
    Ok(examples)
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

fn number(variable: &str, default: u64) -> Result<u64> {
    Ok(std::env::var(variable).map_or(Ok(default), |value| value.parse())?)
}

#[test]
fn the_example_manifests_are_read_as_by_ray() -> Result<()> {
    let mut oracle = Oracle::start()?;
    let examples = examples()?;
    ensure!(examples.len() >= 10, "only {} examples were found", examples.len());
    for (file, cluster) in examples {
        let verdict = compare(&cluster, oracle.ask(&cluster)?).with_context(|| file.clone())?;
        ensure!(verdict == SAME, "{file}: {verdict}");
    }
    Ok(())
}

#[test]
fn random_clusters_are_read_as_by_ray() -> Result<()> {
    let (problems, seed) = (number("MOBULA_DIFF_PROBLEMS", 500)?, number("MOBULA_DIFF_SEED", 1)?);
    let mut oracle = Oracle::start()?;
    let mut verdicts: BTreeMap<Verdict, u64> = BTreeMap::new();
    let mut differences = 0;
    for problem in 0..problems {
        let cluster = clusters::cluster(seed, problem);
        match compare(&cluster, oracle.ask(&cluster)?) {
            Ok(verdict) => *verdicts.entry(verdict).or_default() += 1,
            Err(error) => {
                differences += 1;
                println!("problem {problem} of seed {seed}: {error:#}\n{cluster}");
            }
        }
    }
    for (verdict, times) in &verdicts {
        println!("{times:>6}  {verdict}");
    }
    if differences > 0 {
        bail!("{differences} of {problems} RayClusters are read in another way than by Ray");
    }
    let same = verdicts.get(SAME).copied().unwrap_or_default();
    ensure!(same * 2 > problems, "only {same} of {problems} were accepted by both: too few to mean anything");
    Ok(())
}

#[test]
fn a_difference_is_seen() -> Result<()> {
    let mut oracle = Oracle::start()?;
    let mut cluster = clusters::plain();
    let Answer::Groups(mut rays) = oracle.ask(&cluster)? else { bail!("Ray refuses a plain RayCluster") };
    let ours = group_shapes_from_value(cluster.clone())?;
    same_shapes(&ours, &rays)?;
    let head = rays.get_mut("headgroup").context("no head")?;
    head.resources.insert("CPU".into(), 17.0);
    ensure!(same_shapes(&ours, &rays).is_err(), "another number of CPUs went unnoticed");
    cluster["spec"]["headGroupSpec"]["template"]["spec"]["containers"] = json!([]);
    ensure!(compare(&cluster, Answer::Groups(rays)).is_err(), "a refusal for no listed reason went unnoticed");
    Ok(())
}
