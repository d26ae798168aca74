//! `login` and `logout`, and whose credentials a pull brings.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{LocalModes, tcgetattr};

use super::client;
use super::daemon::{Daemon, json};
use super::terminal::Terminal;

/// Keeps what it is given in a folder, and writes down how it was called.
const HELPER: &str = r#"#!/bin/sh
here=$(dirname "$0")
input=$(cat)
echo "$1 $input" >> "$here/calls"
case $1 in
store) echo "$input" > "$here/secret" ;;
get)
    [ -f "$here/secret" ] || { echo "credentials not found in native keychain"; exit 1; }
    cat "$here/secret" ;;
erase) [ "$input" = r.example:5 ] && rm -f "$here/secret" || { echo "cannot: $input"; exit 3; } ;;
esac
"#;

/// A folder with a configuration and a helper program.
struct Home(PathBuf);

impl Home {
    fn new(name: &str, config: &str) -> Home {
        let name = format!("gantry-cli-login-{}-{name}", std::process::id());
        let home = Home(std::env::temp_dir().join(name));
        std::fs::create_dir_all(&home.0).unwrap();
        std::fs::write(home.0.join("config.json"), config).unwrap();
        let helper = home.0.join("docker-credential-test");
        std::fs::write(&helper, HELPER).unwrap();
        std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
        home
    }

    fn command(&self, host: &str, args: &[&str]) -> Command {
        let mut command = client(host);
        command
            .args(args)
            .env("DOCKER_CONFIG", &self.0)
            .env("PATH", format!("{}:/usr/bin:/bin", self.0.display()))
            .stdin(Stdio::null());
        command
    }

    fn run(&self, host: &str, args: &[&str]) -> (Option<i32>, String, String) {
        let Output {
            status,
            stdout,
            stderr,
        } = self.command(host, args).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code(), text(stdout), text(stderr))
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap_or_default()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// A daemon that lets in whoever says `secret`.
fn daemon() -> Daemon {
    Daemon::start(|_, request, stream| match request.path.as_str() {
        "/auth" if request.body.windows(8).any(|part| part == b"\"secret\"") => json(
            stream,
            "200 OK",
            r#"{"IdentityToken":"","Status":"Login Succeeded"}"#,
        ),
        "/auth" if request.body.windows(7).any(|part| part == b"\"token\"") => json(
            stream,
            "200 OK",
            r#"{"IdentityToken":"T0KEN","Status":"Login Succeeded"}"#,
        ),
        "/auth" => json(stream, "401 Unauthorized", r#"{"message":"go away"}"#),
        _ => json(stream, "200 OK", r#"{"status":"done"}"#),
    })
}

/// What the daemon's last request brought as credentials.
fn shown(daemon: &Daemon) -> String {
    let requests = daemon.requests();
    let head = &requests.last().unwrap().headers;
    let line = head
        .lines()
        .find_map(|line| line.strip_prefix("x-registry-auth: "))
        .unwrap();
    String::from_utf8(URL_SAFE.decode(line).unwrap()).unwrap()
}

const INSECURE: &str = "WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n";

#[test]
fn a_helper_program_keeps_the_secret() {
    let home = Home::new("helper", r#"{"credsStore":"test"}"#);
    let daemon = daemon();
    let login = ["login", "-u", "me", "-p", "secret", "https://r.example:5/"];
    let said = home.run(&daemon.host(), &login);
    let done = (Some(0), "Login Succeeded\n".into(), INSECURE.into());
    assert_eq!(said, done);
    let kept = r#"{"ServerURL":"r.example:5","Username":"me","Secret":"secret"}"#;
    assert_eq!(home.read("secret"), format!("{kept}\n"));
    assert_eq!(home.read("calls"), format!("store {kept}\n"));
    let config: String = home.read("config.json").split_whitespace().collect();
    assert_eq!(
        config,
        r#"{"auths":{"r.example:5":{}},"credsStore":"test"}"#
    );

    home.run(&daemon.host(), &["pull", "-q", "r.example:5/x"]);
    let sent = r#"{"username":"me","password":"secret","serveraddress":"r.example:5"}"#;
    assert_eq!(shown(&daemon), sent);

    let (code, out, err) = home.run(&daemon.host(), &["logout", "r.example:5"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(out, "Removing login credentials for r.example:5\n");
    assert_eq!(home.read("secret"), "");
    home.run(&daemon.host(), &["pull", "-q", "r.example:5/x"]);
    assert_eq!(shown(&daemon), "{}");
}

#[test]
fn a_helper_may_keep_an_identity_token() {
    let config = r#"{"credHelpers":{"r.example:5":"test"}}"#;
    let home = Home::new("token", config);
    let daemon = daemon();
    let login = ["login", "-u", "me", "-p", "token", "r.example:5"];
    assert_eq!(home.run(&daemon.host(), &login).0, Some(0));
    assert!(
        home.read("secret")
            .contains(r#""Username":"<token>","Secret":"T0KEN""#)
    );
    home.run(&daemon.host(), &["pull", "-q", "r.example:5/x"]);
    let sent = r#"{"serveraddress":"r.example:5","identitytoken":"T0KEN"}"#;
    assert_eq!(shown(&daemon), sent);
    // Another registry is not the helper's.
    home.run(&daemon.host(), &["pull", "-q", "other.example/x"]);
    assert_eq!(shown(&daemon), "{}");
}

#[test]
fn a_helper_that_fails_is_told() {
    let home = Home::new("missing", r#"{"credsStore":"nope"}"#);
    let daemon = daemon();
    let (code, _, err) = home.run(&daemon.host(), &["pull", "-q", "r.example:5/x"]);
    assert_eq!(code, Some(1));
    assert_eq!(
        err,
        "error getting credentials - err: exec: \"docker-credential-nope\": executable file not found in $PATH, out: ``\n"
    );
    assert_eq!(daemon.lines().len(), 0);
    let login = ["login", "-u", "me", "-p", "secret", "r.example:5"];
    let (code, _, err) = home.run(&daemon.host(), &login);
    assert_eq!(code, Some(1));
    assert!(
        err.contains("\nError saving credentials: error storing credentials - err: exec: "),
        "{err}"
    );
    let home = Home::new("failing", r#"{"credsStore":"test"}"#);
    let (code, out, err) = home.run(&daemon.host(), &["logout", "other"]);
    assert_eq!(
        (code, out.as_str()),
        (Some(0), "Removing login credentials for other\n")
    );
    let why = "error erasing credentials - err: exit status 3, out: `cannot: ";
    let lines =
        ["other", "http://other", "https://other"].map(|key| format!("{key}: {why}{key}`\n"));
    assert_eq!(
        err,
        format!("WARNING: could not erase credentials:\n{}", lines.concat())
    );
}

#[test]
fn without_a_helper_the_file_keeps_it_with_a_warning() {
    let home = Home::new("plain", r#"{"auths":{}, "credHelpers": {"x": "y"}}"#);
    let daemon = daemon();
    let mut command = home.command(&daemon.host(), &["login", "-u", "me", "--password-stdin"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"secret\r\n")
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"Login Succeeded\n");
    let file = home.0.join("config.json");
    let warning = format!(
        "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this warning. See\nhttps://docs.docker.com/go/credential-store/\n\n",
        file.display()
    );
    assert_eq!(String::from_utf8(output.stderr).unwrap(), warning);
    let body = String::from_utf8(daemon.requests()[0].body.clone()).unwrap();
    let hub = "https://index.docker.io/v1/";
    assert_eq!(
        body,
        format!(r#"{{"username":"me","password":"secret","serveraddress":"{hub}"}}"#)
    );

    // What is stored is tried first, and is enough.
    let (code, out, err) = home.run(&daemon.host(), &["login"]);
    assert_eq!((code, out.as_str()), (Some(0), "Login Succeeded\n"));
    assert_eq!(
        err,
        "Authenticating with existing credentials... [Username: me]\n\n Info -> To login with a different account, run 'gantry logout' followed by 'gantry login'\n\n\n"
    );
    let (_, out, _) = home.run(&daemon.host(), &["logout"]);
    assert_eq!(out, format!("Removing login credentials for {hub}\n"));
    assert!(!home.read("config.json").contains("auth\""));
}

#[test]
fn a_login_that_fails_stores_nothing() {
    let home = Home::new("wrong", "{}");
    let daemon = daemon();
    let login = ["login", "-u", "me", "-p", "wrong", "r.example:5"];
    let (code, out, err) = home.run(&daemon.host(), &login);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert_eq!(
        err,
        format!("{INSECURE}Error response from daemon: go away\n")
    );
    assert_eq!(home.read("config.json"), "{}");
    for (args, why) in [
        (
            &["login"][..],
            "Error: Cannot perform an interactive login from a non TTY device",
        ),
        (
            &["login", "-u", "x"],
            "Error: Cannot perform an interactive login from a non TTY device",
        ),
        (&["login", "-u", ""], "username is empty"),
        (&["login", "-p", ""], "password is empty"),
        (
            &["login", "--password-stdin"],
            "the --password-stdin option requires --username to be set",
        ),
        (
            &["login", "-u", "x", "-p", "y", "--password-stdin"],
            "conflicting options: cannot specify both --password and --password-stdin",
        ),
    ] {
        let said = home.run(&daemon.host(), args);
        assert_eq!(
            said,
            (Some(1), String::new(), format!("{why}\n")),
            "{args:?}"
        );
    }
}

#[test]
fn the_environment_goes_before_the_file() {
    let home = Home::new("environment", r#"{"auths":{"r":{"auth":"eDp5"}}}"#);
    let daemon = daemon();
    let mut command = home.command(&daemon.host(), &["logout", "r.example"]);
    let given = r#"{"auths":{"r.example":{"auth":"bWU6c2VjcmV0"}}}"#;
    let output = command.env("DOCKER_AUTH_CONFIG", given).output().unwrap();
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "\n Warn -> DOCKER_AUTH_CONFIG is set and takes precedence.\n         Unset DOCKER_AUTH_CONFIG to restore the CLI auth behaviour.\n         \n"
    );
    let mut command = home.command(&daemon.host(), &["pull", "-q", "r.example/x"]);
    command.env("DOCKER_AUTH_CONFIG", given).output().unwrap();
    let sent = r#"{"username":"me","password":"secret","serveraddress":"r.example"}"#;
    assert_eq!(shown(&daemon), sent);
}

/// How long a prompt may take.
const PATIENCE: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};

/// Reads the terminal until `end` has come.
fn read_until(terminal: &mut File, end: &str) -> String {
    let mut text = String::new();
    while !text.contains(end) {
        let mut ready = [PollFd::new(&*terminal, PollFlags::IN)];
        poll(&mut ready, Some(&PATIENCE)).unwrap();
        assert!(!ready[0].revents().is_empty(), "no {end} in {text:?}");
        let mut bytes = [0; 256];
        let count = terminal.read(&mut bytes).unwrap();
        text.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    text
}

#[test]
fn a_password_is_asked_for_and_not_shown() {
    let home = Home::new("prompt", r#"{"credHelpers": {"x": "y"}}"#);
    let daemon = daemon();
    let terminal = Terminal::new();
    let mut screen = File::from(terminal.ours.try_clone().unwrap());
    let mut command = home.command(&daemon.host(), &["login", "r.example"]);
    let mut child = terminal.start(&mut command);
    read_until(&mut screen, "Username: ");
    terminal.type_in(b"me\n");
    read_until(&mut screen, "Password: ");
    terminal.type_in(b"secret\n");
    let shown = read_until(&mut screen, "Login Succeeded");
    assert!(!shown.contains("secret"), "{shown}");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(terminal.is_cooked());
    assert!(home.read("config.json").contains("bWU6c2VjcmV0"));
}

#[test]
fn a_signal_at_the_password_leaves_the_terminal_as_it_was() {
    let home = Home::new("signal", "{}");
    let daemon = daemon();
    let terminal = Terminal::new();
    let mut screen = File::from(terminal.ours.try_clone().unwrap());
    let mut command = home.command(&daemon.host(), &["login", "-u", "me", "r.example"]);
    let mut child = terminal.start(&mut command);
    read_until(&mut screen, "Password: ");
    let modes = tcgetattr(&terminal.theirs).unwrap().local_modes;
    assert!(!modes.contains(LocalModes::ECHO) && modes.contains(LocalModes::ICANON));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(read_until(&mut screen, "\n"), "\r\n");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(terminal.is_cooked());
    assert_eq!(daemon.lines().len(), 0);
}
