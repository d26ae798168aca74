//! What the machine must have: Debian packages and Rust targets, installed where they are missing.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Fails with a clear sentence where the caller is not root.
pub(crate) fn require_root(what: &str) -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    bail!(
        "{what} makes namespaces, mounts and links, and must be run as root (sudo -E cargo xtask ...)"
    )
}

/// Where a program (or a file, by its whole path) is, by `PATH` and the system's own folders (which a user's `PATH` may lack).
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/sbin", "/usr/bin"])
        .map(|dir| Path::new(dir).join(name))
        .find(|file| file.is_file())
}

/// Installs the packages of those `(program, package)` whose program is missing.
///
/// # Errors
///
/// A program is missing and the machine has no `apt-get`, or `apt-get` failed.
pub(crate) fn need(programs: &[(&str, &str)]) -> Result<()> {
    let mut packages: Vec<&str> = programs
        .iter()
        .filter(|(program, _)| find_program(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    if find_program("apt-get").is_none() {
        bail!(
            "please install {}: this machine has no apt-get to do it with",
            packages.join(", ")
        );
    }
    eprintln!("installing {}", packages.join(" "));
    apt(&["update", "-qq"])?;
    let mut install = vec!["install", "-y", "-qq", "--no-install-recommends"];
    install.extend(&packages);
    without_services(|| apt(&install))
}

/// Does something while Debian's packages start no service; a policy that the machine has is left as it is.
fn without_services(act: impl FnOnce() -> Result<()>) -> Result<()> {
    let policy = Path::new("/usr/sbin/policy-rc.d");
    if policy.exists() {
        return act();
    }
    std::fs::write(policy, "#!/bin/sh\nexit 101\n").context("cannot write policy-rc.d")?;
    std::fs::set_permissions(policy, std::fs::Permissions::from_mode(0o755))?;
    let done = act();
    std::fs::remove_file(policy).context("cannot remove policy-rc.d")?;
    done
}

fn apt(args: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    run(&mut command)
}

/// Adds a Rust target to the toolchain in use, when rustup manages it and it lacks that.
pub(crate) fn rust_target(target: &str) -> Result<()> {
    let sysroot = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", target])
        .output()
        .context("cannot run rustc")?;
    let dir = String::from_utf8_lossy(&sysroot.stdout).trim().to_owned();
    if sysroot.status.success() && Path::new(&dir).is_dir() {
        return Ok(());
    }
    eprintln!("adding the Rust target {target}");
    run(Command::new("rustup").args(["target", "add", target]))
}

/// Runs a command to its end.
///
/// # Errors
///
/// It cannot be started, or it ended with another status than 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let status = command
        .status()
        .with_context(|| format!("cannot run {shown}"))?;
    if !status.success() {
        bail!("{shown} failed: {status}");
    }
    Ok(())
}
