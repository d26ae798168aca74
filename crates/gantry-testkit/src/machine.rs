//! A network namespace that is a small machine to an engine: no rules of anybody else, one link to an outside of its own.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::client::ran;
use crate::until;

/// Two network namespaces with a link between them; both are gone with the processes that hold them.
#[derive(Debug)]
pub struct Machine {
    inside: Child,
    outside: Child,
}

impl Machine {
    /// The address of the inside's link.
    pub const ADDRESS: &str = "192.0.2.1";
    /// The address of the other side, which knows no way to any subnet behind the first.
    pub const OUTSIDE: &str = "192.0.2.2";
    /// The same of IPv6.
    pub const ADDRESS6: &str = "2001:db8::1";
    pub const OUTSIDE6: &str = "2001:db8::2";

    pub fn new() -> Self {
        let machine = Self {
            inside: holder(),
            outside: holder(),
        };
        let (inside, outside) = (
            machine.inside.id().to_string(),
            machine.outside.id().to_string(),
        );
        let near = format!(
            "ip link add out type veth peer name in netns {outside} && {}",
            addressed("out", "192.0.2.1/30", "2001:db8::1/64")
        );
        enter(&inside, &["sh", "-c", &near]);
        let far = addressed("in", "192.0.2.2/30", "2001:db8::2/64");
        enter(&outside, &["sh", "-c", &far]);
        let routes =
            "ip route add default via 192.0.2.2 && ip -6 route add default via 2001:db8::2";
        enter(&inside, &["sh", "-c", routes]);
        machine
    }

    /// What comes before a command to run it inside.
    pub(crate) fn prefix(&self) -> Vec<String> {
        [
            "nsenter",
            "--net",
            "-t",
            &self.inside.id().to_string(),
            "--",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    /// A command that runs inside.
    pub fn inside(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--net", "-t", &self.inside.id().to_string(), "--"])
            .args(words);
        command
    }

    /// A command that runs outside, beyond the machine's link.
    pub fn outside(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--net", "-t", &self.outside.id().to_string(), "--"])
            .args(words);
        command
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for child in [&mut self.inside, &mut self.outside] {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// Commands that give a link its addresses, with no wait for duplicates.
fn addressed(link: &str, v4: &str, v6: &str) -> String {
    format!(
        "ip link set lo up && ip addr add {v4} dev {link} && ip -6 addr add {v6} dev {link} nodad && ip link set {link} up"
    )
}

fn holder() -> Child {
    let child = Command::new("unshare")
        .args(["--net", "--", "sleep", "infinity"])
        .stdin(Stdio::null())
        .spawn()
        .expect("a network namespace can be made");
    let own = std::fs::read_link("/proc/self/ns/net").expect("/proc has namespaces");
    until("the namespace is there", Duration::from_secs(10), || {
        std::fs::read_link(format!("/proc/{}/ns/net", child.id())).is_ok_and(|other| other != own)
    });
    child
}

fn enter(pid: &str, words: &[&str]) {
    let mut command = Command::new("nsenter");
    command.args(["--net", "-t", pid, "--"]).args(words);
    ran(command, b"", Duration::from_secs(10)).ok();
}
