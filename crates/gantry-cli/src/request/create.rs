//! Putting the body together, with the checks that Docker's client makes before it asks the daemon.

use gantry_api::container::{
    ContainerConfig, CreateBody, Empty, HealthConfig, HostConfig, LogConfig, Map, NetworkingConfig,
    RestartPolicy, Set,
};

use super::options::CreateFlags;
use super::{environment, mounts, network, ports, rules};

/// Which of our streams the container is to be attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attached {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

impl Attached {
    pub(crate) fn any(self) -> bool {
        self.stdin || self.stdout || self.stderr
    }

    fn from_flags(flags: &CreateFlags) -> Attached {
        let named = &flags.attach.items;
        let has = |name: &str| named.iter().any(|item| item == name);
        if named.is_empty() {
            return Attached {
                stdin: flags.interactive,
                stdout: true,
                stderr: true,
            };
        }
        Attached {
            stdin: has("stdin") || flags.interactive,
            stdout: has("stdout"),
            stderr: has("stderr"),
        }
    }
}

/// The body for `args` (the image, then the command); `args` has no image with `--rootfs`. The error is
/// Docker's words.
pub(crate) fn create_body(flags: &CreateFlags, args: &[String]) -> Result<CreateBody, String> {
    check(flags)?;
    let (image, command) = match (&flags.rootfs, args) {
        (Some(_), command) => (String::new(), command),
        (None, [image, command @ ..]) => (image.clone(), command),
        (None, []) => return Err("no image given".to_owned()),
    };
    let (exposed, bindings) = ports::read(&flags.publish, &flags.expose)?;
    let (network_mode, endpoints) = network::read(flags)?;
    let mut volumes = Set::new();
    let mut binds = Vec::new();
    for volume in &flags.volume {
        match mounts::bind(volume) {
            Some(bind) => binds.push(bind),
            None => {
                volumes.insert(volume.clone(), Empty {});
            }
        }
    }
    let mut host_config = host_config(flags)?;
    host_config.binds = list(&binds);
    host_config.port_bindings = Some(bindings);
    host_config.network_mode = network_mode;
    let attached = Attached::from_flags(flags);
    let config = ContainerConfig {
        hostname: flags.hostname.clone(),
        domainname: flags.domainname.clone(),
        user: flags.user.clone(),
        attach_stdin: attached.stdin,
        attach_stdout: attached.stdout,
        attach_stderr: attached.stderr,
        exposed_ports: (!exposed.is_empty()).then_some(exposed),
        tty: flags.tty,
        open_stdin: flags.interactive,
        stdin_once: flags.interactive && attached.stdin,
        env: list(&environment::of(&flags.env_file, &flags.env)?),
        cmd: list(command),
        healthcheck: healthcheck(flags)?,
        image,
        volumes: Some(volumes),
        working_dir: flags.workdir.clone(),
        entrypoint: flags.entrypoint.clone().map(|entry| vec![entry]),
        labels: Some(labels(flags)?),
        stop_signal: flags.stop_signal.clone(),
        stop_timeout: flags.stop_timeout,
        ..ContainerConfig::default()
    };
    Ok(CreateBody {
        config,
        host_config,
        networking_config: NetworkingConfig {
            endpoints_config: endpoints,
        },
    })
}

fn list(items: &[String]) -> Option<Vec<String>> {
    (!items.is_empty()).then(|| items.to_vec())
}

/// What cannot be asked for, or not together.
fn check(flags: &CreateFlags) -> Result<(), String> {
    let swappiness = flags.memory_swappiness;
    if swappiness != -1 && !(0..=100).contains(&swappiness) {
        return Err(format!(
            "invalid value: {swappiness}. Valid memory swappiness range is 0-100"
        ));
    }
    if flags.rm && !matches!(flags.restart.as_str(), "" | "no") {
        return Err("conflicting options: cannot specify both --restart and --rm".to_owned());
    }
    let joined = |mode: &str| {
        mode.strip_prefix("container:")
            .is_some_and(|of| !of.is_empty())
    };
    if !matches!(flags.pid.as_str(), "" | "host") && !joined(&flags.pid) {
        return Err("--pid: invalid PID mode".to_owned());
    }
    if !matches!(flags.uts.as_str(), "" | "host") {
        return Err("--uts: invalid UTS mode".to_owned());
    }
    if !matches!(flags.userns.as_str(), "" | "host") {
        return Err("--userns: invalid USER mode".to_owned());
    }
    if !matches!(flags.cgroupns.as_str(), "" | "host" | "private") {
        return Err("--cgroupns: invalid CGROUP mode".to_owned());
    }
    Ok(())
}

fn labels(flags: &CreateFlags) -> Result<Map, String> {
    let mut labels = Map::new();
    for file in &flags.label_file {
        for line in environment::read_lines(file, |_| None)? {
            let (key, value) = line.split_once('=').unwrap_or((&line, ""));
            labels.insert(key.to_owned(), value.to_owned());
        }
    }
    labels.extend(flags.label.items.iter().cloned());
    Ok(labels)
}

fn healthcheck(flags: &CreateFlags) -> Result<Option<HealthConfig>, String> {
    let times = [
        ("interval", flags.health_interval.0),
        ("timeout", flags.health_timeout.0),
        ("start-period", flags.health_start_period.0),
        ("start-interval", flags.health_start_interval.0),
    ];
    let given = !flags.health_cmd.is_empty()
        || times.iter().any(|(_, time)| *time != 0)
        || flags.health_retries != 0
        || !flags.health_on_failure.is_empty();
    if flags.no_healthcheck {
        if given {
            return Err("--no-healthcheck conflicts with --health-* options".to_owned());
        }
        return Ok(Some(HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..HealthConfig::default()
        }));
    }
    if !given {
        return Ok(None);
    }
    if let Some((name, _)) = times.iter().find(|(_, time)| *time < 0) {
        return Err(format!("--health-{name} cannot be negative"));
    }
    if flags.health_retries < 0 {
        return Err("--health-retries cannot be negative".to_owned());
    }
    let test = (!flags.health_cmd.is_empty())
        .then(|| vec!["CMD-SHELL".to_owned(), flags.health_cmd.clone()]);
    Ok(Some(HealthConfig {
        test,
        interval: flags.health_interval.0,
        timeout: flags.health_timeout.0,
        start_period: flags.health_start_period.0,
        start_interval: flags.health_start_interval.0,
        retries: flags.health_retries,
        on_failure: flags.health_on_failure.clone(),
    }))
}

/// `--restart`
pub(crate) fn restart_policy(text: &str) -> Result<RestartPolicy, String> {
    let (name, count) = match text.split_once(':') {
        Some(("", _)) => {
            return Err(
                "invalid restart policy format: no policy provided before colon".to_owned(),
            );
        }
        Some((name, count)) => (
            name,
            count.parse().map_err(|_| {
                "invalid restart policy format: maximum retry count must be an integer".to_owned()
            })?,
        ),
        None => (text, 0),
    };
    Ok(RestartPolicy {
        name: name.to_owned(),
        maximum_retry_count: count,
    })
}

/// `key=value` words to a map.
pub(crate) fn pairs(words: &[String]) -> Map {
    words
        .iter()
        .map(|word| word.split_once('=').unwrap_or((word, "")))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// What `--security-opt` becomes: options, and the paths that `systempaths=unconfined` opens.
type Security = (Option<Vec<String>>, Option<Vec<String>>);

fn security(options: &[String]) -> Result<Security, String> {
    let mut kept = Vec::new();
    let mut open = None;
    for option in options {
        // COMPAT: `:` between key and value is Docker's old form, still taken.
        let pair = option.split_once('=').or_else(|| option.split_once(':'));
        match pair {
            None if option == "no-new-privileges" => kept.push(option.clone()),
            None => return Err(format!("Invalid --security-opt: \"{option}\"")),
            Some(("systempaths", "unconfined")) => open = Some(Vec::new()),
            Some(("seccomp", profile)) if !matches!(profile, "unconfined" | "builtin") => {
                let wrong =
                    |why: String| format!("opening seccomp profile ({profile}) failed: {why}");
                let text = std::fs::read(profile).map_err(|error| {
                    wrong(format!("open {profile}: {}", environment::words(&error)))
                })?;
                let value: serde_json::Value = serde_json::from_slice(&text).map_err(|error| {
                    format!("compacting json for seccomp profile ({profile}) failed: {error}")
                })?;
                kept.push(format!("seccomp={value}"));
            }
            Some(_) => kept.push(option.clone()),
        }
    }
    Ok((list(&kept), open))
}

fn log_config(flags: &CreateFlags) -> Result<LogConfig, String> {
    if flags.log_driver == "none" && !flags.log_opt.is_empty() {
        return Err(format!(
            "invalid logging opts for driver {}",
            flags.log_driver
        ));
    }
    Ok(LogConfig {
        kind: flags.log_driver.clone(),
        config: pairs(&flags.log_opt),
    })
}

/// Full names, in order, none in both lists: what is added is not dropped.
fn capabilities(add: &[String], drop: &[String]) -> (Option<Vec<String>>, Option<Vec<String>>) {
    const ALL: &str = "ALL";
    let full = |names: &[String]| -> Vec<String> {
        let names = names.iter().map(|name| {
            let name = name.trim().to_uppercase();
            match name == ALL || name.starts_with("CAP_") {
                true => name,
                false => format!("CAP_{name}"),
            }
        });
        let set: std::collections::BTreeSet<String> = names.collect();
        match set.contains(ALL) {
            true => vec![ALL.to_owned()],
            false => set.into_iter().collect(),
        }
    };
    let (add, mut drop) = (full(add), full(drop));
    drop.retain(|name| name == ALL || !add.contains(name));
    (list(&add), list(&drop))
}

fn map(items: &[(String, String)]) -> Option<Map> {
    (!items.is_empty()).then(|| items.iter().cloned().collect())
}

fn host_config(flags: &CreateFlags) -> Result<HostConfig, String> {
    let (security_opt, open_paths) = security(&flags.security_opt)?;
    let mut devices = Vec::new();
    for device in &flags.device {
        devices.push(rules::device(device)?);
    }
    let tmpfs: Map = flags
        .tmpfs
        .iter()
        .map(|text| text.split_once(':').unwrap_or((text, "")))
        .map(|(path, options)| (path.to_owned(), options.to_owned()))
        .collect();
    let requests = &flags.gpus.items;
    let (cap_add, cap_drop) = capabilities(&flags.cap_add, &flags.cap_drop);
    Ok(HostConfig {
        container_id_file: flags.cidfile.clone(),
        log_config: log_config(flags)?,
        restart_policy: restart_policy(&flags.restart)?,
        auto_remove: flags.rm,
        volume_driver: flags.volume_driver.clone(),
        volumes_from: list(&flags.volumes_from),
        annotations: map(&flags.annotation.items),
        cap_add,
        cap_drop,
        cgroupns_mode: flags.cgroupns.clone(),
        dns: Some(flags.dns.items.clone()),
        dns_options: Some(flags.dns_option.clone()),
        dns_search: Some(flags.dns_search.items.clone()),
        extra_hosts: list(&flags.add_host.items),
        group_add: list(&flags.group_add),
        ipc_mode: flags.ipc.clone(),
        links: list(&flags.link.items),
        oom_score_adj: flags.oom_score_adj,
        pid_mode: flags.pid.clone(),
        privileged: flags.privileged,
        publish_all_ports: flags.publish_all,
        readonly_rootfs: flags.read_only,
        security_opt,
        storage_opt: (!flags.storage_opt.is_empty()).then(|| pairs(&flags.storage_opt)),
        tmpfs: (!tmpfs.is_empty()).then_some(tmpfs),
        uts_mode: flags.uts.clone(),
        userns_mode: flags.userns.clone(),
        shm_size: flags.shm_size.0,
        sysctls: map(&flags.sysctl.items),
        runtime: flags.runtime.clone(),
        isolation: flags.isolation.clone(),
        devices: Some(devices),
        device_requests: (!requests.is_empty()).then(|| requests.clone()),
        mounts: (!flags.mount.items.is_empty()).then(|| flags.mount.items.clone()),
        masked_paths: open_paths.clone(),
        readonly_paths: open_paths,
        init: flags.init,
        gantry_rootfs: flags.rootfs.clone().unwrap_or_default(),
        ..resources(flags)
    })
}

/// The limits.
fn resources(flags: &CreateFlags) -> HostConfig {
    let mut ulimits = flags.ulimit.items.clone();
    ulimits.sort_by(|a, b| a.name.cmp(&b.name));
    HostConfig {
        cpu_shares: flags.cpu_shares,
        memory: flags.memory.0,
        nano_cpus: flags.cpus.0,
        cgroup_parent: flags.cgroup_parent.clone(),
        blkio_weight: flags.blkio_weight.0,
        blkio_weight_device: Some(flags.blkio_weight_device.items.clone()),
        blkio_device_read_bps: Some(flags.device_read_bps.items.clone()),
        blkio_device_write_bps: Some(flags.device_write_bps.items.clone()),
        blkio_device_read_iops: Some(flags.device_read_iops.items.clone()),
        blkio_device_write_iops: Some(flags.device_write_iops.items.clone()),
        cpu_period: flags.cpu_period,
        cpu_quota: flags.cpu_quota,
        cpu_realtime_period: flags.cpu_rt_period,
        cpu_realtime_runtime: flags.cpu_rt_runtime,
        cpuset_cpus: flags.cpuset_cpus.clone(),
        cpuset_mems: flags.cpuset_mems.clone(),
        device_cgroup_rules: list(&flags.device_cgroup_rule.items),
        memory_reservation: flags.memory_reservation.0,
        memory_swap: flags.memory_swap.0,
        memory_swappiness: Some(flags.memory_swappiness),
        oom_kill_disable: Some(flags.oom_kill_disable),
        pids_limit: Some(flags.pids_limit),
        ulimits: Some(ulimits),
        ..HostConfig::default()
    }
}
