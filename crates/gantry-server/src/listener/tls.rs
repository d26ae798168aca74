//! TLS: `--tls`, `--tlsverify`, `--tlscacert`, `--tlscert`, `--tlskey`.

use super::ListenError;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// Certificates of a TCP listener, as PEM files.
#[derive(Debug, Clone)]
pub struct TlsOptions {
    /// The server's certificate, with its chain.
    pub certificate: PathBuf,
    /// The server's key.
    pub key: PathBuf,
    /// Clients must show a certificate of one of these authorities (`--tlsverify`); none: any client may come.
    pub client_authorities: Option<PathBuf>,
}

impl TlsOptions {
    pub(super) fn acceptor(&self) -> Result<TlsAcceptor, ListenError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| ListenError::Tls(error.to_string()))?;
        let builder = match &self.client_authorities {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in rustls_pemfile::certs(&mut open(path)?) {
                    let certificate = certificate.map_err(|error| unreadable(path, &error))?;
                    roots
                        .add(certificate)
                        .map_err(|error| unreadable(path, &error))?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .build()
                        .map_err(|error| unreadable(path, &error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let certificates = rustls_pemfile::certs(&mut open(&self.certificate)?)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| unreadable(&self.certificate, &error))?;
        let key = rustls_pemfile::private_key(&mut open(&self.key)?)
            .map_err(|error| unreadable(&self.key, &error))?
            .ok_or_else(|| unreadable(&self.key, &"there is no private key in it"))?;
        let config = builder
            .with_single_cert(certificates, key)
            .map_err(|error| unreadable(&self.certificate, &error))?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

fn open(path: &Path) -> Result<BufReader<std::fs::File>, ListenError> {
    std::fs::File::open(path)
        .map(BufReader::new)
        .map_err(|source| ListenError::Io {
            what: "cannot read",
            path: path.to_owned(),
            source,
        })
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> ListenError {
    ListenError::Tls(format!("{}: {error}", path.display()))
}
