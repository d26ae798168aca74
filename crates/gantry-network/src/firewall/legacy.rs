//! Rules of the kernel's old interface (`iptables-legacy`), where somebody has any: they are another firewall, which
//! nftables knows nothing of, and whose changes nobody is told of. Its own program reads and writes them.
//!
//! A rule of ours at the head of its `FORWARD` accepts what our chains have passed, as in the chain of nftables.
use super::rules::PASSED;
use super::{Firewall, State};
use crate::nftables::Family;
use std::io;
use std::process::{Command, Stdio};

/// Programs, and where the kernel says which tables they have.
const KINDS: [(Family, &str, &str); 2] = [
    (
        Family::V4,
        "iptables-legacy",
        "/proc/thread-self/net/ip_tables_names",
    ),
    (
        Family::V6,
        "ip6tables-legacy",
        "/proc/thread-self/net/ip6_tables_names",
    ),
];
/// Seconds for which another such program is waited for.
const PATIENCE: &str = "5";

impl Firewall {
    /// Puts our rule where old rules drop by default, or there are any; whether one was missing. Not to be called with the
    /// state locked.
    pub(super) fn open_legacy(&self) -> bool {
        let mut opened = false;
        for (family, program, names) in KINDS {
            let is_wanted = self.lock().families.contains(&family);
            if !(is_wanted && has_filter(names)) {
                continue;
            }
            match self.open_legacy_of(program) {
                Ok(false) => {}
                Ok(true) => {
                    tracing::info!(
                        program,
                        "a rule was put into FORWARD that accepts what our own chains have passed"
                    );
                    opened = true;
                }
                Err(error) => warn(&mut self.lock(), program, &error),
            }
        }
        opened
    }

    fn open_legacy_of(&self, program: &str) -> io::Result<bool> {
        let listed = call(program, &["-S", "FORWARD"])?;
        let note = self.note();
        let needed = listed.contains("-P FORWARD DROP") || listed.contains("-A FORWARD");
        if !needed || listed.contains(&note) {
            return Ok(false);
        }
        call(program, &words("-I", &mark(), &note))?;
        Ok(true)
    }

    /// Takes our rule out again.
    pub(super) fn close_legacy(&self) {
        for (_, program, names) in KINDS {
            if has_filter(names)
                && let Err(error) = call(program, &words("-D", &mark(), &self.note()))
            {
                tracing::debug!(program, %error, "no rule of ours was taken out");
            }
        }
    }
}

fn words<'a>(what: &'a str, mark: &'a str, note: &'a str) -> [&'a str; 12] {
    [
        what,
        "FORWARD",
        "-m",
        "mark",
        "--mark",
        mark,
        "-m",
        "comment",
        "--comment",
        note,
        "-j",
        "ACCEPT",
    ]
}

fn mark() -> String {
    format!("{PASSED:#x}/{PASSED:#x}")
}

/// Whether somebody has ever looked at the table `filter`: it is made then.
fn has_filter(names: &str) -> bool {
    std::fs::read_to_string(names).is_ok_and(|names| names.lines().any(|name| name == "filter"))
}

fn call(program: &str, arguments: &[&str]) -> io::Result<String> {
    let mut command = Command::new(program);
    command.args(["-w", PATIENCE]).args(arguments);
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let told = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(told.trim().to_owned()))
}

fn warn(state: &mut State, program: &str, error: &io::Error) {
    if state.warned_of.insert(program.into()) {
        tracing::warn!(
            program,
            %error,
            "there may be old rules that drop packets of containers: accept those with mark {PASSED:#x}/{PASSED:#x}"
        );
    }
}
