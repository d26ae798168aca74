//! Processes: exit codes, failures of exec, namespaces, what is hidden, what is left.

use crate::kit::Place;
use gantry_runtime::shim_client::{Found, find};
use gantry_runtime::spawn::{StartError, Streams};
use libtest_mimic::Trial;
use std::io::{Read, Write};

pub(crate) fn all() -> Vec<Trial> {
    vec![
        Trial::test("exit_codes", exit_codes),
        Trial::test("programs_that_cannot_be_executed", not_executable),
        Trial::test("a_view_of_its_own", own_view),
        Trial::test("a_failed_setup_leaves_nothing", failed_setup),
        Trial::test("a_killed_shim_is_found_lost", lost_shim),
        Trial::test("found_again_by_its_run_directory", found_again),
        Trial::test("a_hundred_starts_at_once", many),
    ]
}

type Outcome = Result<(), libtest_mimic::Failed>;

/// Runs a shell script and returns what it prints.
pub(crate) fn output_of(place: &mut Place) -> String {
    let mut client = place.attach(Streams {
        stdin: false,
        stdout: true,
        stderr: true,
    });
    let exit = place.run().unwrap();
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).unwrap();
    assert_eq!(exit.code, 0, "{}", String::from_utf8_lossy(&bytes));
    let mut text = String::new();
    let mut rest = &bytes[..];
    while rest.len() >= 8 {
        let size = u32::from_be_bytes([rest[4], rest[5], rest[6], rest[7]]) as usize;
        text.push_str(&String::from_utf8_lossy(&rest[8..8 + size]));
        rest = &rest[8 + size..];
    }
    text
}

fn exit_codes() -> Outcome {
    for (script, code) in [
        ("true", 0),
        ("exit 7", 7),
        ("sh -c 'kill -9 $$'; exit $?", 137),
        ("kill -9 $$; exit 3", 3),
    ] {
        let mut place = Place::new(&["sh", "-c", script]);
        assert_eq!(place.run()?.code, code, "{script}");
        place.assert_gone();
    }
    Ok(())
}

fn not_executable() -> Outcome {
    for (program, code, words) in [
        (
            "/no/such",
            127,
            "exec: \"/no/such\": stat /no/such: no such file or directory",
        ),
        (
            "nope",
            127,
            "exec: \"nope\": executable file not found in $PATH",
        ),
        (
            "/etc/passwd",
            126,
            "exec: \"/etc/passwd\": permission denied",
        ),
        (
            "/etc",
            126,
            "exec: \"/etc\": is a directory: permission denied",
        ),
    ] {
        let mut place = Place::new(&[program]);
        match place.start() {
            Err(StartError::Exec { exit_code, message }) => {
                assert_eq!((exit_code, message.as_str()), (code, words))
            }
            other => panic!("{program}: {other:?}"),
        }
        place.assert_gone();
    }
    Ok(())
}

fn own_view() -> Outcome {
    let script = "echo pid $$; ls /proc | grep -c '^[0-9]'; cat /proc/kcore | head -c 1; echo x > /proc/sys/kernel/domainname || echo ro; \
                  grep CapEff /proc/self/status; ls -l /proc/self/fd | grep -c pipe; cat /proc/self/cgroup | grep memory";
    let text = output_of(&mut Place::new(&["sh", "-c", script]));
    assert!(text.starts_with("pid 1\n"), "{text}");
    assert!(text.contains("ro\n"), "{text}");
    assert!(!text.contains("000001ff"), "all capabilities: {text}");
    Ok(())
}

fn failed_setup() -> Outcome {
    let mut place = Place::new(&["true"]);
    let mut linux = place.spec.linux().clone().unwrap();
    linux.set_sysctl(Some(
        [("kernel.nonsense".to_owned(), "1".to_owned())].into(),
    ));
    place.spec.set_linux(Some(linux));
    match place.start() {
        Err(StartError::Setup { message, .. }) => {
            assert_eq!(
                message,
                "sysctl \"kernel.nonsense\" is not in a separate kernel namespace"
            );
        }
        other => panic!("{other:?}"),
    }
    place.assert_gone();
    let mut place = Place::new(&["true"]);
    let mut process = place.spec.process().clone().unwrap();
    process.set_cwd("/etc/passwd/x".into());
    place.spec.set_process(Some(process));
    assert!(matches!(place.start(), Err(StartError::Setup { .. })));
    place.assert_gone();
    Ok(())
}

fn lost_shim() -> Outcome {
    let mut place = Place::new(&["sleep", "300"]);
    let started = place.start()?;
    let shim = rustix::process::Pid::from_raw(started.shim_pid as i32).unwrap();
    rustix::process::kill_process(shim, rustix::process::Signal::KILL)?;
    assert!(started.watch.wait()?.is_none());
    match find(&place.run_dir())? {
        Found::Lost { pid: Some(pid) } => assert_eq!(pid, started.pid),
        other => panic!("{other:?}"),
    }
    place.cgroup().destroy()?;
    place.assert_gone();
    assert!(matches!(find(&place.run_dir())?, Found::Lost { pid: None }));
    Ok(())
}

fn found_again() -> Outcome {
    let mut place = Place::new(&["sh", "-c", "read go; exit 5"]);
    place.stdio.open_stdin = true;
    let started = place.start()?;
    drop(started.watch);
    match find(&place.run_dir())? {
        Found::Running { pid, watch, .. } => {
            assert_eq!(pid, started.pid);
            let stdin = Streams {
                stdin: true,
                ..Streams::default()
            };
            let mut client = gantry_runtime::shim_client::attach(&place.run_dir(), stdin)?;
            client.write_all(b"go\n")?;
            assert_eq!(watch.wait()?.map(|e| e.code), Some(5));
        }
        other => panic!("{other:?}"),
    }
    match find(&place.run_dir())? {
        Found::Exited(exit) => assert_eq!(exit.code, 5),
        other => panic!("{other:?}"),
    }
    place.assert_gone();
    Ok(())
}

fn many() -> Outcome {
    std::thread::scope(|scope| {
        for n in 0..100 {
            scope.spawn(move || {
                let mut place = Place::new(&["sh", "-c", &format!("exit {n}")]);
                assert_eq!(place.run().unwrap().code, n);
                place.assert_gone();
            });
        }
    });
    Ok(())
}
