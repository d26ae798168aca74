//! What a container costs: memory of its shim, time to its start. The bounds are those of a debug build.

use crate::kit::Place;
use libtest_mimic::Trial;

pub(crate) fn all() -> Vec<Trial> {
    vec![
        Trial::test("the_memory_of_a_shim", memory),
        Trial::test("the_time_of_a_start", time),
    ]
}

type Outcome = Result<(), libtest_mimic::Failed>;

/// Kilobytes of one line of `/proc/<pid>/smaps_rollup`.
fn kilobytes(pid: u32, line: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let found = text.lines().find_map(|l| l.strip_prefix(line)).unwrap();
    found.split_whitespace().next().unwrap().parse().unwrap()
}

fn memory() -> Outcome {
    let mut place = Place::new(&["sleep", "300"]);
    let started = place.start()?;
    let dirty = kilobytes(started.shim_pid, "Private_Dirty:");
    let total = kilobytes(started.shim_pid, "Pss:");
    rustix::process::pidfd_send_signal(&started.pidfd, rustix::process::Signal::KILL)?;
    started.watch.wait()?;
    println!("a shim: {dirty} KB private and dirty, {total} KB in proportion");
    assert!(dirty < 400, "{dirty} KB are private and dirty");
    Ok(())
}

fn time() -> Outcome {
    let mut whole = Vec::new();
    for turn in 0..20 {
        let mut place = Place::new(&["true"]);
        let before = std::time::Instant::now();
        let started = place.start()?;
        let up = before.elapsed();
        let timings = started.timings.clone();
        assert!(!timings.is_empty(), "a traced start tells its steps");
        assert_eq!(started.watch.wait()?.map(|e| e.code), Some(0));
        whole.push(before.elapsed());
        if turn == 19 {
            println!(
                "start {up:?}, to the end {:?}: {timings:?}",
                before.elapsed()
            );
        }
    }
    whole.sort();
    println!("median of start to the shim's end: {:?}", whole[10]);
    assert!(
        whole[10] < std::time::Duration::from_millis(200),
        "{whole:?}"
    );
    Ok(())
}
