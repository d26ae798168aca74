//! What a machine has of the kernel's objects and of Gantry's files, before and after.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long the kernel may take to tear namespaces down after the last test.
const PATIENCE: Duration = Duration::from_secs(10);

/// Folders in which a test or an engine could leave something.
const FOLDERS: &[&str] = &["/run", "/tmp", "/var/lib", "/var/run", "/dev/shm"];

/// The names of everything that a container engine makes.
#[derive(Debug)]
pub(crate) struct Machine(BTreeSet<String>);

impl Machine {
    /// Looks at the machine as it is now.
    pub(crate) fn now() -> Machine {
        let mut seen = BTreeSet::new();
        mounts(&mut seen);
        for link in names(Path::new("/sys/class/net")) {
            seen.insert(format!("link {link}"));
        }
        cgroups(Path::new("/sys/fs/cgroup"), &mut seen);
        tables(&mut seen);
        processes(&mut seen);
        for folder in FOLDERS {
            for name in names(Path::new(folder)).filter(|name| is_ours(name)) {
                seen.insert(format!("file {folder}/{name}"));
            }
        }
        for name in names(Path::new("/run/netns")) {
            seen.insert(format!("network namespace {name}"));
        }
        Machine(seen)
    }

    /// What is there that was not: asked until there is nothing, or patience ends.
    pub(crate) fn left_behind(&self) -> Vec<String> {
        let end = Instant::now() + PATIENCE;
        loop {
            let left: Vec<String> = Machine::now().0.difference(&self.0).cloned().collect();
            if left.is_empty() || Instant::now() > end {
                return left;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Whether a name looks like one that Gantry or its tests give.
fn is_ours(name: &str) -> bool {
    name.contains("gantry")
}

fn names(folder: &Path) -> impl Iterator<Item = String> {
    std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
}

/// Every mount point; nothing but the tests mounts anything while they run.
fn mounts(seen: &mut BTreeSet<String>) {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for line in table.lines() {
        if let Some(point) = line.split(' ').nth(4) {
            seen.insert(format!("mount {point}"));
        }
    }
}

fn cgroups(folder: &Path, seen: &mut BTreeSet<String>) {
    for name in names(folder) {
        let path = folder.join(&name);
        if path.is_dir() && !path.is_symlink() {
            let text = path.to_string_lossy();
            if is_ours(&text) {
                seen.insert(format!("cgroup {text}"));
            }
            cgroups(&path, seen);
        }
    }
}

fn tables(seen: &mut BTreeSet<String>) {
    let Ok(answer) = Command::new("nft").args(["list", "tables"]).output() else {
        return;
    };
    for line in String::from_utf8_lossy(&answer.stdout).lines() {
        seen.insert(format!("nft {line}"));
    }
}

/// Processes of Gantry's binary, whatever they call themselves.
fn processes(seen: &mut BTreeSet<String>) {
    for pid in
        names(Path::new("/proc")).filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
    {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let program = command.split(' ').next().unwrap_or_default();
        let exe = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        let name = exe.file_name().unwrap_or_default().to_string_lossy();
        if program.contains("gantry") || name.starts_with("gantry") {
            seen.insert(format!("process {pid} {}", command.trim()));
        }
    }
}
