//! Whom the client trusts (the system's certificate authorities and those kept for one registry), and who it is.

use crate::RegistryError;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// Where distributions keep the bundle (the list of Go's crypto/x509); the first that is there counts.
const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A registry's folder of certificates.
pub(crate) fn folder(all: Option<&Path>, host: &str) -> Option<PathBuf> {
    // A slash is no part of a host's name, and two dots are none.
    let name = !host.is_empty() && !host.contains('/') && !host.contains("..");
    all.filter(|_| name).map(|all| all.join(host))
}

/// Names, sizes and times of a folder's files: what changes when certificates are put there or renewed.
pub(crate) type Stamp = Vec<(OsString, u64, Option<SystemTime>)>;

pub(crate) fn stamp(folder: Option<&Path>) -> Stamp {
    let entries = folder.and_then(|folder| std::fs::read_dir(folder).ok());
    let mut stamp: Stamp = entries
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let facts = std::fs::metadata(entry.path()).ok()?;
            Some((entry.file_name(), facts.len(), facts.modified().ok()))
        })
        .collect();
    stamp.sort();
    stamp
}

/// What a registry's folder holds.
#[derive(Debug, Default)]
struct Own {
    /// `*.crt`: authorities, or the registry's very certificate.
    authorities: Vec<CertificateDer<'static>>,
    /// `NAME.cert` with `NAME.key`: who we are.
    identities: Vec<Arc<CertifiedKey>>,
}

/// The TLS settings for one registry. `folder`: its own certificates. `insecure`: any certificate will do.
pub(crate) fn config(folder: Option<&Path>, insecure: bool) -> Result<ClientConfig, RegistryError> {
    let provider = Arc::new(ring::default_provider());
    let own = read_folder(folder, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| RegistryError::Protocol(e.to_string()))?;
    let builder = if insecure {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
    } else {
        let trusted = trusted(own.authorities, provider)?;
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(trusted))
    };
    Ok(match own.identities.is_empty() {
        true => builder.with_no_client_auth(),
        false => builder.with_client_cert_resolver(Arc::new(Identities(own.identities))),
    })
}

fn trusted(
    own: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
) -> Result<Trusted, RegistryError> {
    let mut roots = RootCertStore::empty();
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let bundle = named.or_else(|| {
        let mut bundles = BUNDLES.iter().map(PathBuf::from);
        bundles.find(|path| path.exists())
    });
    if let Some(path) = bundle {
        roots.add_parsable_certificates(certificates(&path));
    }
    roots.add_parsable_certificates(own.iter().cloned());
    let inner = match roots.is_empty() {
        true => None,
        false => {
            let builder =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
            let built = builder.build();
            Some(built.map_err(|e| {
                RegistryError::Invalid(format!("cannot use the certificate authorities: {e}"))
            })?)
        }
    };
    Ok(Trusted {
        inner,
        own,
        provider,
    })
}

/// A file's certificates. One that cannot be read is told and passed over: the others still count.
fn certificates(path: &Path) -> Vec<CertificateDer<'static>> {
    match CertificateDer::pem_file_iter(path) {
        Ok(certificates) => certificates.filter_map(Result::ok).collect(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot read certificates");
            Vec::new()
        }
    }
}

// COMPAT: moby's loadTLSConfig (registry/registry.go), also its words.
fn read_folder(folder: Option<&Path>, provider: &CryptoProvider) -> Result<Own, RegistryError> {
    let mut own = Own::default();
    let Some(folder) = folder else {
        return Ok(own);
    };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(own),
        Err(error) => {
            return Err(RegistryError::Invalid(format!(
                "cannot read {}: {error}",
                folder.display()
            )));
        }
    };
    let mut names: Vec<_> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    let has = |name: &String| names.contains(name);
    for name in &names {
        let path = folder.join(name);
        if name.ends_with(".crt") {
            own.authorities.extend(certificates(&path));
        } else if let Some(stem) = name.strip_suffix(".cert") {
            let key = format!("{stem}.key");
            if !has(&key) {
                return Err(RegistryError::Invalid(format!(
                    "missing key {key} for client certificate {name}. CA certificates must use the extension .crt"
                )));
            }
            own.identities
                .push(identity(&path, &folder.join(key), provider)?);
        } else if let Some(stem) = name.strip_suffix(".key") {
            let certificate = format!("{stem}.cert");
            if !has(&certificate) {
                return Err(RegistryError::Invalid(format!(
                    "missing client certificate {certificate} for key {name}"
                )));
            }
        }
    }
    Ok(own)
}

fn identity(
    certificate: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, RegistryError> {
    let chain = certificates(certificate);
    let broken = |path: &Path, why: String| {
        RegistryError::Invalid(format!("cannot use {}: {why}", path.display()))
    };
    if chain.is_empty() {
        return Err(broken(
            certificate,
            "there is no certificate in it".to_owned(),
        ));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| broken(key, e.to_string()))?;
    let made = CertifiedKey::from_der(chain, private, provider);
    Ok(Arc::new(made.map_err(|e| broken(key, e.to_string()))?))
}

/// The client certificates: the first one whose kind of key the registry takes is shown.
#[derive(Debug)]
struct Identities(Vec<Arc<CertifiedKey>>);

impl ResolvesClientCert for Identities {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let fits = |identity: &&Arc<CertifiedKey>| identity.key.choose_scheme(schemes).is_some();
        self.0.iter().find(fits).cloned()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Takes what an authority has signed, and the certificates in the registry's own folder themselves.
#[derive(Debug)]
struct Trusted {
    /// None where no authority is known at all.
    inner: Option<Arc<WebPkiServerVerifier>>,
    own: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Trusted {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        stapled: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(inner) = &self.inner else {
            return Err(CertificateError::UnknownIssuer.into());
        };
        match inner.verify_server_cert(certificate, intermediates, name, stapled, now) {
            // COMPAT: Docker's documentation makes a registry's certificate with `openssl req -x509`, which may act as
            // an authority; webpki takes none of those from a server. Its dates have been looked at by then.
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(other)))
                if is_authority(&other) && self.own.iter().any(|own| own == certificate) =>
            {
                let parsed = ParsedCertificate::try_from(certificate)?;
                verify_server_name(&parsed, name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

fn is_authority(error: &rustls::OtherError) -> bool {
    format!("{error:?}").contains("CaUsedAsEndEntity")
}

/// Takes every certificate, for registries that the configuration calls insecure.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
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
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
