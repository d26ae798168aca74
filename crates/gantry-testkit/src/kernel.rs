//! What an engine has in the kernel, found by its names alone.

use std::path::{Path, PathBuf};

/// The names that one engine's kernel objects have.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) bridge: String,
    pub(crate) table: String,
    /// Without the slash before it.
    pub(crate) cgroup: String,
    /// All of the engine's files are below it.
    pub(crate) folder: PathBuf,
    /// The engine's own copy of the binary.
    pub(crate) binary: PathBuf,
}

impl Names {
    /// Mount points below the engine's folder, in the order in which they were made.
    pub(crate) fn mounts(&self) -> Vec<String> {
        let table = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo can be read");
        table
            .lines()
            .filter_map(|line| line.split(' ').nth(4))
            .filter(|point| Path::new(point).starts_with(&self.folder))
            .map(str::to_owned)
            .collect()
    }

    /// Cgroups of the engine, children before their parents; the parent of all is the last of each hierarchy.
    pub(crate) fn cgroups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut roots = vec![PathBuf::from("/sys/fs/cgroup")];
        roots.extend(folders(Path::new("/sys/fs/cgroup")));
        for root in roots {
            let own = root.join(&self.cgroup);
            if own.is_dir() && !root.is_symlink() {
                below(&own, &mut found);
            }
        }
        found
    }

    /// Processes of the engine's binary: daemon, spawner, shims. They are told by the file, because a copy's is unique.
    pub(crate) fn processes(&self) -> Vec<i32> {
        use std::os::unix::fs::MetadataExt;
        let Ok(own) = std::fs::metadata(&self.binary) else {
            return Vec::new();
        };
        pids()
            .filter(|pid| {
                std::fs::metadata(format!("/proc/{pid}/exe"))
                    .is_ok_and(|exe| (exe.dev(), exe.ino()) == (own.dev(), own.ino()))
            })
            .collect()
    }

    /// Processes in the engine's cgroups: the containers'.
    pub(crate) fn contained(&self) -> Vec<i32> {
        let mut pids: Vec<i32> = self
            .cgroups()
            .iter()
            .filter_map(|folder| std::fs::read_to_string(folder.join("cgroup.procs")).ok())
            .flat_map(|text| {
                text.lines()
                    .filter_map(|line| line.parse().ok())
                    .collect::<Vec<_>>()
            })
            .collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }
}

fn pids() -> impl Iterator<Item = i32> {
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn below(folder: &Path, found: &mut Vec<PathBuf>) {
    for child in folders(folder) {
        below(&child, found);
    }
    found.push(folder.to_owned());
}
