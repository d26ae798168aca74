//! The most memory that an engine's processes had at a time.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const PAGE: u64 = 4096;
/// Time between two looks, and between two looks for new processes.
const LOOK: Duration = Duration::from_millis(10);
const FIND: Duration = Duration::from_millis(60);

/// The pids of all processes whose program `belongs`.
fn processes(belongs: &dyn Fn(&Path) -> bool) -> HashSet<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|program| belongs(&program))
        })
        .collect()
}

/// Resident bytes of a process now; 0 when it is gone.
fn resident(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages: Option<u64> = text.split(' ').nth(1).and_then(|n| n.parse().ok());
    pages.unwrap_or(0) * PAGE
}

/// The most bytes that a process had since [`forget_peak`].
fn peak_of(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes: Option<u64> = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kilobytes.unwrap_or(0) * 1024
}

fn forget_peak(pid: u32) {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").ok();
}

/// Does something, and says how many bytes all processes whose program `belongs` had at most while it was done: what
/// the kernel noted for those that were there before, or the largest of the sums that were seen, with those that came
/// and went. `except` is left out.
pub(crate) fn peak_while<T>(
    belongs: &(dyn Fn(&Path) -> bool + Sync),
    except: &AtomicU64,
    act: impl FnOnce() -> T,
) -> (T, u64) {
    let before = processes(belongs);
    before.iter().for_each(|pid| forget_peak(*pid));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let (mut pids, mut found) = (before.clone(), Instant::now());
            let mut most = 0;
            while !done.load(Ordering::Relaxed) {
                if found.elapsed() > FIND {
                    (pids, found) = (processes(belongs), Instant::now());
                }
                let left_out = except.load(Ordering::Relaxed);
                let sum = pids
                    .iter()
                    .filter(|pid| u64::from(**pid) != left_out)
                    .map(|pid| resident(*pid))
                    .sum();
                most = most.max(sum);
                std::thread::sleep(LOOK);
            }
            most
        });
        let answer = act();
        done.store(true, Ordering::Relaxed);
        let seen = watch.join().unwrap_or(0);
        let noted: u64 = before.iter().map(|pid| peak_of(*pid)).sum();
        (answer, seen.max(noted))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_grows_is_seen() {
        let own = std::env::current_exe().unwrap();
        let none = AtomicU64::new(0);
        let grow = || {
            let bytes = vec![1_u8; 64 << 20];
            std::thread::sleep(Duration::from_millis(50));
            bytes.iter().map(|b| u64::from(*b)).sum::<u64>()
        };
        let (sum, peak) = peak_while(&|program| program == own, &none, grow);
        assert_eq!(sum, 64 << 20);
        assert!(peak > 64 << 20, "{peak}");
    }
}
