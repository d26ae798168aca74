//! On the real hierarchies, with groups of names of their own. They need root.

use super::*;
use oci_spec::runtime::{
    LinuxCpuBuilder, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType,
    LinuxMemoryBuilder, LinuxPidsBuilder, LinuxResourcesBuilder,
};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

fn rule(
    allow: bool,
    typ: LinuxDeviceType,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroupBuilder::default()
        .allow(allow)
        .typ(typ)
        .access(access);
    if let Some(major) = major {
        rule = rule.major(major);
    }
    if let Some(minor) = minor {
        rule = rule.minor(minor);
    }
    rule.build().unwrap()
}

fn name(of: &str) -> String {
    format!("/gantry-test-cgroup-{}/{of}", std::process::id())
}

fn parent_gone(of: &str) {
    // The parent is shared by the tests: the last one that ends can remove it.
    let parent = of.rsplit_once('/').unwrap().0;
    for hierarchy in Hierarchies::get().iter() {
        let _ = rustix::fs::unlinkat(
            hierarchy.root(),
            &parent[1..],
            rustix::fs::AtFlags::REMOVEDIR,
        );
    }
}

/// A child of the group.
fn child(handle: CgroupHandle, script: &str) -> Child {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    // SAFETY: join_self allocates nothing and takes no lock.
    unsafe { command.pre_exec(move || handle.join_self(false).map_err(Into::into)) };
    command.spawn().unwrap()
}

#[test]
fn limits_are_in_the_files_and_a_child_is_held_by_them() {
    let path = name("limits");
    let resources = LinuxResourcesBuilder::default()
        .memory(
            LinuxMemoryBuilder::default()
                .limit(64 << 20)
                .swap(64 << 20)
                .reservation(32 << 20)
                .build()
                .unwrap(),
        )
        .cpu(
            LinuxCpuBuilder::default()
                .shares(512u64)
                .quota(50_000)
                .period(100_000u64)
                .cpus("0")
                .build()
                .unwrap(),
        )
        .pids(LinuxPidsBuilder::default().limit(20).build().unwrap())
        .devices(vec![
            rule(false, LinuxDeviceType::A, None, None, "rwm"),
            rule(true, LinuxDeviceType::C, Some(1), Some(3), "rwm"),
            rule(true, LinuxDeviceType::C, Some(1), Some(5), "r"),
        ])
        .build()
        .unwrap();
    let group = Cgroup { path: path.clone() };
    let start = Instant::now();
    let handle = Cgroup::create(&path, &resources).unwrap();
    eprintln!("created in {:?}", start.elapsed());
    if let Some(hierarchy) = Hierarchies::get().controller("memory")
        && hierarchy.version() == Version::V1
    {
        let read = |controller: &str, file: &str| {
            let root = Hierarchies::get()
                .controller(controller)
                .unwrap()
                .mount_point();
            std::fs::read_to_string(format!("{root}{path}/{file}"))
                .unwrap()
                .trim()
                .to_owned()
        };
        assert_eq!(
            read("memory", "memory.limit_in_bytes"),
            (64 << 20).to_string()
        );
        assert_eq!(
            read("memory", "memory.memsw.limit_in_bytes"),
            (64 << 20).to_string()
        );
        assert_eq!(
            read("memory", "memory.soft_limit_in_bytes"),
            (32 << 20).to_string()
        );
        assert_eq!(read("cpu", "cpu.shares"), "512");
        assert_eq!(read("cpu", "cpu.cfs_quota_us"), "50000");
        assert_eq!(read("cpuset", "cpuset.cpus"), "0");
        assert_eq!(read("pids", "pids.max"), "20");
        assert_eq!(read("devices", "devices.list"), "c 1:3 rwm\nc 1:5 r");
    }
    // /dev/null works both ways, /dev/zero is only read, /dev/random is closed; nobody stays in the root group.
    let script = "echo >/dev/null && head -c1 /dev/zero >/dev/null || exit 1
        (echo >/dev/zero) 2>/dev/null && exit 2
        (head -c1 </dev/random >/dev/null) 2>/dev/null && exit 3
        grep -c gantry-test-cgroup /proc/self/cgroup >/dev/null || exit 4
        grep -E '^[1-9][0-9]*:' /proc/self/cgroup | grep -v gantry-test-cgroup && exit 5
        exit 0";
    let status = child(handle, script).wait().unwrap();
    assert_eq!(status.code(), Some(0));
    group.destroy().unwrap();
    group.destroy().unwrap();
    assert!(group.pids().unwrap().is_empty());
    parent_gone(&path);
}

#[test]
fn out_of_memory_is_counted() {
    let path = name("oom");
    let resources = LinuxResourcesBuilder::default()
        .memory(
            LinuxMemoryBuilder::default()
                .limit(8 << 20)
                .swap(8 << 20)
                .build()
                .unwrap(),
        )
        .build()
        .unwrap();
    let handle = Cgroup::create(&path, &resources).unwrap();
    let again = Cgroup::create(&path, &LinuxResources::default()).unwrap();
    assert_eq!(again.oom_kills(), 0);
    let status = child(
        handle,
        "exec head -c 64M /dev/zero | exec tail -c 64M >/dev/null",
    )
    .wait()
    .unwrap();
    assert!(!status.success());
    assert!(again.oom_kills() >= 1);
    Cgroup { path: path.clone() }.destroy().unwrap();
    parent_gone(&path);
}

#[test]
fn destroy_ends_processes_and_groups_below() {
    let path = name("busy");
    let handle = Cgroup::create(&path, &LinuxResources::default()).unwrap();
    let group = Cgroup { path: path.clone() };
    let inner = Cgroup::create(&format!("{path}/inner/most"), &LinuxResources::default()).unwrap();
    let mut children = vec![
        child(handle, "sleep 1000 & sleep 1000 & sleep 1000"),
        child(inner, "while :; do sleep 0.01; done"),
    ];
    let until = Instant::now() + Duration::from_secs(5);
    while group.pids().unwrap().len() < 5 {
        assert!(Instant::now() < until, "{:?}", group.pids());
        std::thread::sleep(Duration::from_millis(5));
    }
    group.destroy().unwrap();
    for child in &mut children {
        assert!(!child.wait().unwrap().success());
    }
    for hierarchy in Hierarchies::get().iter() {
        assert!(!std::path::Path::new(&format!("{}{path}", hierarchy.mount_point())).exists());
    }
    parent_gone(&path);
}

#[test]
fn a_group_that_cannot_be_made_leaves_nothing() {
    let path = name("refused");
    let resources = LinuxResourcesBuilder::default()
        .cpu(LinuxCpuBuilder::default().cpus("4095").build().unwrap())
        .build()
        .unwrap();
    let error = Cgroup::create(&path, &resources).unwrap_err();
    assert!(error.to_string().contains("cpuset.cpus"), "{error}");
    for hierarchy in Hierarchies::get().iter() {
        assert!(!std::path::Path::new(&format!("{}{path}", hierarchy.mount_point())).exists());
    }
    assert!(matches!(
        Cgroup::create("/gantry-test/../x", &LinuxResources::default()),
        Err(CgroupError::BadPath(_))
    ));
    parent_gone(&path);
}

#[test]
fn a_device_program_holds_in_a_v2_group() {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let root = text
        .lines()
        .find(|l| l.contains(" - cgroup2 "))
        .expect("a cgroup2 mount");
    let root = root.split(' ').nth(4).unwrap();
    let dir = format!("{root}/gantry-test-devices-{}", std::process::id());
    std::fs::create_dir(&dir).unwrap();
    let opened: OwnedFd = std::fs::File::open(&dir).unwrap().into();
    let program = devices::assemble(&[
        rule(false, LinuxDeviceType::A, None, None, "rwm"),
        rule(true, LinuxDeviceType::C, Some(1), Some(3), "r"),
        rule(true, LinuxDeviceType::C, Some(1), Some(3), "w"),
        rule(true, LinuxDeviceType::C, Some(1), None, "r"),
        rule(false, LinuxDeviceType::C, Some(1), Some(8), "r"),
    ])
    .unwrap();
    devices::attach(opened.as_fd(), &program).unwrap();
    let handle = CgroupHandle {
        tasks: Vec::new(),
        v2: Some(opened),
        oom: None,
    };
    let script = "exec 3<>/dev/null || exit 1; head -c1 /dev/zero >/dev/null || exit 2
        (echo >/dev/zero) 2>/dev/null && exit 3
        (head -c1 </dev/random >/dev/null) 2>/dev/null && exit 4
        (echo </dev/tty) 2>/dev/null && exit 5
        exit 0";
    let status = child(handle, script).wait().unwrap();
    std::fs::remove_dir(&dir).unwrap();
    assert_eq!(status.code(), Some(0));
}
