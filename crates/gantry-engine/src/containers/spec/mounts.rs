//! Docker's default mounts, the user's, and the three files of `/etc`.

use super::super::record::{MountKind, MountRecord};
use super::{Namespace, SpecInput, uses_init};
use oci_spec::runtime::Mount;
use std::path::Path;

/// Where our init program is in a container.
pub(super) const INIT: &str = "/sbin/docker-init";

fn mount(destination: &str, kind: &str, source: &Path, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount.set_destination(destination.into());
    mount.set_typ(Some(kind.to_owned()));
    mount.set_source(Some(source.to_owned()));
    mount.set_options(Some(options.iter().map(|o| (*o).to_owned()).collect()));
    mount
}

/// All mounts, in the order in which they are to be made.
pub(super) fn all(input: &SpecInput<'_>) -> Vec<Mount> {
    let taken = |destination: &str| input.mounts.iter().any(|m| m.destination == destination);
    let own_dev = taken("/dev");
    let mut list = defaults(input);
    // What the user mounts stands in the place of a default, and a `/dev` of one's own in the place of all below it.
    list.retain(|m| {
        let destination = m.destination().to_string_lossy();
        !(taken(&destination) || own_dev && destination.starts_with("/dev/"))
    });
    if uses_init(input) {
        list.push(mount(INIT, "bind", &input.program, &["bind", "ro"]));
    }
    let mut own: Vec<Mount> = input.mounts.iter().map(of_user).collect();
    for (destination, source) in &input.etc {
        if !taken(destination) {
            let mut options = vec!["rbind", "rprivate"];
            if input.host.readonly_rootfs {
                options.push("ro");
            }
            own.push(mount(destination, "bind", source, &options));
        }
    }
    // A mount below another one's destination comes after it.
    own.sort_by_key(|m| m.destination().components().count());
    list.extend(own);
    list
}

fn defaults(input: &SpecInput<'_>) -> Vec<Mount> {
    let (host, none) = (input.host, &["nosuid", "noexec", "nodev"]);
    let device_options = [
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620",
        "gid=5",
    ];
    let sys: &[&str] = if host.privileged {
        none
    } else {
        &["nosuid", "noexec", "nodev", "ro"]
    };
    let cgroup: &[&str] = if host.privileged || input.security.writable_cgroups {
        none
    } else {
        &["ro", "nosuid", "noexec", "nodev"]
    };
    let mut list = vec![
        mount("/proc", "proc", Path::new("proc"), none),
        mount(
            "/dev",
            "tmpfs",
            Path::new("tmpfs"),
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount("/dev/pts", "devpts", Path::new("devpts"), &device_options),
        mount("/sys", "sysfs", Path::new("sysfs"), sys),
        mount("/sys/fs/cgroup", "cgroup", Path::new("cgroup"), cgroup),
    ];
    if input.ipc == Namespace::Host {
        list.push(mount(
            "/dev/mqueue",
            "bind",
            Path::new("/dev/mqueue"),
            &["rbind", "nosuid", "noexec", "nodev"],
        ));
        list.push(mount(
            "/dev/shm",
            "bind",
            Path::new("/dev/shm"),
            &["rbind", "rprivate"],
        ));
        return list;
    }
    list.push(mount("/dev/mqueue", "mqueue", Path::new("mqueue"), none));
    if let Some(source) = &input.shm_source {
        list.push(mount("/dev/shm", "bind", source, &["rbind", "rprivate"]));
    } else if host.ipc_mode != "none" {
        let size = format!("size={}", host.shm_size);
        let options = ["nosuid", "noexec", "nodev", "mode=1777", &size];
        list.push(mount("/dev/shm", "tmpfs", Path::new("shm"), &options));
    }
    list
}

/// A mount of the user as the spec has it.
pub(crate) fn of_user(record: &MountRecord) -> Mount {
    match record.kind {
        MountKind::Tmpfs => {
            let mut options = vec!["noexec", "nosuid", "nodev", "rprivate"];
            for own in &record.options {
                // A user's `exec` takes the default's `noexec` away, and the like.
                let (opposite, bare) = match own.strip_prefix("no") {
                    Some(bare) => (bare, ""),
                    None => ("", own.as_str()),
                };
                options.retain(|o| {
                    *o != own
                        && *o != opposite
                        && (bare.is_empty() || o.strip_prefix("no") != Some(bare))
                });
                options.push(own);
            }
            mount(&record.destination, "tmpfs", Path::new("tmpfs"), &options)
        }
        MountKind::Bind | MountKind::Volume => {
            let mut options = vec![if record.recursive { "rbind" } else { "bind" }];
            if record.read_only {
                options.push("ro");
                // COMPAT: Docker makes what is mounted below read-only, too, where the kernel can (5.12).
                if record.recursive {
                    options.push("rro");
                }
            }
            options.push(match record.propagation.as_str() {
                "" => "rprivate",
                given => given,
            });
            mount(
                &record.destination,
                "bind",
                Path::new(&record.source),
                &options,
            )
        }
    }
}

/// What propagation the root needs for that of the mounts to mean something.
pub(super) fn rootfs_propagation(mounts: &[MountRecord]) -> Option<String> {
    let any = |words: [&str; 2]| {
        mounts
            .iter()
            .any(|m| words.contains(&m.propagation.as_str()))
    };
    if any(["shared", "rshared"]) {
        Some("shared".to_owned())
    } else if any(["slave", "rslave"]) {
        Some("rslave".to_owned())
    } else {
        None
    }
}
