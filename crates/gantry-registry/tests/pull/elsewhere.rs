//! Registries and token servers that send their client elsewhere: what it does not follow, and what it does not tell.

use crate::server::{Answer, Head, Image, Server, platform, registry};
use futures_util::TryStreamExt;
use gantry_registry::{Credentials, RegistryError};

fn credentials() -> Credentials {
    Credentials {
        username: "me".into(),
        password: "secret".into(),
        ..Credentials::default()
    }
}

/// A server that wants a password, and sends whoever shows it to `location`.
async fn redirecting(location: String) -> Server {
    let image = Image::new();
    Server::start(move |head| {
        if head.header("authorization").is_empty() {
            let headers = [("www-authenticate", "Basic realm=\"x\"")];
            return Answer::new("401 Unauthorized", &headers, b"");
        }
        if head.path.contains("/blobs/") {
            let location = location.replace("PATH", &head.path);
            return Answer::new("307 Temporary Redirect", &[("location", &location)], b"");
        }
        image.answer(head)
    })
    .await
}

async fn resolve(server: &Server) -> Result<gantry_registry::Remote, RegistryError> {
    let reference = server.reference("a/b:latest");
    registry()
        .resolve(&reference, &platform(), Some(&credentials()))
        .await
}

#[tokio::test]
async fn a_redirect_to_a_file() {
    for location in ["file:///etc/passwd", "gopher://127.0.0.1/", "unix:/run/x"] {
        let server = redirecting(location.to_owned()).await;
        let text = resolve(&server).await.unwrap_err().to_string();
        assert!(!text.contains("root:"), "{text}");
        let refused =
            text.contains("unsupported protocol scheme") || text.contains("is not followed");
        assert!(refused, "{location}: {text}");
    }
}

#[tokio::test]
async fn redirects_without_an_end() {
    let image = Image::new();
    let server = Server::start(move |head| match head.path.contains("/blobs/") {
        true => Answer::new("302 Found", &[("location", head.path.as_str())], b""),
        false => image.answer(head),
    })
    .await;
    let reference = server.reference("a/b:latest");
    let asked = registry().resolve(&reference, &platform(), None).await;
    let text = asked.unwrap_err().to_string();
    assert!(text.contains("stopped after 10 redirects"), "{text}");
}

#[tokio::test]
async fn another_host_gets_no_credentials_and_asks_for_none() {
    // It serves, or asks for a password itself.
    for asks in [false, true] {
        let image = Image::new();
        let elsewhere = Server::start(move |head: &Head| {
            assert_eq!(head.header("authorization"), "");
            let headers = [("www-authenticate", "Basic realm=\"you can tell me\"")];
            match asks {
                true => Answer::new("401 Unauthorized", &headers, b""),
                false => image.answer(head),
            }
        })
        .await;
        let server = redirecting(format!("http://{}PATH", elsewhere.address)).await;
        let resolved = resolve(&server).await;
        assert_eq!(resolved.is_err(), asks, "{resolved:?}");
        let asked = elsewhere.asked("/blobs/");
        assert_eq!(asked.len(), 1, "no second try with a password");
        if let Ok(remote) = resolved {
            let (registry, reference) = (registry(), server.reference("a/b:latest"));
            let given = credentials();
            let stream = registry.blob(&reference, &remote.layers[0], 0, Some(&given), None);
            let pieces: Vec<_> = stream.await.unwrap().try_collect().await.unwrap();
            assert!(!pieces.is_empty());
        }
    }
}

#[tokio::test]
async fn another_host_gets_no_credentials_by_a_detour_of_its_own() {
    let image = Image::new();
    let elsewhere = Server::start(move |head: &Head| {
        assert_eq!(head.header("authorization"), "");
        match head
            .path
            .strip_prefix("/once")
            .or(head.path.strip_prefix("/twice"))
        {
            Some(path) if head.path.starts_with("/twice") => {
                let next = format!("/once{path}");
                Answer::new("302 Found", &[("location", next.as_str())], b"")
            }
            Some(path) => Answer::new("307 Temporary Redirect", &[("location", path)], b""),
            None => image.answer(head),
        }
    })
    .await;
    let server = redirecting(format!("http://{}/twicePATH", elsewhere.address)).await;
    let remote = resolve(&server).await.unwrap();
    let (registry, reference) = (registry(), server.reference("a/b:latest"));
    let given = credentials();
    let stream = registry.blob(&reference, &remote.layers[0], 0, Some(&given), None);
    let pieces: Vec<_> = stream.await.unwrap().try_collect().await.unwrap();
    assert!(!pieces.is_empty());
    assert_eq!(elsewhere.asked("/blobs/").len(), 6, "three steps each");
}

/// A registry whose token server is at `realm`.
async fn with_realm(realm: String) -> Server {
    let image = Image::new();
    Server::start(move |head| {
        if head.header("authorization") == "Bearer good" {
            return image.answer(head);
        }
        let host = head.header("host");
        if head.path.starts_with("/moved") {
            let location = realm.clone();
            return Answer::new("307 Temporary Redirect", &[("location", &location)], b"");
        }
        let realm = match realm.contains("elsewhere") {
            true => format!("http://{host}/moved"),
            false => realm.clone(),
        };
        let challenge = format!("Bearer realm=\"{realm}\",service=\"x\"");
        let headers = [("www-authenticate", challenge.as_str())];
        Answer::new("401 Unauthorized", &headers, b"")
    })
    .await
}

#[tokio::test]
async fn a_token_server_on_another_host() {
    // Docker Hub's is one: what the registry names is trusted with the registry's credentials.
    let tokens = Server::start(|head: &Head| {
        assert!(head.header("authorization").starts_with("Basic "));
        Answer::ok(br#"{"token":"good"}"#)
    })
    .await;
    let server = with_realm(format!("http://{}/token", tokens.address)).await;
    resolve(&server).await.unwrap();
    assert_eq!(tokens.asked("/token?").len(), 1);
}

#[tokio::test]
async fn a_token_server_that_sends_its_client_elsewhere() {
    let elsewhere = Server::start(|_: &Head| Answer::ok(br#"{"token":"good"}"#)).await;
    let server = with_realm(format!("http://{}/elsewhere", elsewhere.address)).await;
    let text = resolve(&server).await.unwrap_err().to_string();
    assert!(text.contains("redirects to another host"), "{text}");
    // An identity token goes in the body of a POST.
    let given = Credentials {
        identity_token: "identity".into(),
        ..Credentials::default()
    };
    let reference = server.reference("a/b:latest");
    let asked = registry()
        .resolve(&reference, &platform(), Some(&given))
        .await;
    assert!(
        asked
            .unwrap_err()
            .to_string()
            .contains("redirects to another host")
    );
    assert!(elsewhere.asked("").is_empty(), "nothing went there");
}

#[tokio::test]
async fn a_token_server_that_is_none() {
    for (realm, why) in [
        ("file:///etc/passwd", "unsupported protocol scheme"),
        ("nonsense", "invalid token auth challenge realm"),
        ("http://127.0.0.1:1/token", "connection refused"),
    ] {
        let server = with_realm(realm.to_owned()).await;
        let text = resolve(&server).await.unwrap_err().to_string();
        assert!(text.contains(why), "{realm}: {text}");
    }
}
