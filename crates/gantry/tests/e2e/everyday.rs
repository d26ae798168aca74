//! Everyday commands by Docker's client and by ours: the same words, the same exit codes.
//!
//! The commands are in `everyday.txt`, one a line, words as a shell takes them. Both clients talk to daemons of ours, so
//! what is compared is the clients; that the daemon answers as Docker does is the conformance test's part.

use gantry_testkit::{Engine, docker_cli, ran};
use regex::Regex;
use std::process::Command;
use std::time::Duration;

const COMMANDS: &str = include_str!("everyday.txt");

/// A line's words: blanks divide, quotes of either kind hold together.
pub(crate) fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quote, mut within) = (String::new(), None, false);
    for letter in line.chars() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (None, '\'' | '"') => (quote, within) = (Some(letter), true),
            (None, ' ') if !within && word.is_empty() => {}
            (None, ' ') => {
                words.push(std::mem::take(&mut word));
                within = false;
            }
            (_, letter) => {
                word.push(letter);
                within = true;
            }
        }
    }
    if within {
        words.push(word);
    }
    words
}

/// Takes out what differs from one run to the next, and the names of the two programs.
pub(crate) struct Normal(Vec<(Regex, &'static str)>);

impl Normal {
    pub(crate) fn new() -> Self {
        let rules = [
            (r"\b[0-9a-f]{64}\b", "ID64"),
            (r"\b[0-9a-f]{12}\b", "ID12"),
            (
                r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?( ?(Z|[+-]\d\d:?\d\d)( UTC)?)?",
                "TIME",
            ),
            (
                r"(Less than a second|About an? \w+|\d+ (second|minute|hour)s?)",
                "AGO",
            ),
            (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
            (r#""HostPort":"\d+""#, "HOSTPORT"),
            (r"\b(10|172|192)\.\d+\.\d+\.\d+", "IP"),
            (r"([0-9a-f]{2}:){5}[0-9a-f]{2}", "MAC"),
            (r"/proc/\d+/", "/proc/PID/"),
            (r#""Pid":\d+"#, "PID"),
            (r#""execDuration":"\d+""#, "DURATION"),
            (r"execDuration=\d+", "DURATION"),
            (r"/tmp/gantry-[^/]*/", "/FOLDER/"),
            (r"\b(docker|gantry)\b", "ENGINE"),
            (r"\b(Docker|Gantry)\b", "Engine"),
            (r"\b\d{10,19}\b", "NUMBER"),
            // Documents with times of some digits more or less.
            (r"\b\d{3}B\b", "BYTES"),
            (r" {2,}", "  "),
        ];
        Self(
            rules
                .map(|(from, to)| (Regex::new(from).unwrap(), to))
                .to_vec(),
        )
    }

    pub(crate) fn of(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (from, to) in &self.0 {
            text = from.replace_all(&text, *to).into_owned();
        }
        text
    }
}

/// Runs all commands, one after the other.
fn answers(engine: &Engine, program: &std::path::Path) -> Vec<(i32, String, String)> {
    let normal = Normal::new();
    let config = engine.folder().join("docker-config");
    let lines = COMMANDS.lines().filter(|line| is_command(line));
    lines
        .map(|line| {
            let mut command = Command::new(program);
            command
                .args(["-H", &engine.host()])
                .args(words(line))
                .env("DOCKER_CONFIG", &config)
                .env_remove("DOCKER_HOST")
                .env_remove("GANTRY_HOST");
            let ran = ran(command, b"", Duration::from_secs(60));
            (ran.code, normal.of(&ran.stdout), normal.of(&ran.stderr))
        })
        .collect()
}

fn is_command(line: &str) -> bool {
    !line.is_empty() && !line.starts_with('#')
}

#[test]
fn both_clients_say_the_same() {
    let docker = docker_cli();
    let (theirs, ours) = (Engine::with_busybox(), Engine::with_busybox());
    let binary = std::path::PathBuf::from(ours.command(&[]).get_program());
    let (theirs, ours) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| answers(&theirs, &docker));
        let ours = answers(&ours, &binary);
        (theirs.join().unwrap(), ours)
    });
    let lines = COMMANDS.lines().filter(|line| is_command(line));
    let mut differ = Vec::new();
    for ((line, theirs), ours) in lines.zip(&theirs).zip(&ours) {
        if theirs != ours {
            differ.push(format!("{line}\n  docker: {theirs:?}\n  gantry: {ours:?}"));
        }
    }
    assert!(theirs.len() > 250);
    assert!(
        differ.is_empty(),
        "{} differ:\n{}",
        differ.len(),
        differ.join("\n")
    );
}

#[test]
fn words_of_a_line() {
    assert_eq!(
        words("a  'b c' \"d 'e'\" f'g'h ''"),
        ["a", "b c", "d 'e'", "fgh", ""]
    );
}
