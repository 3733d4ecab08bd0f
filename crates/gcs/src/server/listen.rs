//! Connections: from a listener, over TLS, or from a pipe in the same process.

use std::future::Future;
use std::io;
use std::sync::Arc;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tonic::transport::{Channel, Endpoint};
use tracing::debug;

use super::SharedGcs;
use super::dispatch::Front;
use crate::tls::TlsFiles;

/// Bytes that a pipe holds before the writer waits.
const PIPE_BYTES: usize = 64 << 10;

/// Why a server ended.
#[derive(Debug, thiserror::Error)]
#[error("cannot accept connections: {0}")]
pub struct ServeError(#[from] io::Error);

/// Serves until `shutdown` completes; open connections are cut then.
pub async fn serve(
    listener: TcpListener,
    gcs: SharedGcs,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    accept(listener, gcs, None, shutdown).await
}

/// Like [`serve`], over mutual TLS; the files are read for each connection.
pub async fn serve_tls(
    listener: TcpListener,
    gcs: SharedGcs,
    files: TlsFiles,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    accept(listener, gcs, Some(files), shutdown).await
}

async fn accept(
    listener: TcpListener,
    gcs: SharedGcs,
    tls: Option<TlsFiles>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return Ok(()),
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                stream.set_nodelay(true)?;
                let (gcs, tls) = (gcs.clone(), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => serve_stream(stream, gcs).await,
                        Some(files) => match handshake(stream, &files).await {
                            Ok(stream) => serve_stream(stream, gcs).await,
                            Err(error) => debug!(%error, "no TLS connection"),
                        },
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn handshake(
    stream: tokio::net::TcpStream,
    files: &TlsFiles,
) -> io::Result<impl AsyncRead + AsyncWrite + Unpin + Send + use<>> {
    let config = files.server_config().await.map_err(io::Error::other)?;
    TlsAcceptor::from(Arc::new(config)).accept(stream).await
}

/// Serves one connection until either side ends it.
pub async fn serve_stream<S>(stream: S, gcs: SharedGcs)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let front = Front::new(gcs);
    let hang_up = front.hang_up.clone();
    let service = TowerToHyperService::new(front);
    let builder = auto::Builder::new(TokioExecutor::new()).http2_only();
    tokio::select! {
        biased;
        ended = builder.serve_connection(TokioIo::new(stream), service) => {
            if let Err(error) = ended {
                debug!(%error, "connection ended");
            }
        }
        () = hang_up.notified() => {}
    }
}

/// A channel to `gcs` in this process, without a socket: for [`crate::Client::from_channel`].
pub fn duplex_channel(gcs: SharedGcs) -> Channel {
    let connector = tower::service_fn(move |_: http::Uri| {
        let gcs = gcs.clone();
        async move {
            let (near, far) = tokio::io::duplex(PIPE_BYTES);
            tokio::spawn(serve_stream(far, gcs));
            Ok::<_, io::Error>(TokioIo::new(near))
        }
    });
    Endpoint::from_static("http://gcs").connect_with_connector_lazy(connector)
}
