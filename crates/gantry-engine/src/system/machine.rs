//! The machine as `info` shows it: kernel, memory, processors, and what its cgroups can do.

use gantry_api::system::Info;
use std::fs;
use std::path::Path;

/// The kernel's release.
pub(super) fn kernel() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

/// The machine's part of `info`.
pub(super) fn info(driver: &str, data_root: &Path) -> Info {
    let uname = rustix::system::uname();
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let mut info = Info {
        kernel_version: kernel(),
        operating_system: os_release(&release, "PRETTY_NAME").unwrap_or_else(|| "Linux".to_owned()),
        os_version: os_release(&release, "VERSION_ID").unwrap_or_default(),
        architecture: uname.machine().to_string_lossy().into_owned(),
        name: uname.nodename().to_string_lossy().into_owned(),
        ncpu: std::thread::available_parallelism().map_or(1, |n| n.get() as i64),
        mem_total: memory(&fs::read_to_string("/proc/meminfo").unwrap_or_default()),
        n_fd: entries("/proc/self/fd"),
        n_goroutines: entries("/proc/self/task"),
        ipv4_forwarding: reads("/proc/sys/net/ipv4/ip_forward", "1"),
        http_proxy: proxy("HTTP_PROXY"),
        https_proxy: proxy("HTTPS_PROXY"),
        no_proxy: proxy("NO_PROXY"),
        driver_status: driver_status(driver, data_root),
        ..Info::default()
    };
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        unified(&mut info, Path::new("/sys/fs/cgroup"));
    } else {
        separate(&mut info, Path::new("/sys/fs/cgroup"));
    }
    warn(&mut info);
    info
}

fn entries(folder: &str) -> i64 {
    fs::read_dir(folder).map_or(0, |entries| entries.count() as i64)
}

fn reads(file: &str, text: &str) -> bool {
    fs::read_to_string(file).is_ok_and(|found| found.trim() == text)
}

/// A proxy's address without its credentials.
fn proxy(name: &str) -> String {
    let text = [name.to_owned(), name.to_lowercase()]
        .iter()
        .find_map(|name| std::env::var(name).ok())
        .unwrap_or_default();
    match text.split_once("://") {
        Some((scheme, rest)) => match rest.rsplit_once('@') {
            Some((_, host)) => format!("{scheme}://xxxxx:xxxxx@{host}"),
            None => text,
        },
        None => text,
    }
}

/// A value of `/etc/os-release`, without its quotes.
fn os_release(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix('=')?;
        Some(value.trim_matches(['"', '\'']).to_owned())
    })
}

/// `MemTotal` in bytes.
fn memory(meminfo: &str) -> i64 {
    meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<i64>().ok())
        .map_or(0, |kib| kib * 1024)
}

fn driver_status(driver: &str, data_root: &Path) -> Vec<[String; 2]> {
    // COMPAT: each of Docker's drivers has its own to tell.
    match driver {
        "overlay2" => {}
        "btrfs" => return vec![["Btrfs".to_owned(), String::new()]],
        _ => return Vec::new(),
    }
    let backing = match rustix::fs::statfs(data_root).map(|found| found.f_type) {
        Ok(0xef53) => "extfs",
        Ok(0x5846_5342) => "xfs",
        Ok(0x9123_683e) => "btrfs",
        Ok(0x0102_1994) => "tmpfs",
        Ok(0x794c_7630) => "overlayfs",
        Ok(0x2fc1_2fc1) => "zfs",
        _ => "unknown",
    };
    [
        ("Backing Filesystem", backing),
        ("Supports d_type", "true"),
        ("Using metacopy", "false"),
        ("Native Overlay Diff", "true"),
        ("userxattr", "false"),
    ]
    .map(|(name, value)| [name.to_owned(), value.to_owned()])
    .into()
}

/// A hierarchy for each controller.
fn separate(info: &mut Info, root: &Path) {
    let has = |file: &str| root.join(file).exists();
    info.cgroup_version = "1".to_owned();
    info.memory_limit = has("memory/memory.limit_in_bytes");
    info.swap_limit = has("memory/memory.memsw.limit_in_bytes");
    info.oom_kill_disable = has("memory/memory.oom_control");
    info.kernel_memory_tcp = has("memory/memory.kmem.tcp.limit_in_bytes");
    info.cpu_shares = has("cpu/cpu.shares");
    info.cpu_cfs_period = has("cpu/cpu.cfs_period_us");
    info.cpu_cfs_quota = has("cpu/cpu.cfs_quota_us");
    info.cpu_set = has("cpuset/cpuset.cpus");
    info.pids_limit = has("pids/tasks");
}

/// One hierarchy of all controllers.
fn unified(info: &mut Info, root: &Path) {
    let controllers = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
    let has = |name: &str| controllers.split_whitespace().any(|found| found == name);
    info.cgroup_version = "2".to_owned();
    info.memory_limit = has("memory");
    info.swap_limit = has("memory") && Path::new("/proc/swaps").exists();
    info.cpu_shares = has("cpu");
    info.cpu_cfs_period = has("cpu");
    info.cpu_cfs_quota = has("cpu");
    info.cpu_set = has("cpuset");
    info.pids_limit = has("pids");
    info.security_options.push("name=cgroupns".to_owned());
}

fn warn(info: &mut Info) {
    let missing = [
        (info.memory_limit, "No memory limit support"),
        (info.swap_limit, "No swap limit support"),
        (info.cpu_cfs_period, "No cpu cfs period support"),
        (info.cpu_cfs_quota, "No cpu cfs quota support"),
        (info.cpu_shares, "No cpu shares support"),
        (info.cpu_set, "No cpuset support"),
        (info.pids_limit, "No pids limit support"),
        (info.ipv4_forwarding, "IPv4 forwarding is disabled"),
    ];
    let warnings: Vec<_> = missing
        .into_iter()
        .filter(|(there, _)| !there)
        .map(|(_, text)| format!("WARNING: {text}"))
        .collect();
    info.warnings = Some(warnings).filter(|warnings| !warnings.is_empty());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_the_kernel_and_the_distribution() {
        let release =
            "NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nVERSION_ID='13'\n";
        assert_eq!(
            os_release(release, "PRETTY_NAME").unwrap(),
            "Debian GNU/Linux 13 (trixie)"
        );
        assert_eq!(os_release(release, "VERSION_ID").unwrap(), "13");
        assert_eq!(os_release(release, "ID"), None);
        assert_eq!(memory("MemFree: 1 kB\nMemTotal:       2048 kB\n"), 2 << 20);
    }

    #[test]
    fn this_machine() {
        let info = info("overlay2", Path::new("/"));
        assert!(info.ncpu > 0 && info.mem_total > 1 << 20 && info.n_fd > 0);
        assert!(!info.kernel_version.is_empty() && !info.cgroup_version.is_empty());
        assert_ne!(info.driver_status[0][1], "unknown");
    }
}
