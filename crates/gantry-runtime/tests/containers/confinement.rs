//! What a container may not see or do, mounts from outside, `--init`, shared namespaces, and what failures leave.

use crate::kit::Place;
use crate::process::output_of;
use gantry_runtime::spawn::StartError;
use libtest_mimic::Trial;
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Mount};
use std::path::Path;

pub(crate) fn all() -> Vec<Trial> {
    vec![
        Trial::test("masked_and_read_only_paths", paths),
        Trial::test("capabilities_and_no_new_privileges", capabilities),
        Trial::test("the_default_seccomp_policy", seccomp),
        Trial::test("binds_of_files_and_directories", binds),
        Trial::test("mounts_stay_inside", propagation),
        Trial::test("no_descriptor_of_the_host_is_in_reach", descriptors),
        Trial::test("proc_is_not_mounted_through_a_link", linked_proc),
        Trial::test("what_the_kernel_refuses_at_exec", late_refusals),
        Trial::test("another_containers_pid_namespace", shared_pids),
        Trial::test("an_init_that_reaps_and_passes_signals_on", own_init),
        Trial::test("a_spawner_that_died_is_replaced", new_spawner),
        Trial::test("a_log_that_cannot_be_opened_leaves_nothing", no_log),
        Trial::test("a_user_with_groups_umask_and_working_directory", user),
        Trial::test("the_score_of_the_oom_killer", oom_score),
    ]
}

type Outcome = Result<(), libtest_mimic::Failed>;

fn shell(script: &str) -> Place {
    Place::new(&["sh", "-c", script])
}

fn edit_linux(place: &mut Place, edit: impl FnOnce(&mut oci_spec::runtime::Linux)) {
    let mut linux = place.spec.linux().clone().unwrap();
    edit(&mut linux);
    place.spec.set_linux(Some(linux));
}

fn edit_process(place: &mut Place, edit: impl FnOnce(&mut oci_spec::runtime::Process)) {
    let mut process = place.spec.process().clone().unwrap();
    edit(&mut process);
    place.spec.set_process(Some(process));
}

fn all_capabilities(process: &mut oci_spec::runtime::Process) {
    let all = gantry_runtime::capabilities::to_oci(gantry_runtime::capabilities::available());
    let mut sets = oci_spec::runtime::LinuxCapabilities::default();
    sets.set_bounding(Some(all.clone()));
    sets.set_effective(Some(all.clone()));
    sets.set_permitted(Some(all));
    process.set_capabilities(Some(sets));
}

fn bind(place: &mut Place, source: &Path, destination: &str, options: &[&str]) {
    let mut mount = Mount::default();
    mount.set_destination(destination.into());
    mount.set_typ(Some("bind".into()));
    mount.set_source(Some(source.into()));
    mount.set_options(Some(options.iter().map(|o| (*o).to_owned()).collect()));
    let mut mounts = place.spec.mounts().clone().unwrap();
    mounts.push(mount);
    place.spec.set_mounts(Some(mounts));
}

fn paths() -> Outcome {
    let mut place = shell(
        "cat /proc/cpuinfo | head -c 5; ls -A /sys/firmware; echo 1 2>/dev/null > /proc/sys/kernel/sysrq || echo refused; \
         echo x 2>/dev/null > /root/file || echo read-only root; cat /secret; ls -A /hidden; echo end",
    );
    std::fs::write(place.root().join("secret"), "secret\n")?;
    std::fs::create_dir(place.root().join("hidden"))?;
    std::fs::write(place.root().join("hidden/file"), "")?;
    edit_linux(&mut place, |linux| {
        let masked = [
            "/proc/cpuinfo",
            "/sys/firmware",
            "/secret",
            "/hidden",
            "/not/there",
        ];
        linux.set_masked_paths(Some(masked.map(str::to_owned).to_vec()));
        linux.set_readonly_paths(Some(vec!["/proc/sys".into(), "/not/there".into()]));
    });
    let mut root = place.spec.root().clone().unwrap();
    root.set_readonly(Some(true));
    place.spec.set_root(Some(root));
    assert_eq!(output_of(&mut place), "refused\nread-only root\nend\n");
    place.assert_gone();
    Ok(())
}

fn capabilities() -> Outcome {
    let script = "grep -E 'Cap(Eff|Bnd|Prm|Amb)|NoNewPrivs' /proc/self/status";
    let mut place = shell(script);
    edit_process(&mut place, |process| {
        let set =
            gantry_runtime::capabilities::to_oci(gantry_runtime::capabilities::DOCKER_DEFAULT);
        let mut sets = oci_spec::runtime::LinuxCapabilities::default();
        sets.set_bounding(Some(set.clone()));
        sets.set_effective(Some(set.clone()));
        sets.set_permitted(Some(set));
        sets.set_inheritable(None);
        sets.set_ambient(None);
        process.set_capabilities(Some(sets));
        process.set_no_new_privileges(Some(true));
    });
    let text = output_of(&mut place);
    for line in [
        "CapPrm:\t00000000a80425fb",
        "CapEff:\t00000000a80425fb",
        "CapBnd:\t00000000a80425fb",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t1",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    Ok(())
}

/// With all capabilities, so that only the filter can be what refuses; loaded before and after they are dropped.
fn seccomp() -> Outcome {
    use gantry_runtime::capabilities;
    for no_new_privileges in [false, true] {
        let mut place = shell(
            "grep ^Seccomp: /proc/self/status; mount -t tmpfs x /tmp 2>/dev/null && echo mounted; ls / | grep -c bin",
        );
        edit_process(&mut place, |process| {
            all_capabilities(process);
            process.set_no_new_privileges(Some(no_new_privileges));
        });
        let kernel = gantry_runtime::seccomp::Kernel::running();
        let policy = gantry_runtime::seccomp::docker_default(capabilities::DOCKER_DEFAULT, kernel);
        edit_linux(&mut place, |linux| {
            linux.set_seccomp(Some(policy));
        });
        let text = output_of(&mut place);
        assert!(text.starts_with("Seccomp:\t2\n"), "{text}");
        assert!(!text.contains("mounted") && text.ends_with("1\n"), "{text}");
    }
    Ok(())
}

fn binds() -> Outcome {
    let mut place = shell(
        "cat /new/dir/of/mine/file; cat /etc/one; echo x 2>/dev/null > /etc/one || echo refused; echo y > /new/dir/of/mine/out; \
         cat /linked/file",
    );
    let outside = place.dir.path().join("outside");
    std::fs::create_dir(&outside)?;
    std::fs::write(outside.join("file"), "shared\n")?;
    // A link in the image that points out of it: the mount goes to that place inside the root.
    let elsewhere = place.dir.path().join("elsewhere");
    std::fs::create_dir(&elsewhere)?;
    std::os::unix::fs::symlink(&elsewhere, place.root().join("linked"))?;
    std::fs::create_dir_all(place.root().join(elsewhere.strip_prefix("/")?))?;
    bind(
        &mut place,
        &outside,
        "/new/dir/of/mine",
        &["rbind", "rprivate"],
    );
    bind(
        &mut place,
        &outside.join("file"),
        "/etc/one",
        &["bind", "ro"],
    );
    bind(&mut place, &outside, "/linked", &["bind", "noatime"]);
    assert_eq!(output_of(&mut place), "shared\nshared\nrefused\nshared\n");
    assert_eq!(std::fs::read_to_string(outside.join("out"))?, "y\n");
    assert_eq!(std::fs::read_dir(&elsewhere)?.count(), 0);
    place.assert_gone();
    Ok(())
}

/// A shared mount as root and as source of a bind: what the container mounts does not come back to the host.
fn propagation() -> Outcome {
    use rustix::mount::{MountPropagationFlags, mount_change, unmount};
    let mut place = shell("mount -t tmpfs x /bound && mount -t tmpfs x /tmp && echo mounted");
    edit_process(&mut place, |process| {
        all_capabilities(process);
    });
    let shared = place.dir.path().join("shared");
    std::fs::create_dir(&shared)?;
    for at in [&shared, &place.root()] {
        rustix::mount::mount_bind(at, at)?;
        mount_change(at, MountPropagationFlags::SHARED)?;
    }
    bind(&mut place, &shared, "/bound", &["bind"]);
    let text = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| output_of(&mut place)));
    let table = std::fs::read_to_string("/proc/self/mountinfo")?;
    let inside = format!("{}/", place.root().display());
    let leaked: Vec<&str> = table
        .lines()
        .filter(|line| line.contains(&inside))
        .collect();
    for at in [&shared, &place.root()] {
        unmount(at, rustix::mount::UnmountFlags::DETACH)?;
    }
    assert!(leaked.is_empty(), "{leaked:?}");
    assert_eq!(text.unwrap(), "mounted\n");
    Ok(())
}

fn descriptors() -> Outcome {
    // stdin, stdout, stderr and the one that `ls` has open: nothing else came along.
    let text = output_of(&mut shell("ls /proc/self/fd | grep -c ."));
    assert_eq!(text, "4\n");
    for number in 3..40 {
        let mut place = shell("pwd");
        edit_process(&mut place, |process| {
            process.set_cwd(format!("/proc/self/fd/{number}/..").into());
        });
        assert!(
            matches!(place.start(), Err(StartError::Setup { .. })),
            "descriptor {number}"
        );
        let mut place = Place::new(&[&format!("/proc/self/fd/{number}/bin/busybox"), "true"]);
        match place.start() {
            Err(StartError::Exec { exit_code: 127, .. }) => {}
            other => panic!("descriptor {number}: {other:?}"),
        }
        place.assert_gone();
    }
    Ok(())
}

fn linked_proc() -> Outcome {
    let mut place = Place::new(&["true"]);
    std::fs::remove_dir(place.root().join("proc"))?;
    std::os::unix::fs::symlink("tmp", place.root().join("proc"))?;
    assert!(matches!(place.start(), Err(StartError::Setup { .. })));
    place.assert_gone();
    Ok(())
}

fn late_refusals() -> Outcome {
    use std::os::unix::fs::PermissionsExt;
    for (content, words) in [
        ("no program", "exec /bin/odd: exec format error\n"),
        (
            "#!/no/interpreter\n",
            "exec /bin/odd: no such file or directory\n",
        ),
    ] {
        let mut place = Place::new(&["odd"]);
        let file = place.root().join("bin/odd");
        std::fs::write(&file, content)?;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755))?;
        assert_eq!(place.run()?.code, 255);
        let log = std::fs::read_to_string(place.log_path())?;
        assert!(log.contains(&words[..words.len() - 1]), "{log}");
        place.assert_gone();
    }
    let mut place = Place::new(&["plain"]);
    std::fs::write(place.root().join("bin/plain"), "x")?;
    match place.start() {
        Err(StartError::Exec { exit_code, message }) => assert_eq!(
            (exit_code, message.as_str()),
            (127, "exec: \"plain\": executable file not found in $PATH")
        ),
        other => panic!("{other:?}"),
    }
    Ok(())
}

fn shared_pids() -> Outcome {
    let mut first = Place::new(&["sleep", "300"]);
    let started = first.start()?;
    let mut second = shell("ps | grep -c '[s]leep 300'; test $$ != 1 && echo not the first");
    edit_linux(&mut second, |linux| {
        let mut namespaces = linux.namespaces().clone().unwrap();
        namespaces.retain(|n| n.typ() != LinuxNamespaceType::Pid);
        let mut joined = LinuxNamespace::default();
        joined.set_typ(LinuxNamespaceType::Pid);
        joined.set_path(Some(format!("/proc/{}/ns/pid", started.pid).into()));
        namespaces.push(joined);
        linux.set_namespaces(Some(namespaces));
    });
    let text = output_of(&mut second);
    rustix::process::pidfd_send_signal(&started.pidfd, rustix::process::Signal::KILL)?;
    assert_eq!(started.watch.wait()?.map(|e| e.code), Some(137));
    assert_eq!(text, "1\nnot the first\n");
    first.assert_gone();
    second.assert_gone();
    Ok(())
}

/// The test binary is the init program: statically linked or not, it runs from inside the root with its libraries.
fn own_init() -> Outcome {
    // An orphan that ends while nobody waits for it would stay a zombie below an init that does not reap.
    let script = "(sh -c 'sleep 0.1' &) ; sleep 0.5; cat /proc/[0-9]*/stat | grep -c ' Z '; trap 'echo got it; exit 9' TERM; echo ready; \
                  while true; do sleep 0.05; done";
    let mut place = Place::new(&["/sbin/docker-init", "--", "sh", "-c", script]);
    bind(
        &mut place,
        &std::env::current_exe()?,
        "/sbin/docker-init",
        &["bind", "ro"],
    );
    for library in ["/lib", "/lib64", "/usr/lib"] {
        if Path::new(library).is_dir() {
            bind(&mut place, Path::new(library), library, &["bind", "ro"]);
        }
    }
    let started = place.start()?;
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !std::fs::read_to_string(place.log_path()).is_ok_and(|log| log.contains("ready")) {
        assert!(
            std::time::Instant::now() < until,
            "{:?}",
            std::fs::read_to_string(place.log_path())
        );
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    rustix::process::pidfd_send_signal(&started.pidfd, rustix::process::Signal::TERM)?;
    assert_eq!(started.watch.wait()?.map(|e| e.code), Some(9));
    let log = std::fs::read_to_string(place.log_path())?;
    assert!(
        log.contains("\"log\":\"0\\n\"") && log.contains("got it"),
        "{log}"
    );
    place.assert_gone();
    Ok(())
}

fn new_spawner() -> Outcome {
    // One of its own: the other tests go on with theirs.
    let own = gantry_runtime::spawn::Spawner::launch(gantry_runtime::spawn::SpawnerOptions {
        program: std::env::current_exe()?,
        exec_root: "/run".into(),
    })?;
    let first = own.pid();
    let mut running = Place::new(&["sleep", "300"]);
    let started = running.start_by(&own)?;
    let pid = rustix::process::Pid::from_raw(first as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    let mut place = Place::new(&["true"]);
    let exit = loop {
        // Between the kill and the end of its socket a request may still be lost, never half done.
        match place.start_by(&own) {
            Ok(started) => break started.watch.wait()?,
            Err(StartError::Lost(_)) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(exit.map(|e| e.code), Some(0));
    assert_ne!(own.pid(), first);
    // The first container has not noticed.
    rustix::process::pidfd_send_signal(&started.pidfd, rustix::process::Signal::KILL)?;
    assert_eq!(started.watch.wait()?.map(|e| e.code), Some(137));
    running.assert_gone();
    Ok(())
}

fn no_log() -> Outcome {
    let mut place = Place::new(&["sleep", "300"]);
    std::fs::create_dir(place.log_path())?;
    assert!(matches!(place.start(), Err(StartError::Setup { .. })));
    place.assert_gone();
    assert_eq!(std::fs::read_dir(place.run_dir())?.count(), 0);
    Ok(())
}

fn user() -> Outcome {
    let mut place = shell("id -u; id -g; id -G; umask; pwd; echo by name > /dev/stdout");
    edit_process(&mut place, |process| {
        let mut user = process.user().clone();
        user.set_uid(1234)
            .set_gid(567)
            .set_additional_gids(Some(vec![567, 8]))
            .set_umask(Some(0o027));
        process.set_user(user);
        process.set_cwd("/made/for/it".into());
    });
    assert_eq!(
        output_of(&mut place),
        "1234\n567\n567 8\n0027\n/made/for/it\nby name\n"
    );
    Ok(())
}

fn oom_score() -> Outcome {
    assert_eq!(output_of(&mut shell("cat /proc/self/oom_score_adj")), "0\n");
    let mut place = shell("cat /proc/self/oom_score_adj");
    edit_process(&mut place, |process| {
        process.set_oom_score_adj(Some(321));
    });
    assert_eq!(output_of(&mut place), "321\n");
    Ok(())
}
