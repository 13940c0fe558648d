//! Whose certificate the database may show.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::{Pool, PoolConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

const CA: &[u8] = include_bytes!("../../fetch/tests/tls/ca.der");
const SITE: &[u8] = include_bytes!("../../fetch/tests/tls/site.der");
const SITE_KEY: &[u8] = include_bytes!("../../fetch/tests/tls/site.key.der");
/// PostgreSQL protocol 3.0, "SSLRequest".
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// A server that takes one connection, agrees to TLS as PostgreSQL does, and tells whether the client went on.
async fn server() -> (u16, JoinHandle<bool>) {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(SITE_KEY.to_vec()));
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(SITE.to_vec())], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let went_on = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 8];
        stream.read_exact(&mut request).await.unwrap();
        assert_eq!(request, SSL_REQUEST);
        stream.write_all(b"S").await.unwrap();
        let Ok(mut stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await else { return false };
        // The startup message comes only from a client that believes the certificate.
        stream.read_exact(&mut request).await.is_ok()
    });
    (port, went_on)
}

fn config(host: &str, port: u16, ca_bundle: Option<PathBuf>) -> PoolConfig {
    let url = format!("host={host} hostaddr=127.0.0.1 port={port} user=callboard_app dbname=callboard");
    PoolConfig { url, tls: true, iam: false, size: 1, ca_bundle }
}

fn bundle(directory: &Path, text: &str) -> PathBuf {
    let path = directory.join("bundle.pem");
    std::fs::write(&path, text).unwrap();
    path
}

fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
}

async fn is_believed(host: &str, ca_bundle: Option<PathBuf>) -> bool {
    let (port, went_on) = server().await;
    // The server never finishes the sign-in, so this is an error either way.
    Pool::new(&config(host, port, ca_bundle)).unwrap().get().await.unwrap_err();
    went_on.await.unwrap()
}

#[tokio::test]
async fn a_certificate_of_the_bundle_s_root_is_believed_for_its_own_name_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = bundle(directory.path(), &pem(CA));
    assert!(is_believed("a.example", Some(path.clone())).await);
    assert!(!is_believed("c.example", Some(path)).await);
}

#[tokio::test]
async fn without_the_bundle_it_is_not_believed() {
    assert!(!is_believed("a.example", None).await);
}

#[test]
fn a_bundle_that_cannot_be_used_is_named_before_anything_is_connected() {
    let directory = tempfile::tempdir().unwrap();
    let empty = bundle(directory.path(), "no certificate here\n");
    for (path, problem) in [(empty, "no certificate"), (directory.path().join("none.pem"), "No such file")] {
        let error = Pool::new(&config("a.example", 1, Some(path.clone()))).unwrap_err().to_string();
        assert!(
            error.contains("DATABASE_CA_BUNDLE") && error.contains(&path.display().to_string()),
            "{error}"
        );
        assert!(error.contains(problem), "{error}");
    }
}
