//! What a group uses. Each number is one small file; nothing of the container is asked, so a stuck shim delays nobody.

use super::{Cgroup, CgroupError, Hierarchies, Hierarchy, Result, Version, tree};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Clock ticks of `cpuacct.stat` and `/proc/stat`, nanoseconds each (`USER_HZ` is 100 on Linux).
const TICK: u64 = 10_000_000;

/// CPU time, nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuUsage {
    pub total: u64,
    pub user: u64,
    pub kernel: u64,
    /// Of each processor; v1 only.
    pub per_cpu: Vec<u64>,
    pub periods: u64,
    pub throttled_periods: u64,
    pub throttled: u64,
}

/// Memory, bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryUsage {
    pub usage: u64,
    /// The most so far; v1 only.
    pub max_usage: u64,
    /// `u64::MAX` on v2, and a very high number on v1, where there is none.
    pub limit: u64,
    /// How often the limit was hit.
    pub failures: u64,
    /// `memory.stat`.
    pub details: BTreeMap<String, u64>,
}

/// One number about a block device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IoEntry {
    pub major: u64,
    pub minor: u64,
    /// `Read`, `Write`, `Sync`, `Async`, `Discard`, `Total` on v1; `read` and `write` on v2.
    pub operation: String,
    pub value: u64,
}

/// What a group uses at one moment. What no hierarchy of the machine counts is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    pub cpu: Option<CpuUsage>,
    pub memory: Option<MemoryUsage>,
    /// Whether the memory numbers are v2's.
    pub unified: bool,
    /// Bytes and operations; the latter on v1 only.
    pub io: Option<(Vec<IoEntry>, Vec<IoEntry>)>,
    /// Processes and threads.
    pub pids: Option<(u64, u64)>,
}

impl Cgroup {
    /// Reads what the group uses.
    ///
    /// # Errors
    /// The group is gone, or the kernel does not give a number.
    pub fn usage(&self) -> Result<Usage> {
        self.usage_in(Hierarchies::get())
    }

    pub(super) fn usage_in(&self, hierarchies: &Hierarchies) -> Result<Usage> {
        let path = tree::checked(&self.path)?;
        let mut usage = Usage::default();
        let open = |hierarchy: &Hierarchy| {
            tree::open_dir(hierarchy.root(), path).map_err(|e| CgroupError::file("open", path, e))
        };
        let group = |controller: &str| -> Result<Option<(OwnedFd, Version)>> {
            let Some(found) = hierarchies.controller(controller) else {
                return Ok(None);
            };
            Ok(Some((open(found)?, found.version())))
        };
        // v1 counts CPU time in a controller of its own.
        let account = group("cpuacct")?;
        let cpu = group("cpu")?;
        usage.cpu = match (&account, &cpu) {
            (Some((account, Version::V1)), cpu) => {
                let cpu = cpu.as_ref().map(|(dir, _)| dir.as_fd());
                Some(cpu_v1(account.as_fd(), cpu)?)
            }
            (_, Some((dir, Version::V2))) => Some(cpu_v2(dir.as_fd())?),
            _ => None,
        };
        if let Some((dir, version)) = group("memory")? {
            usage.unified = version == Version::V2;
            usage.memory = Some(match version {
                Version::V1 => memory_v1(dir.as_fd())?,
                Version::V2 => memory_v2(dir.as_fd())?,
            });
        }
        if let Some((dir, _)) = group("pids")? {
            let current = number(dir.as_fd(), "pids.current")?;
            // COMPAT: no limit is 0 on v1 and the highest number on v2, as with Docker.
            let limit = match (limit(dir.as_fd(), "pids.max")?, usage.unified) {
                (u64::MAX, false) => 0,
                (limit, _) => limit,
            };
            usage.pids = Some((current, limit));
        }
        if let Some((dir, Version::V1)) = group("blkio")? {
            usage.io = Some(io_v1(dir.as_fd()));
        } else if let Some((dir, Version::V2)) = group("io")? {
            let text = tree::text(dir.as_fd(), "io.stat")?;
            usage.io = Some((io_stat(&text), Vec::new()));
        }
        Ok(usage)
    }
}

fn number(dir: BorrowedFd<'_>, file: &str) -> Result<u64> {
    Ok(tree::text(dir, file)?.trim().parse().unwrap_or(0))
}

/// A limit's file; `max` is the highest number.
fn limit(dir: BorrowedFd<'_>, file: &str) -> Result<u64> {
    Ok(tree::text(dir, file)?.trim().parse().unwrap_or(u64::MAX))
}

/// Lines of a name and a number.
fn pairs(text: &str) -> BTreeMap<String, u64> {
    text.lines()
        .filter_map(|line| {
            let (name, value) = line.split_once(' ')?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        })
        .collect()
}

fn cpu_v1(account: BorrowedFd<'_>, cpu: Option<BorrowedFd<'_>>) -> Result<CpuUsage> {
    let stat = pairs(&tree::text(account, "cpuacct.stat")?);
    let of = |map: &BTreeMap<String, u64>, name: &str| map.get(name).copied().unwrap_or(0);
    let throttling = match cpu {
        Some(cpu) => pairs(&tree::text(cpu, "cpu.stat")?),
        None => BTreeMap::new(),
    };
    Ok(CpuUsage {
        total: number(account, "cpuacct.usage")?,
        user: of(&stat, "user") * TICK,
        kernel: of(&stat, "system") * TICK,
        per_cpu: tree::text(account, "cpuacct.usage_percpu")?
            .split_whitespace()
            .filter_map(|n| n.parse().ok())
            .collect(),
        periods: of(&throttling, "nr_periods"),
        throttled_periods: of(&throttling, "nr_throttled"),
        throttled: of(&throttling, "throttled_time"),
    })
}

fn cpu_v2(dir: BorrowedFd<'_>) -> Result<CpuUsage> {
    Ok(cpu_stat(&tree::text(dir, "cpu.stat")?))
}

/// v2's `cpu.stat`, which counts microseconds.
fn cpu_stat(text: &str) -> CpuUsage {
    let stat = pairs(text);
    let of = |name: &str| stat.get(name).copied().unwrap_or(0);
    CpuUsage {
        total: of("usage_usec") * 1000,
        user: of("user_usec") * 1000,
        kernel: of("system_usec") * 1000,
        per_cpu: Vec::new(),
        periods: of("nr_periods"),
        throttled_periods: of("nr_throttled"),
        throttled: of("throttled_usec") * 1000,
    }
}

fn memory_v1(dir: BorrowedFd<'_>) -> Result<MemoryUsage> {
    Ok(MemoryUsage {
        usage: number(dir, "memory.usage_in_bytes")?,
        max_usage: number(dir, "memory.max_usage_in_bytes")?,
        limit: number(dir, "memory.limit_in_bytes")?,
        failures: number(dir, "memory.failcnt")?,
        details: pairs(&tree::text(dir, "memory.stat")?),
    })
}

fn memory_v2(dir: BorrowedFd<'_>) -> Result<MemoryUsage> {
    let events = pairs(&tree::text(dir, "memory.events")?);
    Ok(MemoryUsage {
        usage: number(dir, "memory.current")?,
        max_usage: 0,
        limit: limit(dir, "memory.max")?,
        failures: events.get("oom").copied().unwrap_or(0),
        details: pairs(&tree::text(dir, "memory.stat")?),
    })
}

/// Bytes and operations of v1: BFQ's numbers where that scheduler is, else those of the throttling layer.
fn io_v1(dir: BorrowedFd<'_>) -> (Vec<IoEntry>, Vec<IoEntry>) {
    let read = |what: &str| {
        let names = [
            format!("blkio.bfq.{what}_recursive"),
            format!("blkio.throttle.{what}_recursive"),
            format!("blkio.throttle.{what}"),
        ];
        // A kernel built without one of them has another.
        let lists = names.iter().filter_map(|name| tree::text(dir, name).ok());
        lists
            .map(|text| io_lines(&text))
            .find(|list| !list.is_empty())
            .unwrap_or_default()
    };
    (read("io_service_bytes"), read("io_serviced"))
}

/// `8:0 Read 4096`; the last line, a total of all devices, is none of a device.
fn io_lines(text: &str) -> Vec<IoEntry> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = words.next()?.split_once(':')?;
        Some(IoEntry {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            operation: words.next()?.to_owned(),
            value: words.next()?.parse().ok()?,
        })
    };
    text.lines().filter_map(line).collect()
}

/// `8:0 rbytes=1 wbytes=2 rios=3 ...` of v2.
fn io_stat(text: &str) -> Vec<IoEntry> {
    let mut entries = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(|w| w.split_once(':')) else {
            continue;
        };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else {
            continue;
        };
        let numbers: Vec<(&str, &str)> = words.filter_map(|w| w.split_once('=')).collect();
        for (name, operation) in [("rbytes", "read"), ("wbytes", "write")] {
            let value = numbers.iter().find(|(key, _)| *key == name);
            entries.push(IoEntry {
                major,
                minor,
                operation: operation.to_owned(),
                value: value.and_then(|(_, n)| n.parse().ok()).unwrap_or(0),
            });
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(operation: &str, value: u64) -> IoEntry {
        IoEntry {
            major: 8,
            minor: 16,
            operation: operation.to_owned(),
            value,
        }
    }

    #[test]
    fn lines_of_v1() {
        let text = "8:16 Read 4096\n8:16 Total 4096\nTotal 4096\n";
        assert_eq!(io_lines(text), [entry("Read", 4096), entry("Total", 4096)]);
        assert_eq!(io_lines("Total 0\n"), []);
    }

    #[test]
    fn lines_of_v2() {
        let text = "8:16 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n7:0\n";
        let list = io_stat(text);
        assert_eq!(list[..2], [entry("read", 10), entry("write", 20)]);
        assert_eq!((list[2].major, list[2].value), (7, 0));
        let cpu = cpu_stat(
            "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 4\nnr_throttled 1\nthrottled_usec 7\n",
        );
        assert_eq!((cpu.total, cpu.user, cpu.kernel), (30_000, 20_000, 10_000));
        assert_eq!(
            (cpu.periods, cpu.throttled_periods, cpu.throttled),
            (4, 1, 7_000)
        );
    }

    #[test]
    fn of_this_machine() {
        let name = format!("/gantry-test-usage-{}", std::process::id());
        let group = Cgroup { path: name.clone() };
        let resources = oci_spec::runtime::LinuxResources::default();
        let _handle = Cgroup::create(&name, &resources).unwrap();
        let usage = group.usage().unwrap();
        assert!(usage.cpu.is_some() && usage.memory.is_some() && usage.pids.is_some());
        assert!(usage.memory.unwrap().details.len() > 20);
        group.destroy().unwrap();
        assert!(group.usage().is_err());
    }
}
