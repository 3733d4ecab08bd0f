//! What a node says of itself on its own metrics endpoint: bytes in its object store, and running tasks.
//!
//! Unreachable means unknown, never empty.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt, stream};
use prometheus_parse::{Sample, Scrape, Value};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Most time for one endpoint.
const LIMIT: Duration = Duration::from_secs(1);
/// Largest answer that is read.
const MAX_ANSWER_BYTES: u64 = 16 << 20;
/// Most endpoints asked at once.
const CONCURRENCY: usize = 64;

/// The metrics endpoint of a Ray node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Ray node id in hex.
    pub node_id: String,
    /// IP address.
    pub address: String,
    /// Port.
    pub port: u16,
}

/// What a node holds.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Bytes of sealed and unsealed objects in its store, spilled ones included.
    pub object_store_bytes: u64,
    /// Tasks that run on it, if it says so.
    pub running_tasks: Option<u64>,
}

/// Why a node's holdings are unknown. Retryable.
#[derive(Debug, thiserror::Error)]
pub enum HoldingsError {
    /// No answer in time.
    #[error("{0}: no answer within 1 s")]
    Timeout(String),
    /// No connection, or it broke.
    #[error("{0}: {1}")]
    Io(String, std::io::Error),
    /// An answer that says nothing of the object store.
    #[error("{0}: {1}")]
    Garbage(String, &'static str),
}

/// Asks each endpoint; who does not answer well within a second is given with the reason.
pub async fn ask_all(endpoints: Vec<Endpoint>) -> BTreeMap<String, Result<Holdings, HoldingsError>> {
    stream::iter(endpoints)
        .map(|endpoint| async move {
            let answer = ask(&endpoint.address, endpoint.port).await;
            (endpoint.node_id, answer)
        })
        .buffer_unordered(CONCURRENCY)
        .collect()
        .await
}

async fn ask(address: &str, port: u16) -> Result<Holdings, HoldingsError> {
    let name = format!("http://{address}:{port}/metrics");
    let text = match tokio::time::timeout(LIMIT, get_metrics(address, port)).await {
        Err(_) => return Err(HoldingsError::Timeout(name)),
        Ok(Err(error)) => return Err(HoldingsError::Io(name, error)),
        Ok(Ok(text)) => text,
    };
    read_holdings(&text).map_err(|problem| HoldingsError::Garbage(name, problem))
}

/// One GET by HTTP/1.0, whose answer ends with the connection.
async fn get_metrics(address: &str, port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((address, port)).await?;
    let request = format!("GET /metrics HTTP/1.0\r\nHost: {address}:{port}\r\nAccept: text/plain\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let bad = |problem: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, problem.to_owned());
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| bad("not an HTTP answer"))?;
    let status = head.split_ascii_whitespace().nth(1).unwrap_or_default();
    if status != "200" {
        return Err(bad(&format!("HTTP status {status}")));
    }
    Ok(body.to_owned())
}

fn read_holdings(text: &str) -> Result<Holdings, &'static str> {
    let scrape = Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).map_err(|_| "not Prometheus text")?;
    // Worker heaps are not the store: an object there is inlined in its owner and leaves with it.
    let in_store = |sample: &&Sample| sample.labels.get("Location") != Some("WORKER_HEAP");
    let object_store_bytes =
        total(scrape.samples.iter().filter(|s| s.metric == "ray_object_store_memory").filter(in_store))
            .ok_or("no ray_object_store_memory in it")?;
    let executing = |sample: &&Sample| {
        sample.metric == "ray_scheduler_tasks" && sample.labels.get("State") == Some("Executing")
    };
    Ok(Holdings { object_store_bytes, running_tasks: total(scrape.samples.iter().filter(executing)) })
}

/// The sum of the samples; `None` if there is none.
fn total<'a>(samples: impl Iterator<Item = &'a Sample>) -> Option<u64> {
    let mut sum = None;
    for sample in samples {
        if let Value::Gauge(value) | Value::Counter(value) | Value::Untyped(value) = sample.value
            && value.is_finite()
        {
            *sum.get_or_insert(0) += value.max(0.0) as u64;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    const ANSWER: &str = "# HELP ray_object_store_memory Bytes\n# TYPE ray_object_store_memory gauge\n\
        ray_object_store_memory{Location=\"MMAP_SHM\",ObjectState=\"SEALED\"} 100.0\n\
        ray_object_store_memory{Location=\"SPILLED\",ObjectState=\"\"} 11.0\n\
        ray_object_store_memory{Location=\"WORKER_HEAP\",ObjectState=\"\"} 5.0\n\
        # TYPE ray_scheduler_tasks gauge\n\
        ray_scheduler_tasks{State=\"Executing\"} 2.0\nray_scheduler_tasks{State=\"Waiting\"} 9.0\n";

    async fn serve(answer: Option<String>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                match &answer {
                    Some(answer) => stream.write_all(answer.as_bytes()).await.unwrap(),
                    None => std::future::pending().await,
                }
            }
        });
        port
    }

    #[tokio::test]
    async fn bytes_and_running_tasks_are_read() {
        let port = serve(Some(format!("HTTP/1.0 200 OK\r\n\r\n{ANSWER}"))).await;
        let holdings = ask("127.0.0.1", port).await.unwrap();
        assert_eq!(holdings, Holdings { object_store_bytes: 111, running_tasks: Some(2) });
    }

    #[tokio::test]
    async fn who_does_not_answer_is_unknown_and_not_empty() {
        let silent = serve(None).await;
        let broken = serve(Some("HTTP/1.0 500 Oops\r\n\r\n".into())).await;
        let empty = serve(Some("HTTP/1.0 200 OK\r\n\r\n".into())).await;
        let endpoint = |id: &str, port| Endpoint { node_id: id.into(), address: "127.0.0.1".into(), port };
        let all = ask_all(vec![endpoint("a", silent), endpoint("b", broken), endpoint("c", empty)]).await;
        assert!(matches!(all["a"], Err(HoldingsError::Timeout(_))));
        assert!(matches!(all["b"], Err(HoldingsError::Io(..))));
        assert!(matches!(all["c"], Err(HoldingsError::Garbage(..))));
    }
}
