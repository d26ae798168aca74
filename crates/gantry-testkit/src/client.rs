//! A program run to its end, with all that it said.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What a client command did.
#[derive(Debug, Clone)]
pub struct Ran {
    /// As it was called.
    pub command: String,
    /// Its exit code, or 128 + the signal that ended it.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Ran {
    /// Its standard output without the last line's end; panics unless it exited with 0.
    #[track_caller]
    pub fn ok(&self) -> String {
        assert_eq!(self.code, 0, "{self}");
        self.stdout.trim_end().to_owned()
    }

    /// Panics unless it exited with `code`; gives its standard error.
    #[track_caller]
    pub fn fails_with(&self, code: i32) -> String {
        assert_eq!(self.code, code, "{self}");
        self.stderr.trim_end().to_owned()
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}\n  ended with {} after {:?}\n--- stdout\n{}\n--- stderr\n{}",
            self.command,
            self.code,
            self.took,
            tail(&self.stdout),
            tail(&self.stderr)
        )
    }
}

fn tail(text: &str) -> &str {
    let start = text.len().saturating_sub(4000);
    let start = (start..=text.len())
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(text.len());
    &text[start..]
}

/// Runs a command with `input` on its standard input; one that takes longer than `patience` is killed and fails the test.
#[track_caller]
pub fn ran(mut command: Command, input: &[u8], patience: Duration) -> Ran {
    use std::os::unix::process::ExitStatusExt;
    let shown = format!("{command:?}");
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {shown}: {error}"));
    let mut stdin = child.stdin.take().expect("a pipe was asked for");
    let mut stdout = child.stdout.take().expect("a pipe was asked for");
    let mut stderr = child.stderr.take().expect("a pipe was asked for");
    let input = input.to_owned();
    // A program need not read what it is given.
    std::thread::spawn(move || stdin.write_all(&input).is_ok());
    let out = std::thread::spawn(move || text_of(&mut stdout));
    let err = std::thread::spawn(move || text_of(&mut stderr));
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            break status;
        }
        if start.elapsed() > patience {
            child.kill().expect("a child can be killed");
            child.wait().expect("a child can be waited for");
            let (out, err) = (out.join(), err.join());
            panic!(
                "{shown}: not done after {patience:?}\n--- stdout\n{}\n--- stderr\n{}",
                out.unwrap_or_default(),
                err.unwrap_or_default()
            );
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    Ran {
        command: shown,
        code: status
            .code()
            .or_else(|| status.signal().map(|signal| 128 + signal))
            .unwrap_or(-1),
        stdout: out.join().expect("the reader ended"),
        stderr: err.join().expect("the reader ended"),
        took: start.elapsed(),
    }
}

fn text_of(from: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes)
        .expect("the client's output can be read");
    String::from_utf8_lossy(&bytes).into_owned()
}
