//! Registries that hang, lie, break off or ask who is there.

use crate::server::{Answer, Head, Image, Server, platform, registry};
use base64::Engine as _;
use futures_util::{StreamExt, TryStreamExt};
use gantry_oci::{Digest, Reference};
use gantry_registry::{Credentials, RegistryError};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Serves an image, but for what `other` answers.
async fn image_but(
    other: impl Fn(&Head, &Image) -> Option<Answer> + Send + Sync + 'static,
) -> (Server, Arc<Image>) {
    let image = Arc::new(Image::new());
    let served = image.clone();
    let server =
        Server::start(move |head| other(head, &served).unwrap_or_else(|| served.answer(head)));
    (server.await, image)
}

async fn resolve_error(server: &Server) -> RegistryError {
    let reference = server.reference("a/b:latest");
    registry()
        .resolve(&reference, &platform(), None)
        .await
        .unwrap_err()
}

/// Resolves and downloads the one layer.
async fn download(server: &Server) -> Result<Vec<u8>, RegistryError> {
    let registry = registry();
    let reference = server.reference("a/b:latest");
    let remote = registry.resolve(&reference, &platform(), None).await?;
    let stream = registry
        .blob(&reference, &remote.layers[0], 0, None, None)
        .await?;
    let pieces: Vec<_> = stream.try_collect().await?;
    Ok(pieces.concat())
}

fn is_layer(head: &Head, image: &Image) -> bool {
    head.path.ends_with(Digest::of(&image.layer).as_str())
}

#[tokio::test]
async fn a_good_registry_over_http() {
    let (server, image) = image_but(|_, _| None).await;
    let reference = server.reference("a/b:latest");
    let remote = registry()
        .resolve(&reference, &platform(), None)
        .await
        .unwrap();
    assert_eq!(remote.digest, Digest::of(&image.manifest));
    assert_eq!(remote.config, image.config);
    assert!(remote.index.is_none());
    assert_eq!(download(&server).await.unwrap(), image.layer);
}

#[tokio::test]
async fn nobody_listens() {
    let reference = Reference::parse("127.0.0.1:1/tx:latest").unwrap();
    let error = registry()
        .resolve(&reference, &platform(), None)
        .await
        .unwrap_err();
    assert!(matches!(error, RegistryError::Unreachable(_)), "{error:?}");
    assert_eq!(
        error.to_string(),
        "Get \"http://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused"
    );
}

#[tokio::test]
async fn no_such_host() {
    let reference = Reference::parse("NO-SUCH.invalid/x:latest").unwrap();
    let error = registry()
        .resolve(&reference, &platform(), None)
        .await
        .unwrap_err();
    assert!(matches!(error, RegistryError::Unreachable(_)), "{error:?}");
    let text = error.to_string();
    let begin = "Get \"https://NO-SUCH.invalid/v2/\": dial tcp: lookup NO-SUCH.invalid on ";
    assert!(text.starts_with(begin) && text.contains(":53: "), "{text}");
}

#[tokio::test]
async fn unknown_manifest_with_and_without_words() {
    let words = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
    for body in [words.as_slice(), b"", b"<html>"] {
        let (server, _) = image_but(move |head, _| {
            let asked = head.path.contains("/manifests/");
            asked.then(|| Answer::new("404 Not Found", &[], body))
        })
        .await;
        let error = resolve_error(&server).await;
        assert!(matches!(error, RegistryError::NotFound(_)), "{error:?}");
        let name = server.reference("a/b:latest").familiar();
        assert_eq!(
            error.to_string(),
            format!("manifest for {name} not found: manifest unknown: manifest unknown")
        );
    }
}

#[tokio::test]
async fn access_denied() {
    let words =
        br#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#;
    let (server, _) = image_but(|head, _| {
        let asked = head.path.contains("/manifests/");
        asked.then(|| Answer::new("403 Forbidden", &[], words))
    })
    .await;
    let error = resolve_error(&server).await;
    assert!(matches!(error, RegistryError::Denied(_)), "{error:?}");
    assert_eq!(
        error.to_string(),
        format!(
            "pull access denied for {}/a/b, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
            server.address
        )
    );
}

#[tokio::test]
async fn garbage_for_a_manifest() {
    let endless = vec![b' '; 5 << 20];
    let bodies: [&[u8]; 5] = [
        b"garbage",
        b"{}",
        b"[]",
        br#"{"schemaVersion":1}"#,
        &endless,
    ];
    for body in bodies {
        let body = body.to_vec();
        let (server, _) =
            image_but(move |head, _| head.path.contains("/manifests/").then(|| Answer::ok(&body)))
                .await;
        let error = resolve_error(&server).await;
        assert!(matches!(error, RegistryError::Protocol(_)), "{error:?}");
    }
}

#[tokio::test]
async fn wrong_digests() {
    let (server, _) = image_but(|head, image| {
        let told = Digest::of(b"other").to_string();
        let headers = [("docker-content-digest", told.as_str())];
        let asked = head.path.contains("/manifests/");
        asked.then(|| Answer::new("200 OK", &headers, &image.manifest))
    })
    .await;
    let text = resolve_error(&server).await.to_string();
    assert!(text.starts_with("manifest verification failed"), "{text}");

    let (server, _) = image_but(|head, image| {
        let config = Digest::of(&image.config);
        head.path
            .ends_with(config.as_str())
            .then(|| Answer::ok(b"{}"))
    })
    .await;
    let text = resolve_error(&server).await.to_string();
    assert!(
        text.starts_with("image config verification failed"),
        "{text}"
    );

    let (server, _) = image_but(|_, _| None).await;
    let absent = format!("a/b@{}", Digest::of(b"absent"));
    let absent = server.reference(&absent);
    let error = registry()
        .resolve(&absent, &platform(), None)
        .await
        .unwrap_err();
    assert!(matches!(error, RegistryError::NotFound(_)), "{error:?}");
}

#[tokio::test]
async fn no_image_for_the_platform() {
    let (server, _) = image_but(|head, image| {
        let digest = Digest::of(&image.manifest);
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"x","digest":"{digest}","size":1,"platform":{{"os":"linux","architecture":"s390x"}}}}]}}"#
        );
        head.path.ends_with("/manifests/latest").then(|| Answer::ok(index.as_bytes()))
    })
    .await;
    assert_eq!(
        resolve_error(&server).await.to_string(),
        "no matching manifest for linux/amd64 in the manifest list entries"
    );
    let other = gantry_registry::Platform {
        architecture: "s390x".into(),
        ..platform()
    };
    let reference = server.reference("a/b:latest");
    let remote = registry().resolve(&reference, &other, None).await.unwrap();
    assert_ne!(remote.digest, Digest::of(&remote.manifest));
    assert_eq!(
        Some(remote.digest),
        remote.index.map(|index| Digest::of(&index))
    );
}

#[tokio::test]
async fn a_registry_that_hangs() {
    let began = Instant::now();
    let (server, _) = image_but(|head, _| {
        let asked = head.path.contains("/manifests/");
        asked.then(|| Answer {
            bytes: Vec::new(),
            hang: true,
            endless: None,
        })
    })
    .await;
    let error = resolve_error(&server).await;
    assert!(matches!(error, RegistryError::Protocol(_)), "{error:?}");

    // In the middle of a layer, again and again from the same place.
    let (server, _) = image_but(|head, image| {
        let status = if head.seen == 0 {
            "200 OK"
        } else {
            "206 Partial Content"
        };
        let count = if head.seen == 0 { 1000 } else { 0 };
        is_layer(head, image).then(|| Answer::cut(status, &[], &image.layer, count).hanging())
    })
    .await;
    let text = download(&server).await.unwrap_err().to_string();
    assert!(
        text.contains("the registry sent nothing or next to nothing"),
        "{text}"
    );
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_ended() {
    for hang in [false, true] {
        let (server, image) = image_but(move |head, image| {
            let first = is_layer(head, image) && head.seen == 0;
            first.then(|| Answer {
                hang,
                ..Answer::cut("200 OK", &[], &image.layer, 300_000)
            })
        })
        .await;
        assert_eq!(download(&server).await.unwrap(), image.layer);
        let asked = server.asked(Digest::of(&image.layer).as_str());
        let ranges: Vec<_> = asked.iter().map(|head| head.header("range")).collect();
        assert_eq!(ranges, ["", "bytes=300000-"]);
    }
}

#[tokio::test]
async fn a_broken_download_without_ranges_begins_again() {
    let (server, image) = image_but(|head, image| {
        let count = if head.seen == 0 {
            300_000
        } else {
            image.layer.len()
        };
        is_layer(head, image).then(|| Answer::cut("200 OK", &[], &image.layer, count))
    })
    .await;
    assert_eq!(download(&server).await.unwrap(), image.layer);
}

#[tokio::test]
async fn a_download_that_always_breaks_ends() {
    let (server, image) = image_but(|head, image| {
        is_layer(head, image).then(|| Answer::cut("200 OK", &[], &image.layer, 300_000))
    })
    .await;
    let error = download(&server).await.unwrap_err();
    assert!(matches!(error, RegistryError::Protocol(_)), "{error:?}");
    assert_eq!(server.asked(Digest::of(&image.layer).as_str()).len(), 5);
}

#[tokio::test]
async fn a_layer_that_is_too_long_or_too_short() {
    let (server, _) = image_but(|head, image| {
        let longer = [image.layer.as_slice(), b"more"].concat();
        is_layer(head, image).then(|| Answer::ok(&longer))
    })
    .await;
    let text = download(&server).await.unwrap_err().to_string();
    assert!(text.contains("is longer than the"), "{text}");

    let (server, _) =
        image_but(|head, image| is_layer(head, image).then(|| Answer::ok(b"short"))).await;
    let text = download(&server).await.unwrap_err().to_string();
    assert_eq!(text, "unexpected EOF");
}

#[tokio::test]
async fn a_dropped_stream_ends_the_download() {
    let (server, _) = image_but(|head, image| {
        is_layer(head, image).then(|| Answer::cut("200 OK", &[], &image.layer, 1000).hanging())
    })
    .await;
    let registry = registry();
    let reference = server.reference("a/b:latest");
    let remote = registry
        .resolve(&reference, &platform(), None)
        .await
        .unwrap();
    let mut stream = registry
        .blob(&reference, &remote.layers[0], 0, None, None)
        .await
        .unwrap();
    stream.next().await.unwrap().unwrap();
    drop(stream);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(server.asked(remote.layers[0].digest.as_str()).len(), 1);
}

#[tokio::test]
async fn blobs_elsewhere() {
    let image = Arc::new(Image::new());
    let (elsewhere, served) = (image.clone(), image.clone());
    let storage = Server::start(move |head| {
        assert_eq!(
            head.header("authorization"),
            "",
            "a token for the registry alone"
        );
        elsewhere.answer(head)
    })
    .await;
    let address = storage.address;
    let server = Server::start(move |head| {
        if head.path.contains("/blobs/") {
            let location = format!("http://{address}{}", head.path);
            return Answer::new("307 Temporary Redirect", &[("location", &location)], b"");
        }
        served.answer(head)
    })
    .await;
    assert_eq!(download(&server).await.unwrap(), image.layer);
}

#[tokio::test]
async fn tokens() {
    let (server, image) = image_but(|head, _| {
        let host = head.header("host").to_owned();
        if head.path.starts_with("/token?") {
            let user = base64::engine::general_purpose::STANDARD.encode("me:secret");
            if head.header("authorization") != format!("Basic {user}") {
                let said = br#"{"details":"incorrect username or password"}"#;
                return Some(Answer::new("401 Unauthorized", &[], said));
            }
            let right = head.path.contains("scope=repository%3Aa%2Fb%3Apull")
                && head.path.contains("service=us");
            let token = if right { "good" } else { "bad" };
            return Some(Answer::ok(
                format!(r#"{{"token":"{token}","expires_in":300}}"#).as_bytes(),
            ));
        }
        let challenge = format!(r#"Bearer realm="http://{host}/token",service="us""#);
        let headers = [("www-authenticate", challenge.as_str())];
        let known = head.header("authorization") == "Bearer good";
        (!known).then(|| Answer::new("401 Unauthorized", &headers, b""))
    })
    .await;
    let registry = registry();
    let reference = server.reference("a/b:latest");
    let mut credentials = Credentials {
        username: "me".into(),
        password: "secret".into(),
        ..Credentials::default()
    };
    let remote = registry
        .resolve(&reference, &platform(), Some(&credentials))
        .await
        .unwrap();
    let layer = &remote.layers[0];
    let stream = registry
        .blob(&reference, layer, 0, Some(&credentials), None)
        .await
        .unwrap();
    let pieces: Vec<_> = stream.try_collect().await.unwrap();
    assert_eq!(pieces.concat(), image.layer);
    assert_eq!(
        server.asked("/token?").len(),
        1,
        "the token serves all requests"
    );

    credentials.password = "wrong".into();
    let asked = registry
        .resolve(&reference, &platform(), Some(&credentials))
        .await;
    let error = asked.unwrap_err();
    assert!(matches!(error, RegistryError::Denied(_)), "{error:?}");
    assert!(
        error
            .to_string()
            .ends_with("\": unauthorized: incorrect username or password"),
        "{error}"
    );
}

#[tokio::test]
async fn basic_authentication() {
    let (server, _) = image_but(|head, _| {
        let headers = [("www-authenticate", "Basic realm=\"x\"")];
        let known = head.header("authorization") == "Basic bWU6c2VjcmV0";
        (!known).then(|| Answer::new("401 Unauthorized", &headers, b""))
    })
    .await;
    let registry = registry();
    let reference = server.reference("a/b:latest");
    let error = registry
        .resolve(&reference, &platform(), None)
        .await
        .unwrap_err();
    assert!(
        error.to_string().ends_with("no basic auth credentials"),
        "{error}"
    );
    let credentials = Credentials {
        username: "me".into(),
        password: "secret".into(),
        ..Credentials::default()
    };
    registry
        .resolve(&reference, &platform(), Some(&credentials))
        .await
        .unwrap();
}
