//! One connection to one endpoint: plain TCP or TLS over it, then HTTP/2. No proxy is ever asked for.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use crate::config::ConfigError;
use crate::tls::{TlsError, TlsFiles};

/// Large replies at the speed of the network: HTTP/2's default window of 64 KiB costs a round trip per window.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;

/// A byte stream, whatever is under it.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Why there is no connection. Nothing has been sent to a GCS when a call fails with this.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("no connection within {0:?}")]
    Timeout(Duration),
    #[error("cannot connect: {0}")]
    Tcp(io::Error),
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    #[error("TLS handshake: {0}")]
    Handshake(io::Error),
    #[error("{0:?} is neither a host name nor an address")]
    Host(String),
}

/// A lazily connecting channel. Ray's server punishes frequent pings and detects dead clients itself: none are sent.
pub(crate) fn channel(endpoint: &str, tls: Option<TlsFiles>, limit: Duration) -> Result<Channel, ConfigError> {
    let problem = |_| ConfigError::Endpoint(endpoint.to_owned());
    let scheme = if tls.is_some() { "https" } else { "http" };
    let origin: Uri =
        format!("{scheme}://{endpoint}").parse().map_err(|_| ConfigError::Endpoint(endpoint.to_owned()))?;
    // tonic's own TLS reads certificates once; ours is in the connector, so for tonic the endpoint is plain.
    let builder = Endpoint::from_shared(format!("http://{endpoint}"))
        .map_err(problem)?
        .origin(origin)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    Ok(builder.connect_with_connector_lazy(Connector { endpoint: endpoint.into(), tls: tls.map(Arc::new), limit }))
}

#[derive(Clone)]
struct Connector {
    endpoint: Arc<str>,
    tls: Option<Arc<TlsFiles>>,
    limit: Duration,
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Stream>>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let stream = timeout(this.limit, connect(&this.endpoint, this.tls.as_deref())).await;
            let stream = stream.map_err(|_| ConnectError::Timeout(this.limit))??;
            Ok(TokioIo::new(stream))
        })
    }
}

async fn connect(endpoint: &str, tls: Option<&TlsFiles>) -> Result<Box<dyn Stream>, ConnectError> {
    let tcp = TcpStream::connect(endpoint).await.map_err(ConnectError::Tcp)?;
    tcp.set_nodelay(true).map_err(ConnectError::Tcp)?;
    let Some(files) = tls else { return Ok(Box::new(tcp)) };
    let config = files.client_config().await?;
    let stream = TlsConnector::from(Arc::new(config)).connect(server_name(endpoint)?, tcp).await;
    Ok(Box::new(stream.map_err(ConnectError::Handshake)?))
}

/// The certificate must be for the very name or address that is dialled.
fn server_name(endpoint: &str) -> Result<ServerName<'static>, ConnectError> {
    let host = endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(host.to_owned()).map_err(|_| ConnectError::Host(host.to_owned()))
}
