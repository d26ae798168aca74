//! What must hold of the whole table, and that the documentation shows it.

use super::super::record::{State, Status};
use super::{Operation as O, Outcome, outcome};
use std::fmt::Write as _;

const ASKED: [O; 16] = [
    O::Start,
    O::Restart,
    O::Stop,
    O::Kill,
    O::Signal,
    O::Pause,
    O::Unpause,
    O::Rename,
    O::Update,
    O::Remove,
    O::RemoveByForce,
    O::Exec,
    O::Attach,
    O::Resize,
    O::Top,
    O::Stats,
];
const BY_ITSELF: [O; 9] = [
    O::Exit,
    O::ExitForAWhile,
    O::StartAgain,
    O::GiveUp,
    O::Thaw,
    O::RemovalFailed,
    O::FoundRunning,
    O::FoundFrozen,
    O::BringBack,
];

fn all() -> impl Iterator<Item = O> {
    ASKED.into_iter().chain(BY_ITSELF)
}

fn cell(status: Status, operation: O) -> String {
    match outcome(status, operation) {
        Outcome::Becomes(next) => format!("**{}**", next.word()),
        Outcome::Stays => "done".into(),
        Outcome::Nothing if ASKED.contains(&operation) => "304".into(),
        Outcome::Nothing => "-".into(),
        Outcome::Refused(refusal) => {
            let error = refusal.error("ID", "NAME");
            let status = if error.kind == crate::ErrorKind::Conflict {
                409
            } else {
                500
            };
            format!("{status} {refusal:?}")
        }
    }
}

#[test]
fn the_documentation_shows_the_table() {
    let mut table = String::from("|");
    for status in Status::ALL {
        let _ = write!(table, " | {}", status.word());
    }
    table.push_str(" |\n|---|---|---|---|---|---|---|---|\n");
    for operation in all() {
        let _ = write!(table, "| {operation:?}");
        for status in Status::ALL {
            let _ = write!(table, " | {}", cell(status, operation));
        }
        table.push_str(" |\n");
    }
    let shown = include_str!("../../../../../docs/states.md");
    assert!(
        shown.contains(&table),
        "docs/states.md should have:\n{table}"
    );
}

#[test]
fn the_documentation_has_the_words() {
    let shown = include_str!("../../../../../docs/states.md");
    for operation in ASKED {
        for status in Status::ALL {
            if let Outcome::Refused(refusal) = outcome(status, operation) {
                let words = refusal.error("ID", "NAME").message;
                let line = format!("| {refusal:?} | {words} |");
                assert!(shown.contains(&line), "docs/states.md should have: {line}");
            }
        }
    }
}

#[test]
fn what_happens_by_itself_is_never_refused() {
    for operation in BY_ITSELF {
        for status in Status::ALL {
            let outcome = outcome(status, operation);
            assert!(
                !matches!(outcome, Outcome::Refused(_)),
                "{operation:?} {status:?}"
            );
        }
    }
}

#[test]
fn a_container_that_goes_does_not_come_back() {
    for operation in all() {
        if let Outcome::Becomes(next) = outcome(Status::Removing, operation) {
            assert_eq!(
                (operation, next),
                (O::RemovalFailed, Status::Dead),
                "from removing"
            );
        }
        if let Outcome::Becomes(next) = outcome(Status::Dead, operation) {
            assert_eq!(next, Status::Removing, "{operation:?} of a dead container");
        }
    }
}

#[test]
fn processes_come_by_a_start_and_go_by_an_exit() {
    let starts = [
        O::Start,
        O::Restart,
        O::StartAgain,
        O::FoundRunning,
        O::FoundFrozen,
    ];
    let ends = [
        O::Exit,
        O::ExitForAWhile,
        O::Stop,
        // Its handler ends the container first.
        O::RemoveByForce,
    ];
    for operation in all() {
        for status in Status::ALL {
            let Outcome::Becomes(next) = outcome(status, operation) else {
                continue;
            };
            match (status.is_alive(), next.is_alive()) {
                (false, true) => assert!(starts.contains(&operation), "{operation:?} {status:?}"),
                (true, false) => assert!(ends.contains(&operation), "{operation:?} {status:?}"),
                _ => {}
            }
            assert_ne!(
                next,
                Status::Created,
                "{operation:?}: nothing becomes created"
            );
        }
    }
}

/// A walk of random operations: `ask` and `enter` agree, and what is refused changes nothing.
#[test]
fn random_walks() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let operations: Vec<O> = all().collect();
    let mut seen = std::collections::HashSet::new();
    for _ in 0..200 {
        let mut state = State::default();
        for _ in 0..200 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let operation = operations[(random % operations.len() as u64) as usize];
            let before = state.status;
            let asked = state.ask(operation, "ID", "NAME");
            let entered = state.enter(operation);
            assert_eq!(asked.is_ok(), entered, "{operation:?} {before:?}");
            match asked {
                Ok(Outcome::Becomes(next)) => assert_eq!(state.status, next),
                _ => assert_eq!(state.status, before),
            }
            seen.insert(state.status.word());
        }
    }
    assert_eq!(seen.len(), 7, "{seen:?}");
}
