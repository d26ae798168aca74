//! Further processes in a running container.

use crate::kit::{Place, spawner};
use gantry_runtime::shim_client::{self, ExitRecord};
use gantry_runtime::spawn::{Attached, ExecRequest, StartError, Started, Stdio, Streams};
use libtest_mimic::Trial;
use oci_spec::runtime::Process;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

pub(crate) fn all() -> Vec<Trial> {
    vec![
        Trial::test(
            "exec_an_exec_is_in_the_containers_namespaces_and_cgroup",
            an_exec_is_in_the_containers_namespaces_and_cgroup,
        ),
        Trial::test(
            "exec_what_cannot_be_executed_is_told_as_with_a_start",
            what_cannot_be_executed_is_told_as_with_a_start,
        ),
        Trial::test(
            "exec_stdin_goes_in_and_its_end_too",
            stdin_goes_in_and_its_end_too,
        ),
        Trial::test(
            "exec_a_terminal_has_its_size_and_is_resized",
            a_terminal_has_its_size_and_is_resized,
        ),
        Trial::test(
            "exec_it_ends_with_its_container_and_its_exit_is_written",
            it_ends_with_its_container_and_its_exit_is_written,
        ),
        Trial::test(
            "exec_an_ended_container_takes_none",
            an_ended_container_takes_none,
        ),
    ]
}

type Outcome = Result<(), libtest_mimic::Failed>;

const ALL: Streams = Streams {
    stdin: true,
    stdout: true,
    stderr: true,
};

struct Exec<'a> {
    place: &'a Place,
    started: &'a Started,
    process: Process,
    stdio: Stdio,
    run_dir: tempfile::TempDir,
}

impl<'a> Exec<'a> {
    fn new(place: &'a Place, started: &'a Started, args: &[&str]) -> Self {
        let mut process = place.spec.process().clone().unwrap();
        process.set_args(Some(args.iter().map(|a| (*a).to_owned()).collect()));
        Self {
            place,
            started,
            process,
            stdio: Stdio {
                open_stdin: true,
                stdin_once: true,
                ..Stdio::default()
            },
            run_dir: tempfile::tempdir().unwrap(),
        }
    }

    fn start(&self) -> Result<(Started, UnixStream), StartError> {
        let (ours, socket) = UnixStream::pair().unwrap();
        let started = spawner().exec(ExecRequest {
            target: self.started.pidfd.try_clone().unwrap(),
            target_pid: self.started.pid,
            cgroup_path: &self.place.cgroup().path,
            process: &self.process,
            seccomp: None,
            run_dir: self.run_dir.path(),
            stdio: self.stdio.clone(),
            framed: false,
            attached: vec![Attached {
                socket,
                streams: ALL,
            }],
        })?;
        Ok((started, ours))
    }

    fn output(&self) -> (String, ExitRecord) {
        let (started, mut socket) = self.start().expect("the exec starts");
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        (text, started.watch.wait().unwrap().expect("an exit"))
    }
}

fn kill(pidfd: &OwnedFd) {
    rustix::process::pidfd_send_signal(pidfd, rustix::process::Signal::KILL).unwrap();
}

fn sleeping() -> (Place, Started) {
    let mut place = Place::new(&["sleep", "1000"]);
    let started = place.start().expect("the container starts");
    (place, started)
}

fn ended(place: &Place, started: Started) {
    kill(&started.pidfd);
    let exit = started.watch.wait().unwrap().expect("an exit");
    assert_eq!(exit.code, 137);
    place.assert_gone();
}

fn an_exec_is_in_the_containers_namespaces_and_cgroup() -> Outcome {
    let (place, started) = sleeping();
    let exec = Exec::new(
        &place,
        &started,
        &[
            "sh",
            "-c",
            "ps | grep -c '[s]leep 1000'; pwd; cat /proc/self/cgroup; exit 7",
        ],
    );
    let (text, exit) = exec.output();
    assert_eq!(exit.code, 7, "{text}");
    // The container's own program is seen.
    assert!(text.starts_with("1\n/\n"), "{text}");
    assert!(text.contains(&place.id) || text.contains(":/\n"), "{text}");
    for kind in ["mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let exec = Exec::new(
            &place,
            &started,
            &["ls", "-l", &format!("/proc/self/ns/{kind}")],
        );
        let link = std::fs::read_link(format!("/proc/{}/ns/{kind}", started.pid)).unwrap();
        let (text, _) = exec.output();
        assert!(text.contains(link.to_str().unwrap()), "{kind}: {text}");
    }
    ended(&place, started);
    Ok(())
}

fn what_cannot_be_executed_is_told_as_with_a_start() -> Outcome {
    let (place, started) = sleeping();
    match Exec::new(&place, &started, &["/nope"]).start() {
        Err(StartError::Exec { exit_code, message }) => {
            assert_eq!(exit_code, 127);
            assert_eq!(
                message,
                "exec: \"/nope\": stat /nope: no such file or directory"
            );
        }
        other => panic!("{other:?}"),
    }
    let mut exec = Exec::new(&place, &started, &["true"]);
    exec.process.set_cwd("/not-there".into());
    match exec.start() {
        Err(StartError::Setup { message, step }) => {
            assert_eq!(message, "no such file or directory");
            assert!(step.contains("chdir to cwd (\"/not-there\")"), "{step}");
        }
        other => panic!("{other:?}"),
    }
    assert!(!place.root().join("not-there").exists());
    ended(&place, started);
    Ok(())
}

fn stdin_goes_in_and_its_end_too() -> Outcome {
    let (place, started) = sleeping();
    let exec = Exec::new(&place, &started, &["cat"]);
    let (running, mut socket) = exec.start().unwrap();
    let sent = vec![b'x'; 3 << 20];
    let mut writer = socket.try_clone().unwrap();
    let copy = sent.clone();
    let thread = std::thread::spawn(move || {
        writer.write_all(&copy).unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut back = Vec::new();
    socket.read_to_end(&mut back).unwrap();
    thread.join().unwrap();
    assert!(back == sent);
    assert_eq!(running.watch.wait().unwrap().unwrap().code, 0);
    ended(&place, started);
    Ok(())
}

fn a_terminal_has_its_size_and_is_resized() -> Outcome {
    let (place, started) = sleeping();
    let mut exec = Exec::new(
        &place,
        &started,
        &["sh", "-c", "stty size; read x; stty size"],
    );
    exec.stdio.tty = true;
    exec.stdio.console_size = Some((11, 22));
    let (running, mut socket) = exec.start().unwrap();
    let mut first = [0; 7];
    socket.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"11 22\r\n");
    shim_client::resize(exec.run_dir.path(), 33, 44).unwrap();
    socket.write_all(b"\n").unwrap();
    let mut rest = String::new();
    socket.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "\r\n33 44\r\n");
    assert_eq!(running.watch.wait().unwrap().unwrap().code, 0);
    ended(&place, started);
    Ok(())
}

fn it_ends_with_its_container_and_its_exit_is_written() -> Outcome {
    let (place, started) = sleeping();
    let exec = Exec::new(&place, &started, &["sleep", "1000"]);
    let (running, _socket) = exec.start().unwrap();
    let run_dir = exec.run_dir;
    ended(&place, started);
    assert_eq!(running.watch.wait().unwrap().unwrap().code, 137);
    let written = Path::new(run_dir.path()).join("exit");
    assert!(written.exists());
    Ok(())
}

fn an_ended_container_takes_none() -> Outcome {
    let (place, started) = sleeping();
    let pidfd = started.pidfd.try_clone().unwrap();
    let pid = started.pid;
    kill(&pidfd);
    started.watch.wait().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let process = place.spec.process().clone().unwrap();
    let refused = spawner().exec(ExecRequest {
        target: pidfd,
        target_pid: pid,
        cgroup_path: &place.cgroup().path,
        process: &process,
        seccomp: None,
        run_dir: dir.path(),
        stdio: Stdio::default(),
        framed: true,
        attached: Vec::new(),
    });
    assert!(
        matches!(refused, Err(StartError::Setup { .. })),
        "{refused:?}"
    );
    Ok(())
}
