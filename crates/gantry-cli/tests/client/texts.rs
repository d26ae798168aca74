//! What is said without, or before, a daemon.

use std::process::Output;

use super::client;

const NOBODY: &str = "unix:///nonexistent/gantry.sock";

fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = client(NOBODY).args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

fn fails(args: &[&str], code: i32, text: &str) {
    let (status, stdout, stderr) = run(args);
    assert_eq!((status, stdout.as_str()), (Some(code), ""), "{args:?}");
    assert_eq!(stderr, format!("{text}\n"), "{args:?}");
}

#[test]
fn mistakes_are_told_as_docker_tells_them() {
    let usage = "Usage:  gantry run [OPTIONS] IMAGE [COMMAND] [ARG...]\n\n";
    let more = "Run 'gantry run --help' for more information";
    fails(
        &["run", "--foo"],
        125,
        &format!("unknown flag: --foo\n\n{usage}{more}"),
    );
    fails(
        &["run", "-Z"],
        125,
        &format!("unknown shorthand flag: 'Z' in -Z\n\n{usage}{more}"),
    );
    fails(
        &["run"],
        1,
        &format!(
            "gantry: 'gantry run' requires at least 1 argument\n\n{usage}See 'gantry run --help' for more information"
        ),
    );
    fails(
        &["ps", "a"],
        1,
        "gantry: 'gantry ps' accepts no arguments\n\nUsage:  gantry ps [OPTIONS]\n\nRun 'gantry ps --help' for more information",
    );
    fails(
        &["foo"],
        1,
        "gantry: unknown command: gantry foo\n\nRun 'gantry --help' for more information",
    );
    fails(
        &["swarm", "x"],
        1,
        "gantry: 'swarm' is not a gantry command.\nSee 'gantry --help'",
    );
    fails(
        &["container", "foo"],
        1,
        "gantry: unknown command: gantry container foo\n\nUsage:  gantry container\n\nRun 'gantry container --help' for more information",
    );
    fails(
        &["--foo"],
        125,
        "unknown flag: --foo\n\nUsage:  gantry [OPTIONS] COMMAND [ARG...]\n\nRun 'gantry --help' for more information",
    );
    fails(
        &["-H", "ssh://h", "ps"],
        1,
        "a client cannot connect to ssh:// (use unix:// or tcp://)",
    );
}

#[test]
fn an_absent_daemon_is_told() {
    let nobody =
        format!("Cannot connect to the Gantry daemon at {NOBODY}. Is the gantry daemon running?");
    fails(&["ps"], 1, &nobody);
    let more = "Run 'gantry run --help' for more information";
    fails(
        &["run", "busybox"],
        125,
        &format!("gantry: {nobody}\n\n{more}"),
    );
}

#[test]
fn help_names_every_command_and_leaves_with_zero() {
    let (code, text, _) = run(&["--help"]);
    assert_eq!(code, Some(0));
    assert!(
        text.starts_with("Usage:  gantry [OPTIONS] COMMAND\n"),
        "{text}"
    );
    for name in [
        "run",
        "ps",
        "pull",
        "images",
        "logs",
        "inspect",
        "container",
        "system",
    ] {
        assert!(text.contains(&format!("\n  {name} ")), "{name} in {text}");
    }
    assert_eq!(run(&[]).1, text);
    assert_eq!(run(&["help"]).1, text);
    let (code, text, _) = run(&["run", "--help"]);
    assert_eq!(code, Some(0));
    assert!(
        text.contains("Aliases:\n  gantry container run, gantry run\n"),
        "{text}"
    );
    assert!(text.contains("\n  -v, --volume list "), "{text}");
    assert!(text.contains("\n      --rootfs string "), "{text}");
    assert_eq!(run(&["help", "ps"]).1, run(&["ps", "--help"]).1);
    assert!(run(&["system", "--help"]).1.contains("\n  stop-daemon "));
}

#[test]
fn the_version_needs_no_daemon() {
    let line = format!("Gantry version {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(run(&["--version"]), (Some(0), line, String::new()));
}
