//! Docker's own client, to hold ours against it.

use crate::rootfs::{once, said};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The version that ours is held against.
const WANTED: &str = "version 28.5.";

/// A `docker` of version 28.5: `$DOCKER_CLI`, the machine's own, or Debian's package `docker-cli` out of its unstable
/// distribution, unpacked into the cache.
///
/// # Panics
/// When there is none, and none can be had.
pub fn docker_cli() -> PathBuf {
    let named = std::env::var_os("DOCKER_CLI").map(PathBuf::from);
    let installed = [named, Some("docker".into())];
    if let Some(found) = installed.into_iter().flatten().find(|path| is_wanted(path)) {
        return found;
    }
    let cached = from_sid("docker-cli", "usr/bin/docker");
    assert!(
        is_wanted(&cached),
        "{} is not of {WANTED}x: name one by $DOCKER_CLI",
        cached.display()
    );
    cached
}

/// Compose: `$DOCKER_COMPOSE`, or Debian's package out of its unstable distribution, unpacked into the cache.
///
/// # Panics
/// When there is none, and none can be had.
pub fn compose_cli() -> PathBuf {
    match std::env::var_os("DOCKER_COMPOSE") {
        Some(named) => named.into(),
        None => from_sid(
            "docker-compose",
            "usr/libexec/docker/cli-plugins/docker-compose",
        ),
    }
}

/// A program out of a package of Debian's unstable distribution.
fn from_sid(package: &str, program: &str) -> PathBuf {
    once(package, |work| {
        let sources = work.join("sources.list");
        let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
        let text = format!("deb [signed-by={keys}] http://deb.debian.org/debian sid main\n");
        std::fs::write(&sources, text).expect("a file can be written");
        std::fs::create_dir_all(work.join("lists/partial")).expect("a folder can be made");
        let option = |name: &str, value: &Path| format!("{name}={}", value.display());
        let apt = |words: &[&str]| {
            let mut command = Command::new("apt-get");
            command.current_dir(work).args(["-qq", "-o"]);
            command.arg(option("Dir::Etc::SourceList", &sources));
            command.args(["-o", "Dir::Etc::SourceParts=/dev/null", "-o"]);
            command.arg(option("Dir::State::Lists", &work.join("lists")));
            command.args([
                "-o",
                "Dir::Cache::pkgcache=",
                "-o",
                "Dir::Cache::srcpkgcache=",
            ]);
            command.args(["-o", "Acquire::Check-Valid-Until=false"]);
            command.args(["-o", "APT::Sandbox::User=root"]).args(words);
            said(&mut command);
        };
        apt(&["update"]);
        apt(&["download", package]);
        let package = std::fs::read_dir(work)
            .expect("a folder can be read")
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|kind| kind == "deb"))
            .expect("apt-get download leaves a package");
        said(Command::new("dpkg").arg("-x").arg(package).arg(work));
        std::fs::rename(work.join(program), work.join("tar"))
            .expect("the package holds the program");
    })
}

fn is_wanted(path: &Path) -> bool {
    let said = Command::new(path).arg("--version").output();
    said.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains(WANTED))
}
