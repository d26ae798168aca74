//! What an engine is to the bench, and what is done with all of them alike.

use std::fs::File;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::debian;

/// The image that all engines run.
pub(crate) const IMAGE: &str = "gantry-bench-busybox";

pub(crate) trait Engine: Sync {
    fn name(&self) -> String;
    /// A client command with these words, ready to be run.
    fn client(&self, words: &[&str]) -> Command;
    /// Bytes that all the engine's own processes keep (proportional set size); `None` where they are not known.
    fn memory(&self) -> Result<Option<u64>>;
    /// Whether a process of this program is one of the engine's.
    fn owns(&self, program: &Path) -> bool;
    /// Whether a daemon does the work, and the client only asks.
    fn has_daemon(&self) -> bool {
        true
    }
    /// What lets `pull` speak to a registry without TLS on loopback.
    fn plain_http(&self) -> &'static [&'static str] {
        &[]
    }
    /// Bytes of the programs that make up the engine.
    fn size(&self) -> Option<u64>;
    /// Ends and starts the daemon so many times: from its start to the first answer to a ping. `None` where there is
    /// no daemon, or it is somebody else's.
    fn restarts(&mut self, runs: usize) -> Result<Option<Vec<Duration>>>;

    fn import(&self, tar: &Path) -> Result<()> {
        let mut command = self.client(&["import", "-", IMAGE]);
        command.stdin(File::open(tar)?);
        output(command).map(drop)
    }
}

/// Runs a command to its end, for what it prints.
pub(crate) fn output(mut command: Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?} failed: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// How long a command takes, from before its start until its end is seen.
pub(crate) fn timed(mut command: Command) -> Result<Duration> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let start = Instant::now();
    let output = command
        .spawn()
        .with_context(|| format!("cannot run {command:?}"))?
        .wait_with_output()?;
    let time = start.elapsed();
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(time)
}

/// A tar of a busybox root file system.
pub(crate) fn busybox_tar(dir: &Path) -> Result<PathBuf> {
    let busybox = debian::find_program("busybox").context("there is no busybox")?;
    let root = dir.join("rootfs");
    for name in ["bin", "etc", "tmp", "root", "proc", "sys", "dev"] {
        std::fs::create_dir_all(root.join(name))?;
    }
    std::fs::copy(&busybox, root.join("bin/busybox"))?;
    std::fs::set_permissions(
        root.join("bin/busybox"),
        std::fs::Permissions::from_mode(0o755),
    )?;
    for applet in output(with_args(&busybox, &["--list"]))?.lines() {
        if applet != "busybox" {
            symlink("busybox", root.join("bin").join(applet))?;
        }
    }
    std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    std::fs::write(root.join("etc/group"), "root:x:0:\n")?;
    let tar = dir.join("rootfs.tar");
    let (from, to) = (root.to_string_lossy(), tar.to_string_lossy());
    output(with_args(Path::new("tar"), &["-C", &from, "-cf", &to, "."]))?;
    Ok(tar)
}

fn with_args(program: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args);
    command
}

/// Proportional set size of all processes whose program `belongs`, in bytes.
pub(crate) fn pss(belongs: impl Fn(&Path) -> bool) -> Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir("/proc")? {
        let dir = entry?.path();
        let Ok(program) = std::fs::read_link(dir.join("exe")) else {
            continue; // a kernel thread, no process, or one that has just ended
        };
        if !belongs(&program) {
            continue;
        }
        let rollup = std::fs::read_to_string(dir.join("smaps_rollup")).unwrap_or_default();
        let kilobytes: Option<u64> = rollup
            .lines()
            .find_map(|line| line.strip_prefix("Pss:")?.split_whitespace().next())
            .and_then(|number| number.parse().ok());
        sum += kilobytes.unwrap_or(0) * 1024;
    }
    Ok(sum)
}
