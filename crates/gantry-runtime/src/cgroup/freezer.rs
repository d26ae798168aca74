//! Stopping all processes of a group where they are, and letting them go on.
//!
//! v1: `freezer.state` takes `FROZEN` and `THAWED`, and reads `FREEZING` until the last process has stopped
//! (Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst). v2: `cgroup.freeze` takes 1 and 0, and `frozen` of
//! `cgroup.events` tells when it is done (cgroup-v2.rst, "Core Interface Files"); it needs no controller.

use super::{Cgroup, CgroupError, Hierarchies, Result, tree};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long the kernel may take to stop the last process.
const FREEZE_WAIT: Duration = Duration::from_secs(5);
/// A v1 group that is still `FREEZING` after this is thawed and frozen again: a process that sleeps in a way that cannot be
/// frozen, or one that was just being forked, is caught the next time.
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// The freezer of one group.
enum Freezer {
    V1(OwnedFd),
    V2(OwnedFd),
}

impl Freezer {
    fn of(hierarchies: &Hierarchies, path: &str) -> Result<Self> {
        let path = tree::checked(path)?;
        let v1 = hierarchies.controller("freezer");
        let Some(hierarchy) = v1.or_else(|| hierarchies.v2()) else {
            return Err(CgroupError::NoController("freezing", "freezer"));
        };
        let dir = tree::open_dir(hierarchy.root(), path)
            .map_err(|e| CgroupError::file("open", path, e))?;
        Ok(match v1 {
            Some(_) => Self::V1(dir),
            None => Self::V2(dir),
        })
    }

    fn put(&self, frozen: bool) -> Result<()> {
        match (self, frozen) {
            (Self::V1(dir), true) => tree::put(dir.as_fd(), "freezer.state", "FROZEN"),
            (Self::V1(dir), false) => tree::put(dir.as_fd(), "freezer.state", "THAWED"),
            (Self::V2(dir), true) => tree::put(dir.as_fd(), "cgroup.freeze", "1"),
            (Self::V2(dir), false) => tree::put(dir.as_fd(), "cgroup.freeze", "0"),
        }
    }

    /// Whether every process has stopped.
    fn is_frozen(&self) -> Result<bool> {
        match self {
            Self::V1(dir) => Ok(tree::text(dir.as_fd(), "freezer.state")?.trim() == "FROZEN"),
            Self::V2(dir) => Ok(tree::text(dir.as_fd(), "cgroup.events")?
                .lines()
                .any(|line| line == "frozen 1")),
        }
    }
}

impl Cgroup {
    /// Stops every process of the group; returns when all have stopped.
    ///
    /// # Errors
    /// There is no group or no freezer, or a process cannot be stopped within five seconds (it hangs in the kernel); then
    /// the others go on, too.
    pub fn freeze(&self) -> Result<()> {
        self.freeze_in(Hierarchies::get())
    }

    pub(super) fn freeze_in(&self, hierarchies: &Hierarchies) -> Result<()> {
        let freezer = Freezer::of(hierarchies, &self.path)?;
        let start = Instant::now();
        let mut tried = start;
        let mut pause = Duration::from_micros(50);
        freezer.put(true)?;
        loop {
            if freezer.is_frozen()? {
                return Ok(());
            }
            if start.elapsed() > FREEZE_WAIT {
                freezer.put(false)?;
                return Err(CgroupError::Freezing(self.path.clone(), FREEZE_WAIT));
            }
            if tried.elapsed() > TRY_AGAIN && matches!(freezer, Freezer::V1(_)) {
                freezer.put(false)?;
                freezer.put(true)?;
                tried = Instant::now();
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }

    /// Lets the processes go on. Fine when they have not been frozen.
    ///
    /// # Errors
    /// There is no group or no freezer.
    pub fn thaw(&self) -> Result<()> {
        self.thaw_in(Hierarchies::get())
    }

    pub(super) fn thaw_in(&self, hierarchies: &Hierarchies) -> Result<()> {
        Freezer::of(hierarchies, &self.path)?.put(false)
    }

    /// Whether the group's processes are stopped.
    ///
    /// # Errors
    /// There is no group or no freezer.
    pub fn is_frozen(&self) -> Result<bool> {
        self.is_frozen_in(Hierarchies::get())
    }

    pub(super) fn is_frozen_in(&self, hierarchies: &Hierarchies) -> Result<bool> {
        Freezer::of(hierarchies, &self.path)?.is_frozen()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;

    /// A process that counts in a file; it is in the group before its program runs.
    fn counting(procs: String, file: &std::path::Path) -> std::process::Child {
        let mut command = std::process::Command::new("sh");
        let script = "i=0; while :; do i=$((i+1)); echo $i >\"$0\"; done";
        command.args(["-c", script]).arg(file);
        let opened = std::fs::File::options().write(true).open(procs).unwrap();
        // SAFETY: one write to an opened file, which allocates nothing and takes no lock.
        unsafe {
            command.pre_exec(move || {
                rustix::io::write(&opened, b"0")
                    .map(drop)
                    .map_err(Into::into)
            });
        }
        command.spawn().unwrap()
    }

    fn freezes(hierarchies: &Hierarchies, mount_point: &str, name: &str) {
        let name = format!("gantry-test-freezer-{name}-{}", std::process::id());
        let group = Cgroup {
            path: format!("/{name}"),
        };
        let dir = format!("{mount_point}/{name}");
        std::fs::create_dir(&dir).unwrap();
        let file = std::env::temp_dir().join(&name);
        let mut child = counting(format!("{dir}/cgroup.procs"), &file);
        assert!(!group.is_frozen_in(hierarchies).unwrap());
        for _ in 0..20 {
            group.freeze_in(hierarchies).unwrap();
            assert!(group.is_frozen_in(hierarchies).unwrap());
            let before = std::fs::read_to_string(&file).unwrap_or_default();
            std::thread::sleep(Duration::from_millis(5));
            assert_eq!(std::fs::read_to_string(&file).unwrap_or_default(), before);
            group.thaw_in(hierarchies).unwrap();
            assert!(!group.is_frozen_in(hierarchies).unwrap());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let until = Instant::now() + Duration::from_secs(5);
        while std::fs::remove_dir(&dir).is_err() {
            assert!(Instant::now() < until, "{dir} stays");
            std::thread::sleep(Duration::from_millis(5));
        }
        std::fs::remove_file(file).unwrap();
        assert!(group.freeze_in(hierarchies).is_err(), "there is no group");
    }

    #[test]
    fn v1() {
        if let Some(freezer) = Hierarchies::get().controller("freezer") {
            freezes(Hierarchies::get(), freezer.mount_point(), "v1");
        }
    }

    #[test]
    fn v2() {
        let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let root = text.lines().find(|l| l.contains(" - cgroup2 ")).unwrap();
        let root = root.split(' ').nth(4).unwrap();
        freezes(&Hierarchies::unified_at(root).unwrap(), root, "v2");
    }
}
