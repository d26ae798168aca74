//! Registries that send too much, too little, too slowly, or things that name themselves.

use crate::server::{Answer, Head, Image, Server, platform, registry};
use futures_util::TryStreamExt;
use gantry_oci::Digest;
use gantry_registry::{Credentials, RegistryError, RemoteLayer};
use std::time::{Duration, Instant};

async fn resolve(server: &Server) -> Result<gantry_registry::Remote, RegistryError> {
    let reference = server.reference("a/b:latest");
    registry().resolve(&reference, &platform(), None).await
}

/// Serves an image whose manifest `change` has changed.
async fn with_manifest(change: impl Fn(&Image) -> String) -> Server {
    let mut image = Image::new();
    image.manifest = change(&image).into_bytes();
    Server::start(move |head| image.answer(head)).await
}

fn entry(digest: &Digest, size: u64) -> String {
    format!(r#"{{"digest":"{digest}","size":{size}}}"#)
}

fn manifest(config: &str, layers: &[String]) -> String {
    format!(
        r#"{{"schemaVersion":2,"config":{config},"layers":[{}]}}"#,
        layers.join(",")
    )
}

#[tokio::test]
async fn ten_thousand_layers() {
    let server = with_manifest(|image| {
        let config = entry(&Digest::of(&image.config), image.config.len() as u64);
        let layers: Vec<_> = (0..10_000u32)
            .map(|n| entry(&Digest::of(&n.to_le_bytes()), 1))
            .collect();
        manifest(&config, &layers)
    })
    .await;
    let text = resolve(&server).await.unwrap_err().to_string();
    assert!(text.contains("10000 entries"), "{text}");
    assert!(
        server.asked("/blobs/").is_empty(),
        "nothing of it is fetched"
    );
}

#[tokio::test]
async fn what_is_no_image() {
    for (media_type, class) in [
        ("application/vnd.cncf.helm.config.v1+json", "unknown"),
        ("application/vnd.docker.plugin.v1+json", "plugin"),
    ] {
        let server = with_manifest(|image| {
            let config = Digest::of(&image.config);
            let config = format!(r#"{{"mediaType":"{media_type}","digest":"{config}","size":2}}"#);
            manifest(&config, &[])
        })
        .await;
        let error = resolve(&server).await.unwrap_err();
        assert!(matches!(error, RegistryError::Invalid(_)), "{error:?}");
        assert_eq!(
            error.to_string(),
            format!("Encountered remote {media_type:?}({class}) when fetching")
        );
    }
}

#[tokio::test]
async fn an_index_without_a_bottom() {
    // Each index names the next one; a digest makes it impossible that one names itself.
    let mut indexes = vec![b"{}".to_vec()];
    for _ in 0..50 {
        let below = Digest::of(indexes.last().unwrap());
        let text = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"digest":"{below}","size":1,"platform":{{"os":"linux","architecture":"amd64"}}}}]}}"#
        );
        indexes.push(text.into_bytes());
    }
    let server = Server::start(move |head: &Head| {
        let named = |bytes: &&Vec<u8>| head.path.ends_with(Digest::of(bytes).as_str());
        match indexes.iter().find(named) {
            Some(bytes) => Answer::ok(bytes),
            None if head.path == "/v2/" => Answer::ok(b"{}"),
            None => Answer::ok(indexes.last().unwrap()),
        }
    })
    .await;
    let text = resolve(&server).await.unwrap_err().to_string();
    assert!(text.contains("nested too deep"), "{text}");
    assert!(server.asked("/manifests/").len() < 5);
}

#[tokio::test]
async fn an_index_that_says_it_is_its_own_entry() {
    let named = Digest::of(b"whatever");
    let text = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"digest":"{named}","size":1,"platform":{{"os":"linux","architecture":"amd64"}}}}]}}"#
    );
    let server = Server::start(move |_: &Head| Answer::ok(text.as_bytes())).await;
    let text = resolve(&server).await.unwrap_err().to_string();
    assert_eq!(
        text,
        format!("manifest verification failed for digest {named}")
    );
}

#[tokio::test]
async fn sizes_that_lie() {
    // A configuration that calls itself larger than anything is not even asked for.
    let server =
        with_manifest(|image| manifest(&entry(&Digest::of(&image.config), u64::MAX), &[])).await;
    let text = resolve(&server).await.unwrap_err().to_string();
    assert!(text.contains("is larger than"), "{text}");
    assert!(server.asked("/blobs/").is_empty());

    // A layer that calls itself smaller or larger than it is.
    let image = Image::new();
    let layer = Digest::of(&image.layer);
    let size = image.layer.len() as u64;
    let server = Server::start(move |head| image.answer(head)).await;
    for (told, why) in [
        (size - 1, "is longer than the"),
        (size + 1, "unexpected EOF"),
        (u64::MAX, "unexpected EOF"),
    ] {
        let layer = RemoteLayer {
            digest: layer.clone(),
            size: told,
            media_type: String::new(),
        };
        let registry = registry();
        let reference = server.reference("a/b:latest");
        let stream = registry.blob(&reference, &layer, 0, None, None).await;
        let all: Result<Vec<_>, _> = stream.unwrap().try_collect().await;
        let text = all.unwrap_err().to_string();
        assert!(text.contains(why), "{told}: {text}");
    }
}

#[tokio::test]
async fn bodies_without_an_end() {
    for part in ["/manifests/", "/blobs/", "/tags/", "/token"] {
        let image = Image::new();
        let server = Server::start(move |head| {
            if head.path.contains(part) {
                return Answer::endless(&[b' '; 1 << 16], Duration::ZERO);
            }
            if part == "/token" && head.path != "/v2/" {
                let host = head.header("host");
                let challenge = format!("Bearer realm=\"http://{host}/token\"");
                let headers = [("www-authenticate", challenge.as_str())];
                return Answer::new("401 Unauthorized", &headers, b"");
            }
            image.answer(head)
        })
        .await;
        let error = match part {
            "/tags/" => {
                let reference = server.reference("a/b");
                registry().tags(&reference, None).await.unwrap_err()
            }
            _ => resolve(&server).await.unwrap_err(),
        };
        let text = error.to_string();
        assert!(text.contains("the answer is larger than"), "{part}: {text}");
    }
    // A refusal is shown though its body has no end.
    let server = Server::start(|head| match head.path.as_str() {
        "/v2/" => Answer::ok(b"{}"),
        _ => Answer {
            bytes: b"HTTP/1.1 403 Forbidden\r\nconnection: close\r\n\r\n".to_vec(),
            ..Answer::endless(&[b'x'; 1 << 16], Duration::ZERO)
        },
    })
    .await;
    let error = resolve(&server).await.unwrap_err();
    assert!(matches!(error, RegistryError::Denied(_)), "{error:?}");
}

#[tokio::test]
async fn a_byte_now_and_then() {
    let began = Instant::now();
    // Faster than silence is noticed, but never done: a manifest, ...
    let server = Server::start(|head| match head.path.as_str() {
        "/v2/" => Answer::ok(b"{}"),
        _ => Answer::endless(b" ", Duration::from_millis(100)),
    })
    .await;
    let text = resolve(&server).await.unwrap_err().to_string();
    assert!(text.contains("did not end within"), "{text}");
    // ... and a layer.
    let layer = RemoteLayer {
        digest: Digest::of(b"x"),
        size: 1 << 30,
        media_type: String::new(),
    };
    let reference = server.reference("a/b:latest");
    let registry = registry();
    let stream = registry.blob(&reference, &layer, 0, None, None).await;
    let all: Result<Vec<_>, _> = stream.unwrap().try_collect().await;
    let text = all.unwrap_err().to_string();
    assert!(text.contains("next to nothing"), "{text}");
    assert!(began.elapsed() < Duration::from_secs(60));
}

#[tokio::test]
async fn a_registry_that_stumbles_is_asked_again() {
    let image = Image::new();
    let server = Server::start(
        move |head| match head.path.ends_with("latest") && head.seen < 2 {
            true => Answer::new("503 Service Unavailable", &[], b""),
            false => image.answer(head),
        },
    )
    .await;
    resolve(&server).await.unwrap();
    assert_eq!(server.asked("/manifests/").len(), 3);

    let server = Server::start(|head| match head.path.as_str() {
        "/v2/" => Answer::ok(b"{}"),
        _ => {
            let said = br#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}"#;
            let headers = [("ratelimit-limit", "100;w=21600"), ("retry-after", "60")];
            Answer::new("429 Too Many Requests", &headers, said)
        }
    })
    .await;
    let error = resolve(&server).await.unwrap_err();
    assert!(matches!(error, RegistryError::TooMany(_)), "{error:?}");
    assert_eq!(
        error.to_string(),
        "toomanyrequests: You have reached your pull rate limit. (limit 100 in 6h, try again in 1m)"
    );
    assert_eq!(
        server.asked("/manifests/").len(),
        1,
        "a limit is not run against"
    );
}

#[tokio::test]
async fn tags_page_by_page() {
    let server = Server::start(|head| {
        let page = |tags: &str, next: &str| {
            let link = format!("<{next}>; rel=\"next\"");
            let body = format!(r#"{{"name":"a/b","tags":{tags}}}"#);
            let headers = [("link", link.as_str())];
            let headers = if next.is_empty() {
                &headers[..0]
            } else {
                &headers[..]
            };
            Answer::new("200 OK", headers, body.as_bytes())
        };
        match head.path.as_str() {
            "/v2/a/b/tags/list" => page(r#"["a","b"]"#, "/v2/a/b/tags/list?last=b&n=2"),
            "/v2/a/b/tags/list?last=b&n=2" => page(r#"["c","../no tag"]"#, "?last=c"),
            "/v2/a/b/tags/list?last=c" => page("null", ""),
            "/v2/loop/tags/list" => page(r#"["a"]"#, "/v2/loop/tags/list?x"),
            "/v2/loop/tags/list?x" => page(r#"["a"]"#, "/v2/loop/tags/list?x"),
            "/v2/away/tags/list" => page(r#"["a"]"#, "http://other.invalid/v2/away/tags/list"),
            _ => Answer::ok(b"{}"),
        }
    })
    .await;
    let registry = registry();
    let tags = registry.tags(&server.reference("a/b"), None).await;
    assert_eq!(tags.unwrap(), ["a", "b", "c"]);
    let endless = registry.tags(&server.reference("loop"), None).await;
    assert!(endless.unwrap_err().to_string().contains("has no end"));
    let away = registry.tags(&server.reference("away"), None).await;
    assert!(away.unwrap_err().to_string().contains("another host"));
    let named = Credentials::default();
    let tags = registry.tags(&server.reference("a/b"), Some(&named)).await;
    assert_eq!(tags.unwrap().len(), 3);
}
