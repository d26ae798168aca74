//! TLS to a daemon on TCP: `--tls`, `--tlsverify`, `$DOCKER_TLS_VERIFY`, `$DOCKER_CERT_PATH`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::cx::Cx;

/// A client's side of TLS, ready to connect.
pub(crate) struct Tls {
    connector: TlsConnector,
}

fn verify(cx: &Cx) -> bool {
    cx.globals.tls_verify.unwrap_or_else(|| {
        std::env::var_os("DOCKER_TLS_VERIFY").is_some_and(|value| !value.is_empty())
    })
}

/// Whether the flags or the environment ask for TLS.
pub(crate) fn wanted(cx: &Cx) -> bool {
    cx.globals.tls || cx.globals.tls_verify.is_some() || verify(cx)
}

impl Tls {
    pub(super) fn new(cx: &Cx) -> Result<Tls, String> {
        let dir = std::env::var_os("DOCKER_CERT_PATH")
            .filter(|dir| !dir.is_empty())
            .map_or_else(|| cx.config_dir(), PathBuf::from);
        let path = |flag: &Option<String>, name: &str| match flag {
            Some(path) => PathBuf::from(path),
            None => dir.join(name),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = if verify(cx) {
            let mut roots = RootCertStore::empty();
            let authority = path(&cx.globals.tls_ca_cert, "ca.pem");
            for certificate in certificates(&authority)? {
                roots.add(certificate).map_err(|error| {
                    format!(
                        "could not read CA certificate {}: {error}",
                        authority.display()
                    )
                })?;
            }
            builder.with_root_certificates(roots)
        } else {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyServer(provider)))
        };
        let (cert, key) = (
            path(&cx.globals.tls_cert, "cert.pem"),
            path(&cx.globals.tls_key, "key.pem"),
        );
        let named = cx.globals.tls_cert.is_some() || cx.globals.tls_key.is_some();
        let config = if named || (cert.exists() && key.exists()) {
            builder
                .with_client_auth_cert(certificates(&cert)?, private_key(&key)?)
                .map_err(|error| format!("could not load X509 key pair: {error}"))?
        } else {
            builder.with_no_client_auth()
        };
        Ok(Tls {
            connector: TlsConnector::from(Arc::new(config)),
        })
    }

    pub(super) async fn connect(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        self.connector.connect(name, stream).await
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = read(path)?;
    rustls_pemfile::certs(&mut pem.as_slice())
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{}: {error}", path.display()))
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let pem = read(path)?;
    match rustls_pemfile::private_key(&mut pem.as_slice()) {
        Ok(Some(key)) => Ok(key),
        Ok(None) => Err(format!("{}: holds no private key", path.display())),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// `--tls` without `--tlsverify`: encrypted, but whoever answers is believed, as Docker does.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
