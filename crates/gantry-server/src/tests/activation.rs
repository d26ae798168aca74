//! Sockets handed over as systemd does it: the test runs itself again as the daemon.

use super::{Bench, routes};
use crate::listener::{ListenError, from_environment};
use crate::router::Router;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Set where the test runs itself again.
const AGAIN: &str = "GANTRY_TEST_ACTIVATED";

#[test]
fn a_socket_that_systemd_opened() {
    if std::env::var_os(AGAIN).is_some() {
        return as_the_daemon();
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("handed.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let mut child = Command::new("sh")
        .args([
            "-c",
            "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\" 3<&0 </dev/null",
        ])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "tests::activation::a_socket_that_systemd_opened"])
        .env(AGAIN, "1")
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // The connection waits in the socket until the child takes it.
    let mut stream = UnixStream::connect(&path).unwrap();
    stream
        .write_all(b"GET /hello/x HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    child.kill().unwrap();
    child.wait().unwrap();
    read.unwrap();
    assert!(answer.ends_with("[\"1.51\",\"x\"]\n"), "{answer}");
    assert!(path.exists(), "the socket is not ours to remove");
}

#[test]
fn no_socket_was_handed_over() {
    // LISTEN_PID, where it is set at all, names another process than this one.
    let error = from_environment().unwrap_err();
    assert!(matches!(error, ListenError::NoActivation), "{error}");
}

/// What the test does when it has been run again, as the daemon.
fn as_the_daemon() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let listeners = from_environment().unwrap();
        let router = Router::new(routes());
        let bench = Arc::new(Bench::default());
        crate::serve::run(bench, router, listeners, CancellationToken::new()).await;
    });
}
