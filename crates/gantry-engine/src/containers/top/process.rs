//! One process as `/proc` tells it (proc(5)), and what of the machine is needed to show it.

use std::collections::HashMap;

/// Clock ticks a second (`USER_HZ`).
pub(super) const TICKS: u64 = 100;

/// What is the same for all processes.
#[derive(Debug)]
pub(super) struct Machine {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
    /// Seconds since the epoch.
    pub(super) now: i64,
    /// Of the boot, seconds since the epoch.
    pub(super) boot: i64,
    /// Seconds since the boot.
    pub(super) uptime: f64,
    /// KiB.
    pub(super) memory: u64,
    pub(super) zone: jiff::tz::TimeZone,
}

impl Machine {
    pub(super) fn read() -> Self {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let first = |text: &str| text.split_ascii_whitespace().next().map(str::to_owned);
        let meminfo = text("/proc/meminfo");
        let memory = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"));
        let uptime = first(&text("/proc/uptime")).and_then(|n| n.parse().ok());
        let stat = text("/proc/stat");
        let boot = stat.lines().find_map(|l| l.strip_prefix("btime "));
        Self {
            users: names(&text("/etc/passwd")),
            groups: names(&text("/etc/group")),
            now: jiff::Timestamp::now().as_second(),
            boot: boot.and_then(|n| n.trim().parse().ok()).unwrap_or(0),
            uptime: uptime.unwrap_or(0.0),
            memory: memory
                .and_then(first)
                .and_then(|n| n.parse().ok())
                .unwrap_or(1),
            zone: jiff::tz::TimeZone::system(),
        }
    }

    /// The host's name of a user, or the number.
    pub(super) fn user(&self, uid: u32) -> String {
        self.users
            .get(&uid)
            .cloned()
            .unwrap_or_else(|| uid.to_string())
    }

    /// The host's name of a group, or the number.
    pub(super) fn group(&self, gid: u32) -> String {
        self.groups
            .get(&gid)
            .cloned()
            .unwrap_or_else(|| gid.to_string())
    }
}

/// Names by number, from lines of `name:password:number:...`; the first of a number counts.
fn names(text: &str) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(number)) = (fields.next(), fields.nth(1))
            && let Ok(number) = number.parse()
        {
            names.entry(number).or_insert_with(|| name.to_owned());
        }
    }
    names
}

/// One process.
#[derive(Debug, Default)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// The kernel's name of it, at most 15 bytes.
    pub(super) comm: String,
    /// Its arguments; empty for a kernel thread or a zombie.
    pub(super) args: String,
    pub(super) state: char,
    pub(super) ppid: i64,
    pub(super) pgid: i64,
    pub(super) sid: i64,
    pub(super) tty: u32,
    pub(super) tpgid: i64,
    /// Ticks.
    pub(super) cpu: u64,
    pub(super) priority: i64,
    pub(super) nice: i64,
    pub(super) threads: i64,
    /// Ticks after the boot.
    pub(super) started: u64,
    /// KiB.
    pub(super) vsz: u64,
    pub(super) rss: u64,
    pub(super) locked: bool,
    pub(super) processor: i64,
    pub(super) ruid: u32,
    pub(super) euid: u32,
    pub(super) rgid: u32,
    pub(super) egid: u32,
}

impl Process {
    /// Reads a process; `None` when it has gone.
    pub(super) fn read(pid: u32) -> Option<Self> {
        let bytes = |what: &str| std::fs::read(format!("/proc/{pid}/{what}")).ok();
        let stat = bytes("stat")?;
        let status = bytes("status")?;
        let args = bytes("cmdline").unwrap_or_default();
        Self::parse(
            pid,
            &String::from_utf8_lossy(&stat),
            &String::from_utf8_lossy(&status),
            &args,
        )
    }

    fn parse(pid: u32, stat: &str, status: &str, args: &[u8]) -> Option<Self> {
        // The name stands in brackets and may hold anything.
        let (before, after) = stat.rsplit_once(')')?;
        let (_, comm) = before.split_once('(')?;
        let fields: Vec<&str> = after.split_ascii_whitespace().collect();
        // Numbered as in proc(5), where the name is field 2.
        let number = |field: usize| -> i64 {
            fields
                .get(field - 3)
                .and_then(|n| n.parse().ok())
                .unwrap_or(0)
        };
        let unsigned = |field: usize| u64::try_from(number(field)).unwrap_or(0);
        let line = |name: &str| status.lines().find_map(|l| l.strip_prefix(name));
        let numbers = |name: &str| -> Vec<u64> {
            let words = line(name).unwrap_or_default().split_ascii_whitespace();
            words.filter_map(|n| n.parse().ok()).collect()
        };
        let of = |list: &[u64], at: usize| {
            u32::try_from(list.get(at).copied().unwrap_or(0)).unwrap_or(0)
        };
        let (uids, gids) = (numbers("Uid:"), numbers("Gid:"));
        let kilobytes = |name: &str| numbers(name).first().copied().unwrap_or(0);
        Some(Self {
            pid,
            comm: shown(comm.as_bytes()),
            args: shown(args).trim_end().to_owned(),
            state: fields.first()?.chars().next()?,
            ppid: number(4),
            pgid: number(5),
            sid: number(6),
            tty: number(7) as u32,
            tpgid: number(8),
            cpu: unsigned(14) + unsigned(15),
            priority: number(18),
            nice: number(19),
            threads: number(20),
            started: unsigned(22),
            vsz: kilobytes("VmSize:"),
            rss: kilobytes("VmRSS:"),
            locked: kilobytes("VmLck:") > 0,
            processor: number(39),
            ruid: of(&uids, 0),
            euid: of(&uids, 1),
            rgid: of(&gids, 0),
            egid: of(&gids, 1),
        })
    }
}

/// What a process gives itself as name or arguments, made harmless: no control characters.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let harmless = |c: char| match c {
        '\0' => ' ',
        c if c.is_control() => '?',
        c => c,
    };
    text.chars().map(harmless).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_hostile_arguments() {
        let stat = "7 (a) b) S 1 7 6 34816 7 4194560 1 0 0 0 150 50 0 0 20 5 3 0 8888 1 1 0 0 0 0 0 0 0 0 0 0 0 0 0 17 1";
        let status =
            "Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nVmSize:\t  100 kB\nVmRSS:\t  50 kB\n";
        let process = Process::parse(7, stat, status, b"a\0b\x1b[2J\0").unwrap();
        assert_eq!(process.comm, "a) b");
        assert_eq!(process.args, "a b?[2J");
        assert_eq!((process.ppid, process.sid, process.tty), (1, 6, 34816));
        assert_eq!((process.cpu, process.nice, process.threads), (200, 5, 3));
        assert_eq!((process.started, process.processor), (8888, 1));
        assert_eq!((process.euid, process.egid), (2, 6));
        assert_eq!((process.vsz, process.rss), (100, 50));
    }

    #[test]
    fn the_first_name_of_a_number() {
        let users = names("root:x:0:0::/:\ntoor:x:0:0::/:\nbad\nx:y:z\n");
        assert_eq!(users.len(), 1);
        assert_eq!(users[&0], "root");
    }
}
