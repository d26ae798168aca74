//! Whole specs, held against the `config.json` that Docker Engine 28.5 wrote for the same requests.

use super::*;
use crate::containers::record::MountKind;
use gantry_api::container::{DeviceMapping, Ulimit};

fn input<'a>(
    config: &'a ContainerConfig,
    host: &'a HostConfig,
    mounts: &'a [MountRecord],
) -> SpecInput<'a> {
    SpecInput {
        config,
        host,
        command: vec!["sleep".into(), "100".into()],
        link_environment: Vec::new(),
        user: ResolvedUser {
            uid: 1000,
            gid: 5,
            additional_gids: vec![5, 7],
            home: "/".into(),
        },
        mounts,
        etc: [
            ("/etc/resolv.conf", "/c/resolv.conf".into()),
            ("/etc/hostname", "/c/hostname".into()),
            ("/etc/hosts", "/c/hosts".into()),
        ],
        cgroup_path: "/gantry/dea3f8f91b94".into(),
        network: Namespace::New,
        pid: Namespace::New,
        ipc: Namespace::New,
        shm_source: None,
        devices: devices::find(host).unwrap(),
        security: security::parse(host).unwrap(),
        program: "/usr/bin/gantry".into(),
        available_capabilities: (1 << 41) - 1,
    }
}

fn defaults() -> (ContainerConfig, HostConfig) {
    let config = ContainerConfig {
        hostname: "dea3f8f91b94".into(),
        ..ContainerConfig::default()
    };
    let host = HostConfig {
        shm_size: 64 << 20,
        cgroupns_mode: "host".into(),
        network_mode: "bridge".into(),
        ipc_mode: "private".into(),
        ..HostConfig::default()
    };
    (config, host)
}

fn json(spec: &Spec) -> serde_json::Value {
    serde_json::to_value(spec).unwrap()
}

#[test]
fn an_ordinary_container() {
    let (config, host) = defaults();
    let spec = json(&build(&input(&config, &host, &[])).unwrap());
    let destinations: Vec<&str> = spec["mounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["destination"].as_str().unwrap())
        .collect();
    assert_eq!(
        destinations,
        [
            "/proc",
            "/dev",
            "/dev/pts",
            "/sys",
            "/sys/fs/cgroup",
            "/dev/mqueue",
            "/dev/shm",
            "/etc/resolv.conf",
            "/etc/hostname",
            "/etc/hosts"
        ]
    );
    let kinds: Vec<&str> = spec["linux"]["namespaces"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| n["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["mount", "network", "uts", "pid", "ipc"]);
    assert_eq!(
        spec["process"]["capabilities"]["bounding"]
            .as_array()
            .unwrap()
            .len(),
        14
    );
    assert_eq!(spec["process"]["cwd"], "/");
    assert_eq!(
        spec["process"]["env"],
        serde_json::json!([
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOSTNAME=dea3f8f91b94",
            "HOME=/"
        ])
    );
    assert_eq!(
        spec["linux"]["sysctl"]["net.ipv4.ip_unprivileged_port_start"],
        "0"
    );
    assert_eq!(spec["linux"]["resources"]["devices"][0]["allow"], false);
}

#[test]
fn limits_mounts_devices_and_init() {
    let (config, mut host) = defaults();
    host.memory = 64 << 20;
    host.memory_swap = 128 << 20;
    host.nano_cpus = 500_000_000;
    host.init = Some(true);
    host.ulimits = Some(vec![Ulimit {
        name: "nofile".into(),
        hard: 200,
        soft: 100,
    }]);
    host.devices = Some(vec![DeviceMapping {
        path_on_host: "/dev/null".into(),
        path_in_container: "/dev/mynull".into(),
        cgroup_permissions: "rwm".into(),
    }]);
    let record = |kind, source: &str, destination: &str, options: &[&str]| MountRecord {
        kind,
        source: source.into(),
        destination: destination.into(),
        read_only: kind == MountKind::Bind,
        recursive: true,
        propagation: if kind == MountKind::Bind {
            "rslave".into()
        } else {
            String::new()
        },
        mode: String::new(),
        options: options.iter().map(|o| (*o).to_owned()).collect(),
        create_source: false,
        volume: None,
    };
    let mounts = [
        record(MountKind::Bind, "/tmp", "/mnt/t", &[]),
        record(
            MountKind::Tmpfs,
            "",
            "/tt",
            &["size=1m", "mode=700", "exec"],
        ),
    ];
    let spec = json(&build(&input(&config, &host, &mounts)).unwrap());
    assert_eq!(
        spec["process"]["args"],
        serde_json::json!(["/sbin/docker-init", "--", "sleep", "100"])
    );
    assert_eq!(
        spec["process"]["rlimits"],
        serde_json::json!([{"type": "RLIMIT_NOFILE", "hard": 200, "soft": 100}])
    );
    let resources = &spec["linux"]["resources"];
    assert_eq!(resources["memory"]["limit"], 64 << 20);
    assert_eq!(resources["memory"]["swap"], 128 << 20);
    assert_eq!(
        resources["cpu"],
        serde_json::json!({"quota": 50000, "period": 100000})
    );
    assert_eq!(spec["linux"]["rootfsPropagation"], "rslave");
    assert_eq!(spec["linux"]["devices"][0]["path"], "/dev/mynull");
    assert_eq!(spec["linux"]["devices"][0]["fileMode"], 438);
    let find = |destination: &str| {
        let list = spec["mounts"].as_array().unwrap();
        list.iter()
            .find(|m| m["destination"] == destination)
            .unwrap()["options"]
            .clone()
    };
    assert_eq!(
        find("/tt"),
        serde_json::json!(["nosuid", "nodev", "rprivate", "size=1m", "mode=700", "exec"])
    );
    assert_eq!(
        find("/mnt/t"),
        serde_json::json!(["rbind", "ro", "rro", "rslave"])
    );
}

#[test]
fn a_privileged_container() {
    let (config, mut host) = defaults();
    host.privileged = true;
    host.readonly_rootfs = true;
    host.ipc_mode = "none".into();
    host.masked_paths = Some(vec!["/proc/kcore".into()]);
    let spec = json(&build(&input(&config, &host, &[])).unwrap());
    assert_eq!(
        spec["process"]["capabilities"]["bounding"]
            .as_array()
            .unwrap()
            .len(),
        41
    );
    assert!(spec["linux"].get("maskedPaths").is_none());
    assert!(spec["linux"].get("seccomp").is_none());
    assert_eq!(spec["root"]["readonly"], true);
    let mounts = spec["mounts"].as_array().unwrap();
    assert!(!mounts.iter().any(|m| m["destination"] == "/dev/shm"));
    assert!(
        mounts
            .iter()
            .any(|m| m["destination"] == "/sys" && m["options"].as_array().unwrap().len() == 3)
    );
    assert_eq!(
        spec["linux"]["resources"]["devices"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn ones_own_mount_stands_in_the_place_of_a_default() {
    let (config, host) = defaults();
    let mounts = [MountRecord {
        kind: MountKind::Bind,
        source: "/dev".into(),
        destination: "/dev".into(),
        read_only: false,
        recursive: true,
        propagation: "rprivate".into(),
        mode: String::new(),
        options: Vec::new(),
        create_source: false,
        volume: None,
    }];
    let spec = json(&build(&input(&config, &host, &mounts)).unwrap());
    let mounts = spec["mounts"].as_array().unwrap();
    let in_dev = mounts
        .iter()
        .filter(|m| m["destination"].as_str().unwrap().starts_with("/dev"));
    assert_eq!(in_dev.count(), 1);
}

#[test]
fn unknown_capabilities_and_limits() {
    let (config, mut host) = defaults();
    host.cap_add = Some(vec!["nonsense".into()]);
    let error = build(&input(&config, &host, &[])).unwrap_err();
    assert_eq!(
        error.message,
        "invalid CapAdd: unknown capability: \"CAP_NONSENSE\""
    );
    host.cap_add = None;
    host.ulimits = Some(vec![Ulimit {
        name: "nonsense".into(),
        hard: 1,
        soft: 1,
    }]);
    let error = build(&input(&config, &host, &[])).unwrap_err();
    assert!(
        error
            .message
            .ends_with("runc create failed: wrong rlimit value: RLIMIT_NONSENSE"),
        "{error}"
    );
}
