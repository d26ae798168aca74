//! Deaths and slowness around a container: the daemon is killed, a client reads late or not at all.

use crate::kit::Place;
use gantry_runtime::shim_client::{Found, find};
use gantry_runtime::spawn::{Spawner, SpawnerOptions, Streams};
use libtest_mimic::Trial;
use std::io::{BufRead, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The name under which the test binary plays a daemon that is killed.
pub(crate) const DAEMON: &str = "gantry-killed-daemon";

pub(crate) fn all() -> Vec<Trial> {
    vec![
        Trial::test("a_killed_daemon_loses_no_line_and_no_exit", killed_daemon),
        Trial::test("a_client_that_reads_late_gets_all", late_client),
        Trial::test("a_client_that_never_reads_is_cut_off", stuck_client),
        Trial::test("clients_come_and_go", attach_later),
        Trial::test("a_silent_connection_holds_nothing_up", silent_connection),
        Trial::test("a_spawner_that_dies_loses_no_request", spawner_dies),
    ]
}

type Outcome = Result<(), libtest_mimic::Failed>;
const OUTPUT: Streams = Streams {
    stdin: false,
    stdout: true,
    stderr: true,
};

/// Starts a container, tells where, and waits to be killed.
pub(crate) fn daemon_main() -> ! {
    let script = "n=0; while [ $n -lt 60 ]; do echo line $n; n=$((n+1)); sleep 0.02; done; exit 6";
    let mut place = Place::new(&["sh", "-c", script]);
    let _started = place.start().unwrap();
    println!(
        "{} {}",
        crate::kit::spawner().pid(),
        place.dir.path().display()
    );
    std::io::stdout().flush().unwrap();
    loop {
        std::thread::park();
    }
}

fn killed_daemon() -> Outcome {
    let mut daemon = std::process::Command::new(std::env::current_exe()?)
        .arg0(DAEMON)
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    std::io::BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut line)?;
    let (spawner, dir) = line.trim().split_once(' ').unwrap();
    let dir = PathBuf::from(dir);
    daemon.kill()?;
    daemon.wait()?;
    let Found::Running { watch, .. } = find(&dir.join("run"))? else {
        panic!("the container went with the daemon");
    };
    assert_eq!(watch.wait()?.map(|e| e.code), Some(6));
    assert!(matches!(find(&dir.join("run"))?, Found::Exited(exit) if exit.code == 6));
    let log = std::fs::read_to_string(dir.join("c-json.log"))?;
    let lines: Vec<String> = (0..60)
        .map(|n| format!("{{\"log\":\"line {n}\\n\""))
        .collect();
    assert_eq!(log.lines().count(), 60);
    for (found, wanted) in log.lines().zip(&lines) {
        assert!(found.starts_with(wanted), "{found}");
    }
    // The spawner has no daemon any more.
    let until = Instant::now() + Duration::from_secs(5);
    let gone = || {
        let name = std::fs::read_to_string(format!("/proc/{spawner}/comm"));
        !name.is_ok_and(|name| name.starts_with("gantry"))
    };
    while !gone() {
        assert!(Instant::now() < until, "the spawner is still there");
        std::thread::sleep(Duration::from_millis(10));
    }
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

/// Bytes of the payload in frames.
fn payload(mut frames: &[u8]) -> usize {
    let mut total = 0;
    while frames.len() >= 8 {
        let size = u32::from_be_bytes([frames[4], frames[5], frames[6], frames[7]]) as usize;
        total += size;
        frames = &frames[8 + size..];
    }
    assert!(frames.is_empty(), "a frame is cut off");
    total
}

fn late_client() -> Outcome {
    let mut place = Place::new(&["dd", "if=/dev/zero", "bs=65536", "count=64"]);
    place.log = false;
    let mut client = place.attach(Streams {
        stderr: false,
        ..OUTPUT
    });
    let started = place.start()?;
    std::thread::sleep(Duration::from_secs(3));
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes)?;
    assert_eq!(payload(&bytes), 4 << 20);
    assert_eq!(started.watch.wait()?.map(|e| e.code), Some(0));
    place.assert_gone();
    Ok(())
}

fn stuck_client() -> Outcome {
    let mut place = Place::new(&[
        "sh",
        "-c",
        "dd if=/dev/zero bs=65536 count=80 2>/dev/null | tr '\\0' a; exit 4",
    ]);
    let client = place.attach(OUTPUT);
    let before = Instant::now();
    let started = place.start()?;
    assert_eq!(started.watch.wait()?.map(|e| e.code), Some(4));
    let took = before.elapsed();
    assert!(
        took > Duration::from_secs(8) && took < Duration::from_secs(25),
        "{took:?}"
    );
    // The log has all of it: the letter stands once in each line's `stream`, too.
    let log = std::fs::read(place.log_path())?;
    let count = |byte: u8| log.iter().filter(|b| **b == byte).count();
    assert_eq!(count(b'a') - count(b'\n'), 80 * 65536);
    drop(client);
    place.assert_gone();
    Ok(())
}

fn attach_later() -> Outcome {
    let mut place = Place::new(&[
        "sh",
        "-c",
        "while read line; do echo \"<$line>\"; done; echo over",
    ]);
    place.stdio.open_stdin = true;
    let started = place.start()?;
    for name in ["first", "second"] {
        let all = Streams {
            stdin: true,
            ..OUTPUT
        };
        let mut client = gantry_runtime::shim_client::attach(&place.run_dir(), all)?;
        client.write_all(format!("{name}\n").as_bytes())?;
        let wanted = format!("<{name}>\n");
        let mut frame = vec![0; 8 + wanted.len()];
        client.read_exact(&mut frame)?;
        assert_eq!(&frame[8..], wanted.as_bytes());
        // Without stdin_once the end of one client's input is not the end of stdin.
        client.shutdown(std::net::Shutdown::Write)?;
    }
    assert!(matches!(find(&place.run_dir())?, Found::Running { .. }));
    rustix::process::pidfd_send_signal(&started.pidfd, rustix::process::Signal::KILL)?;
    assert_eq!(started.watch.wait()?.map(|e| e.code), Some(137));
    place.assert_gone();
    Ok(())
}

fn silent_connection() -> Outcome {
    let mut place = Place::new(&["sh", "-c", "read x; exit 3"]);
    place.stdio.open_stdin = true;
    let started = place.start()?;
    let silent = std::os::unix::net::UnixStream::connect(place.run_dir().join("shim.sock"))?;
    let stdin = Streams {
        stdin: true,
        ..Streams::default()
    };
    let mut client = gantry_runtime::shim_client::attach(&place.run_dir(), stdin)?;
    let before = Instant::now();
    client.write_all(b"go\n")?;
    assert_eq!(started.watch.wait()?.map(|e| e.code), Some(3));
    assert!(before.elapsed() < Duration::from_secs(2));
    drop(silent);
    place.assert_gone();
    Ok(())
}

/// A spawner that dies with requests in its hands is replaced, and none of them is lost.
fn spawner_dies() -> Outcome {
    let options = SpawnerOptions {
        program: std::env::current_exe()?,
        exec_root: "/run".into(),
    };
    let spawner = Spawner::launch(options)?;
    for round in 0..40_u64 {
        let pid = rustix::process::Pid::from_raw(spawner.pid() as i32).ok_or("no spawner")?;
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_micros(round * 40));
            rustix::process::kill_process(pid, rustix::process::Signal::KILL)
        });
        let mut place = Place::new(&["sh", "-c", "exit 5"]);
        let started = place.start_by(&spawner)?;
        let exit = started.watch.wait()?.ok_or("no exit")?;
        assert_eq!(exit.code, 5);
        let _ = killer.join();
        place.assert_gone();
    }
    Ok(())
}
