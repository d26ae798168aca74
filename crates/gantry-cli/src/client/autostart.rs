//! Starting a daemon where none listens on the default socket.
//!
//! One client at a time holds the start lock; it runs this program as `daemon --ready-fd N`, and the
//! daemon writes one byte to descriptor N when it listens (or closes it by dying). The daemon makes a
//! session of its own when it is given `--ready-fd`.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::DEFAULT_SOCKET;

const RUN_DIR: &str = "/run/gantry";
const LOCK: &str = "/run/gantry/start.lock";
const DATA_ROOT: &str = "/var/lib/gantry";
const LOG: &str = "/var/lib/gantry/daemon.log";
/// How long a daemon may take until it listens.
const PATIENCE: Duration = Duration::from_secs(30);
/// Lines of the daemon's log shown when it did not start.
const LAST_WORDS: usize = 10;

/// The error of a connect says that there is no daemon (rather than that we may not, or it broke).
pub(super) fn nobody_listens(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

/// Starts a daemon, or waits for the one that another client is just starting.
pub(super) fn start(program: &str) -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err(format!(
            "No daemon listens on unix://{DEFAULT_SOCKET}, and only root can start one: run the command with sudo (sudo {program} ...), or have root start the daemon (gantry daemon) and add you to the socket's group."
        ));
    }
    let failed = |what: &str, error: io::Error| format!("cannot start the daemon: {what}: {error}");
    make_dir(RUN_DIR, 0o755).map_err(|error| failed(RUN_DIR, error))?;
    let lock = open(LOCK).map_err(|error| failed(LOCK, error))?;
    flock(&lock, FlockOperation::LockExclusive).map_err(|error| failed(LOCK, error.into()))?;
    if std::os::unix::net::UnixStream::connect(DEFAULT_SOCKET).is_ok() {
        return Ok(());
    }
    make_dir(DATA_ROOT, 0o711).map_err(|error| failed(DATA_ROOT, error))?;
    let log = open(LOG).map_err(|error| failed(LOG, error))?;
    let before = log.metadata().map_or(0, |meta| meta.len());
    launch(&log).map_err(|error| failed("/proc/self/exe", error))?;
    if std::os::unix::net::UnixStream::connect(DEFAULT_SOCKET).is_ok() {
        return Ok(());
    }
    Err(format!(
        "the daemon did not start; the end of its log ({LOG}):\n{}",
        last_words(before)
    ))
}

fn make_dir(path: &str, mode: u32) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(mode).create(path)
}

fn open(path: impl AsRef<Path>) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .read(true)
        .open(path)
}

/// Runs the daemon and returns when it is ready, or has ended, or was given its time.
fn launch(log: &File) -> io::Result<()> {
    // Not close-on-exec: the number is what is handed over.
    let (ready, told) = rustix::pipe::pipe()?;
    rustix::io::fcntl_setfd(&ready, rustix::io::FdFlags::CLOEXEC)?;
    Command::new("/proc/self/exe")
        .arg("daemon")
        .arg("--ready-fd")
        .arg(told.as_raw_fd().to_string())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log.try_clone()?)
        .spawn()?;
    drop(told);
    let mut waiting = [rustix::event::PollFd::new(
        &ready,
        rustix::event::PollFlags::IN,
    )];
    let patience = rustix::event::Timespec {
        tv_sec: PATIENCE.as_secs() as i64,
        tv_nsec: 0,
    };
    rustix::event::poll(&mut waiting, Some(&patience))?;
    Ok(())
}

/// What the daemon wrote since `before`: its last lines.
fn last_words(before: u64) -> String {
    let read = || -> io::Result<String> {
        let mut log = File::open(LOG)?;
        log.seek(SeekFrom::Start(before))?;
        let mut bytes = Vec::new();
        log.take(256 * 1024).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_WORDS)..].join("\n")
}
