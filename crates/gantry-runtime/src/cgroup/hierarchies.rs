//! The machine's hierarchies, from `/proc/self/mountinfo`, each held by an opened directory.

use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

/// v1 controllers that are looked for; other words of the mount options are none of ours.
const V1_CONTROLLERS: [&str; 14] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "memory",
    "devices",
    "freezer",
    "net_cls",
    "net_prio",
    "blkio",
    "perf_event",
    "hugetlb",
    "pids",
    "rdma",
    "misc",
];

/// v2 controllers that we set limits of.
const V2_CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

/// Which interface a hierarchy has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

/// One mounted hierarchy.
#[derive(Debug)]
pub struct Hierarchy {
    root: OwnedFd,
    mount_point: String,
    version: Version,
    /// Controllers, or `name=...`.
    controllers: Vec<String>,
}

impl Hierarchy {
    /// The root directory, opened with `O_PATH`.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Where it is mounted in the namespace that found it; for messages.
    pub fn mount_point(&self) -> &str {
        &self.mount_point
    }

    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether it has this controller.
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|c| c == controller)
    }

    /// Its controllers' names.
    pub fn controllers(&self) -> &[String] {
        &self.controllers
    }
}

/// All hierarchies that a container gets a group in.
#[derive(Debug)]
pub struct Hierarchies {
    list: Vec<Hierarchy>,
}

impl Hierarchies {
    /// This process's hierarchies, looked for at the first call. Processes that leave the host's mounts call it
    /// before; what they fork has them, too.
    pub fn get() -> &'static Self {
        static FOUND: OnceLock<Hierarchies> = OnceLock::new();
        FOUND.get_or_init(|| Self::discover().unwrap_or(Self { list: Vec::new() }))
    }

    /// Looks for them in `/proc/self/mountinfo`.
    ///
    /// # Errors
    /// When that file cannot be read.
    pub fn discover() -> std::io::Result<Self> {
        let text = std::fs::read_to_string("/proc/self/mountinfo")?;
        let mut list: Vec<Hierarchy> = Vec::new();
        for mount in parse(&text) {
            let seen = list.iter().any(|h| match mount.version {
                Version::V1 => mount.controllers.iter().any(|c| h.has(c)),
                Version::V2 => h.version == Version::V2,
            });
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            if seen {
                continue;
            }
            let Ok(root) = rustix::fs::open(&mount.mount_point, flags, Mode::empty()) else {
                continue;
            };
            let mut controllers = mount.controllers;
            if mount.version == Version::V2 {
                let file = format!("{}/cgroup.controllers", mount.mount_point);
                let text = std::fs::read_to_string(file).unwrap_or_default();
                controllers = text
                    .split_whitespace()
                    .filter(|c| V2_CONTROLLERS.contains(c))
                    .map(str::to_owned)
                    .collect();
                if controllers.is_empty() {
                    // The v2 hierarchy of a hybrid machine limits nothing of ours: no group is made there.
                    continue;
                }
            }
            list.push(Hierarchy {
                root,
                mount_point: mount.mount_point,
                version: mount.version,
                controllers,
            });
        }
        Ok(Self { list })
    }

    /// A v2 hierarchy alone, also where it has no controllers: what tests of the core files need on a hybrid machine.
    #[cfg(test)]
    pub(super) fn unified_at(mount_point: &str) -> std::io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(mount_point, flags, Mode::empty())?;
        let hierarchy = Hierarchy {
            root,
            mount_point: mount_point.to_owned(),
            version: Version::V2,
            controllers: Vec::new(),
        };
        Ok(Self {
            list: vec![hierarchy],
        })
    }

    pub fn iter(&self) -> impl Iterator<Item = &Hierarchy> {
        self.list.iter()
    }

    /// The hierarchy that has this controller.
    pub fn controller(&self, name: &str) -> Option<&Hierarchy> {
        self.list.iter().find(|h| h.has(name))
    }

    /// The v2 hierarchy, where it has controllers.
    pub fn v2(&self) -> Option<&Hierarchy> {
        self.list.iter().find(|h| h.version == Version::V2)
    }
}

#[derive(Debug)]
struct Found {
    mount_point: String,
    version: Version,
    controllers: Vec<String>,
}

fn parse(mountinfo: &str) -> Vec<Found> {
    let mut found = Vec::new();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else {
            continue;
        };
        let Some(mount_point) = left.split(' ').nth(4) else {
            continue;
        };
        let mut right = right.split(' ');
        let version = match right.next() {
            Some("cgroup") => Version::V1,
            Some("cgroup2") => Version::V2,
            _ => continue,
        };
        let options = right.nth(1).unwrap_or_default();
        let controllers: Vec<String> = options
            .split(',')
            .filter(|word| V1_CONTROLLERS.contains(word) || word.starts_with("name="))
            .map(str::to_owned)
            .collect();
        if version == Version::V1 && controllers.is_empty() {
            continue;
        }
        found.push(Found {
            mount_point: mount_point.replace("\\040", " "),
            version,
            controllers,
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_and_joined_mounts() {
        let found = parse(
            "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
             32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
             40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
             41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n",
        );
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].controllers, ["cpu", "cpuacct"]);
        assert_eq!(found[1].controllers, ["name=systemd"]);
        assert_eq!(
            (found[2].version, found[2].mount_point.as_str()),
            (Version::V2, "/sys/fs/cgroup/unified")
        );
    }
}
