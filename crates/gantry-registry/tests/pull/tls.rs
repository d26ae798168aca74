//! HTTPS with a certificate authority made for the test.

use crate::server::{Image, Script, platform, serve};
use gantry_oci::Reference;
use gantry_registry::{Insecure, Registry, RegistryError, RegistryOptions};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Serves an image by HTTPS under 0.0.0.0 and 127.0.0.1; the answer is the port and the authority's PEM text.
async fn start() -> (u16, String) {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["0.0.0.0".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let own = own.signed_by(&key, &issuer).unwrap();

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![own.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let image = Image::new();
    let script: Script = Arc::new(move |head| image.answer(head));
    let kept = Arc::new(Mutex::new(Vec::new()));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, script, kept) = (acceptor.clone(), script.clone(), kept.clone());
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    let _ = serve(stream, script, kept).await;
                }
            });
        }
    });
    (port, authority_pem)
}

/// An address of this machine that is not taken for a local registry: connecting to 0.0.0.0 reaches 127.0.0.1.
fn reference(port: u16) -> Reference {
    Reference {
        domain: format!("0.0.0.0:{port}"),
        path: "a/b".into(),
        tag: Some("latest".into()),
        digest: None,
    }
}

fn registry(folder: &std::path::Path, insecure: Vec<Insecure>) -> Registry {
    Registry::new(RegistryOptions {
        insecure,
        certificate_folder: Some(folder.to_owned()),
        ..RegistryOptions::default()
    })
}

#[tokio::test]
async fn an_authority_of_the_registry_s_own() {
    let (port, pem) = start().await;
    let folder = tempfile::tempdir().unwrap();
    let reference = reference(port);

    let strange = registry(folder.path(), Vec::new());
    let error = strange
        .resolve(&reference, &platform(), None)
        .await
        .unwrap_err();
    assert!(matches!(error, RegistryError::Unreachable(_)), "{error:?}");
    assert_eq!(
        error.to_string(),
        format!(
            "Get \"https://0.0.0.0:{port}/v2/\": tls: failed to verify certificate: x509: certificate signed by unknown authority"
        )
    );

    let own = folder.path().join(&reference.domain);
    std::fs::create_dir(&own).unwrap();
    std::fs::write(own.join("ca.crt"), pem).unwrap();
    let trusting = registry(folder.path(), Vec::new());
    trusting
        .resolve(&reference, &platform(), None)
        .await
        .unwrap();
}

#[tokio::test]
async fn insecure_and_local_registries_need_none() {
    let (port, _) = start().await;
    let folder = tempfile::tempdir().unwrap();
    let named = reference(port);
    let insecure = registry(
        folder.path(),
        vec![gantry_registry::insecure(&named.domain).unwrap()],
    );
    insecure.resolve(&named, &platform(), None).await.unwrap();

    let local = Reference {
        domain: format!("127.0.0.1:{port}"),
        ..named
    };
    let any = registry(folder.path(), Vec::new());
    any.resolve(&local, &platform(), None).await.unwrap();
}
