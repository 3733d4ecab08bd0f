//! The work that is measured.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use mobula_benches::statistics::Durations;

use super::Peer;
use super::field::{self, Field, Operator, Usage};
use super::floor;

/// The longest that any work may take.
const LIMIT: Duration = Duration::from_secs(900);
/// For watches to begin.
const START: Duration = Duration::from_secs(2);
/// Workers of each of many clusters.
const WORKERS: u32 = 5;

/// How much is done.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// RayClusters of one head and five workers, all at once: a line for each of these numbers
    #[arg(long, value_delimiter = ',', default_value = "100,1000")]
    pub clusters: Vec<usize>,
    /// Minutes at rest after the largest of these numbers; 0: not measured
    #[arg(long, default_value_t = 6.0)]
    pub idle_minutes: f64,
    /// Workers of one RayCluster, from none and back; 0: not measured
    #[arg(long, default_value_t = 1_000)]
    pub workers: u32,
    /// RayClusters that Mobula takes over from KubeRay and gives back; 0: not measured
    #[arg(long, default_value_t = 100)]
    pub adopt: usize,
    /// RayClusters that are under way at once while no operator but the fewest requests make them ready, in the best order: a line
    /// for each of these numbers
    #[arg(long, value_delimiter = ',')]
    pub floor: Vec<usize>,
    /// Mobula's binary, which should be a release build; without it, the one beside this program
    #[arg(long)]
    pub mobula: Option<PathBuf>,
}

impl Options {
    /// Mobula's binary.
    pub fn mobula(&self) -> Result<PathBuf> {
        self.mobula.clone().map_or_else(mobula_benches::stage::mobula, Ok)
    }
}

/// A line of the table.
pub struct Row {
    work: String,
    peer: Peer,
    wall: Option<Duration>,
    ready: Option<Durations>,
    usage: Usage,
}

impl Row {
    /// The head of the table.
    pub const HEADER: &str = "| work | operator | wall s | ready p50 s | p99 s | CPU s | requests | resident MB | peak MB |\n\
                              |---|---|---|---|---|---|---|---|---|";

    /// The share of each number in `other`'s.
    pub fn over(&self, other: &Row) -> String {
        let quotient = |pick: fn(&Row) -> Option<f64>| match (pick(self), pick(other)) {
            (Some(ours), Some(theirs)) if theirs > 0.0 => format!("{:.2}", ours / theirs),
            _ => "–".to_owned(),
        };
        let quotients = [
            quotient(|row| row.wall.map(|wall| wall.as_secs_f64())),
            quotient(|row| row.quantile_s(0.5)),
            quotient(|row| row.quantile_s(0.99)),
            quotient(|row| Some(row.usage.cpu_s)),
            quotient(|row| Some(row.usage.requests as f64)),
            quotient(|row| Some(row.usage.memory.resident_bytes as f64)),
            quotient(|row| Some(row.usage.memory.peak_bytes as f64)),
        ];
        format!("| {} | share | {} |", self.work, quotients.join(" | "))
    }

    fn quantile_s(&self, quantile: f64) -> Option<f64> {
        self.ready.as_ref().map(|ready| ready.quantile(quantile).as_secs_f64())
    }
}

impl fmt::Display for Row {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.2}"));
        let Usage { cpu_s, requests, memory } = &self.usage;
        write!(
            out,
            "| {} | {} | {} | {} | {} | {cpu_s:.2} | {requests} | {:.0} | {:.0} |",
            self.work,
            self.peer,
            seconds(self.wall.map(|wall| wall.as_secs_f64())),
            seconds(self.quantile_s(0.5)),
            seconds(self.quantile_s(0.99)),
            memory.resident_bytes as f64 / 1e6,
            memory.peak_bytes as f64 / 1e6,
        )
    }
}

/// So many RayClusters at once, from their creation to all ready; then at rest, if these are the most.
pub async fn clusters(peer: Peer, number: usize, options: &Options) -> Result<Vec<Row>> {
    let field = Field::start().await?;
    let mut operator = field.operator(peer, &options.mobula()?).await?;
    let (wall, ready) = create(&field, number).await?;
    field.until_quiet(&mut operator).await?;
    let usage = field.usage(&operator)?;
    let work = format!("{number} RayClusters of 1+{WORKERS}");
    let mut rows = vec![Row { work, peer, wall: Some(wall), ready: Some(ready), usage }];
    if options.clusters.iter().max() == Some(&number) && options.idle_minutes > 0.0 {
        rows.push(at_rest(&field, &operator, peer, number, options.idle_minutes).await?);
    }
    eprintln!("{peer}: {:?}", by_verb(&field, peer)?);
    operator.stop().await?;
    Ok(rows)
}

/// So many RayClusters at once without an operator: see the module `floor`.
pub async fn floor(number: usize, under_way: usize, options: &Options) -> Result<String> {
    let field = Field::start().await?;
    let bodies = floor::bodies(&options.mobula()?, &names(number), WORKERS).await?;
    let floor = floor::start(field.ideal_client().await?, bodies, under_way);
    tokio::time::sleep(START).await;
    let (wall, ready) = create(&field, number).await?;
    floor.abort();
    let seconds = [wall, ready.quantile(0.5), ready.quantile(0.99)].map(|time| format!("{:.2}", time.as_secs_f64()));
    let requests = field.requests_of(field::IDEAL)?.values().sum::<usize>();
    let work = format!("{number} RayClusters of 1+{WORKERS}");
    Ok(format!("| {work} | floor, {under_way} at once | {} | – | {requests} | – | – |", seconds.join(" | ")))
}

/// Creates RayClusters and waits until all are ready: how long that took for all, and for each.
pub async fn create(field: &Field, number: usize) -> Result<(Duration, Durations)> {
    let start = Instant::now();
    let sent = field.create(&names(number), WORKERS, WORKERS).await?;
    let ready = field.until_ready(number, LIMIT).await?;
    let wall = ready.values().max().context("no RayCluster")?.duration_since(start);
    let each = sent.iter().filter_map(|(name, sent)| Some(ready.get(name)?.duration_since(*sent)));
    Ok((wall, each.collect()))
}

fn names(number: usize) -> Vec<String> {
    (0..number).map(|index| format!("ray-{index:04}")).collect()
}

async fn at_rest(field: &Field, operator: &Operator, peer: Peer, number: usize, minutes: f64) -> Result<Row> {
    let before = field.usage(operator)?;
    tokio::time::sleep(Duration::from_secs_f64(60.0 * minutes)).await;
    let mut usage = field.usage(operator)?;
    usage.cpu_s -= before.cpu_s;
    usage.requests -= before.requests;
    let work = format!("at rest with {number} RayClusters, {minutes} minutes");
    Ok(Row { work, peer, wall: None, ready: None, usage })
}

/// One RayCluster from no workers to many, and back.
pub async fn one_large(peer: Peer, options: &Options) -> Result<Vec<Row>> {
    const NAME: &str = "large";
    let field = Field::start().await?;
    let mut operator = field.operator(peer, &options.mobula()?).await?;
    field.create(&[NAME.to_owned()], 0, options.workers).await?;
    field.until_ready(1, LIMIT).await?;
    field.until_quiet(&mut operator).await?;
    let mut rows = Vec::new();
    let mut before = field.usage(&operator)?;
    for (from, to) in [(0, options.workers), (options.workers, 0)] {
        let start = Instant::now();
        field.scale(NAME, to).await?;
        let wall = field.until_workers(NAME, to.into(), LIMIT).await?.duration_since(start);
        field.until_quiet(&mut operator).await?;
        let after = field.usage(&operator)?;
        let mut usage = after.clone();
        usage.cpu_s -= before.cpu_s;
        usage.requests -= before.requests;
        before = after;
        rows.push(Row {
            work: format!("one RayCluster, workers {from} → {to}"),
            peer,
            wall: Some(wall),
            ready: None,
            usage,
        });
    }
    eprintln!("{peer}: {:?}", by_verb(&field, peer)?);
    operator.stop().await?;
    Ok(rows)
}

/// What the operator has asked for: `verb resource` and times.
pub fn by_verb(field: &Field, peer: Peer) -> Result<Vec<String>> {
    let requests = field.requests(peer)?;
    Ok(requests.iter().map(|(it, times)| format!("{} {} {}: {times}", it.verb, it.resource, it.code)).collect())
}
