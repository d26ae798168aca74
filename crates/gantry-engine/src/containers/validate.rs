//! What `create` refuses, in Docker's words (daemon/container.go and runconfig of Docker Engine 28).

use crate::error::{Error, Result};
use gantry_api::container::{ContainerConfig, HostConfig, RestartPolicy};

const MINIMUM_MEMORY: i64 = 6 << 20;

fn refuse<T>(message: impl Into<String>) -> Result<T> {
    Err(Error::invalid(message))
}

/// Checks the part that does not depend on the host.
pub(super) fn config(config: &ContainerConfig) -> Result<()> {
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        return refuse(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            config.working_dir
        ));
    }
    if !config.stop_signal.is_empty() && super::signal::parse(&config.stop_signal).is_none() {
        return refuse(format!("invalid signal: {}", config.stop_signal));
    }
    for entry in config.env.iter().flatten() {
        if entry.is_empty() || entry.starts_with('=') {
            return refuse(format!("invalid environment variable: {entry}"));
        }
    }
    if let Some(health) = &config.healthcheck {
        health_config(health)?;
    }
    Ok(())
}

fn health_config(health: &gantry_api::container::HealthConfig) -> Result<()> {
    const MILLISECOND: i64 = 1_000_000;
    let named = [
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ];
    for (name, value) in named {
        if value != 0 && value < MILLISECOND {
            return refuse(format!("{name} in Healthcheck cannot be less than 1ms"));
        }
    }
    if health.retries < 0 {
        return refuse("Retries in Healthcheck cannot be negative");
    }
    if !matches!(
        health.on_failure.as_str(),
        "" | "none" | "kill" | "restart" | "stop"
    ) {
        return refuse(format!(
            "invalid OnFailure in Healthcheck: {:?} (none, kill, restart or stop)",
            health.on_failure
        ));
    }
    Ok(())
}

/// Checks the part that depends on the host.
pub(super) fn host_config(config: &HostConfig) -> Result<()> {
    restart_policy(&config.restart_policy)?;
    if config.auto_remove && !matches!(config.restart_policy.name.as_str(), "" | "no") {
        return refuse("can't create 'AutoRemove' container with restart policy");
    }
    resources(config, false)?;
    modes(config)?;
    for entry in config.extra_hosts.iter().flatten() {
        let valid = entry
            .split_once([':', '='])
            .is_some_and(|(host, ip)| !host.is_empty() && !ip.is_empty());
        if !valid {
            return refuse(format!("bad format for add-host: \"{entry}\""));
        }
    }
    ports(config)?;
    if !(-1000..=1000).contains(&config.oom_score_adj) {
        return refuse(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            config.oom_score_adj
        ));
    }
    capabilities(config)
}

/// Checks what is to be published.
pub(super) fn ports(config: &HostConfig) -> Result<()> {
    for (port, bindings) in config.port_bindings.iter().flatten() {
        let number = port.split('/').next().unwrap_or_default();
        if !number.split('-').all(|n| n.parse::<u16>().is_ok()) {
            return refuse(format!("invalid port specification: \"{number}\""));
        }
        for binding in bindings.iter().flatten() {
            let host = &binding.host_port;
            if !host.is_empty() && !host.split('-').all(|n| n.parse::<u16>().is_ok()) {
                return refuse(format!("invalid port specification: \"{host}\""));
            }
        }
    }
    Ok(())
}

fn capabilities(config: &HostConfig) -> Result<()> {
    use gantry_runtime::capabilities::{available, parse};
    for (field, list) in [("CapAdd", &config.cap_add), ("CapDrop", &config.cap_drop)] {
        parse(list.as_deref().unwrap_or_default(), available())
            .map_err(|e| Error::invalid(format!("invalid {field}: {e}")))?;
    }
    Ok(())
}

/// Checks a restart policy.
pub(super) fn restart_policy(policy: &RestartPolicy) -> Result<()> {
    let name = policy.name.as_str();
    if !matches!(name, "" | "no" | "always" | "on-failure" | "unless-stopped") {
        return refuse(format!(
            "invalid restart policy: unknown policy '{name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        ));
    }
    if name != "on-failure" && policy.maximum_retry_count != 0 {
        return refuse(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'",
        );
    }
    if policy.maximum_retry_count < 0 {
        return refuse("invalid restart policy: maximum retry count cannot be negative");
    }
    Ok(())
}

/// Checks limits; an update may name a swap limit alone.
pub(super) fn resources(config: &HostConfig, update: bool) -> Result<()> {
    memory(config, update)?;
    cpu(config)?;
    if config.blkio_weight != 0 && !(10..=1000).contains(&config.blkio_weight) {
        return refuse("Range of blkio weight is from 10 to 1000");
    }
    if config.io_maximum_bandwidth != 0 || config.io_maximum_iops != 0 {
        return refuse(
            "Invalid QoS settings: linux does not support Maximum IO Bandwidth or Maximum IO IOps",
        );
    }
    Ok(())
}

fn memory(config: &HostConfig, update: bool) -> Result<()> {
    if config.memory != 0 && config.memory < MINIMUM_MEMORY {
        return refuse("Minimum memory limit allowed is 6MB");
    }
    if config.memory_swap > 0 && config.memory == 0 && !update {
        return refuse(
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        );
    }
    if config.memory > 0 && config.memory_swap > 0 && config.memory_swap < config.memory {
        return refuse("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if let Some(swappiness) = config.memory_swappiness
        && !(-1..=100).contains(&swappiness)
    {
        return refuse(format!(
            "Invalid value: {swappiness}, valid memory swappiness range is 0-100"
        ));
    }
    if config.memory_reservation != 0 && config.memory_reservation < MINIMUM_MEMORY {
        return refuse("Minimum memory reservation allowed is 6MB");
    }
    if config.memory > 0 && config.memory_reservation > config.memory {
        return refuse(
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        );
    }
    if config.shm_size < 0 {
        return refuse("SHM size can not be less than 0");
    }
    Ok(())
}

fn cpu(config: &HostConfig) -> Result<()> {
    if config.nano_cpus > 0 && config.cpu_period != 0 {
        return refuse("Conflicting options: Nano CPUs and CPU Period cannot both be set");
    }
    if config.nano_cpus > 0 && config.cpu_quota != 0 {
        return refuse("Conflicting options: Nano CPUs and CPU Quota cannot both be set");
    }
    // Asked for only where it matters: the answer costs a look at the cgroups.
    let there = || std::thread::available_parallelism().map_or(1, usize::from) as i64;
    if config.nano_cpus != 0 && !(0..=there() * 1_000_000_000).contains(&config.nano_cpus) {
        let there = there();
        return refuse(format!(
            "range of CPUs is from 0.01 to {there}.00, as there are only {there} CPUs available"
        ));
    }
    if config.cpu_period != 0 && !(1_000..=1_000_000).contains(&config.cpu_period) {
        return refuse(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        );
    }
    if config.cpu_quota > 0 && config.cpu_quota < 1_000 {
        return refuse("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    cpuset(
        "CPUs",
        &config.cpuset_cpus,
        "/sys/devices/system/cpu/online",
    )?;
    cpuset(
        "memory nodes",
        &config.cpuset_mems,
        "/sys/devices/system/node/online",
    )
}

/// The numbers of a kernel list, `0-2,5`; `None` where it is not one.
fn numbers(list: &str) -> Option<Vec<u32>> {
    let mut out = Vec::new();
    for part in list.trim().split(',').filter(|p| !p.is_empty()) {
        match part.split_once('-') {
            None => out.push(part.parse().ok()?),
            Some((from, to)) => out
                .extend(from.parse::<u32>().ok()?..=to.parse::<u32>().ok().filter(|n| *n < 8192)?),
        }
    }
    Some(out)
}

fn cpuset(what: &str, asked: &str, online: &str) -> Result<()> {
    if asked.is_empty() {
        return Ok(());
    }
    let kind = if what == "CPUs" {
        "cpuset.cpus"
    } else {
        "cpuset.mems"
    };
    let Some(wanted) = numbers(asked) else {
        return refuse(format!("could not parse cpuset {kind}: {asked}"));
    };
    let text = std::fs::read_to_string(online).unwrap_or_else(|_| "0".into());
    let there = numbers(&text).unwrap_or_default();
    if wanted.iter().all(|n| there.contains(n)) {
        return Ok(());
    }
    refuse(format!(
        "Requested {what} are not available - requested {asked}, available: {}",
        text.trim()
    ))
}

fn modes(config: &HostConfig) -> Result<()> {
    let of_container = |mode: &str| {
        mode.strip_prefix("container:")
            .is_some_and(|name| !name.is_empty())
    };
    let ipc = config.ipc_mode.as_str();
    if !matches!(ipc, "" | "none" | "private" | "shareable" | "host") && !of_container(ipc) {
        return refuse(format!("invalid IPC mode: {ipc}"));
    }
    let pid = config.pid_mode.as_str();
    if !matches!(pid, "" | "host") && !of_container(pid) {
        return refuse(format!("invalid PID mode: {pid}"));
    }
    if !matches!(config.uts_mode.as_str(), "" | "host") {
        return refuse(format!("invalid UTS mode: {}", config.uts_mode));
    }
    if !matches!(config.cgroupns_mode.as_str(), "" | "host" | "private") {
        return refuse(format!(
            "invalid cgroup namespace mode: {}",
            config.cgroupns_mode
        ));
    }
    if !matches!(config.userns_mode.as_str(), "" | "host") {
        return refuse(format!(
            "invalid user namespace mode: {}",
            config.userns_mode
        ));
    }
    if !matches!(config.isolation.as_str(), "" | "default") {
        return refuse(format!(
            "invalid isolation ({}): linux only supports 'default'",
            config.isolation
        ));
    }
    if !matches!(
        config.runtime.as_str(),
        "" | "runc" | "gantry" | "io.containerd.runc.v2"
    ) {
        return refuse(format!(
            "unknown or invalid runtime name: {}",
            config.runtime
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors() {
        assert_eq!(numbers("0-2,5\n"), Some(vec![0, 1, 2, 5]));
        assert_eq!(numbers("x"), None);
        assert_eq!(numbers("0-99999999"), None);
    }

    #[test]
    fn swap_below_memory_is_refused() {
        let host = HostConfig {
            memory: 64 << 20,
            memory_swap: 32 << 20,
            ..HostConfig::default()
        };
        assert_eq!(
            host_config(&host).unwrap_err().message,
            "Minimum memoryswap limit should be larger than memory limit, see usage"
        );
    }
}
