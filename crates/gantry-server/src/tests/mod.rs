//! The server over a real socket, with routes made for the test: what is on the wire, byte by byte.

mod activation;
mod network;
mod streams;

use crate::call::Call;
use crate::error::ApiError;
use crate::hijack::{self, Hijack, Session};
use crate::listener::Listener;
use crate::reply::{self, Reply, Response};
use crate::router::{Route, Router, route};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
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
                before_end: None,
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
        Self::on(listener, path, folder)
    }

    fn on(listener: Listener, path: PathBuf, folder: tempfile::TempDir) -> Self {
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

/// A handler, a route or a version that wants no body: the client can send all of it, read the answer and go on.
#[tokio::test]
async fn what_is_left_of_a_body_is_read() {
    const LENGTH: usize = 4 << 20;
    let server = Server::start();
    for (path, status) in [
        ("/same", "304"),
        ("/nonsense", "404"),
        ("/v1.99/same", "400"),
    ] {
        let mut stream = server.connect().await;
        let head = format!("POST {path} HTTP/1.1\r\nHost: d\r\nContent-Length: {LENGTH}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        stream.write_all(&vec![b'x'; LENGTH]).await.unwrap();
        let next = "GET /hello/x HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n";
        stream.write_all(next.as_bytes()).await.unwrap();
        let mut answers = String::new();
        stream.read_to_string(&mut answers).await.unwrap();
        assert!(
            answers.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answers}"
        );
        assert!(answers.ends_with("[\"1.51\",\"x\"]\n"), "{answers}");
    }
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
