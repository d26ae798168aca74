//! Gantry under the bench: a daemon of its own, beside whatever else runs on the machine.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::engine::{self, Engine};

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(crate) struct Gantry {
    /// A copy, so that its processes are told from those of another daemon by their program.
    binary: PathBuf,
    work: PathBuf,
    daemon: Child,
    flags: &'static [&'static str],
}

impl Gantry {
    pub(crate) fn start(built: &Path, work: &Path, flags: &'static [&'static str]) -> Result<Self> {
        let work = work.join("gantry");
        std::fs::create_dir_all(&work)?;
        let binary = work.join("gantry");
        std::fs::copy(built, &binary)
            .with_context(|| format!("cannot copy {}", built.display()))?;
        let (daemon, _) = launch(&binary, &work, flags)?;
        Ok(Self {
            binary,
            work,
            daemon,
            flags,
        })
    }

    /// What the daemon has written so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.work.join("daemon.log")).unwrap_or_default()
    }

    fn stop(&mut self) -> Result<()> {
        if let Some(pid) = rustix::process::Pid::from_raw(self.daemon.id() as i32) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        self.daemon.wait()?;
        Ok(())
    }
}

/// Starts a daemon and waits for its first answer to a ping; says how long that took.
fn launch(binary: &Path, work: &Path, flags: &[&str]) -> Result<(Child, Duration)> {
    let socket = work.join("gantry.sock");
    let exec = exec_root(work);
    let log = std::fs::File::create(work.join("daemon.log"))?;
    let start = Instant::now();
    let mut daemon = Command::new(binary)
        .arg("daemon")
        .args(["--default-bridge-name", "gtybench0"])
        .args(flags)
        .args(["--bip", "172.31.251.1/24", "--nft-table", "gantry_bench"])
        .args(["--cgroup-parent", "/gantry-bench"])
        .arg("-H")
        .arg(format!("unix://{}", socket.display()))
        .arg("--data-root")
        .arg(work.join("data"))
        .arg("--exec-root")
        .arg(&exec)
        .arg("--pidfile")
        .arg(work.join("pid"))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    while start.elapsed() < PATIENCE {
        if ping(&socket).is_some() {
            return Ok((daemon, start.elapsed()));
        }
        if daemon.try_wait()?.is_some() {
            break;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    daemon.kill().ok();
    daemon.wait()?;
    bail!(
        "the daemon does not answer; its log:\n{}",
        std::fs::read_to_string(work.join("daemon.log")).unwrap_or_default()
    )
}

/// A folder on a tmpfs, as `/run` is on most machines; some virtual ones have none there.
fn exec_root(work: &Path) -> PathBuf {
    let name = work.parent().and_then(Path::file_name);
    Path::new("/dev/shm").join(name.unwrap_or("gantry-bench".as_ref()))
}

fn ping(socket: &Path) -> Option<()> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream
        .write_all(b"GET /_ping HTTP/1.1\r\nHost: gantry\r\nConnection: close\r\n\r\n")
        .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.starts_with("HTTP/1.1 200").then_some(())
}

impl Engine for Gantry {
    fn name(&self) -> String {
        "Gantry".to_owned()
    }

    fn client(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        let socket = self.work.join("gantry.sock");
        command
            .arg("-H")
            .arg(format!("unix://{}", socket.display()))
            .args(words);
        command
    }

    fn memory(&self) -> Result<Option<u64>> {
        engine::pss(|program| self.owns(program)).map(Some)
    }

    fn owns(&self, program: &Path) -> bool {
        program == self.binary
    }

    fn size(&self) -> Option<u64> {
        self.binary.metadata().ok().map(|meta| meta.len())
    }

    fn restarts(&mut self, runs: usize) -> Result<Option<Vec<Duration>>> {
        let mut times = Vec::new();
        for _ in 0..runs {
            self.stop()?;
            let (daemon, time) = launch(&self.binary, &self.work, self.flags)?;
            self.daemon = daemon;
            times.push(time);
        }
        Ok(Some(times))
    }
}

impl Drop for Gantry {
    fn drop(&mut self) {
        self.stop().ok();
        std::fs::remove_dir_all(exec_root(&self.work)).ok();
        // What a stopped daemon leaves for the next one, and the bench has no next one for.
        Command::new("ip")
            .args(["link", "del", "gtybench0"])
            .output()
            .ok();
        Command::new("nft")
            .args(["delete", "table", "ip", "gantry_bench"])
            .output()
            .ok();
        // A group of each hierarchy; only empty ones can be removed.
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten();
        for hierarchy in hierarchies.flatten() {
            std::fs::remove_dir(hierarchy.path().join("gantry-bench")).ok();
        }
        std::fs::remove_dir("/sys/fs/cgroup/gantry-bench").ok();
    }
}
