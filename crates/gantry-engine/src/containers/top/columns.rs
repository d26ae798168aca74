//! The options of `ps` that we answer ourselves, and their columns (ps(1) of procps, "STANDARD FORMAT SPECIFIERS").

use super::process::{Machine, Process, TICKS};
use jiff::Timestamp;

/// What a column shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Pid,
    Ppid,
    Pgid,
    Sid,
    User,
    RealUser,
    Uid,
    RealUid,
    Group,
    RealGroup,
    Gid,
    RealGid,
    Comm,
    Args,
    /// CPU time of the life so far, whole percents.
    Use,
    PercentCpu,
    PercentMemory,
    Vsz,
    Rss,
    Tty,
    Stat,
    State,
    /// `HH:MM:SS`
    Time,
    /// `M:SS`
    ShortTime,
    Elapsed,
    ElapsedSeconds,
    /// `-f`'s start.
    Start,
    /// `u`'s start.
    ShortStart,
    LongStart,
    Threads,
    Nice,
    Priority,
    Processor,
}

/// One column, by its title.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Column {
    title: &'static str,
    kind: Kind,
}

impl Column {
    pub(super) fn title(&self) -> &'static str {
        self.title
    }
}

/// Names of `-o`, titles and meanings.
const NAMED: [(&str, &str, Kind); 57] = [
    ("pid", "PID", Kind::Pid),
    ("tgid", "TGID", Kind::Pid),
    ("ppid", "PPID", Kind::Ppid),
    ("pgid", "PGID", Kind::Pgid),
    ("pgrp", "PGRP", Kind::Pgid),
    ("sid", "SID", Kind::Sid),
    ("sess", "SESS", Kind::Sid),
    ("session", "SESS", Kind::Sid),
    ("user", "USER", Kind::User),
    ("euser", "EUSER", Kind::User),
    ("uname", "USER", Kind::User),
    ("ruser", "RUSER", Kind::RealUser),
    ("uid", "UID", Kind::Uid),
    ("euid", "EUID", Kind::Uid),
    ("ruid", "RUID", Kind::RealUid),
    ("group", "GROUP", Kind::Group),
    ("egroup", "EGROUP", Kind::Group),
    ("rgroup", "RGROUP", Kind::RealGroup),
    ("gid", "GID", Kind::Gid),
    ("egid", "EGID", Kind::Gid),
    ("rgid", "RGID", Kind::RealGid),
    ("comm", "COMMAND", Kind::Comm),
    ("ucmd", "CMD", Kind::Comm),
    ("ucomm", "COMMAND", Kind::Comm),
    ("args", "COMMAND", Kind::Args),
    ("command", "COMMAND", Kind::Args),
    ("cmd", "CMD", Kind::Args),
    ("c", "C", Kind::Use),
    ("pcpu", "%CPU", Kind::PercentCpu),
    ("%cpu", "%CPU", Kind::PercentCpu),
    ("pmem", "%MEM", Kind::PercentMemory),
    ("%mem", "%MEM", Kind::PercentMemory),
    ("vsz", "VSZ", Kind::Vsz),
    ("vsize", "VSZ", Kind::Vsz),
    ("rss", "RSS", Kind::Rss),
    ("rssize", "RSS", Kind::Rss),
    ("rsz", "RSZ", Kind::Rss),
    ("tty", "TT", Kind::Tty),
    ("tt", "TT", Kind::Tty),
    ("tname", "TTY", Kind::Tty),
    ("stat", "STAT", Kind::Stat),
    ("state", "S", Kind::State),
    ("s", "S", Kind::State),
    ("time", "TIME", Kind::Time),
    ("cputime", "TIME", Kind::Time),
    ("bsdtime", "TIME", Kind::ShortTime),
    ("etime", "ELAPSED", Kind::Elapsed),
    ("etimes", "ELAPSED", Kind::ElapsedSeconds),
    ("stime", "STIME", Kind::Start),
    ("bsdstart", "START", Kind::ShortStart),
    ("lstart", "STARTED", Kind::LongStart),
    ("nlwp", "NLWP", Kind::Threads),
    ("thcount", "THCNT", Kind::Threads),
    ("ni", "NI", Kind::Nice),
    ("nice", "NI", Kind::Nice),
    ("pri", "PRI", Kind::Priority),
    ("psr", "PSR", Kind::Processor),
];

fn named(name: &str) -> Option<Column> {
    let found = NAMED.iter().find(|(known, _, _)| *known == name);
    found.map(|(_, title, kind)| Column { title, kind: *kind })
}

fn list(columns: &[(&'static str, Kind)]) -> Vec<Column> {
    let column = |(title, kind): &(&'static str, Kind)| Column { title, kind: *kind };
    columns.iter().map(column).collect()
}

/// `-f`
fn full() -> Vec<Column> {
    list(&[
        ("UID", Kind::User),
        ("PID", Kind::Pid),
        ("PPID", Kind::Ppid),
        ("C", Kind::Use),
        ("STIME", Kind::Start),
        ("TTY", Kind::Tty),
        ("TIME", Kind::Time),
        ("CMD", Kind::Args),
    ])
}

/// `-e`
fn plain() -> Vec<Column> {
    list(&[
        ("PID", Kind::Pid),
        ("TTY", Kind::Tty),
        ("TIME", Kind::Time),
        ("CMD", Kind::Comm),
    ])
}

/// `u`
fn by_user() -> Vec<Column> {
    list(&[
        ("USER", Kind::User),
        ("PID", Kind::Pid),
        ("%CPU", Kind::PercentCpu),
        ("%MEM", Kind::PercentMemory),
        ("VSZ", Kind::Vsz),
        ("RSS", Kind::Rss),
        ("TTY", Kind::Tty),
        ("STAT", Kind::Stat),
        ("START", Kind::ShortStart),
        ("TIME", Kind::ShortTime),
        ("COMMAND", Kind::Args),
    ])
}

/// `x`
fn bsd() -> Vec<Column> {
    list(&[
        ("PID", Kind::Pid),
        ("TTY", Kind::Tty),
        ("STAT", Kind::Stat),
        ("TIME", Kind::ShortTime),
        ("COMMAND", Kind::Args),
    ])
}

/// The columns of options that we know; `None` for all others.
pub(super) fn parse(ps_args: &str) -> Option<Vec<Column>> {
    let (mut is_full, mut is_bsd, mut is_user) = (false, false, false);
    let mut own: Vec<Column> = Vec::new();
    let mut words = ps_args.split_ascii_whitespace();
    while let Some(word) = words.next() {
        let unix = word.strip_prefix('-');
        let letters = unix.unwrap_or(word);
        if letters.is_empty() || letters.starts_with('-') {
            return None;
        }
        // The list may stand in the same word or in the next.
        let (letters, listed) = match letters.find('o') {
            Some(at) if at + 1 < letters.len() => (&letters[..at], Some(&letters[at + 1..])),
            Some(at) => (&letters[..at], Some(words.next()?)),
            None => (letters, None),
        };
        for name in listed.into_iter().flat_map(|text| text.split(',')) {
            own.push(named(name)?);
        }
        // `-aux` is read as `aux`, as procps does.
        let bsd_letters = letters
            .chars()
            .all(|letter| matches!(letter, 'a' | 'u' | 'x' | 'w'));
        for letter in letters.chars() {
            match letter {
                'e' | 'A' | 'w' if unix.is_some() => {}
                'f' if unix.is_some() => is_full = true,
                'a' | 'x' | 'w' if bsd_letters && (unix.is_none() || letters == "aux") => {
                    is_bsd = true;
                }
                'u' if bsd_letters && (unix.is_none() || letters == "aux") => {
                    (is_bsd, is_user) = (true, true);
                }
                _ => return None,
            }
        }
    }
    match (own.is_empty(), is_full, is_bsd, is_user) {
        (false, false, _, false) => Some(own),
        (true, true, false, _) => Some(full()),
        (true, false, true, true) => Some(by_user()),
        (true, false, true, false) => Some(bsd()),
        (true, false, false, false) => Some(plain()),
        // A mixture: its order is procps' own.
        _ => None,
    }
}

/// The text of one column for one process.
pub(super) fn value(column: Column, process: &Process, machine: &Machine) -> String {
    let p = process;
    match column.kind {
        Kind::Pid => p.pid.to_string(),
        Kind::Ppid => p.ppid.to_string(),
        Kind::Pgid => p.pgid.to_string(),
        Kind::Sid => p.sid.to_string(),
        Kind::User => fitting(machine.user(p.euid)),
        Kind::RealUser => fitting(machine.user(p.ruid)),
        Kind::Uid => p.euid.to_string(),
        Kind::RealUid => p.ruid.to_string(),
        Kind::Group => fitting(machine.group(p.egid)),
        Kind::RealGroup => fitting(machine.group(p.rgid)),
        Kind::Gid => p.egid.to_string(),
        Kind::RealGid => p.rgid.to_string(),
        Kind::Comm => with_end(p, p.comm.clone()),
        Kind::Args if p.args.is_empty() => with_end(p, format!("[{}]", p.comm)),
        Kind::Args => p.args.clone(),
        Kind::Use => (per_mille(p, machine) / 10).min(99).to_string(),
        Kind::PercentCpu => tenths(per_mille(p, machine)),
        Kind::PercentMemory => tenths((p.rss * 1000 / machine.memory.max(1)).min(999)),
        Kind::Vsz => p.vsz.to_string(),
        Kind::Rss => p.rss.to_string(),
        Kind::Tty => terminal(p.tty),
        Kind::Stat => stat(p),
        Kind::State => p.state.to_string(),
        Kind::Time => clock(p.cpu / TICKS, true),
        Kind::ShortTime => format!("{}:{:02}", p.cpu / TICKS / 60, p.cpu / TICKS % 60),
        Kind::Elapsed => clock(elapsed(p, machine) as u64, false),
        Kind::ElapsedSeconds => (elapsed(p, machine) as u64).to_string(),
        Kind::Start => start(p, machine),
        Kind::ShortStart => short_start(p, machine),
        Kind::LongStart => began(p, machine)
            .strftime("%a %b %e %H:%M:%S %Y")
            .to_string(),
        Kind::Threads => p.threads.to_string(),
        Kind::Nice => p.nice.to_string(),
        Kind::Priority => (39 - p.priority).to_string(),
        Kind::Processor => p.processor.to_string(),
    }
}

/// A name of at most eight characters; a `+` stands for the rest.
fn fitting(name: String) -> String {
    if name.chars().count() <= 8 {
        return name;
    }
    let short: String = name.chars().take(7).collect();
    short + "+"
}

fn with_end(process: &Process, name: String) -> String {
    match process.state {
        'Z' => name + " <defunct>",
        _ => name,
    }
}

/// Seconds of its life.
fn elapsed(process: &Process, machine: &Machine) -> f64 {
    (machine.uptime - process.started as f64 / TICKS as f64).max(0.0)
}

/// CPU time of its life, thousandths.
fn per_mille(process: &Process, machine: &Machine) -> u64 {
    let life = elapsed(process, machine);
    let used = process.cpu as f64 / TICKS as f64;
    if life > 0.0 {
        (used * 1000.0 / life) as u64
    } else {
        0
    }
}

fn tenths(thousandths: u64) -> String {
    if thousandths > 999 {
        return (thousandths / 10).to_string();
    }
    format!("{}.{}", thousandths / 10, thousandths % 10)
}

/// `[DD-]HH:MM:SS`, or without hours where there are none.
fn clock(seconds: u64, hours_always: bool) -> String {
    let (days, hours) = (seconds / 86400, seconds / 3600 % 24);
    let rest = format!("{:02}:{:02}", seconds / 60 % 60, seconds % 60);
    match (days, hours) {
        (0, 0) if !hours_always => rest,
        (0, hours) => format!("{hours:02}:{rest}"),
        (days, hours) if hours_always => format!("{days:02}-{hours:02}:{rest}"),
        (days, hours) => format!("{days}-{hours:02}:{rest}"),
    }
}

fn began(process: &Process, machine: &Machine) -> jiff::Zoned {
    let second = machine.boot + (process.started / TICKS) as i64;
    let time = Timestamp::from_second(second).unwrap_or_default();
    time.to_zoned(machine.zone.clone())
}

fn start(process: &Process, machine: &Machine) -> String {
    let began = began(process, machine);
    let now = Timestamp::from_second(machine.now).unwrap_or_default();
    let now = now.to_zoned(machine.zone.clone());
    let format = if began.year() != now.year() {
        "%Y"
    } else if began.day_of_year() == now.day_of_year() {
        "%H:%M"
    } else {
        "%b%d"
    };
    began.strftime(format).to_string()
}

fn short_start(process: &Process, machine: &Machine) -> String {
    let began = began(process, machine);
    let recent = began.timestamp().as_second() + 86400 > machine.now;
    let format = if recent { "%H:%M" } else { "%b%d" };
    began.strftime(format).to_string()
}

/// The name of a terminal by its device number (Documentation/admin-guide/devices.txt of the kernel).
fn terminal(device: u32) -> String {
    let major = device >> 8 & 0xfff;
    let minor = device & 0xff | device >> 12 & 0xfff00;
    match (major, minor) {
        (4, 0..64) => format!("tty{minor}"),
        (4, _) => format!("ttyS{}", minor - 64),
        (136..144, _) => format!("pts/{}", minor + (major - 136) * 256),
        _ => "?".to_owned(),
    }
}

fn stat(process: &Process) -> String {
    let mut stat = process.state.to_string();
    match process.nice {
        ..0 => stat.push('<'),
        1.. => stat.push('N'),
        0 => {}
    }
    for (letter, is) in [
        ('L', process.locked),
        ('s', process.sid == i64::from(process.pid)),
        ('l', process.threads > 1),
        ('+', process.tpgid == process.pgid),
    ] {
        if is {
            stat.push(letter);
        }
    }
    stat
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titles(ps_args: &str) -> Option<String> {
        let columns = parse(ps_args)?;
        let titles: Vec<&str> = columns.iter().map(Column::title).collect();
        Some(titles.join(" "))
    }

    #[test]
    fn options() {
        let full = Some("UID PID PPID C STIME TTY TIME CMD".to_owned());
        assert_eq!(titles("-ef"), full);
        assert_eq!(titles("-e -f"), full);
        assert_eq!(titles("-f"), full);
        let user = Some("USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND".to_owned());
        for aux in ["aux", "axu", "-aux", "auxww", "u"] {
            assert_eq!(titles(aux), user, "{aux}");
        }
        assert_eq!(titles("ax").unwrap(), "PID TTY STAT TIME COMMAND");
        assert_eq!(titles("-e").unwrap(), "PID TTY TIME CMD");
        assert_eq!(titles("-o pid,comm").unwrap(), "PID COMMAND");
        assert_eq!(titles("-eo pid,ppid,cmd").unwrap(), "PID PPID CMD");
        assert_eq!(titles("-opid -o args").unwrap(), "PID COMMAND");
        assert_eq!(titles("-o comm").unwrap(), "COMMAND");
        for unknown in [
            "-eLf",
            "--forest",
            "auxf",
            "-o pid=X",
            "m",
            "-o",
            "-C sh",
            "-ef -o pid",
            "-u root",
        ] {
            assert_eq!(titles(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn times() {
        assert_eq!(clock(5, true), "00:00:05");
        assert_eq!(clock(90_061, true), "01-01:01:01");
        assert_eq!(clock(65, false), "01:05");
        assert_eq!(clock(3_665, false), "01:01:05");
        assert_eq!(tenths(4), "0.4");
        assert_eq!(tenths(1250), "125");
    }

    #[test]
    fn terminals_and_states() {
        assert_eq!(terminal(0), "?");
        assert_eq!(terminal(34816), "pts/0");
        assert_eq!(terminal(137 << 8 | 3), "pts/259");
        assert_eq!(terminal(4 << 8 | 1), "tty1");
        assert_eq!(terminal(4 << 8 | 64), "ttyS0");
        assert_eq!(fitting("systemd-network".into()), "systemd+");
        let process = Process {
            pid: 7,
            state: 'S',
            sid: 7,
            threads: 2,
            pgid: 7,
            tpgid: -1,
            nice: 5,
            ..Process::default()
        };
        assert_eq!(stat(&process), "SNsl");
    }
}
