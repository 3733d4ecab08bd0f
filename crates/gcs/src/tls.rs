//! Mutual TLS from the PEM files that Ray's environment names. One certificate serves as server's and as client's.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// PEM files. They are read at each new connection, so a rotated certificate needs no restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Own certificate chain (`RAY_TLS_SERVER_CERT`).
    pub certificate: PathBuf,
    /// Its key (`RAY_TLS_SERVER_KEY`).
    pub key: PathBuf,
    /// Who signs the other side (`RAY_TLS_CA_CERT`).
    pub ca: PathBuf,
}

/// Why TLS can't start.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// File.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A file holds no usable PEM item.
    #[error("{path}: {problem}")]
    Pem {
        /// File.
        path: String,
        /// What is missing or wrong.
        problem: String,
    },
    /// Certificate and key don't fit each other, or the like.
    #[error("certificate {certificate}: {problem}")]
    Identity {
        /// File.
        certificate: String,
        /// What is wrong.
        problem: String,
    },
}

impl TlsFiles {
    /// For the side that connects.
    pub(crate) async fn client_config(&self) -> Result<ClientConfig, TlsError> {
        let material = self.read().await?;
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| self.identity_error(&error))?
            .with_root_certificates(material.roots)
            .with_client_auth_cert(material.chain, material.key)
            .map_err(|error| self.identity_error(&error))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }

    /// For the side that is connected to; it wants a certificate of the same authority.
    pub(crate) async fn server_config(&self) -> Result<ServerConfig, TlsError> {
        let material = self.read().await?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(material.roots), provider())
            .build()
            .map_err(|error| TlsError::Pem { path: show(&self.ca), problem: error.to_string() })?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| self.identity_error(&error))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(material.chain, material.key)
            .map_err(|error| self.identity_error(&error))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }

    async fn read(&self) -> Result<Material, TlsError> {
        let chain = certificates(&self.certificate).await?;
        let key_pem = read_file(&self.key).await?;
        let key = PrivateKeyDer::from_pem_slice(&key_pem)
            .map_err(|error| TlsError::Pem { path: show(&self.key), problem: format!("no private key: {error}") })?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.ca).await? {
            roots
                .add(certificate)
                .map_err(|error| TlsError::Pem { path: show(&self.ca), problem: error.to_string() })?;
        }
        Ok(Material { chain, key, roots })
    }

    fn identity_error(&self, error: &rustls::Error) -> TlsError {
        TlsError::Identity { certificate: show(&self.certificate), problem: error.to_string() }
    }
}

struct Material {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: RootCertStore,
}

async fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read_file(path).await?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let problem = |problem: String| TlsError::Pem { path: show(path), problem };
    let found = found.map_err(|error| problem(format!("not PEM: {error}")))?;
    if found.is_empty() { Err(problem("no certificate in it".into())) } else { Ok(found) }
}

async fn read_file(path: &Path) -> Result<Vec<u8>, TlsError> {
    tokio::fs::read(path).await.map_err(|source| TlsError::Read { path: show(path), source })
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
