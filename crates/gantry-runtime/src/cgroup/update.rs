//! Changing the limits of a group whose processes run.
//!
//! Old and new limits become two lists of writes; what differs is written. The kernel holds some limits to others (memory
//! to memory and swap together, a child's processors to its parent's), so what is refused is tried again after the rest.
//! When something stays refused, all files get their old contents back.

use super::{Cgroup, CgroupError, Hierarchies, Result, Version, tree, v1, v2};
use oci_spec::runtime::LinuxResources;
use std::os::fd::{AsFd, OwnedFd};

/// One limit as a file wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Write {
    /// The controller that has the file.
    pub(super) controller: &'static str,
    pub(super) file: &'static str,
    pub(super) value: String,
    /// A kernel without this file is no error.
    pub(super) optional: bool,
}

impl Write {
    pub(super) fn new(controller: &'static str, file: &'static str, value: String) -> Self {
        Self {
            controller,
            file,
            value,
            optional: false,
        }
    }

    pub(super) fn optional(self) -> Self {
        Self {
            optional: true,
            ..self
        }
    }
}

/// A file that was written, with what it held before.
struct Written {
    dir: OwnedFd,
    file: &'static str,
    before: String,
}

impl Cgroup {
    /// Changes limits from `old` to `new`; those that are equal are left alone, and so are devices.
    ///
    /// # Errors
    /// The kernel refuses one (then all are as before), or the group is gone.
    pub fn update(&self, old: &LinuxResources, new: &LinuxResources) -> Result<()> {
        self.update_in(Hierarchies::get(), old, new)
    }

    pub(super) fn update_in(
        &self,
        hierarchies: &Hierarchies,
        old: &LinuxResources,
        new: &LinuxResources,
    ) -> Result<()> {
        super::check_controllers(hierarchies, new)?;
        let path = tree::checked(&self.path)?;
        let mut wanted: Vec<(OwnedFd, Write)> = Vec::new();
        for hierarchy in hierarchies.iter() {
            let (before, after) = match hierarchy.version() {
                Version::V1 => (v1::limits(old), v1::limits(new)),
                Version::V2 => (v2::limits(old)?, v2::limits(new)?),
            };
            for write in after {
                if !hierarchy.has(write.controller) || before.contains(&write) {
                    continue;
                }
                let dir = tree::open_dir(hierarchy.root(), path)
                    .map_err(|e| CgroupError::file("open", path, e))?;
                wanted.push((dir, write));
            }
        }
        let mut written = Vec::new();
        let changed = write_all(wanted, &mut written);
        if changed.is_err() {
            restore(&written);
        }
        changed
    }
}

/// Writes until all are written, or a whole round brings none.
fn write_all(mut wanted: Vec<(OwnedFd, Write)>, written: &mut Vec<Written>) -> Result<()> {
    while !wanted.is_empty() {
        let mut refused = Vec::new();
        let mut first = None;
        let count = wanted.len();
        for (dir, write) in wanted {
            let before = match tree::text(dir.as_fd(), write.file) {
                Ok(text) => text,
                Err(CgroupError::File { source, .. })
                    if write.optional && source.kind() == std::io::ErrorKind::NotFound =>
                {
                    continue;
                }
                Err(error) => return Err(error),
            };
            match tree::put(dir.as_fd(), write.file, &write.value) {
                Ok(()) => written.push(Written {
                    dir,
                    file: write.file,
                    before,
                }),
                Err(error) => {
                    first.get_or_insert(error);
                    refused.push((dir, write));
                }
            }
        }
        if let Some(error) = first
            && refused.len() == count
        {
            return Err(error);
        }
        wanted = refused;
    }
    Ok(())
}

/// Puts old contents back, the last one first; some are refused until others are back.
fn restore(written: &[Written]) {
    for _ in 0..3 {
        for write in written.iter().rev() {
            let _ = tree::put(write.dir.as_fd(), write.file, write.before.trim());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::{
        LinuxCpuBuilder, LinuxMemoryBuilder, LinuxPidsBuilder, LinuxResourcesBuilder,
    };

    fn memory(limit: i64, swap: i64, pids: i64, cpus: &str) -> LinuxResources {
        let memory = LinuxMemoryBuilder::default().limit(limit).swap(swap);
        let mut resources = LinuxResourcesBuilder::default().memory(memory.build().unwrap());
        if pids > 0 {
            let pids = LinuxPidsBuilder::default().limit(pids);
            resources = resources.pids(pids.build().unwrap());
        }
        let cpu = LinuxCpuBuilder::default()
            .shares(512_u64)
            .quota(limit / 1024)
            .period(100_000_u64)
            .cpus(cpus);
        resources.cpu(cpu.build().unwrap()).build().unwrap()
    }

    fn held(path: &str, controller: &str, file: &str) -> String {
        let hierarchy = Hierarchies::get().controller(controller).unwrap();
        let dir = tree::open_dir(hierarchy.root(), &path[1..]).unwrap();
        tree::text(dir.as_fd(), file).unwrap().trim().to_owned()
    }

    #[test]
    fn limits_go_up_and_down_and_back_where_one_is_refused() {
        let path = format!("/gantry-test-update-{}", std::process::id());
        let group = Cgroup { path: path.clone() };
        let small = memory(32 << 20, 32 << 20, 20, "0");
        let large = memory(128 << 20, 256 << 20, 0, "0");
        let _handle = Cgroup::create(&path, &small).unwrap();
        let v1 = Hierarchies::get().controller("memory").unwrap().version() == Version::V1;
        let seen = || {
            if v1 {
                let memory = ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"];
                let memory = memory.map(|file| held(&path, "memory", file));
                (memory, held(&path, "pids", "pids.max"))
            } else {
                let memory = ["memory.max", "memory.swap.max"];
                let memory = memory.map(|file| held(&path, "memory", file));
                (memory, held(&path, "pids", "pids.max"))
            }
        };
        let before = seen();
        group.update(&small, &large).unwrap();
        let after = seen();
        assert_ne!(before.0, after.0);
        assert_eq!(after.1, "max");
        // There is no such processor: what was written before the refusal is undone.
        let impossible = memory(64 << 20, 64 << 20, 30, "4095");
        assert!(group.update(&large, &impossible).is_err());
        assert_eq!(seen(), after);
        group.update(&large, &small).unwrap();
        assert_eq!(seen(), before);
        group.destroy().unwrap();
        assert!(group.update(&large, &small).is_err(), "it is gone");
    }

    #[test]
    fn lists_of_v2() {
        let values = |resources: &LinuxResources| -> Vec<String> {
            let limits = v2::limits(resources).unwrap();
            limits
                .into_iter()
                .map(|w| format!("{}={}", w.file, w.value))
                .collect()
        };
        assert_eq!(
            values(&memory(64 << 20, -1, 7, "1")),
            [
                "memory.max=67108864",
                "memory.swap.max=max",
                "cpu.weight=20",
                "cpu.max=65536 100000",
                "cpuset.cpus=1",
                "pids.max=7"
            ]
        );
        assert_eq!(values(&LinuxResources::default()), ["pids.max=max"]);
    }
}
