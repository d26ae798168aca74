//! A client on a terminal: raw while a session is on, and itself again however the session ends.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use super::client;
use super::daemon::{Daemon, Request, json, upgrade, wait};

/// Our end of a terminal, and the child's.
pub(crate) struct Terminal {
    pub(crate) ours: OwnedFd,
    pub(crate) theirs: File,
}

impl Terminal {
    pub(crate) fn new() -> Terminal {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
        let theirs = File::options().read(true).write(true).open(name).unwrap();
        Terminal { ours, theirs }
    }

    fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&self.ours, size).unwrap();
    }

    /// Lines are edited and echoed: how a shell needs it.
    pub(crate) fn is_cooked(&self) -> bool {
        let modes = tcgetattr(&self.theirs).unwrap().local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    fn wait_until_raw(&self) {
        let end = Instant::now() + Duration::from_secs(10);
        while self.is_cooked() {
            assert!(Instant::now() < end, "never raw");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn type_in(&self, bytes: &[u8]) {
        File::from(self.ours.as_fd().try_clone_to_owned().unwrap())
            .write_all(bytes)
            .unwrap();
    }

    fn spawn(&self, host: &str, args: &[&str]) -> Child {
        self.start(client(host).args(args))
    }

    pub(crate) fn start(&self, command: &mut Command) -> Child {
        let end = || Stdio::from(self.theirs.try_clone().unwrap());
        command
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap()
    }
}

/// A daemon whose containers have a terminal; `attached` plays what is inside.
fn engine(attached: impl Fn(&Daemon, &mut UnixStream) + Send + Sync + 'static) -> Daemon {
    Daemon::start(move |daemon, request: &Request, stream| {
        let path = request.path.as_str();
        if path.starts_with("/containers/create") {
            json(stream, "201 Created", r#"{"Id":"c0ffee","Warnings":null}"#);
        } else if path.contains("/attach") {
            upgrade(stream);
            attached(daemon, stream);
            stream.shutdown(std::net::Shutdown::Both).ok();
        } else if path.contains("/wait") {
            wait(stream, 7, || daemon.wait_for("/start"));
        } else if path.contains("/start") && request.headers.contains("fail") {
            json(stream, "500 Internal Server Error", r#"{"message":"no"}"#);
        } else {
            stream
                .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
                .unwrap();
        }
    })
}

#[test]
fn raw_while_it_runs_and_cooked_after_the_exit() {
    let daemon = engine(|daemon, stream| {
        daemon.wait_for("/start");
        // A key arrives as it is typed, without a line's end; ^C is a key like any other.
        let mut keys = [0; 2];
        stream.read_exact(&mut keys).unwrap();
        assert_eq!(keys, [b'k', 3]);
        stream.write_all(b"bye\r\n").unwrap();
    });
    let terminal = Terminal::new();
    terminal.resize(33, 101);
    let mut child = terminal.spawn(&daemon.host(), &["run", "-it", "busybox"]);
    terminal.wait_until_raw();
    terminal.type_in(&[b'k', 3]);
    assert_eq!(child.wait().unwrap().code(), Some(7));
    assert!(terminal.is_cooked());
    let body: serde_json::Value = serde_json::from_slice(&daemon.requests()[0].body).unwrap();
    assert_eq!(
        body["HostConfig"]["ConsoleSize"],
        serde_json::json!([33, 101])
    );
    assert_eq!(body["Tty"], true);
    assert!(
        !daemon.lines().iter().any(|line| line.contains("/resize")),
        "the size was known"
    );
}

#[test]
fn a_change_of_size_is_told() {
    let daemon = engine(|daemon, stream| {
        daemon.wait_for("/start");
        stream.write_all(b"x").unwrap();
        daemon.wait_for("/resize?h=40&w=120");
    });
    let terminal = Terminal::new();
    terminal.resize(24, 80);
    let mut child = terminal.spawn(&daemon.host(), &["run", "-it", "busybox"]);
    let mut ours = File::from(terminal.ours.try_clone().unwrap());
    ours.read_exact(&mut [0]).unwrap();
    terminal.resize(40, 120);
    // No controlling terminal here, so the kernel tells nobody.
    kill_process(Pid::from_child(&child), Signal::WINCH).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(7));
    assert!(terminal.is_cooked());
}

#[test]
fn the_detach_keys_leave_the_container_alone() {
    let daemon = engine(|daemon, stream| {
        daemon.wait_for("/start");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"ab");
    });
    let terminal = Terminal::new();
    let mut child = terminal.spawn(&daemon.host(), &["run", "-it", "busybox"]);
    terminal.wait_until_raw();
    terminal.type_in(&[b'a', b'b', 16, 17]);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(terminal.is_cooked());
}

#[test]
fn cooked_again_after_a_daemon_that_breaks_off() {
    let daemon = Daemon::start(|_, request, stream| {
        if request.path.starts_with("/containers/create") {
            return json(stream, "201 Created", r#"{"Id":"c0ffee","Warnings":[]}"#);
        }
        if request.path.contains("/attach") {
            upgrade(stream);
        } else if request.path.contains("/wait") {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                .unwrap();
        } else {
            stream
                .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
                .unwrap();
        }
        std::thread::sleep(Duration::from_millis(300));
        stream.shutdown(std::net::Shutdown::Both).unwrap();
    });
    let terminal = Terminal::new();
    let mut child = terminal.spawn(&daemon.host(), &["run", "-it", "busybox"]);
    terminal.wait_until_raw();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(terminal.is_cooked());
}

#[test]
fn cooked_again_after_a_signal_that_is_not_passed_on() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
        let daemon = engine(|daemon, stream| {
            daemon.wait_for("/start");
            stream.read_to_end(&mut Vec::new()).ok();
        });
        let terminal = Terminal::new();
        let args = ["run", "-it", "--sig-proxy=false", "busybox"];
        let mut child = terminal.spawn(&daemon.host(), &args);
        terminal.wait_until_raw();
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(128 + signal.as_raw()));
        assert!(terminal.is_cooked());
    }
}

#[test]
fn cooked_again_after_a_start_that_failed() {
    let daemon = Daemon::start(|daemon, request, stream| match request.path.as_str() {
        path if path.starts_with("/containers/create") => {
            json(stream, "201 Created", r#"{"Id":"c0ffee","Warnings":[]}"#);
        }
        path if path.contains("/attach") => {
            upgrade(stream);
            stream.read_to_end(&mut Vec::new()).ok();
        }
        path if path.contains("/wait") => wait(stream, 0, || daemon.wait_for("/start")),
        _ => json(stream, "500 Internal Server Error", r#"{"message":"no"}"#),
    });
    let terminal = Terminal::new();
    let mut child = terminal.spawn(&daemon.host(), &["run", "-it", "busybox"]);
    assert_eq!(child.wait().unwrap().code(), Some(125));
    assert!(terminal.is_cooked());
}
