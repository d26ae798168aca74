//! TCP and TLS.

use super::{Server, streams};
use crate::listener::{Listener, TlsOptions};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

async fn start(tls: Option<&TlsOptions>) -> (Server, SocketAddr) {
    let listener = Listener::tcp("127.0.0.1:0", tls).await.unwrap();
    let address = listener.address().unwrap();
    let folder = tempfile::tempdir().unwrap();
    (Server::on(listener, PathBuf::new(), folder), address)
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/tests/certificates")
        .join(name)
}

fn options() -> TlsOptions {
    TlsOptions {
        certificate: file("server.pem"),
        key: file("server-key.pem"),
        client_authorities: Some(file("ca.pem")),
    }
}

async fn connect(address: SocketAddr, certificate: bool) -> std::io::Result<TlsStream<TcpStream>> {
    let pem = |name| std::io::BufReader::new(std::fs::File::open(file(name)).unwrap());
    let mut roots = RootCertStore::empty();
    for certificate in rustls_pemfile::certs(&mut pem("ca.pem")) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = if certificate {
        let chain = rustls_pemfile::certs(&mut pem("client.pem"))
            .map(Result::unwrap)
            .collect();
        let key = rustls_pemfile::private_key(&mut pem("client-key.pem"));
        builder
            .with_client_auth_cert(chain, key.unwrap().unwrap())
            .unwrap()
    } else {
        builder.with_no_client_auth()
    };
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

const HELLO: &[u8] = b"GET /hello/x HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn tcp() {
    let (mut server, address) = start(None).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(HELLO).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("[\"1.51\",\"x\"]\n"), "{answer}");
    let stream = TcpStream::connect(address).await.unwrap();
    streams::flood(stream, &mut server.sessions).await;
}

#[tokio::test]
async fn a_tcp_client_that_left_is_noticed() {
    let (server, address) = start(None).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(b"GET /silent HTTP/1.1\r\nHost: d\r\n\r\n")
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(server.dropped.load(Ordering::SeqCst), 0);
    drop(stream);
    server.drops(1).await;
}

#[tokio::test]
async fn tls_with_a_client_certificate() {
    let (mut server, address) = start(Some(&options())).await;
    let mut stream = connect(address, true).await.unwrap();
    stream.write_all(HELLO).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"[\"1.51\",\"x\"]\n") {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
    }
    let stream = connect(address, true).await.unwrap();
    streams::flood(stream, &mut server.sessions).await;
}

#[tokio::test]
async fn tls_without_a_client_certificate_is_refused() {
    let (_server, address) = start(Some(&options())).await;
    // With TLS 1.3 the client learns of it when it reads.
    let refused = async {
        let mut stream = connect(address, false).await?;
        stream.write_all(HELLO).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let error = refused.await.unwrap_err();
    assert!(
        error.to_string().to_lowercase().contains("certificate"),
        "{error}"
    );
    // Nor does anybody get in without TLS.
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(HELLO).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/"), "{answer:?}");
}

#[tokio::test]
async fn tls_files_that_are_wrong_are_named() {
    let missing = TlsOptions {
        certificate: PathBuf::from("/nonexistent/cert.pem"),
        ..options()
    };
    let error = Listener::tcp("127.0.0.1:0", Some(&missing))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "cannot read: /nonexistent/cert.pem");
    let swapped = TlsOptions {
        key: file("server.pem"),
        ..options()
    };
    let error = Listener::tcp("127.0.0.1:0", Some(&swapped))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("no private key"), "{error}");
}
