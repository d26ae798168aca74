//! Root file systems to make images of, made once and kept below `target/`.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of what takes long to make; `target/testkit`.
pub fn cache() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/testkit");
    std::fs::create_dir_all(&folder).expect("the cache can be made");
    folder.canonicalize().expect("the cache is there")
}

/// A tar of a busybox root file system: applets linked in `/bin`, root in `/etc/passwd` and `/etc/group`.
pub fn busybox_tar() -> PathBuf {
    once("busybox.tar", |work| {
        let root = work.join("root");
        for name in [
            "bin", "etc", "tmp", "root", "proc", "sys", "dev", "var", "usr",
        ] {
            std::fs::create_dir_all(root.join(name)).expect("a folder can be made");
        }
        let busybox = ["/bin/busybox", "/usr/bin/busybox"]
            .into_iter()
            .find(|path| Path::new(path).exists())
            .expect("busybox is needed: Debian's package busybox-static");
        std::fs::copy(busybox, root.join("bin/busybox")).expect("busybox can be copied");
        let applets = said(Command::new(busybox).arg("--list"));
        for applet in applets.lines().filter(|name| *name != "busybox") {
            symlink("busybox", root.join("bin").join(applet)).expect("a link can be made");
        }
        std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")
            .expect("a file can be written");
        std::fs::write(root.join("etc/group"), "root:x:0:\n").expect("a file can be written");
        std::fs::set_permissions(root.join("tmp"), std::fs::Permissions::from_mode(0o1777))
            .expect("a mode can be set");
        tar(&root, &work.join("tar"));
    })
}

/// A tar of Debian's smallest root file system, from Debian's mirror by debootstrap.
pub fn debian_tar() -> PathBuf {
    once("debian.tar", |work| {
        let root = work.join("root");
        said(
            Command::new("debootstrap")
                .args(["--variant=minbase", "bookworm"])
                .arg(&root),
        );
        for folder in ["var/cache/apt/archives", "var/lib/apt/lists"] {
            std::fs::remove_dir_all(root.join(folder)).ok();
        }
        tar(&root, &work.join("tar"));
    })
}

/// A tar of Debian's smallest root file system with nginx, redis, dig, curl, ip and iperf3.
pub fn servers_tar() -> PathBuf {
    once("servers.tar", |work| {
        let root = work.join("root");
        let packages = "nginx-light,redis-server,bind9-dnsutils,curl,iproute2,iperf3";
        said(
            Command::new("debootstrap")
                .args(["--variant=minbase", &format!("--include={packages}")])
                .arg("bookworm")
                .arg(&root),
        );
        for folder in ["var/cache/apt/archives", "var/lib/apt/lists"] {
            std::fs::remove_dir_all(root.join(folder)).ok();
        }
        tar(&root, &work.join("tar"));
    })
}

/// The file (or folder) of this name in the cache; `make` writes it as `tar` into the folder that it is given, where it is
/// missing.
pub(crate) fn once(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let cache = cache();
    let lock =
        std::fs::File::create(cache.join(format!("{name}.lock"))).expect("a lock can be made");
    lock.lock().expect("a lock can be taken");
    let file = cache.join(name);
    if !file.exists() {
        let work = cache.join(format!("{name}.work"));
        std::fs::remove_dir_all(&work).ok();
        std::fs::create_dir_all(&work).expect("a folder can be made");
        make(&work);
        std::fs::rename(work.join("tar"), &file).expect("a file can be renamed");
        std::fs::remove_dir_all(&work).expect("a folder can be removed");
    }
    file
}

fn tar(folder: &Path, to: &Path) {
    said(
        Command::new("tar")
            .arg("-C")
            .arg(folder)
            .arg("-cf")
            .arg(to)
            .arg("."),
    );
}

/// Runs a program for what it prints; panics unless it ends with 0.
pub(crate) fn said(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
