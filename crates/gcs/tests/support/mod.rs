//! A server in the same process, on a free port of the loopback interface.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mobula_gcs::server::{MemoryGcs, serve, serve_tls};
use mobula_gcs::{Client, Config, Deadlines, TlsFiles};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A server; it ends when dropped.
pub struct Server {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub fn endpoint(&self) -> String {
        self.address.to_string()
    }
}

pub async fn start(gcs: &MemoryGcs) -> Server {
    start_at("127.0.0.1:0", gcs).await
}

pub async fn start_at(address: &str, gcs: &MemoryGcs) -> Server {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let gcs = Arc::new(gcs.clone());
    let task = tokio::spawn(async move { serve(listener, gcs, std::future::pending()).await.unwrap() });
    Server { address, task }
}

pub async fn start_tls(gcs: &MemoryGcs, files: TlsFiles) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let gcs = Arc::new(gcs.clone());
    let task = tokio::spawn(async move { serve_tls(listener, gcs, files, std::future::pending()).await.unwrap() });
    Server { address, task }
}

/// Deadlines that a test can wait for.
pub fn short() -> Deadlines {
    let limit = Duration::from_millis(400);
    Deadlines { connect: Duration::from_millis(200), state: limit, small: limit, node: limit, tables: limit }
}

/// A patient client.
pub fn client(endpoints: &[String]) -> Client {
    Client::new(Config::plain(endpoints.to_vec())).unwrap()
}

/// A client that loses patience soon.
pub fn hasty(endpoints: &[String]) -> Client {
    Client::new(Config { deadlines: short(), ..Config::plain(endpoints.to_vec()) }).unwrap()
}
