//! What a request leaves open, filled in: from the image, then from Docker's defaults.

use gantry_api::container::{ContainerConfig, HealthConfig, HostConfig, Map};
use std::collections::BTreeMap;

/// `/proc` and `/sys` paths that are hidden (Docker 28's list; `inspect` shows it).
pub(super) const MASKED_PATHS: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// `/proc` paths that are read-only.
pub(super) const READONLY_PATHS: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Fills a request's configuration from its image's, by Docker's rules (daemon/commit.go `merge`).
pub(crate) fn merge_image(config: &mut ContainerConfig, image: ContainerConfig) {
    if config.user.is_empty() {
        config.user = image.user;
    }
    if config.working_dir.is_empty() {
        config.working_dir = image.working_dir;
    }
    if config.stop_signal.is_empty() {
        config.stop_signal = image.stop_signal;
    }
    config.stop_timeout = config.stop_timeout.or(image.stop_timeout);
    merge_set(&mut config.exposed_ports, image.exposed_ports);
    merge_set(&mut config.volumes, image.volumes);
    merge_set(&mut config.labels, image.labels);
    merge_env(&mut config.env, image.env);
    let given = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|l| !l.is_empty());
    if !given(&config.entrypoint) {
        if !given(&config.cmd) {
            config.cmd = image.cmd;
        }
        // An entrypoint that is given empty (`--entrypoint ""`, sent as `[""]` or `[]`) hides the image's.
        if config.entrypoint.is_none() {
            config.entrypoint = image.entrypoint;
        }
    }
    if config.entrypoint.as_deref() == Some(&[String::new()]) {
        config.entrypoint = None;
    }
    if config.shell.is_none() {
        config.shell = image.shell;
    }
    if let Some(theirs) = image.healthcheck {
        merge_health(config.healthcheck.get_or_insert_default(), theirs);
    }
}

fn merge_set<V>(ours: &mut Option<BTreeMap<String, V>>, theirs: Option<BTreeMap<String, V>>) {
    let Some(theirs) = theirs else { return };
    let ours = ours.get_or_insert_default();
    for (key, value) in theirs {
        ours.entry(key).or_insert(value);
    }
}

fn merge_env(ours: &mut Option<Vec<String>>, theirs: Option<Vec<String>>) {
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let ours = ours.get_or_insert_default();
    for entry in theirs.into_iter().flatten() {
        if !ours.iter().any(|own| name(own) == name(&entry)) {
            ours.push(entry);
        }
    }
}

fn merge_health(ours: &mut HealthConfig, theirs: HealthConfig) {
    if ours.test.as_ref().is_none_or(Vec::is_empty) {
        ours.test = theirs.test;
    }
    for (own, other) in [
        (&mut ours.interval, theirs.interval),
        (&mut ours.timeout, theirs.timeout),
        (&mut ours.start_period, theirs.start_period),
        (&mut ours.start_interval, theirs.start_interval),
        (&mut ours.retries, theirs.retries),
    ] {
        if *own == 0 {
            *own = other;
        }
    }
}

/// Docker's defaults for what the request leaves open.
pub(super) fn host_config(
    config: &mut HostConfig,
    (log_driver, log_options): (&str, &Map),
    shm_size: i64,
    unified_cgroup: bool,
) {
    let set = |field: &mut String, value: &str| {
        if field.is_empty() {
            *field = value.to_owned();
        }
    };
    if config.network_mode == "default" {
        config.network_mode.clear();
    }
    set(&mut config.network_mode, "bridge");
    set(&mut config.ipc_mode, "private");
    set(&mut config.restart_policy.name, "no");
    // COMPAT: clients compare this name; the built-in runtime answers to it.
    set(&mut config.runtime, "runc");
    let private = if unified_cgroup && !config.privileged {
        "private"
    } else {
        "host"
    };
    set(&mut config.cgroupns_mode, private);
    if config.shm_size == 0 {
        config.shm_size = shm_size;
    }
    if config.memory > 0 && config.memory_swap == 0 {
        config.memory_swap = config.memory * 2;
    }
    config.oom_kill_disable.get_or_insert(false);
    if config.pids_limit.is_some_and(|limit| limit <= 0) {
        config.pids_limit = None;
    }
    set(&mut config.log_config.kind, log_driver);
    for (name, value) in log_options {
        if config.log_config.kind == log_driver || name.starts_with("cache-") {
            config
                .log_config
                .config
                .entry(name.clone())
                .or_insert_with(|| value.clone());
        }
    }
    if config.privileged {
        config.masked_paths = config.masked_paths.take();
    } else {
        let list = |paths: &[&str]| Some(paths.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>());
        config.masked_paths = config.masked_paths.take().or_else(|| list(&MASKED_PATHS));
        config.readonly_paths = config
            .readonly_paths
            .take()
            .or_else(|| list(&READONLY_PATHS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &[&str]) -> Option<Vec<String>> {
        Some(words.iter().map(|w| (*w).to_owned()).collect())
    }

    #[test]
    fn the_images_command_stands_only_without_ones_own_entrypoint() {
        let image = ContainerConfig {
            entrypoint: list(&["/e"]),
            cmd: list(&["c"]),
            ..ContainerConfig::default()
        };
        let mut own = ContainerConfig {
            cmd: list(&["mine"]),
            ..ContainerConfig::default()
        };
        merge_image(&mut own, image.clone());
        assert_eq!((own.entrypoint, own.cmd), (list(&["/e"]), list(&["mine"])));
        let mut own = ContainerConfig {
            entrypoint: list(&["/x"]),
            ..ContainerConfig::default()
        };
        merge_image(&mut own, image.clone());
        assert_eq!((own.entrypoint, own.cmd), (list(&["/x"]), None));
        let mut own = ContainerConfig::default();
        merge_image(&mut own, image);
        assert_eq!((own.entrypoint, own.cmd), (list(&["/e"]), list(&["c"])));
    }

    #[test]
    fn ones_own_environment_comes_first() {
        let image = ContainerConfig {
            env: list(&["PATH=/image", "A=image"]),
            ..ContainerConfig::default()
        };
        let mut own = ContainerConfig {
            env: list(&["A=own"]),
            ..ContainerConfig::default()
        };
        merge_image(&mut own, image);
        assert_eq!(own.env, list(&["A=own", "PATH=/image"]));
    }
}
