//! Networks: what containers on them see of each other, of the host and of the outside.
//!
//! Each test has a machine of its own, a network namespace with another one that plays the outside: rules that are flushed,
//! addresses and links are nobody else's. Servers are real ones: nginx, redis, and busybox's httpd where any will do.

mod compose;
mod crash;
mod day;
mod firewalld;
mod links;
mod many;
mod ports;
mod proxy;
mod publishing;
mod ufw;
mod walls;

use gantry_testkit::{Engine, Machine, Options, Ran, busybox_tar, ran, servers_tar};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

/// An engine on a machine of its own.
struct Site {
    engine: Engine,
    machine: Arc<Machine>,
}

impl Site {
    fn new() -> Self {
        Self::with(&[])
    }

    /// With more flags of the daemon.
    fn with(flags: &[&str]) -> Self {
        Self::on(Arc::new(Machine::new()), flags)
    }

    /// On a machine that is there already.
    fn on(machine: Arc<Machine>, flags: &[&str]) -> Self {
        Self::of(Options {
            machine: Some(machine),
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            ..Options::default()
        })
    }

    fn of(options: Options) -> Self {
        let machine = options.machine.clone().expect("a machine of its own");
        let engine = Engine::with(options);
        engine.import(&busybox_tar(), "busybox");
        Self { engine, machine }
    }

    /// With the image `servers`, too: nginx, redis, dig, curl.
    fn with_servers(flags: &[&str]) -> Self {
        let site = Self::with(flags);
        site.engine.import(&servers_tar(), "servers");
        site
    }

    /// A client command that must do well; words are divided by blanks.
    #[track_caller]
    fn ok(&self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.engine.gantry(&words).ok()
    }

    /// A client command that must not; its words.
    #[track_caller]
    fn fails(&self, line: &str, code: i32) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.engine.gantry(&words).fails_with(code)
    }

    /// Starts a container `name` with a web server on port 80 that says its name, and at `/cgi-bin/who` who asks.
    #[track_caller]
    fn web(&self, name: &str, flags: &str) {
        let script = format!(
            "mkdir -p /www/cgi-bin; echo {name} > /www/index.html; cd /www/cgi-bin; \
             printf '#!/bin/sh\\necho Content-Type: text/plain\\necho\\necho $REMOTE_ADDR | tr -d [] | sed s/::ffff://\\n' > who; chmod +x who; \
             exec httpd -f -h /www -p 80"
        );
        let mut words = vec!["run", "-d", "--name", name];
        words.extend(flags.split_whitespace());
        words.extend(["busybox", "sh", "-c", &script]);
        self.engine.gantry(&words).ok();
        let up = "until timeout 1 wget -qO- http://127.0.0.1/ >/dev/null 2>&1; do sleep 0.02; done";
        self.engine.gantry(&["exec", name, "sh", "-c", up]).ok();
    }

    /// Starts a container that does nothing.
    #[track_caller]
    fn idle(&self, name: &str, flags: &str) {
        self.ok(&format!("run -d --name {name} {flags} busybox sleep 10000"));
    }

    /// What a container gets from `http://place/`; empty where it is told nothing within 2 s.
    #[track_caller]
    fn fetch(&self, container: &str, place: &str) -> String {
        let url = format!("http://{place}");
        let words = ["exec", container, "timeout", "2", "wget", "-qO-", &url];
        self.engine.gantry(&words).stdout.trim().to_owned()
    }

    /// A command on the machine itself.
    fn host(&self, line: &str) -> Ran {
        let words: Vec<&str> = line.split_whitespace().collect();
        ran(self.machine.inside(&words), b"", PATIENCE)
    }

    /// What the machine itself gets from `http://place/`.
    fn host_fetch(&self, place: &str) -> String {
        let line = format!("busybox timeout 2 busybox wget -qO- http://{place}");
        self.host(&line).stdout.trim().to_owned()
    }

    /// What the outside gets from `http://place/`.
    fn outside_fetch(&self, place: &str) -> String {
        let url = format!("http://{place}");
        let words = ["busybox", "timeout", "2", "busybox", "wget", "-qO-", &url];
        let ran = ran(self.machine.outside(&words), b"", PATIENCE);
        ran.stdout.trim().to_owned()
    }

    /// What a container has on a network.
    #[track_caller]
    fn endpoint(&self, container: &str, network: &str) -> Value {
        self.engine.inspect(container)["NetworkSettings"]["Networks"][network].clone()
    }

    /// Its IPv4 address there.
    #[track_caller]
    fn address(&self, container: &str, network: &str) -> String {
        let address = self.endpoint(container, network)["IPAddress"].clone();
        address.as_str().unwrap_or_default().to_owned()
    }

    /// What a shell in the container says.
    #[track_caller]
    fn shell(&self, container: &str, script: &str) -> Ran {
        self.engine.gantry(&["exec", container, "sh", "-c", script])
    }
}
