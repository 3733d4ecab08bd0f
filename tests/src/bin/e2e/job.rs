//! Jobs, submitted to Ray as users do: to the dashboard of the head, by its Service.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::cluster::{Cluster, NAMESPACE};

/// How often a job is asked for news.
const PERIOD: Duration = Duration::from_millis(300);

/// Where the driver is in the head's container.
const DRIVER: &str = "/driver/driver.py";

/// Runs the driver with these arguments until it is done, tells what it says, and returns its last line.
pub async fn run(cluster: &Cluster, name: &str, arguments: &str, limit: Duration) -> Result<Value> {
    let start = Instant::now();
    submit(cluster, name, arguments, limit).await?;
    let path = format!("{}/{name}", path());
    let mut told = 0;
    loop {
        cluster.must_run()?;
        let status = cluster.ask(http::Request::get(&path).body(Vec::new())?).await.unwrap_or_default();
        let logs = cluster.ask(http::Request::get(format!("{path}/logs")).body(Vec::new())?).await.unwrap_or_default();
        let logs = logs["logs"].as_str().unwrap_or_default().to_owned();
        // Only whole lines: the last may be half written. Ray's own say when.
        let whole = logs.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let said: Vec<&str> = whole.lines().collect();
        let news = said.iter().skip(told).filter(|line| !line.starts_with(['{', '2']) && !line.trim().is_empty());
        news.for_each(|line| cluster.note(&format!("job {name}: {line}")));
        told = said.len().max(told);
        match status["status"].as_str() {
            Some("SUCCEEDED") => {
                let last = said.iter().rev().find(|line| line.starts_with('{'));
                return serde_json::from_str(last.context("the job said no result")?).context("the job's result");
            }
            Some("FAILED" | "STOPPED") => anyhow::bail!("job {name} failed: {}\n{logs}", status["message"]),
            _ => {}
        }
        ensure!(start.elapsed() < limit, "job {name} is not done after {} s: {status}\n{logs}", limit.as_secs());
        tokio::time::sleep(PERIOD).await;
    }
}

/// A head that has just begun to serve may refuse the first requests.
async fn submit(cluster: &Cluster, name: &str, arguments: &str, limit: Duration) -> Result<()> {
    let job = json!({"submission_id": name, "entrypoint": format!("python3 {DRIVER} {arguments}")});
    let start = Instant::now();
    loop {
        let request = http::Request::post(format!("{}/", path()))
            .header("content-type", "application/json")
            .body(serde_json::to_vec(&job)?)?;
        match cluster.ask(request).await {
            Ok(_) => return Ok(()),
            Err(error) => ensure!(start.elapsed() < limit, "job {name} could not be submitted: {error:#}"),
        }
        tokio::time::sleep(PERIOD).await;
    }
}

fn path() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/services/http:demo-head-svc:8265/proxy/api/jobs")
}
