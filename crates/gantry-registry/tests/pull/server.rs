//! A registry that answers what a test tells it to, byte for byte.

use gantry_oci::{Digest, Reference};
use gantry_registry::{Platform, Registry, RegistryOptions};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

/// A request's first line and headers (names in lower case).
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) method: String,
    /// Path with query.
    pub(crate) path: String,
    pub(crate) headers: HashMap<String, String>,
    /// Whether the same path was asked for before, and how often.
    pub(crate) seen: usize,
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// What goes over the wire, and whether the connection then stays open in silence.
pub(crate) struct Answer {
    pub(crate) bytes: Vec<u8>,
    pub(crate) hang: bool,
    /// What goes on after the bytes without end, and the pause before each time.
    pub(crate) endless: Option<(Vec<u8>, Duration)>,
}

impl Answer {
    pub(crate) fn new(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Self {
        Self::cut(status, headers, body, body.len())
    }

    /// With the whole length in its head, but the first `count` bytes only.
    pub(crate) fn cut(status: &str, headers: &[(&str, &str)], body: &[u8], count: usize) -> Self {
        let mut head = format!("HTTP/1.1 {status}\r\nconnection: close\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&body[..count]);
        Self {
            bytes,
            hang: false,
            endless: None,
        }
    }

    /// A body that never ends.
    pub(crate) fn endless(piece: &[u8], pause: Duration) -> Self {
        Self {
            bytes: b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec(),
            hang: false,
            endless: Some((piece.to_vec(), pause)),
        }
    }

    pub(crate) fn ok(body: &[u8]) -> Self {
        Self::new("200 OK", &[], body)
    }

    pub(crate) fn missing() -> Self {
        Self::new("404 Not Found", &[], b"")
    }

    pub(crate) fn hanging(mut self) -> Self {
        self.hang = true;
        self
    }
}

pub(crate) type Script = Arc<dyn Fn(&Head) -> Answer + Send + Sync>;

/// Serves a script on a free port; the requests are kept.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) requests: Arc<Mutex<Vec<Head>>>,
}

impl Server {
    pub(crate) async fn start(script: impl Fn(&Head) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (script, kept): (Script, _) = (Arc::new(script), requests.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, script.clone(), kept.clone()));
            }
        });
        Self { address, requests }
    }

    pub(crate) fn reference(&self, name: &str) -> Reference {
        Reference::parse(&format!("{}/{name}", self.address)).unwrap()
    }

    pub(crate) fn asked(&self, path: &str) -> Vec<Head> {
        let requests = self.requests.lock().unwrap();
        requests
            .iter()
            .filter(|r| r.path.contains(path))
            .cloned()
            .collect()
    }
}

/// Answers one request; what is no HTTP (a TLS hello) ends the connection.
pub(crate) async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    script: Script,
    kept: Arc<Mutex<Vec<Head>>>,
) -> io::Result<()> {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        text.push(stream.read_u8().await?);
        if text[0] == 0x16 {
            return stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n").await;
        }
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    let mut lines = text.lines();
    let mut words = lines.next().unwrap().split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let headers: HashMap<_, _> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length = headers.get("content-length");
    let length = length.map_or(0, |text: &String| text.parse().unwrap());
    stream.read_exact(&mut vec![0; length]).await?;
    let head = {
        let mut kept = kept.lock().unwrap();
        let seen = kept.iter().filter(|r| r.path == path).count();
        let head = Head {
            method,
            path,
            headers,
            seen,
        };
        kept.push(head.clone());
        head
    };
    let answer = script(&head);
    stream.write_all(&answer.bytes).await?;
    stream.flush().await?;
    while let Some((piece, pause)) = &answer.endless {
        tokio::time::sleep(*pause).await;
        stream.write_all(piece).await?;
    }
    if answer.hang {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    stream.shutdown().await
}

/// A client that loses patience fast.
pub(crate) fn registry() -> Registry {
    Registry::new(RegistryOptions {
        certificate_folder: None,
        idle_timeout: Duration::from_millis(300),
        connect_timeout: Duration::from_secs(2),
        document_timeout: Duration::from_secs(2),
        pause: Duration::from_millis(50),
        proxies: Default::default(),
        ..RegistryOptions::default()
    })
}

pub(crate) fn platform() -> Platform {
    Platform {
        os: "linux".into(),
        architecture: "amd64".into(),
        variant: None,
    }
}

/// An image of one layer as the documents of a registry.
pub(crate) struct Image {
    pub(crate) config: Vec<u8>,
    pub(crate) layer: Vec<u8>,
    pub(crate) manifest: Vec<u8>,
}

impl Image {
    pub(crate) fn new() -> Self {
        let layer: Vec<u8> = (0..200_000u32).flat_map(|n| n.to_le_bytes()).collect();
        let config =
            br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#
                .to_vec();
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{}","size":{}}}]}}"#,
            Digest::of(&config),
            config.len(),
            Digest::of(&layer),
            layer.len()
        )
        .into_bytes();
        Self {
            config,
            layer,
            manifest,
        }
    }

    /// The good answer to a request.
    pub(crate) fn answer(&self, head: &Head) -> Answer {
        let path = head.path.as_str();
        if path == "/v2/" {
            return Answer::ok(b"{}");
        }
        let documents = [&self.manifest, &self.config, &self.layer];
        for bytes in documents {
            let digest = Digest::of(bytes);
            let tagged = std::ptr::eq(bytes, &self.manifest) && path.ends_with("/manifests/latest");
            if tagged || path.ends_with(digest.as_str()) {
                let start = head.header("range").strip_prefix("bytes=");
                let start = start.and_then(|range| range.strip_suffix('-'));
                return match start.map(|start| start.parse::<usize>().unwrap()) {
                    Some(start) => Answer::new("206 Partial Content", &[], &bytes[start..]),
                    None => Answer::ok(bytes),
                };
            }
        }
        Answer::missing()
    }
}
