//! Control groups, v1 (each controller's hierarchy, hybrid included) and v2.
//!
//! A container's group has the same path below the root of every hierarchy. All work is done below opened
//! directories, so that it needs no mount of `/sys/fs/cgroup`: [`Hierarchies::get`] opens them once, in the daemon and
//! in the spawner before it leaves the host's mounts; forked children share them.
//!
//! Start here: [`Cgroup::create`], [`CgroupHandle::join_self`], [`Cgroup::destroy`].

mod devices;
mod freezer;
mod hierarchies;
mod tree;
mod update;
mod usage;
mod v1;
mod v2;

#[cfg(test)]
mod tests;

pub use hierarchies::{Hierarchies, Hierarchy, Version};
pub use usage::{CpuUsage, IoEntry, MemoryUsage, Usage};

use oci_spec::runtime::LinuxResources;
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long [`Cgroup::destroy`] waits for killed processes to leave.
const DESTROY_WAIT: Duration = Duration::from_secs(10);

/// A failed step of cgroup work.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// A file or directory below a hierarchy's root.
    #[error("{operation} {path}")]
    File {
        operation: &'static str,
        path: String,
        #[source]
        source: std::io::Error,
    },
    /// A limit was asked for that no hierarchy of this machine can enforce.
    #[error("{0}: no cgroup hierarchy has the {1} controller")]
    NoController(&'static str, &'static str),
    #[error("the cgroup path {0:?} is not absolute, or has empty or dotted parts")]
    BadPath(String),
    /// A value of `linux.resources` that cannot be right.
    #[error("{0}")]
    BadValue(String),
    #[error("{operation} the device program")]
    Program {
        operation: &'static str,
        #[source]
        source: std::io::Error,
    },
    /// Processes that do not go, or a group that something else keeps.
    #[error("the cgroup {0} is still in use after {1:?}")]
    Busy(String, Duration),
    /// Processes that cannot be stopped where they are.
    #[error("processes of the cgroup {0} did not freeze within {1:?}")]
    Freezing(String, Duration),
}

impl CgroupError {
    fn file(operation: &'static str, path: impl Into<String>, source: Errno) -> Self {
        Self::File {
            operation,
            path: path.into(),
            source: source.into(),
        }
    }

    /// The kernel's error below this one, if there is one.
    fn io(&self) -> Option<&std::io::Error> {
        match self {
            Self::File { source, .. } | Self::Program { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<CgroupError> for std::io::Error {
    fn from(error: CgroupError) -> Self {
        let kind = error
            .io()
            .map_or(std::io::ErrorKind::Other, std::io::Error::kind);
        std::io::Error::new(kind, error)
    }
}

/// The result of cgroup work.
pub type Result<T> = std::result::Result<T, CgroupError>;

/// One container's group in every hierarchy, found again from its path alone.
#[derive(Debug, Clone)]
pub struct Cgroup {
    /// Path below each hierarchy's root, e.g. `/gantry/<id>`.
    pub path: String,
}

/// A group that was made, held open so that a child can enter it without a path.
#[derive(Debug)]
pub struct CgroupHandle {
    /// `tasks` of each v1 hierarchy.
    tasks: Vec<OwnedFd>,
    v2: Option<OwnedFd>,
    /// `memory.oom_control` (v1) or `memory.events` (v2).
    oom: Option<OwnedFd>,
}

impl Cgroup {
    /// Makes the group in every hierarchy and writes its limits and device rules; on failure nothing is left.
    ///
    /// # Errors
    /// A limit that the machine cannot enforce or the kernel refuses.
    pub fn create(path: &str, resources: &LinuxResources) -> Result<CgroupHandle> {
        Self::create_in(Hierarchies::get(), path, resources)
    }

    /// [`Self::create`] below the given roots.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn create_in(
        hierarchies: &Hierarchies,
        path: &str,
        resources: &LinuxResources,
    ) -> Result<CgroupHandle> {
        let path = tree::checked(path)?;
        check_controllers(hierarchies, resources)?;
        let made = make(hierarchies, path, resources);
        if made.is_err() {
            let group = Self {
                path: format!("/{path}"),
            };
            let _ = group.destroy_in(hierarchies);
        }
        made
    }

    /// Opens the group as it stands, for a process that is to enter it.
    ///
    /// # Errors
    /// A hierarchy in which it is not there any more.
    pub fn open(&self) -> Result<CgroupHandle> {
        let path = tree::checked(&self.path)?;
        let mut handle = CgroupHandle {
            tasks: Vec::new(),
            v2: None,
            oom: None,
        };
        for hierarchy in Hierarchies::get().iter() {
            let dir = tree::open_dir(hierarchy.root(), path).map_err(|e| {
                CgroupError::file("open", format!("{}/{path}", hierarchy.mount_point()), e)
            })?;
            match hierarchy.version() {
                Version::V1 => handle.tasks.push(tree::open_write(dir.as_fd(), "tasks")?),
                Version::V2 => handle.v2 = Some(dir),
            }
        }
        Ok(handle)
    }

    /// PIDs of all processes in the group and below it, in this process's PID namespace.
    pub fn pids(&self) -> std::io::Result<Vec<u32>> {
        Ok(self.pids_in(Hierarchies::get())?.into_iter().collect())
    }

    fn pids_in(&self, hierarchies: &Hierarchies) -> Result<BTreeSet<u32>> {
        let path = tree::checked(&self.path)?;
        let mut pids = BTreeSet::new();
        for hierarchy in hierarchies.iter() {
            tree::collect_pids(hierarchy.root(), path, &mut pids)?;
        }
        Ok(pids)
    }

    /// Sends SIGKILL to every process in the group and below it. Does not wait for their end.
    pub fn kill_all(&self) -> std::io::Result<()> {
        Ok(self.kill_all_in(Hierarchies::get())?)
    }

    fn kill_all_in(&self, hierarchies: &Hierarchies) -> Result<()> {
        let path = tree::checked(&self.path)?;
        if let Some(v2) = hierarchies.v2()
            && tree::write(v2.root(), path, "cgroup.kill", "1").is_ok()
        {
            return Ok(());
        }
        let mut pids = self.pids_in(hierarchies)?;
        if pids.is_empty() {
            return Ok(());
        }
        // Frozen, a group can neither fork faster than it is read nor give a PID to somebody else in between.
        let freezer = hierarchies.controller("freezer").map(Hierarchy::root);
        if let Some(freezer) = freezer
            && tree::write(freezer, path, "freezer.state", "FROZEN").is_ok()
        {
            pids = self.pids_in(hierarchies)?;
        }
        for pid in pids {
            if let Some(pid) = rustix::process::Pid::from_raw(pid as i32) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        if let Some(freezer) = freezer {
            let _ = tree::write(freezer, path, "freezer.state", "THAWED");
        }
        Ok(())
    }

    /// Kills every process in the group, waits until it is empty (at most 10 seconds) and removes its directories,
    /// also those that the container has made below. Fine to call when nothing is there.
    pub fn destroy(&self) -> std::io::Result<()> {
        Ok(self.destroy_in(Hierarchies::get())?)
    }

    fn destroy_in(&self, hierarchies: &Hierarchies) -> Result<()> {
        let path = tree::checked(&self.path)?;
        let start = Instant::now();
        let mut pause = Duration::from_micros(500);
        loop {
            let mut busy = false;
            for hierarchy in hierarchies.iter() {
                busy |= !tree::remove(hierarchy.root(), path)?;
            }
            if !busy {
                return Ok(());
            }
            if start.elapsed() > DESTROY_WAIT {
                return Err(CgroupError::Busy(self.path.clone(), DESTROY_WAIT));
            }
            self.kill_all_in(hierarchies)?;
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }
}

fn make(hierarchies: &Hierarchies, path: &str, resources: &LinuxResources) -> Result<CgroupHandle> {
    let mut handle = CgroupHandle {
        tasks: Vec::new(),
        v2: None,
        oom: None,
    };
    for hierarchy in hierarchies.iter() {
        let dir = tree::make(hierarchy, path)?;
        match hierarchy.version() {
            Version::V1 => {
                v1::apply(dir.as_fd(), hierarchy, resources)?;
                handle.tasks.push(tree::open_write(dir.as_fd(), "tasks")?);
                if hierarchy.has("memory") {
                    handle.oom = tree::open_read(dir.as_fd(), "memory.oom_control").ok();
                }
            }
            Version::V2 => {
                let devices_on_v1 = hierarchies.controller("devices").is_some();
                v2::apply(dir.as_fd(), hierarchy, resources, devices_on_v1)?;
                if hierarchy.has("memory") {
                    handle.oom = tree::open_read(dir.as_fd(), "memory.events").ok();
                }
                handle.v2 = Some(dir);
            }
        }
    }
    Ok(handle)
}

/// Refuses what nothing here could enforce, before anything is made.
fn check_controllers(hierarchies: &Hierarchies, resources: &LinuxResources) -> Result<()> {
    let need = |what, controller, wanted: bool| {
        if wanted && hierarchies.controller(controller).is_none() {
            return Err(CgroupError::NoController(what, controller));
        }
        Ok(())
    };
    if let Some(memory) = resources.memory() {
        let set = |value: Option<i64>| value.is_some_and(|v| v > 0);
        need(
            "memory limit",
            "memory",
            set(memory.limit()) || set(memory.swap()) || set(memory.reservation()),
        )?;
    }
    if let Some(cpu) = resources.cpu() {
        let wanted = cpu.shares().is_some_and(|s| s > 0) || cpu.quota().is_some_and(|q| q > 0);
        need("CPU limit", "cpu", wanted)?;
        let given = |text: &Option<String>| text.as_ref().is_some_and(|t| !t.is_empty());
        need("CPU set", "cpuset", given(cpu.cpus()) || given(cpu.mems()))?;
    }
    need(
        "PID limit",
        "pids",
        resources.pids().is_some_and(|p| p.limit() > 0),
    )?;
    // On v2 devices are a program's work, on v1 a controller's.
    let rules = resources
        .devices()
        .as_ref()
        .is_some_and(|rules| !rules.is_empty());
    need(
        "device rules",
        "devices",
        rules && hierarchies.v2().is_none(),
    )
}

impl CgroupHandle {
    /// Moves the calling, single-threaded process into every v1 group, and into the v2 group unless it was born there
    /// (`CLONE_INTO_CGROUP` with [`Self::v2_dir`]). Allocates nothing.
    pub fn join_self(&self, born_in_v2: bool) -> std::result::Result<(), Errno> {
        for tasks in &self.tasks {
            rustix::io::write(tasks, b"0")?;
        }
        if let Some(v2) = &self.v2
            && !born_in_v2
        {
            let procs = rustix::fs::openat(
                v2,
                c"cgroup.procs",
                rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC,
                rustix::fs::Mode::empty(),
            )?;
            rustix::io::write(&procs, b"0")?;
        }
        Ok(())
    }

    /// The v2 group's directory, for `CLONE_INTO_CGROUP`; none where the machine has no v2 controllers.
    pub fn v2_dir(&self) -> Option<BorrowedFd<'_>> {
        self.v2.as_ref().map(AsFd::as_fd)
    }

    /// Takes the v2 group in which a process is instead of its own.
    pub(crate) fn go_where(&mut self, proc: BorrowedFd<'_>, pid: u32) -> std::io::Result<()> {
        use rustix::fs::{Mode, OFlags, openat};
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = openat(proc, format!("{pid}/cgroup"), flags, Mode::empty())?;
        let mut text = String::new();
        std::io::Read::read_to_string(&mut std::fs::File::from(file), &mut text)?;
        let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
        if let (Some(path), Some(v2)) = (path, Hierarchies::get().v2()) {
            self.v2 = Some(tree::open_dir(v2.root(), path)?);
        }
        Ok(())
    }

    /// How many processes of the group the kernel has killed for want of memory.
    pub fn oom_kills(&self) -> u64 {
        let Some(file) = &self.oom else { return 0 };
        let mut text = [0; 512];
        let Ok(length) = rustix::io::pread(file, &mut text, 0) else {
            return 0;
        };
        let text = std::str::from_utf8(&text[..length]).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|n| n.trim().parse().ok()).unwrap_or(0)
    }
}
