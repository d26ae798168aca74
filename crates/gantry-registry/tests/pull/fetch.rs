//! Files from web servers that are slow, or say no.

use futures_util::TryStreamExt;
use gantry_registry::{Registry, RegistryError, RegistryOptions};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A server that says this to everybody, then nothing more; its address.
async fn saying(text: &'static str, then_close: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(text.as_bytes()).await;
            if !then_close {
                held.push(stream);
            }
        }
    });
    address
}

fn impatient() -> Registry {
    Registry::new(RegistryOptions {
        idle_timeout: Duration::from_millis(300),
        ..RegistryOptions::default()
    })
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    for text in [
        "",
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
    ] {
        let address = saying(text, false).await;
        let begun = Instant::now();
        let fetched = impatient().fetch(&format!("http://{address}/x")).await;
        if let Ok(fetched) = fetched {
            assert_eq!(fetched.size, Some(100));
            let pieces: Result<Vec<_>, RegistryError> = fetched.stream.try_collect().await;
            assert!(pieces.is_err());
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{text:?}");
    }
}

#[tokio::test]
async fn what_a_server_breaks_off_is_an_error() {
    let address = saying(
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
        true,
    )
    .await;
    let fetched = impatient()
        .fetch(&format!("http://{address}/x"))
        .await
        .unwrap();
    let pieces: Result<Vec<_>, RegistryError> = fetched.stream.try_collect().await;
    assert!(
        matches!(pieces, Err(RegistryError::Protocol(_))),
        "{pieces:?}"
    );
}

#[tokio::test]
async fn refusals_say_what_the_server_said() {
    for (text, words) in [
        (
            "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone",
            "with status 404 Not Found: gone",
        ),
        (
            "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
            "with status 503 Service Unavailable: ",
        ),
    ] {
        let address = saying(text, true).await;
        let error = impatient()
            .fetch(&format!("http://{address}/x"))
            .await
            .unwrap_err();
        let expected = format!("failed to GET http://{address}/x {words}");
        assert_eq!(error.to_string(), expected);
    }
    let file = impatient().fetch("file:///etc/passwd").await.unwrap_err();
    assert_eq!(
        file.to_string(),
        "Get \"file:///etc/passwd\": unsupported protocol scheme \"file\""
    );
}
