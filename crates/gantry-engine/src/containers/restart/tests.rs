//! The policies as a table, with a clock that only the stories move.

use super::super::record::Record;
use super::*;
use jiff::{SignedDuration, Timestamp};

fn record(policy: &str, retries: i64) -> Record {
    let mut record = crate::containers::record::tests::record();
    policy.clone_into(&mut record.host_config.restart_policy.name);
    record.host_config.restart_policy.maximum_retry_count = retries;
    record
}

/// Who ended a run.
#[derive(Clone, Copy)]
enum By {
    Itself,
    /// A signal that is none of those that end it for good.
    Signal,
    Stop,
}

/// One run: how long it lasted in milliseconds, its exit code, and who ended it.
type Run = (i64, i32, By);

/// The pauses in milliseconds after each run; 0 where the container stays ended.
fn pauses(policy: &str, retries: i64, runs: &[Run]) -> Vec<u64> {
    let mut record = record(policy, retries);
    let mut back_off = BackOff::default();
    let mut clock = Timestamp::UNIX_EPOCH;
    let mut seen = Vec::new();
    for (millis, code, by) in runs {
        record.state.started_at = Some(clock);
        clock += SignedDuration::from_millis(*millis);
        record.state.finished_at = Some(clock);
        record.state.exit_code = *code;
        record.state.stopped_by_user |= !matches!(by, By::Itself);
        let cancelled = matches!(by, By::Stop);
        let delay = decide(&mut record, cancelled, &mut back_off);
        clock += SignedDuration::try_from(delay.unwrap_or_default()).unwrap();
        seen.push(delay.map_or(0, |delay| delay.as_millis() as u64));
    }
    seen
}

#[test]
fn policies() {
    use By::{Itself, Signal, Stop};
    let short = |code| (10, code, Itself);
    let table: [(&str, i64, &[Run], &[u64]); 12] = [
        ("no", 0, &[short(1)], &[0]),
        ("", 0, &[short(1)], &[0]),
        ("always", 0, &[short(0), short(1)], &[100, 200]),
        ("always", 0, &[short(0), (10, 137, Stop)], &[100, 0]),
        ("always", 0, &[(10, 0, Signal)], &[100]),
        ("unless-stopped", 0, &[short(0), short(3)], &[100, 200]),
        ("unless-stopped", 0, &[(10, 143, Stop)], &[0]),
        // A signal by hand counts as a stop there, as with Docker.
        ("unless-stopped", 0, &[(10, 1, Signal)], &[0]),
        ("on-failure", 0, &[short(1), short(0)], &[100, 0]),
        (
            "on-failure",
            2,
            &[short(1), short(1), short(1)],
            &[100, 200, 0],
        ),
        ("on-failure", 0, &[(10, 137, Stop)], &[0]),
        // Ten seconds make the pause the first one again; less do not.
        (
            "always",
            0,
            &[
                short(1),
                short(1),
                (10_000, 1, Itself),
                short(1),
                (9_999, 1, Itself),
            ],
            &[100, 200, 100, 200, 400],
        ),
    ];
    for (policy, retries, runs, expected) in table {
        let seen = pauses(policy, retries, runs);
        assert_eq!(seen, expected, "{policy}:{retries}, {} runs", runs.len());
    }
}

#[test]
fn pauses_double_up_to_a_minute() {
    let runs = vec![(1_000, 1, By::Itself); 13];
    let seen = pauses("always", 0, &runs);
    assert_eq!(
        seen[..10],
        [
            100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200
        ]
    );
    assert_eq!(seen[10..], [60_000, 60_000, 60_000]);
}

#[test]
fn at_the_start_of_a_daemon() {
    // Policy, exit code, stopped by hand; whether it comes back.
    let table = [
        ("no", 1, false, false),
        ("always", 0, false, true),
        ("always", 137, true, true),
        ("unless-stopped", 0, false, true),
        ("unless-stopped", 0, true, false),
        ("on-failure", 0, false, false),
        ("on-failure", 255, false, true),
        ("on-failure", 137, true, false),
    ];
    for (policy, code, stopped, back) in table {
        let mut record = record(policy, 0);
        record.state.exit_code = code;
        record.state.stopped_by_user = stopped;
        assert!(!wanted_at_start(&record), "{policy}: it never ran");
        record.state.started_at = Some(Timestamp::UNIX_EPOCH);
        assert_eq!(wanted_at_start(&record), back, "{policy} {code} {stopped}");
    }
    let mut tried = record("on-failure", 3);
    tried.state.started_at = Some(Timestamp::UNIX_EPOCH);
    tried.state.exit_code = 1;
    tried.restart_count = 3;
    assert!(!wanted_at_start(&tried), "its tries are used up");
}
