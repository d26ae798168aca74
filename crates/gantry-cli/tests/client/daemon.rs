//! A daemon that is played: requests are recorded, answers are what a test's closure writes.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Without the version.
    pub(crate) path: String,
    pub(crate) version: String,
    pub(crate) headers: String,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// `POST /containers/create`
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// The daemon's side of a test.
#[derive(Clone)]
pub(crate) struct Daemon {
    socket: PathBuf,
    seen: Arc<Mutex<Vec<Request>>>,
    /// The test's own, not a thread's: takes the socket away with it.
    owner: bool,
}

type Answer = dyn Fn(&Daemon, &Request, &mut UnixStream) + Send + Sync;

impl Daemon {
    pub(crate) fn start(
        answer: impl Fn(&Daemon, &Request, &mut UnixStream) + Send + Sync + 'static,
    ) -> Daemon {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("gantry-cli-test-{}-{number}.sock", std::process::id());
        let daemon = Daemon {
            socket: std::env::temp_dir().join(name),
            seen: Arc::default(),
            owner: false,
        };
        let listener = UnixListener::bind(&daemon.socket).unwrap();
        let (playing, answer): (_, Arc<Answer>) = (daemon.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (daemon, answer) = (playing.clone(), answer.clone());
                std::thread::spawn(move || daemon.serve(stream.unwrap(), &*answer));
            }
        });
        let mut own = daemon.clone();
        own.owner = true;
        own
    }

    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// `METHOD path` of all requests so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen
            .lock()
            .unwrap()
            .iter()
            .map(Request::line)
            .collect()
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// Returns when a request whose line has `part` in it has come.
    pub(crate) fn wait_for(&self, part: &str) {
        let end = Instant::now() + Duration::from_secs(10);
        while !self.lines().iter().any(|line| line.contains(part)) {
            assert!(Instant::now() < end, "no {part} in {:?}", self.lines());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn serve(&self, mut stream: UnixStream, answer: &Answer) {
        while let Some(request) = read(&mut stream) {
            self.seen.lock().unwrap().push(request.clone());
            answer(self, &request, &mut stream);
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.owner {
            std::fs::remove_file(&self.socket).ok();
        }
    }
}

fn read(stream: &mut UnixStream) -> Option<Request> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let mut words = head.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (version, path) = match path
        .strip_prefix("/v1.")
        .and_then(|rest| rest.split_once('/'))
    {
        Some((minor, rest)) => (format!("1.{minor}"), format!("/{rest}")),
        None => (String::new(), path),
    };
    let length = head.lines().find_map(|line| {
        line.to_lowercase()
            .strip_prefix("content-length:")
            .map(str::to_owned)
    });
    let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
    stream.read_exact(&mut body).ok()?;
    Some(Request {
        method,
        path,
        version,
        headers: head,
        body,
    })
}

/// An answer with a JSON body.
pub(crate) fn json(stream: &mut UnixStream, status: &str, body: &str) {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all((head + body).as_bytes()).unwrap();
}

/// The head of a hijacked connection.
pub(crate) fn upgrade(stream: &mut UnixStream) {
    stream
        .write_all(b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
        .unwrap();
}

/// A frame of a multiplexed stream.
pub(crate) fn frame(stream: &mut UnixStream, kind: u8, text: &str) {
    let mut bytes = vec![kind, 0, 0, 0];
    bytes.extend((text.len() as u32).to_be_bytes());
    bytes.extend(text.as_bytes());
    stream.write_all(&bytes).unwrap();
}

/// The head of `wait` at once, its body when `ended` returns.
pub(crate) fn wait(stream: &mut UnixStream, code: u8, ended: impl FnOnce()) {
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        .unwrap();
    ended();
    let body = format!("{{\"StatusCode\":{code}}}\n");
    // The client may have gone already (it detached, or was ended).
    write!(stream, "{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).ok();
}
