//! One line of `stats`: the sums that Docker's client makes of the daemon's numbers.

use gantry_api::stats::{MemoryStats, Stats};
use gotmpl::Value;

use crate::format::{Listing, binary_size, human_size_short, short_id};

pub(super) const FIELDS: &[(&str, &str)] = &[
    ("BlockIO", "BLOCK I/O"),
    ("CPUPerc", "CPU %"),
    ("Container", "CONTAINER"),
    ("ID", "CONTAINER ID"),
    ("MemPerc", "MEM %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("Name", "NAME"),
    ("NetIO", "NET I/O"),
    ("PIDs", "PIDS"),
];

pub(super) const TABLE: &str = "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}";

/// What is shown where there is no number.
const NOTHING: &str = "--";

/// What is known of one container.
#[derive(Debug, Default)]
pub(super) struct Row {
    /// As it was asked for.
    pub(super) container: String,
    name: String,
    id: String,
    cpu: f64,
    memory: f64,
    limit: f64,
    received: f64,
    sent: f64,
    read: f64,
    written: f64,
    pids: u64,
    invalid: bool,
    /// Numbers or an error have come.
    pub(super) seen: bool,
    pub(super) error: Option<String>,
}

impl Row {
    pub(super) fn new(container: &str) -> Self {
        Self {
            container: container.to_owned(),
            ..Self::default()
        }
    }

    pub(super) fn fail(&mut self, error: String) {
        let (name, id) = (std::mem::take(&mut self.name), std::mem::take(&mut self.id));
        *self = Self {
            name,
            id,
            invalid: true,
            seen: true,
            error: Some(error),
            ..Self::new(&self.container)
        };
    }

    pub(super) fn take(&mut self, stats: &Stats) {
        let networks = stats.networks.values();
        let (mut read, mut written) = (0, 0);
        let entries = stats.blkio_stats.io_service_bytes_recursive.iter();
        for entry in entries.flatten() {
            match entry.op.as_bytes().first() {
                Some(b'r' | b'R') => read += entry.value,
                Some(b'w' | b'W') => written += entry.value,
                _ => {}
            }
        }
        *self = Self {
            name: stats.name.clone(),
            id: stats.id.clone(),
            cpu: cpu_percent(stats),
            memory: without_cache(&stats.memory_stats) as f64,
            limit: stats.memory_stats.limit as f64,
            received: networks.clone().map(|n| n.rx_bytes as f64).sum(),
            sent: networks.map(|n| n.tx_bytes as f64).sum(),
            read: read as f64,
            written: written as f64,
            pids: stats.pids_stats.current,
            seen: true,
            ..Self::new(&self.container)
        };
    }

    fn values(&self, short: bool) -> Vec<Value> {
        let or_nothing = |text: String| match self.invalid {
            true => NOTHING.to_owned(),
            false => text,
        };
        let percent = match self.limit {
            0.0 => 0.0,
            limit => self.memory / limit * 100.0,
        };
        let pair = |one: String, other: String| format!("{one} / {other}");
        let size = human_size_short;
        [
            or_nothing(pair(size(self.read), size(self.written))),
            or_nothing(format!("{:.2}%", self.cpu)),
            self.container.clone(),
            match short {
                true => short_id(&self.id).to_owned(),
                false => self.id.clone(),
            },
            or_nothing(format!("{percent:.2}%")),
            match self.invalid {
                true => pair(NOTHING.to_owned(), NOTHING.to_owned()),
                false => pair(binary_size(self.memory), binary_size(self.limit)),
            },
            match self.name.strip_prefix('/') {
                Some(name) if !name.is_empty() => name.to_owned(),
                _ => NOTHING.to_owned(),
            },
            or_nothing(pair(size(self.received), size(self.sent))),
            or_nothing(self.pids.to_string()),
        ]
        .into_iter()
        .map(|text| Value::String(text.into()))
        .collect()
    }
}

/// All rows, ready to be written.
pub(super) fn listing(rows: &[Row], short: bool) -> Listing {
    Listing {
        fields: FIELDS,
        go: "*container.statsContext",
        rows: rows.iter().map(|row| row.values(short)).collect(),
    }
}

/// The container's share of the machine's time since the numbers before; one processor is 100.
fn cpu_percent(stats: &Stats) -> f64 {
    let (now, before) = (&stats.cpu_stats, &stats.precpu_stats);
    let own = now.cpu_usage.total_usage as f64 - before.cpu_usage.total_usage as f64;
    let machine = now.system_cpu_usage as f64 - before.system_cpu_usage as f64;
    let processors = match now.online_cpus {
        0 => now.cpu_usage.percpu_usage.len() as f64,
        count => f64::from(count),
    };
    if own > 0.0 && machine > 0.0 {
        own / machine * processors * 100.0
    } else {
        0.0
    }
}

/// Memory that is in use and not only kept because there is room: v1 has `total_inactive_file` for that, v2 `inactive_file`.
fn without_cache(memory: &MemoryStats) -> u64 {
    let cached = |key: &str| {
        let value = memory.stats.get(key).copied();
        value.filter(|value| *value < memory.usage)
    };
    let cached = cached("total_inactive_file").or_else(|| cached("inactive_file"));
    memory.usage - cached.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_api::stats::{BlkioEntry, NetworkStats};

    #[test]
    fn sums_as_docker_makes_them() {
        let mut stats = Stats {
            name: "/con".into(),
            id: "0123456789abcdef".into(),
            ..Stats::default()
        };
        stats.cpu_stats.cpu_usage.total_usage = 300;
        stats.precpu_stats.cpu_usage.total_usage = 100;
        stats.cpu_stats.system_cpu_usage = 5_000;
        stats.precpu_stats.system_cpu_usage = 4_000;
        stats.cpu_stats.online_cpus = 4;
        stats.memory_stats.usage = 3 << 20;
        stats.memory_stats.limit = 8 << 20;
        let cached = ("total_inactive_file".to_owned(), 1 << 20);
        stats.memory_stats.stats.extend([cached]);
        let network = NetworkStats {
            rx_bytes: 1_234_567,
            tx_bytes: 10,
            ..NetworkStats::default()
        };
        stats.networks.insert("eth0".into(), network);
        let entry = |op: &str, value| BlkioEntry {
            op: op.into(),
            value,
            ..BlkioEntry::default()
        };
        stats.blkio_stats.io_service_bytes_recursive = Some(vec![
            entry("Read", 4096),
            entry("write", 5),
            entry("Total", 9),
        ]);
        stats.pids_stats.current = 3;
        let mut row = Row::new("c");
        row.take(&stats);
        let line = |row: &Row| -> Vec<String> {
            let text = |value: Value| value.as_str().unwrap_or_default().to_owned();
            row.values(true).into_iter().map(text).collect()
        };
        assert_eq!(
            line(&row),
            [
                "4.1kB / 5B",
                "80.00%",
                "c",
                "0123456789ab",
                "25.00%",
                "2MiB / 8MiB",
                "con",
                "1.23MB / 10B",
                "3"
            ]
        );
        row.fail("timeout".into());
        assert_eq!(
            line(&row)[..3],
            ["--".to_owned(), "--".to_owned(), "c".to_owned()]
        );
        assert_eq!(line(&row)[5], "-- / --");
    }
}
