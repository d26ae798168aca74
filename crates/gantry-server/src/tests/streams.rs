//! Hijacked connections, byte by byte.

use super::Server;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

/// Reads a head byte by byte, so that nothing behind it is taken.
pub(super) async fn head(stream: &mut (dyn AsyncRead + Unpin + Send)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn hijack_with_upgrade_and_input_in_the_same_write() {
    let mut server = Server::start();
    let mut client = server.connect().await;
    client
        .write_all(b"POST /attach?stdin=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nearly ")
        .await
        .unwrap();
    let head = head(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 101 UPGRADED\r\n"), "{head}");
    for header in [
        "Connection: Upgrade\r\n",
        "Upgrade: tcp\r\n",
        "Content-Type: application/vnd.docker.raw-stream\r\n",
        "Api-Version: 1.51\r\n",
    ] {
        assert!(head.contains(header), "{head}");
    }
    client.write_all(b"late").await.unwrap();
    client.shutdown().await.unwrap();
    let mut container = server.sessions.recv().await.unwrap();
    let mut stdin = String::new();
    container.read_to_string(&mut stdin).await.unwrap();
    assert_eq!(stdin, "early late");
    // The client's half-close is the end of its input only.
    container.write_all(b"output after that").await.unwrap();
    drop(container);
    let mut out = String::new();
    client.read_to_string(&mut out).await.unwrap();
    assert_eq!(out, "output after that");
}

#[tokio::test]
async fn hijack_without_upgrade_is_raw_with_status_200() {
    let mut server = Server::start();
    let mut client = server.connect().await;
    client
        .write_all(b"POST /attach HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n")
        .await
        .unwrap();
    let head = head(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(!head.to_lowercase().contains("transfer-encoding"), "{head}");
    let mut container = server.sessions.recv().await.unwrap();
    container.write_all(b"raw").await.unwrap();
    drop(container);
    let mut out = String::new();
    client.read_to_string(&mut out).await.unwrap();
    assert_eq!(out, "raw");
}

#[tokio::test]
async fn a_hundred_megabytes_each_way() {
    let mut server = Server::start();
    let client = server.connect().await;
    flood(client, &mut server.sessions).await;
}

/// Sends 100 MB to the container, shuts down writing, and reads 100 MB that the container sends after that.
pub(super) async fn flood<C>(mut client: C, sessions: &mut mpsc::UnboundedReceiver<UnixStream>)
where
    C: AsyncRead + AsyncWrite + Unpin + Send,
{
    const SIZE: usize = 100 << 20;
    client
        .write_all(b"POST /attach?stdin=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
        .await
        .unwrap();
    head(&mut client).await;
    let (mut from_server, mut to_server) = tokio::io::split(client);
    let container = sessions.recv().await.unwrap();
    let (mut stdin, mut stdout) = container.into_split();
    let input = async {
        send(&mut to_server, SIZE, 1).await.unwrap();
    };
    let output = async {
        assert_eq!(check(&mut stdin, 1).await.unwrap(), SIZE);
        send(&mut stdout, SIZE, 2).await.unwrap();
    };
    let ((), (), read) = tokio::join!(input, output, check(&mut from_server, 2));
    assert_eq!(read.unwrap(), SIZE);
}

/// Sends bytes that tell their place, and shuts down.
async fn send(to: &mut (dyn AsyncWrite + Unpin + Send), size: usize, seed: u8) -> io::Result<()> {
    let piece: Vec<u8> = (0..=255_u8)
        .map(|n| n ^ seed)
        .collect::<Vec<_>>()
        .repeat(256);
    for _ in 0..size / piece.len() {
        to.write_all(&piece).await?;
    }
    to.shutdown().await
}

/// Reads what [`send`] sent, and counts it.
async fn check(from: &mut (dyn AsyncRead + Unpin + Send), seed: u8) -> io::Result<usize> {
    let (mut count, mut buffer) = (0_usize, vec![0; 256 << 10]);
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(count);
        }
        let bytes = buffer[..read].iter().enumerate();
        assert!(
            bytes
                .into_iter()
                .all(|(i, b)| *b == (count + i) as u8 ^ seed),
            "wrong bytes behind {count}"
        );
        count += read;
    }
}

#[tokio::test]
async fn input_that_nobody_reads_does_not_cost_the_end_of_the_output() {
    let mut server = Server::start();
    let mut client = server.connect().await;
    client
        .write_all(b"POST /attach?stdin=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
        .await
        .unwrap();
    head(&mut client).await;
    let mut container = server.sessions.recv().await.unwrap();
    let (mut output, mut input) = client.into_split();
    // More than all buffers on the way take.
    let typing = tokio::spawn(async move { input.write_all(&[7; 4 << 20]).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    container.write_all(b"the end").await.unwrap();
    drop(container);
    // A closed socket with unread bytes would answer this with a reset.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut out = String::new();
    output.read_to_string(&mut out).await.unwrap();
    assert_eq!(out, "the end");
    drop(output);
    let _ = typing.await;
}

#[tokio::test]
async fn what_a_client_sent_before_it_left_still_arrives() {
    let mut server = Server::start();
    let mut client = server.connect().await;
    client
        .write_all(b"POST /attach?stdin=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
        .await
        .unwrap();
    head(&mut client).await;
    let mut container = server.sessions.recv().await.unwrap();
    client.write_all(&[7; 100_000]).await.unwrap();
    drop(client);
    let mut stdin = Vec::new();
    let ended =
        tokio::time::timeout(Duration::from_secs(2), container.read_to_end(&mut stdin)).await;
    assert_eq!(ended.unwrap().unwrap(), 100_000);
}

#[tokio::test]
async fn a_session_ends_when_its_client_goes_away() {
    let mut server = Server::start();
    let mut client = server.connect().await;
    client
        .write_all(
            b"POST /attach HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
        )
        .await
        .unwrap();
    head(&mut client).await;
    let mut container = server.sessions.recv().await.unwrap();
    drop(client);
    let mut rest = Vec::new();
    let ended =
        tokio::time::timeout(Duration::from_secs(2), container.read_to_end(&mut rest)).await;
    assert_eq!(ended.unwrap().unwrap(), 0);
}
