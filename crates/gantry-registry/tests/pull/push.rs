//! Blobs and manifests on their way to a registry.

use crate::server::{Answer, Server, registry};
use crate::upload_server::UploadServer;
use bytes::Bytes;
use gantry_oci::Digest;
use gantry_registry::{Outgoing, Push, RegistryError, Sending, Source};
use std::io::Write;
use std::sync::{Arc, Mutex};

fn blob(size: usize) -> (Outgoing, Vec<u8>) {
    let bytes: Vec<u8> = (0..size).map(|n| (n * 7 + n / 251) as u8).collect();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    let outgoing = Outgoing {
        digest: Digest::of(&bytes),
        size: size as u64,
        source: Source::File(Arc::new(file)),
    };
    (outgoing, bytes)
}

async fn open(server: &UploadServer) -> Push {
    let reference = server.reference("a/b");
    registry().push(&reference, None).await.unwrap()
}

fn stored(server: &UploadServer, digest: &Digest) -> Option<Vec<u8>> {
    let content = server.content.lock().unwrap();
    let key = ("a/b".to_owned(), digest.to_string());
    content.blobs.get(&key).cloned()
}

const QUIET: &(dyn Fn(Sending) + Sync) = &|_| {};

#[tokio::test]
async fn blobs_of_all_sizes() {
    let server = UploadServer::start().await;
    let push = open(&server).await;
    for size in [0, 1, 1000, 1 << 20, (1 << 20) + 1, 3_000_000] {
        let (outgoing, bytes) = blob(size);
        assert!(!push.has(&outgoing.digest, outgoing.size).await.unwrap());
        push.upload(&outgoing, QUIET).await.unwrap();
        assert!(push.has(&outgoing.digest, outgoing.size).await.unwrap());
        assert_eq!(stored(&server, &outgoing.digest).unwrap(), bytes);
    }
    // Two of them are large enough for a request of their own.
    assert_eq!(server.asked("PATCH"), 2);
    let config = Outgoing {
        digest: Digest::of(b"{}"),
        size: 2,
        source: Source::Bytes(Bytes::from_static(b"{}")),
    };
    push.upload(&config, QUIET).await.unwrap();
    assert_eq!(stored(&server, &config.digest).unwrap(), b"{}");
    assert_eq!(server.content.lock().unwrap().open_uploads(), 0);
}

#[tokio::test]
async fn a_blob_of_another_size_is_not_there() {
    let server = UploadServer::start().await;
    let push = open(&server).await;
    let (outgoing, _) = blob(1000);
    push.upload(&outgoing, QUIET).await.unwrap();
    assert!(!push.has(&outgoing.digest, 1001).await.unwrap());
}

#[tokio::test]
async fn a_broken_upload_goes_on_where_it_ended() {
    let server = UploadServer::start().await;
    server.content.lock().unwrap().breaks = vec![1_900_000, 0, 500_000];
    let push = open(&server).await;
    let (outgoing, bytes) = blob(3_000_000);
    let told = Mutex::new(Vec::new());
    let tell = |sending| told.lock().unwrap().push(sending);
    push.upload(&outgoing, &tell).await.unwrap();
    assert_eq!(stored(&server, &outgoing.digest).unwrap(), bytes);
    let content = server.content.lock().unwrap();
    assert_eq!(content.received, bytes.len(), "nothing goes twice");
    let sent: Vec<_> = content
        .asked
        .iter()
        .filter(|a| a.starts_with("PATCH"))
        .collect();
    let ranges: Vec<_> = sent.iter().map(|a| a.split(' ').nth(2).unwrap()).collect();
    assert_eq!(
        ranges,
        [
            "content-length=3000000",
            "content-range=1900000-2999999",
            "content-range=1900000-2999999",
            "content-range=2400000-2999999"
        ]
    );
    let told = told.into_inner().unwrap();
    let waits = told.iter().filter(|s| matches!(s, Sending::Waiting(_)));
    assert_eq!(waits.count(), 3);
}

#[tokio::test]
async fn an_upload_that_the_registry_forgot_begins_again() {
    let server = UploadServer::start().await;
    {
        let mut content = server.content.lock().unwrap();
        content.breaks = vec![1_000_000];
        content.forgetful = true;
    }
    let push = open(&server).await;
    let (outgoing, bytes) = blob(3_000_000);
    push.upload(&outgoing, QUIET).await.unwrap();
    assert_eq!(stored(&server, &outgoing.digest).unwrap(), bytes);
    let received = server.content.lock().unwrap().received;
    assert_eq!(received, bytes.len() + 1_000_000);
}

#[tokio::test]
async fn an_upload_that_always_breaks_ends() {
    let server = UploadServer::start().await;
    server.content.lock().unwrap().breaks = vec![0; 50];
    let push = open(&server).await;
    let (outgoing, _) = blob(3_000_000);
    let error = push.upload(&outgoing, QUIET).await.unwrap_err();
    assert!(matches!(error, RegistryError::Protocol(_)), "{error:?}");
    assert_eq!(server.asked("PATCH"), 5);

    // Some progress each time is no reason to go on for ever.
    server.content.lock().unwrap().breaks = vec![10_000; 100];
    let (outgoing, _) = blob(3_000_001);
    push.upload(&outgoing, QUIET).await.unwrap_err();
    assert_eq!(server.asked("PATCH"), 5 + 20);
}

#[tokio::test]
async fn a_lost_answer_to_the_last_request() {
    let server = UploadServer::start().await;
    server.content.lock().unwrap().lose_answer = true;
    let push = open(&server).await;
    let (outgoing, bytes) = blob(2_000_000);
    push.upload(&outgoing, QUIET).await.unwrap();
    assert_eq!(server.content.lock().unwrap().received, bytes.len());
}

#[tokio::test]
async fn blobs_of_other_repositories() {
    let server = UploadServer::start().await;
    let (outgoing, bytes) = blob(10_000);
    {
        let mut content = server.content.lock().unwrap();
        let key = ("c/d".to_owned(), outgoing.digest.to_string());
        content.blobs.insert(key, bytes);
        content.token_uses = Some(1000);
    }
    let push = open(&server).await;
    assert!(push.mount(&outgoing.digest, "c/d").await.unwrap());
    assert!(push.has(&outgoing.digest, outgoing.size).await.unwrap());
    let absent = Digest::of(b"absent");
    assert!(!push.mount(&absent, "c/d").await.unwrap());
    let content = server.content.lock().unwrap();
    assert_eq!(content.open_uploads(), 0, "a failed mount leaves no upload");
    assert_eq!(
        content.scopes,
        ["repository:c/d:pull", "repository:a/b:pull,push"],
        "the last of the scopes of each token"
    );
}

#[tokio::test]
async fn a_token_that_ends_in_the_middle() {
    let server = UploadServer::start().await;
    server.content.lock().unwrap().token_uses = Some(2);
    let push = open(&server).await;
    let (outgoing, bytes) = blob(3_000_000);
    assert!(!push.has(&outgoing.digest, outgoing.size).await.unwrap());
    push.upload(&outgoing, QUIET).await.unwrap();
    push.put_manifest("latest", "x/y", Bytes::from_static(b"{}"))
        .await
        .unwrap();
    assert_eq!(stored(&server, &outgoing.digest).unwrap(), bytes);
    let content = server.content.lock().unwrap();
    assert!(content.scopes.len() >= 3, "{:?}", content.scopes);
    let key = ("a/b".to_owned(), "latest".to_owned());
    assert_eq!(content.manifests[&key], ("x/y".to_owned(), b"{}".to_vec()));
}

#[tokio::test]
async fn refusals_are_told_in_the_registry_s_words() {
    let server = Server::start(|head| match (head.method.as_str(), head.path.as_str()) {
        ("GET", "/v2/") => Answer::ok(b"{}"),
        ("POST", _) => {
            let said = br#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#;
            Answer::new("403 Forbidden", &[], said)
        }
        ("PUT", _) => {
            let said = br#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your limit."}]}"#;
            Answer::new("429 Too Many Requests", &[("retry-after", "30")], said)
        }
        _ => Answer::missing(),
    })
    .await;
    let push = registry()
        .push(&server.reference("a/b"), None)
        .await
        .unwrap();
    let (outgoing, _) = blob(10);
    let error = push.upload(&outgoing, QUIET).await.unwrap_err();
    assert!(matches!(error, RegistryError::Denied(_)), "{error:?}");
    assert_eq!(
        error.to_string(),
        "denied: requested access to the resource is denied"
    );
    assert_eq!(server.asked("/uploads/").len(), 1, "it is asked once");
    let put = push.put_manifest("latest", "x/y", Bytes::new()).await;
    let error = put.unwrap_err();
    assert!(matches!(error, RegistryError::TooMany(_)), "{error:?}");
    assert_eq!(
        error.to_string(),
        "toomanyrequests: You have reached your limit. (try again in 30s)"
    );
}

#[tokio::test]
async fn an_upload_sent_elsewhere_carries_no_credentials() {
    let elsewhere = Server::start(|head| {
        assert_eq!(head.header("authorization"), "");
        Answer::new("201 Created", &[], b"")
    })
    .await;
    let address = elsewhere.address;
    let server = Server::start(move |head| {
        let headers = [("www-authenticate", "Basic realm=\"x\"")];
        if head.header("authorization").is_empty() {
            return Answer::new("401 Unauthorized", &headers, b"");
        }
        let location = format!("http://{address}/here?a=b");
        Answer::new("202 Accepted", &[("location", &location)], b"")
    })
    .await;
    let credentials = gantry_registry::Credentials {
        username: "me".into(),
        password: "secret".into(),
        ..Default::default()
    };
    let reference = server.reference("a/b");
    let push = registry()
        .push(&reference, Some(&credentials))
        .await
        .unwrap();
    let (outgoing, _) = blob(10);
    push.upload(&outgoing, QUIET).await.unwrap();
    assert_eq!(elsewhere.asked("/here?a=b&digest=").len(), 1);

    for location in ["file:///etc/passwd", "gopher://x/"] {
        let server = Server::start(move |head| match head.method.as_str() {
            "POST" => Answer::new("202 Accepted", &[("location", location)], b""),
            _ => Answer::ok(b""),
        })
        .await;
        let push = registry()
            .push(&server.reference("a/b"), None)
            .await
            .unwrap();
        let text = push.upload(&outgoing, QUIET).await.unwrap_err().to_string();
        assert!(text.contains("unsupported protocol scheme"), "{text}");
    }
}

#[tokio::test]
async fn requests_side_by_side_ask_for_one_token() {
    let server = UploadServer::start().await;
    server.content.lock().unwrap().token_uses = Some(1000);
    let push = open(&server).await;
    let digests: Vec<_> = (0..10u8).map(|n| Digest::of(&[n])).collect();
    let asked = digests.iter().map(|digest| push.has(digest, 1));
    for has in futures_util::future::join_all(asked).await {
        assert!(!has.unwrap());
    }
    assert_eq!(server.content.lock().unwrap().scopes.len(), 1);
}
