//! TLS: a listener whose handshakes wait for nobody, with a certificate that may change while it runs.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// Longest time that a handshake may take. The API server gives up after 10 s itself.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// Most handshakes at once; more wait in the kernel.
const MOST_HANDSHAKES: usize = 64;
/// Pause after the system has refused a connection: it has no more file descriptors, as a rule.
const REFUSED_PAUSE: Duration = Duration::from_millis(200);

/// PEM files of the certificate that the API server trusts. They are read at each new connection, so one that was renewed
/// needs no restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, ours first.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Why a certificate can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {problem}")]
pub struct CertificateError {
    file: String,
    problem: String,
}

impl CertificateError {
    fn new(file: &Path, problem: &(impl ToString + ?Sized)) -> Self {
        CertificateError { file: file.display().to_string(), problem: problem.to_string() }
    }
}

impl CertificateFiles {
    /// The files `tls.crt` and `tls.key` of a directory, as a Secret of type `kubernetes.io/tls` is mounted.
    pub fn in_directory(directory: &Path) -> Self {
        CertificateFiles { certificate: directory.join("tls.crt"), key: directory.join("tls.key") }
    }

    /// Whether they can be used now.
    ///
    /// # Errors
    /// Names the file, and what is wrong with it.
    pub async fn check(&self) -> Result<(), CertificateError> {
        self.server_config().await.map(drop)
    }

    async fn server_config(&self) -> Result<ServerConfig, CertificateError> {
        let pem = read(&self.certificate).await?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let chain = chain.map_err(|error| CertificateError::new(&self.certificate, &format!("not PEM: {error}")))?;
        if chain.is_empty() {
            return Err(CertificateError::new(&self.certificate, "no certificate in it"));
        }
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key).await?)
            .map_err(|error| CertificateError::new(&self.key, &format!("no private key: {error}")))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| CertificateError::new(&self.certificate, &error))?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| CertificateError::new(&self.certificate, &error))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

async fn read(file: &Path) -> Result<Vec<u8>, CertificateError> {
    tokio::fs::read(file).await.map_err(|error| CertificateError::new(file, &format!("cannot be read: {error}")))
}

/// Connections whose handshake is over.
pub(super) struct TlsListener {
    address: SocketAddr,
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    accepting: JoinHandle<()>,
}

impl TlsListener {
    pub(super) fn new(listener: TcpListener, certificate: CertificateFiles) -> io::Result<Self> {
        let address = listener.local_addr()?;
        tracing::info!(%address, "the webhook listens");
        let (sender, ready) = mpsc::channel(1);
        let accepting = tokio::spawn(accept(listener, certificate, sender));
        Ok(TlsListener { address, ready, accepting })
    }
}

impl Drop for TlsListener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(connection) => connection,
            // The other end lives as long as this one.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.address)
    }
}

async fn accept(
    listener: TcpListener,
    certificate: CertificateFiles,
    ready: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
) {
    let mut handshakes = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if handshakes.len() < MOST_HANDSHAKES => match accepted {
                Ok((stream, peer)) => {
                    let (certificate, ready) = (certificate.clone(), ready.clone());
                    handshakes.spawn(async move {
                        match tokio::time::timeout(HANDSHAKE_LIMIT, handshake(stream, &certificate)).await {
                            // Nobody takes it any more once the server has ended.
                            Ok(Ok(stream)) => drop(ready.send((stream, peer)).await),
                            Ok(Err(Failed::Certificate(error))) => tracing::error!("the webhook has no certificate: {error}"),
                            Ok(Err(Failed::Handshake(error))) => tracing::debug!(%peer, "no TLS connection: {error}"),
                            Err(_) => tracing::debug!(%peer, "no TLS connection in time"),
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!("a connection to the webhook was refused: {error}");
                    tokio::time::sleep(REFUSED_PAUSE).await;
                }
            },
            Some(_) = handshakes.join_next() => {}
        }
    }
}

enum Failed {
    Certificate(CertificateError),
    Handshake(io::Error),
}

async fn handshake(stream: TcpStream, certificate: &CertificateFiles) -> Result<TlsStream<TcpStream>, Failed> {
    let config = certificate.server_config().await.map_err(Failed::Certificate)?;
    TlsAcceptor::from(Arc::new(config)).accept(stream).await.map_err(Failed::Handshake)
}
