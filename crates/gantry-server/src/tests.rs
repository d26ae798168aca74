//! The server over a real socket, with routes made for the test: what is on the wire, byte by byte.

use crate::call::Call;
use crate::error::ApiError;
use crate::hijack::{self, Hijack, Session};
use crate::listener::Listener;
use crate::reply::{self, Reply, Response};
use crate::router::{Route, Router, route};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

type Result<T> = crate::error::Result<T>;

/// What the test's handlers share.
#[derive(Default)]
struct Bench {
    /// Answers that were dropped before their end.
    dropped: Arc<AtomicUsize>,
    /// The container's side of hijacked sessions.
    sessions: Option<mpsc::UnboundedSender<UnixStream>>,
}

struct CountDrop(Arc<AtomicUsize>);
impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Body {
    image: String,
}

async fn hello(call: Call<Bench>) -> Result<Response> {
    Ok(reply::ok(&(
        call.version.to_string(),
        call.name("name").to_owned(),
    )))
}

async fn echo(call: Call<Bench>) -> Result<Response> {
    let value = call.json_value().await?;
    let body: Body = gantry_api::go::json::decode(&value).map_err(crate::body::refuse)?;
    Ok(reply::ok(&body.image))
}

async fn fail(_call: Call<Bench>) -> Result<Response> {
    panic!("on purpose")
}

async fn nothing_new(_call: Call<Bench>) -> Result<Response> {
    Err(ApiError::new(StatusCode::NOT_MODIFIED, "no"))
}

/// Sends a head and a line, then waits without end.
async fn forever(call: Call<Bench>) -> Result<Response> {
    let guard = CountDrop(call.state.dropped.clone());
    let pieces = futures_util::stream::unfold((0, guard), async |(n, guard)| match n {
        0 => Some((Ok(Bytes::from_static(b"line\n")), (1, guard))),
        _ => std::future::pending().await,
    });
    Ok(reply::stream(reply::JSON, pieces))
}

/// Waits without end before its head.
async fn silent(call: Call<Bench>) -> Result<Response> {
    let _guard = CountDrop(call.state.dropped.clone());
    std::future::pending().await
}

/// Answers after a while, whatever the client does.
async fn slow(call: Call<Bench>) -> Result<Response> {
    tokio::time::sleep(Duration::from_millis(300)).await;
    call.state.dropped.fetch_add(100, Ordering::SeqCst);
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

async fn attach(call: Call<Bench>) -> Result<Reply> {
    let (ours, containers) = UnixStream::pair().map_err(|e| ApiError::system(e.to_string()))?;
    if let Some(sessions) = &call.state.sessions {
        let _ = sessions.send(containers);
    }
    let stdin = call.query.truth("stdin");
    let hijack = Hijack::new(
        call.header("upgrade"),
        "application/vnd.docker.raw-stream",
        async move |taken| {
            let session = Session {
                engine: ours,
                replay: None,
                stdin,
                detach: None,
            };
            hijack::copy(taken, session).await;
        },
    );
    Ok(hijack.into())
}

fn routes() -> Vec<Route<Bench>> {
    vec![
        route(Method::GET, "/hello/{name..}", hello),
        route(Method::POST, "/echo", echo),
        route(Method::GET, "/panic", fail),
        route(Method::POST, "/same", nothing_new),
        route(Method::GET, "/forever", forever).for_client(),
        route(Method::GET, "/silent", silent).for_client(),
        route(Method::GET, "/slow", slow),
        route(Method::POST, "/attach", attach),
    ]
}

struct Server {
    path: PathBuf,
    stop: CancellationToken,
    dropped: Arc<AtomicUsize>,
    sessions: mpsc::UnboundedReceiver<UnixStream>,
    task: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run").join("test.sock");
        let listener = Listener::unix(&path, Some("docker")).unwrap();
        let stop = CancellationToken::new();
        let (sender, sessions) = mpsc::unbounded_channel();
        let bench = Bench {
            sessions: Some(sender),
            ..Bench::default()
        };
        let dropped = bench.dropped.clone();
        let running = crate::serve::run(
            Arc::new(bench),
            Router::new(routes()),
            vec![listener],
            stop.clone(),
        );
        Self {
            path,
            stop,
            dropped,
            sessions,
            task: tokio::spawn(running),
            _folder: folder,
        }
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.path).await.unwrap()
    }

    /// Sends bytes and reads to the end of the connection.
    async fn raw(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut out = Vec::new();
        stream.read_to_end(&mut out).await.unwrap();
        String::from_utf8(out).unwrap()
    }

    async fn get(&self, path: &str) -> String {
        self.raw(&format!(
            "GET {path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n"
        ))
        .await
    }

    async fn post(&self, path: &str, kind: &str, body: &str) -> String {
        let length = body.len();
        self.raw(&format!(
            "POST {path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n{kind}Content-Length: {length}\r\n\r\n{body}"
        ))
        .await
    }

    async fn drops(&self, count: usize) {
        for _ in 0..200 {
            if self.dropped.load(Ordering::SeqCst) == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} dropped", self.dropped.load(Ordering::SeqCst));
    }
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

#[tokio::test]
async fn versions_routes_and_headers() {
    let server = Server::start();
    let answer = server.get("/v1.30/hello/a%2Fb/c").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    for header in [
        "api-version: 1.51\r\n",
        "docker-experimental: false\r\n",
        "ostype: linux\r\n",
        "server: Docker/28.5.2",
        "content-type: application/json\r\n",
    ] {
        assert!(answer.contains(header), "{header} is not in {answer}");
    }
    assert_eq!(body(&answer), "[\"1.30\",\"a/b/c\"]\n");
    assert_eq!(body(&server.get("/hello/x").await), "[\"1.51\",\"x\"]\n");
    for path in [
        "/nonsense",
        "/v1.51/nonsense",
        "/v1.99/nonsense",
        "/v1.51",
        "/",
        "*",
    ] {
        let answer = server.get(path).await;
        assert!(
            answer.starts_with("HTTP/1.1 404 Not Found\r\n"),
            "{path}: {answer}"
        );
        assert_eq!(
            body(&answer),
            "{\"message\":\"page not found\"}\n",
            "{path}"
        );
    }
    let wrong_method = server.post("/v1.51/hello/x", "", "").await;
    assert_eq!(body(&wrong_method), "{\"message\":\"page not found\"}\n");
    let new = server.get("/v1.99/hello/x").await;
    assert!(new.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{new}");
    assert_eq!(
        body(&new),
        "{\"message\":\"client version 1.99 is too new. Maximum supported API version is 1.51\"}\n"
    );
    let old = server.get("/v1.12/hello/x").await;
    assert!(
        old.contains("content-type: text/plain; charset=utf-8\r\n"),
        "{old}"
    );
    assert_eq!(
        body(&old),
        "client version 1.12 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version\n"
    );
}

#[tokio::test]
async fn bodies_are_checked_in_docker_s_words() {
    let server = Server::start();
    let json = "Content-Type: application/json\r\n";
    for (kind, sent, message) in [
        (json, "", "invalid JSON: got EOF while reading request body"),
        (
            json,
            "{nope",
            "invalid JSON: invalid character 'n' looking for beginning of object key string",
        ),
        (
            json,
            "{\"Image\":5}",
            "invalid JSON: json: cannot unmarshal number into Go struct field .Image of type string",
        ),
        (json, "{} {}", "unexpected content after JSON"),
        (
            "Content-Type: text/plain\r\n",
            "hello",
            "unsupported Content-Type header (text/plain): must be 'application/json'",
        ),
        (
            "",
            "{}",
            "malformed Content-Type header (): mime: no media type",
        ),
    ] {
        let answer = server.post("/echo", kind, sent).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{sent}: {answer}");
        assert_eq!(
            body(&answer),
            format!("{{\"message\":\"{message}\"}}\n"),
            "{sent}"
        );
    }
    let json = "Content-Type: application/json; charset=utf-8\r\n";
    let answer = server.post("/echo", json, "{\"image\":\"i\"}").await;
    assert_eq!(body(&answer), "\"i\"\n");
    let same = server.post("/same", "", "").await;
    assert!(same.starts_with("HTTP/1.1 304 "), "{same}");
    assert_eq!(body(&same), "");
}

#[tokio::test]
async fn a_panic_is_an_answer_and_the_server_stays() {
    let server = Server::start();
    let answer = server.get("/panic").await;
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    assert_eq!(
        body(&answer),
        "{\"message\":\"internal error: on purpose\"}\n"
    );
    assert_eq!(body(&server.get("/hello/x").await), "[\"1.51\",\"x\"]\n");
}

#[tokio::test]
async fn one_connection_takes_many_requests() {
    let server = Server::start();
    let mut stream = server.connect().await;
    for _ in 0..3 {
        stream
            .write_all(b"GET /hello/x HTTP/1.1\r\nHost: d\r\n\r\n")
            .await
            .unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\"x\"]\n") {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
        }
    }
}

#[tokio::test]
async fn what_only_the_client_waits_for_ends_with_it() {
    let server = Server::start();
    let mut stream = server.connect().await;
    stream
        .write_all(b"GET /forever HTTP/1.1\r\nHost: d\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"line\n\r\n") {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
    }
    // A half-close is no end on a unix socket.
    stream.shutdown().await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(server.dropped.load(Ordering::SeqCst), 0);
    drop(stream);
    server.drops(1).await;
    let mut stream = server.connect().await;
    stream
        .write_all(b"GET /silent HTTP/1.1\r\nHost: d\r\n\r\n")
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(stream);
    server.drops(2).await;
    // Other work goes on without its client.
    let mut stream = server.connect().await;
    stream
        .write_all(b"GET /slow HTTP/1.1\r\nHost: d\r\n\r\n")
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(stream);
    server.drops(102).await;
}

#[tokio::test]
async fn a_stop_ends_streams_and_answers_the_rest() {
    let server = Server::start();
    let slow = async {
        let mut stream = server.connect().await;
        stream
            .write_all(b"GET /slow HTTP/1.1\r\nHost: d\r\n\r\n")
            .await
            .unwrap();
        let mut out = String::new();
        stream.read_to_string(&mut out).await.unwrap();
        out
    };
    let stream = async {
        let mut stream = server.connect().await;
        stream
            .write_all(b"GET /forever HTTP/1.1\r\nHost: d\r\n\r\n")
            .await
            .unwrap();
        let mut out = Vec::new();
        let _ = stream.read_to_end(&mut out).await;
    };
    let stop = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        server.stop.cancel();
    };
    let (slow, (), ()) = tokio::join!(slow, stream, stop);
    assert!(slow.starts_with("HTTP/1.1 204 "), "{slow}");
    let path = server.path.clone();
    tokio::time::timeout(Duration::from_secs(2), server.task)
        .await
        .unwrap()
        .unwrap();
    assert!(!path.exists(), "the socket is removed");
}

/// Reads a head byte by byte, so that nothing behind it is taken.
async fn head(stream: &mut UnixStream) -> String {
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
    const SIZE: usize = 100 << 20;
    let mut server = Server::start();
    let mut client = server.connect().await;
    client
        .write_all(b"POST /attach?stdin=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
        .await
        .unwrap();
    head(&mut client).await;
    let (mut from_server, mut to_server) = client.into_split();
    let container = server.sessions.recv().await.unwrap();
    let (mut stdin, mut stdout) = container.into_split();
    // Each way has bytes of its own kind, and they are summed up with their place.
    let send = async |to: &mut (dyn tokio::io::AsyncWrite + Unpin + Send), seed: u8| {
        let piece: Vec<u8> = (0..=255_u8)
            .map(|n| n ^ seed)
            .collect::<Vec<_>>()
            .repeat(256);
        for _ in 0..SIZE / piece.len() {
            to.write_all(&piece).await?;
        }
        to.shutdown().await?;
        io::Result::Ok(())
    };
    let check = async |from: &mut (dyn tokio::io::AsyncRead + Unpin + Send), seed: u8| {
        let (mut count, mut buffer) = (0_usize, vec![0; 256 << 10]);
        loop {
            let read = from.read(&mut buffer).await?;
            if read == 0 {
                return io::Result::Ok(count);
            }
            let right = buffer[..read]
                .iter()
                .enumerate()
                .all(|(i, b)| *b == (count + i) as u8 ^ seed);
            assert!(right, "wrong bytes behind {count}");
            count += read;
        }
    };
    let input = async {
        send(&mut to_server, 1).await.unwrap();
    };
    // The container prints while it reads, and goes on when its input has ended.
    let output = async {
        assert_eq!(check(&mut stdin, 1).await.unwrap(), SIZE);
        send(&mut stdout, 2).await.unwrap();
    };
    let ((), (), read) = tokio::join!(input, output, check(&mut from_server, 2));
    assert_eq!(read.unwrap(), SIZE);
}

#[tokio::test]
async fn a_client_that_never_reads_its_end_does_not_lose_it() {
    let mut server = Server::start();
    let mut client = server.connect().await;
    client
        .write_all(b"POST /attach?stdin=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
        .await
        .unwrap();
    head(&mut client).await;
    let mut container = server.sessions.recv().await.unwrap();
    container.write_all(b"the end").await.unwrap();
    drop(container);
    // Input that nobody reads must not turn the end of the output into an error.
    let _ = client.write_all(&[7; 4096]).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut out = String::new();
    client.read_to_string(&mut out).await.unwrap();
    assert_eq!(out, "the end");
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

#[tokio::test]
async fn a_socket_in_use_and_an_old_one() {
    use std::os::unix::fs::PermissionsExt;
    let server = Server::start();
    let mode = std::fs::metadata(&server.path)
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o660);
    let refused = Listener::unix(&server.path, None).unwrap_err();
    assert!(refused.to_string().contains("in use"), "{refused}");
    assert!(Listener::unix(&server.path, Some("no-such-group")).is_err());
    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join("old.sock");
    drop(std::os::unix::net::UnixListener::bind(&old).unwrap());
    Listener::unix(&old, None).unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "kept").unwrap();
    assert!(Listener::unix(&file, None).is_err());
    assert_eq!(std::fs::read(&file).unwrap(), b"kept");
}
