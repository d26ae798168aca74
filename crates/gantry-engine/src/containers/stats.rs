//! `stats`: what a container uses, read from its cgroup and from `/proc` of its first process. No shim is asked.

use super::record::Record;
use super::{Container, Containers};
use crate::error::{Error, Result};
use futures_util::stream::{self, Stream};
use gantry_api::stats::{
    BlkioEntry, BlkioStats, CpuStats, CpuUsage, MemoryStats, NetworkStats, PidsStats, Stats,
    ThrottlingData,
};
use gantry_runtime::cgroup::{IoEntry, Usage};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How often a stream brings numbers.
const INTERVAL: Duration = Duration::from_secs(1);
/// Nanoseconds of a tick of `/proc/stat`.
const TICK: u64 = 10_000_000;

/// How often, and how, a client wants the numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct StatsOptions {
    pub stream: bool,
    /// At once, without numbers to compare with.
    pub one_shot: bool,
}

/// Keys of v1's `memory.stat` that Docker shows.
const KEYS_V1: [&str; 32] = [
    "cache",
    "rss",
    "rss_huge",
    "mapped_file",
    "dirty",
    "writeback",
    "pgpgin",
    "pgpgout",
    "pgfault",
    "pgmajfault",
    "inactive_anon",
    "active_anon",
    "inactive_file",
    "active_file",
    "unevictable",
    "hierarchical_memory_limit",
    "hierarchical_memsw_limit",
    "total_cache",
    "total_rss",
    "total_rss_huge",
    "total_mapped_file",
    "total_dirty",
    "total_writeback",
    "total_pgpgin",
    "total_pgpgout",
    "total_pgfault",
    "total_pgmajfault",
    "total_inactive_anon",
    "total_active_anon",
    "total_inactive_file",
    "total_active_file",
    "total_unevictable",
];

/// Keys of v2's that Docker shows.
const KEYS_V2: [&str; 31] = [
    "anon",
    "file",
    "kernel_stack",
    "slab",
    "sock",
    "shmem",
    "file_mapped",
    "file_dirty",
    "file_writeback",
    "anon_thp",
    "inactive_anon",
    "active_anon",
    "inactive_file",
    "active_file",
    "unevictable",
    "slab_reclaimable",
    "slab_unreclaimable",
    "pgfault",
    "pgmajfault",
    "workingset_refault",
    "workingset_activate",
    "workingset_nodereclaim",
    "pgrefill",
    "pgscan",
    "pgsteal",
    "pgactivate",
    "pgdeactivate",
    "pglazyfree",
    "pglazyfreed",
    "thp_fault_alloc",
    "thp_collapse_alloc",
];

impl Containers {
    /// The numbers of a container: one piece, or one each second until the container is removed.
    ///
    /// # Errors
    /// `NotFound`; `InvalidParameter` for a one-shot stream.
    pub async fn stats(
        self: &Arc<Self>,
        name: &str,
        options: StatsOptions,
    ) -> Result<impl Stream<Item = Stats> + Send + use<>> {
        let container = self.find(name)?;
        if options.stream && options.one_shot {
            return Err(Error::invalid("cannot have stream=true and one-shot=true"));
        }
        let source = Source {
            containers: self.clone(),
            container,
            options,
            before: None,
            given: 0,
        };
        Ok(stream::unfold(source, Source::next))
    }

    /// Reads all numbers once.
    async fn read_stats(self: &Arc<Self>, container: &Arc<Container>) -> Stats {
        let record = container.snapshot();
        let (cgroup, id) = (self.cgroup(container), container.id.clone());
        let pid = self.network_pid(&record);
        let read = crate::blocking(move || {
            let usage = cgroup.usage()?;
            let machine = machine_cpu();
            let networks = pid.map(networks).unwrap_or_default();
            Ok::<_, gantry_runtime::cgroup::CgroupError>((usage, machine, networks))
        })
        .await;
        match read {
            Ok(Ok((usage, machine, networks))) => shaped(usage, machine, networks),
            // It has just ended.
            Ok(Err(error)) => {
                tracing::debug!(container = %id, %error, "no numbers");
                Stats::default()
            }
            Err(_) => Stats::default(),
        }
    }

    /// A process in the container's network namespace; none with the host's network.
    fn network_pid(&self, record: &Record) -> Option<u32> {
        if record.config.network_disabled || record.network_mode() == "host" {
            return None;
        }
        // A container that joined another's namespace is in the same one.
        Some(record.state.pid).filter(|pid| *pid != 0)
    }
}

struct Source {
    containers: Arc<Containers>,
    container: Arc<Container>,
    options: StatsOptions,
    before: Option<(String, CpuStats)>,
    given: u32,
}

impl Source {
    async fn next(mut self) -> Option<(Stats, Self)> {
        let (containers, container) = (self.containers.clone(), self.container.clone());
        let options = self.options;
        if self.given > 0 && !options.stream {
            return None;
        }
        let name = format!("/{}", container.record().name);
        let alive = |container: &Container| container.record().state.status.is_alive();
        let named = |stats: &mut Stats| {
            stats.name.clone_from(&name);
            stats.id.clone_from(&container.id);
        };
        if !options.stream && (options.one_shot || !alive(&container)) {
            let mut stats = Stats::default();
            if alive(&container) {
                stats = containers.read_stats(&container).await;
            }
            // COMPAT: a one-shot answer about a running container has neither name nor ID.
            if stats == Stats::default() {
                named(&mut stats);
            }
            self.given += 1;
            return Some((stats, self));
        }
        loop {
            let first = self.given == 0 && self.before.is_none();
            if !first {
                let mut phases = container.phases();
                let gone = phases.wait_for(|phase| phase.removed);
                if tokio::time::timeout(INTERVAL, gone).await.is_ok() {
                    return None;
                }
            }
            let mut stats = Stats::default();
            if alive(&container) {
                stats = containers.read_stats(&container).await;
            }
            named(&mut stats);
            let now = (stats.read.clone(), stats.cpu_stats.clone());
            if let Some((read, cpu)) = self.before.replace(now) {
                (stats.preread, stats.precpu_stats) = (read, cpu);
            } else if !options.stream {
                // The first numbers are only there to be compared with.
                continue;
            }
            self.given += 1;
            return Some((stats, self));
        }
    }
}

/// CPU time of the whole machine in nanoseconds, and its processors.
fn machine_cpu() -> (u64, u32) {
    machine_cpu_of(&std::fs::read_to_string("/proc/stat").unwrap_or_default())
}

fn machine_cpu_of(text: &str) -> (u64, u32) {
    let (mut total, mut count) = (0, 0);
    for line in text.lines().take_while(|line| line.starts_with("cpu")) {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            // User, nice, system, idle, iowait, irq, softirq.
            Some("cpu") => {
                let ticks = words.take(7).filter_map(|n| n.parse::<u64>().ok());
                total = ticks.sum::<u64>() * TICK;
            }
            _ => count += 1,
        }
    }
    (total, count)
}

/// Bytes of memory of the machine.
fn machine_memory() -> u64 {
    static MEMORY: OnceLock<u64> = OnceLock::new();
    *MEMORY.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"));
        let kilobytes = line.and_then(|l| l.split_ascii_whitespace().next()?.parse::<u64>().ok());
        kilobytes.unwrap_or(0) * 1024
    })
}

/// The interfaces of a process's network namespace, but `lo`.
fn networks(pid: u32) -> BTreeMap<String, NetworkStats> {
    networks_of(&std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default())
}

fn networks_of(text: &str) -> BTreeMap<String, NetworkStats> {
    // Two lines of titles; then NAME: bytes packets errs drop fifo frame compressed multicast, and the same for sent.
    let interface = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        let n: Vec<u64> = numbers
            .split_ascii_whitespace()
            .filter_map(|n| n.parse().ok())
            .collect();
        let stats = NetworkStats {
            rx_bytes: *n.first()?,
            rx_packets: *n.get(1)?,
            rx_errors: *n.get(2)?,
            rx_dropped: *n.get(3)?,
            tx_bytes: *n.get(8)?,
            tx_packets: *n.get(9)?,
            tx_errors: *n.get(10)?,
            tx_dropped: *n.get(11)?,
        };
        Some((name.trim().to_owned(), stats))
    };
    let found = text.lines().skip(2).filter_map(interface);
    found.filter(|(name, _)| name != "lo").collect()
}

/// The kernel's numbers in Docker's shape.
fn shaped(
    usage: Usage,
    (system, online): (u64, u32),
    networks: BTreeMap<String, NetworkStats>,
) -> Stats {
    let mut stats = Stats {
        read: jiff::Timestamp::now().to_string(),
        networks,
        ..Stats::default()
    };
    if let Some(cpu) = usage.cpu {
        stats.cpu_stats = CpuStats {
            cpu_usage: CpuUsage {
                total_usage: cpu.total,
                percpu_usage: cpu.per_cpu,
                usage_in_kernelmode: cpu.kernel,
                usage_in_usermode: cpu.user,
            },
            throttling_data: ThrottlingData {
                periods: cpu.periods,
                throttled_periods: cpu.throttled_periods,
                throttled_time: cpu.throttled,
            },
            ..CpuStats::default()
        };
    }
    stats.cpu_stats.system_cpu_usage = system;
    stats.cpu_stats.online_cpus = online;
    if let Some(memory) = usage.memory {
        let keys: &[&str] = if usage.unified { &KEYS_V2 } else { &KEYS_V1 };
        let keys = keys.iter();
        let value = |key: &&str| memory.details.get(*key).copied().unwrap_or(0);
        stats.memory_stats = MemoryStats {
            usage: memory.usage,
            max_usage: memory.max_usage,
            stats: keys.map(|key| ((*key).to_owned(), value(key))).collect(),
            failcnt: memory.failures,
            limit: match machine_memory() {
                0 => memory.limit,
                machine => memory.limit.min(machine),
            },
        };
    }
    if let Some((current, limit)) = usage.pids {
        stats.pids_stats = PidsStats { current, limit };
    }
    if let Some((bytes, operations)) = usage.io {
        stats.blkio_stats = blkio(bytes, operations, usage.unified);
    }
    stats
}

fn blkio(bytes: Vec<IoEntry>, operations: Vec<IoEntry>, unified: bool) -> BlkioStats {
    let entries = |list: Vec<IoEntry>| {
        let entry = |e: IoEntry| BlkioEntry {
            major: e.major,
            minor: e.minor,
            op: e.operation,
            value: e.value,
        };
        Some(list.into_iter().map(entry).collect::<Vec<_>>())
    };
    if unified {
        // COMPAT: Docker has `null` for a list that is empty there.
        return BlkioStats {
            io_service_bytes_recursive: entries(bytes).filter(|list| !list.is_empty()),
            ..BlkioStats::default()
        };
    }
    BlkioStats {
        io_service_bytes_recursive: entries(bytes),
        io_serviced_recursive: entries(operations),
        io_queue_recursive: Some(Vec::new()),
        io_service_time_recursive: Some(Vec::new()),
        io_wait_time_recursive: Some(Vec::new()),
        io_merged_recursive: Some(Vec::new()),
        io_time_recursive: Some(Vec::new()),
        sectors_recursive: Some(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_time() {
        let text = "cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 2\ncpu1 1 2\nintr 5\ncpux 1\n";
        assert_eq!(machine_cpu_of(text), (28 * TICK, 2));
    }

    #[test]
    fn interfaces() {
        let text = "Inter-|   Receive\n face |bytes\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0:100 2 3 4 0 0 0 0 200 6 7 8 0 0 0 0\n";
        let found = networks_of(text);
        assert_eq!(found.len(), 1);
        let eth0 = &found["eth0"];
        assert_eq!((eth0.rx_bytes, eth0.rx_dropped), (100, 4));
        assert_eq!((eth0.tx_bytes, eth0.tx_dropped), (200, 8));
    }
}
