//! Tokens and certificates: refused, accepted, rotated.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, dead_code)] // a test talks to the real network

mod support;

use std::fs;
use std::path::Path;

use mobula_gcs::server::MemoryGcs;
use mobula_gcs::{Auth, Client, ClusterState, Config, Secret, TlsFiles};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use support::{short, start, start_tls};

fn with_auth(endpoint: String, auth: Auth) -> Client {
    Client::new(Config { auth, ..Config::plain(vec![endpoint]) }).unwrap()
}

#[tokio::test]
async fn token_is_needed_and_checked() {
    let gcs = MemoryGcs::default();
    gcs.set_token(Some("right"));
    let server = start(&gcs).await;
    for auth in [Auth::Disabled, Auth::Token(Secret::new("wrong")), Auth::Files(vec!["/nonexistent".into()])] {
        let client = with_auth(server.endpoint(), auth);
        let error = client.cluster_state().await.unwrap_err();
        assert_eq!(error.kind(), "unauthenticated", "{error}");
        assert!(!error.to_string().contains("wrong"), "{error}");
    }
    let client = with_auth(server.endpoint(), Auth::Token(Secret::new("right")));
    client.cluster_state().await.unwrap();
    assert!(with_auth(server.endpoint(), Auth::Disabled).is_serving().await.unwrap());
}

#[tokio::test]
async fn rotated_token() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    fs::write(&path, "first").unwrap();
    let gcs = MemoryGcs::default();
    gcs.set_token(Some("first"));
    let server = start(&gcs).await;
    let client = with_auth(server.endpoint(), Auth::Files(vec![path.clone()]));
    client.cluster_state().await.unwrap();
    fs::write(&path, "the second").unwrap();
    gcs.set_token(Some("the second"));
    client.cluster_state().await.unwrap();
}

#[tokio::test]
async fn refused_token_is_read_again_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    fs::write(&path, "one").unwrap();
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let gcs = MemoryGcs::default();
    gcs.set_token(Some("one"));
    let server = start(&gcs).await;
    let client = with_auth(server.endpoint(), Auth::Files(vec![path.clone()]));
    client.cluster_state().await.unwrap();
    // Same length, same time: nothing tells but the refusal.
    fs::write(&path, "two").unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    gcs.set_token(Some("two"));
    client.cluster_state().await.unwrap();
    assert_eq!(gcs.calls("GetClusterResourceState"), 2, "a refused call never reaches the service");
}

/// A certificate authority, and the files it signs.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Writes (or overwrites) certificate, key and authority.
    fn issue(&self, dir: &Path, name: &str) -> TlsFiles {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        let file = |name: &str, text: String| {
            fs::write(dir.join(name), text).unwrap();
            dir.join(name)
        };
        TlsFiles {
            certificate: file("tls.crt", certificate.pem()),
            key: file("tls.key", key.serialize_pem()),
            ca: file("ca.crt", self.0.pem()),
        }
    }
}

fn with_tls(endpoint: String, tls: TlsFiles) -> Client {
    let config = Config { tls: Some(tls), deadlines: short(), ..Config::plain(vec![endpoint]) };
    Client::new(config).unwrap()
}

#[tokio::test]
async fn mutual_tls() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let files = authority.issue(dir.path(), "127.0.0.1");
    let server = start_tls(&MemoryGcs::default(), files.clone()).await;
    with_tls(server.endpoint(), files).cluster_state().await.unwrap();
}

#[tokio::test]
async fn certificate_for_another_address() {
    let dir = tempfile::tempdir().unwrap();
    let files = Authority::new().issue(dir.path(), "127.0.0.2");
    let server = start_tls(&MemoryGcs::default(), files.clone()).await;
    let error = with_tls(server.endpoint(), files).cluster_state().await.unwrap_err();
    assert!(error.to_string().contains("TLS handshake: invalid peer certificate"), "{error}");
}

#[tokio::test]
async fn client_of_another_authority() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let authority = Authority::new();
    let server = start_tls(&MemoryGcs::default(), authority.issue(ours.path(), "127.0.0.1")).await;
    let mut files = Authority::new().issue(theirs.path(), "127.0.0.1");
    files.ca = ours.path().join("ca.crt");
    let error = with_tls(server.endpoint(), files).cluster_state().await.unwrap_err();
    assert!(["unavailable", "deadline"].contains(&error.kind()), "{error}");
}

#[tokio::test]
async fn plain_text_against_tls_and_the_reverse() {
    let dir = tempfile::tempdir().unwrap();
    let files = Authority::new().issue(dir.path(), "127.0.0.1");
    let secure = start_tls(&MemoryGcs::default(), files.clone()).await;
    let plain = start(&MemoryGcs::default()).await;
    let error = support::hasty(&[secure.endpoint()]).cluster_state().await.unwrap_err();
    assert!(["garbage", "unavailable", "deadline"].contains(&error.kind()), "{error}");
    let error = with_tls(plain.endpoint(), files).cluster_state().await.unwrap_err();
    assert!(["unavailable", "deadline"].contains(&error.kind()), "{error}");
}

#[tokio::test]
async fn rotated_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let files = Authority::new().issue(dir.path(), "127.0.0.1");
    let gcs = MemoryGcs::new(ClusterState::default());
    let server = start_tls(&gcs, files.clone()).await;
    let client = with_tls(server.endpoint(), files.clone());
    client.cluster_state().await.unwrap();
    // Another authority altogether: an open connection goes on, a new one needs the new files.
    Authority::new().issue(dir.path(), "127.0.0.1");
    client.cluster_state().await.unwrap();
    gcs.fail(Some("GetClusterResourceState"), 1, mobula_gcs::server::Fault::Disconnect);
    client.cluster_state().await.unwrap();
    assert_eq!(gcs.calls("GetClusterResourceState"), 4);
}

#[tokio::test]
async fn missing_and_unusable_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let files = Authority::new().issue(dir.path(), "127.0.0.1");
    let server = start_tls(&MemoryGcs::default(), files.clone()).await;
    let elsewhere = TlsFiles { certificate: dir.path().join("gone.crt"), ..files.clone() };
    let error = with_tls(server.endpoint(), elsewhere).cluster_state().await.unwrap_err().to_string();
    assert!(error.contains("TLS: cannot read ") && error.contains("gone.crt"), "{error}");
    fs::write(dir.path().join("empty.crt"), "").unwrap();
    let empty = TlsFiles { ca: dir.path().join("empty.crt"), ..files.clone() };
    let error = with_tls(server.endpoint(), empty).cluster_state().await.unwrap_err().to_string();
    assert!(error.contains("empty.crt: no certificate in it"), "{error}");
    let swapped = TlsFiles { key: files.certificate.clone(), ..files };
    let error = with_tls(server.endpoint(), swapped).cluster_state().await.unwrap_err().to_string();
    assert!(error.contains("tls.crt: no private key"), "{error}");
}
