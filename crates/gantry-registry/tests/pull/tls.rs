//! HTTPS with a certificate authority made for the test.

use crate::server::{Answer, Image, Script, platform, serve};
use gantry_oci::Reference;
use gantry_registry::{Insecure, Registry, RegistryError, RegistryOptions};
use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// An authority, and its PEM text.
fn authority() -> (Issuer<'static, KeyPair>, Certificate) {
    let key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = authority.self_signed(&key).unwrap();
    (Issuer::new(authority, key), certificate)
}

fn names() -> Vec<String> {
    vec!["0.0.0.0".to_owned(), "127.0.0.1".to_owned()]
}

/// Serves an image by HTTPS under 0.0.0.0 and 127.0.0.1; the answer is the port and the authority's PEM text.
async fn start() -> (u16, String) {
    let (issuer, certificate) = authority();
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(names()).unwrap();
    let own = own.signed_by(&key, &issuer).unwrap();
    let image = Image::new();
    let script: Script = Arc::new(move |head| image.answer(head));
    (serve_as(&own, &key, None, script).await, certificate.pem())
}

/// Serves with a certificate; `clients`: who signed those of clients, which are asked for then.
async fn serve_as(
    own: &Certificate,
    key: &KeyPair,
    clients: Option<&Certificate>,
    script: Script,
) -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(authority.der().clone()).unwrap();
            let roots = Arc::new(roots);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = builder.with_single_cert(vec![own.der().clone()], private);
    let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
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
    port
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

/// A folder with one for the registry in it.
fn folder_for(reference: &Reference) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join(&reference.domain);
    std::fs::create_dir(&own).unwrap();
    (folder, own)
}

#[tokio::test]
async fn a_registry_that_asks_for_a_client_s_certificate() {
    let (issuer, certificate) = authority();
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(names()).unwrap();
    let own = own.signed_by(&key, &issuer).unwrap();
    let image = Image::new();
    let script: Script = Arc::new(move |head| image.answer(head));
    let port = serve_as(&own, &key, Some(&certificate), script).await;
    let reference = reference(port);
    let (folder, own) = folder_for(&reference);
    std::fs::write(own.join("ca.crt"), certificate.pem()).unwrap();
    let registry = registry(folder.path(), Vec::new());
    let without = registry.resolve(&reference, &platform(), None).await;
    let text = without.unwrap_err().to_string();
    assert!(
        text.ends_with("remote error: tls: certificate required"),
        "{text}"
    );

    // What is put there counts from then on, without a new start.
    let client_key = KeyPair::generate().unwrap();
    let client = CertificateParams::new(vec!["client".to_owned()]).unwrap();
    let client = client.signed_by(&client_key, &issuer).unwrap();
    std::fs::write(own.join("client.cert"), client.pem()).unwrap();
    let text = registry
        .resolve(&reference, &platform(), None)
        .await
        .unwrap_err();
    assert!(matches!(text, RegistryError::Invalid(_)), "{text:?}");
    assert_eq!(
        text.to_string(),
        "missing key client.key for client certificate client.cert. CA certificates must use the extension .crt"
    );
    std::fs::write(own.join("client.key"), client_key.serialize_pem()).unwrap();
    registry
        .resolve(&reference, &platform(), None)
        .await
        .unwrap();

    std::fs::remove_file(own.join("client.cert")).unwrap();
    let text = registry
        .resolve(&reference, &platform(), None)
        .await
        .unwrap_err();
    assert_eq!(
        text.to_string(),
        "missing client certificate client.cert for key client.key"
    );
}

#[tokio::test]
async fn a_certificate_that_signs_itself() {
    // As `openssl req -x509` makes it: a server's that may act as an authority.
    let made = |names: Vec<String>, expired: bool| {
        let key = KeyPair::generate().unwrap();
        let mut own = CertificateParams::new(names).unwrap();
        own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        if expired {
            own.not_after = rcgen::date_time_ymd(2020, 1, 1);
        }
        let own = own.self_signed(&key).unwrap();
        (own, key)
    };
    let other_name = vec!["other.invalid".to_owned()];
    for (names, expired, why) in [
        (names(), false, ""),
        (names(), true, "certificate has expired"),
        (
            other_name,
            false,
            "x509: cannot validate certificate for 0.0.0.0 because it doesn't contain any IP SANs",
        ),
    ] {
        let (own, key) = made(names, expired);
        let image = Image::new();
        let script: Script = Arc::new(move |head| image.answer(head));
        let port = serve_as(&own, &key, None, script).await;
        let reference = reference(port);
        let (folder, place) = folder_for(&reference);
        let registry = registry(folder.path(), Vec::new());
        registry
            .resolve(&reference, &platform(), None)
            .await
            .unwrap_err();
        std::fs::write(place.join("ca.crt"), own.pem()).unwrap();
        match registry.resolve(&reference, &platform(), None).await {
            Ok(_) => assert_eq!(why, ""),
            Err(error) => {
                let text = error.to_string();
                assert!(!why.is_empty() && text.contains(why), "{why}: {text}");
            }
        }
    }
}

#[tokio::test]
async fn from_https_never_down_to_http() {
    let plain = crate::server::Server::start(|_| Answer::ok(b"{}")).await;
    let to = format!("http://{}/x", plain.address);
    let (issuer, certificate) = authority();
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(names()).unwrap();
    let own = own.signed_by(&key, &issuer).unwrap();
    let image = Image::new();
    let script: Script = Arc::new(move |head| {
        if head.path.contains("/redirected/") {
            return Answer::new("307 Temporary Redirect", &[("location", &to)], b"");
        }
        if head.path.contains("/token/") {
            let challenge = format!("Bearer realm=\"{to}\"");
            let headers = [("www-authenticate", challenge.as_str())];
            return Answer::new("401 Unauthorized", &headers, b"");
        }
        image.answer(head)
    });
    let port = serve_as(&own, &key, None, script).await;
    let mut reference = reference(port);
    let (folder, place) = folder_for(&reference);
    std::fs::write(place.join("ca.crt"), certificate.pem()).unwrap();
    let registry = registry(folder.path(), Vec::new());
    for (path, why) in [
        ("redirected/a", "redirects from https to http"),
        ("token/a", "no credentials are sent there"),
    ] {
        reference.path = path.to_owned();
        let asked = registry.resolve(&reference, &platform(), None).await;
        let text = asked.unwrap_err().to_string();
        assert!(text.contains(why), "{text}");
    }
    assert!(plain.asked("").is_empty());
}
