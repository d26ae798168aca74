//! Docker Engine and Podman, from the tree that the peers script (in `GANTRY_CONFORMANCE`) makes, and engines named on the command line.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::engine::{self, Engine};
use crate::binary;

/// Programs of Docker Engine and of Podman, for their size and memory.
const DOCKER: &[&str] = &[
    "docker",
    "dockerd",
    "containerd",
    "containerd-shim-runc-v2",
    "runc",
    "docker-proxy",
    "docker-init",
    "unpigz",
];
const PODMAN: &[&str] = &["podman", "conmon", "crun", "netavark", "aardvark-dns"];

/// The tree with Docker and Podman in it, and the script that enters it.
#[derive(Debug)]
pub(crate) struct Peers {
    script: PathBuf,
    dir: PathBuf,
    /// The process that holds the tree's mount namespace.
    holder: String,
    /// The bench started Docker there, and ends it; with the policy for forwarded packets that was there before, which
    /// Docker sets to DROP and leaves so.
    own_docker: bool,
    policy: Option<String>,
    before: Leftovers,
}

/// What Docker leaves on a machine when it ends: its bridge, its tables of the firewall, its cgroups.
#[derive(Debug, Default)]
struct Leftovers {
    bridge: bool,
    tables: BTreeSet<String>,
    cgroups: BTreeSet<PathBuf>,
}

impl Leftovers {
    fn now() -> Self {
        let mut list = Command::new("nft");
        list.args(["list", "tables"]);
        let mut cgroups = BTreeSet::new();
        groups(Path::new("/sys/fs/cgroup"), &mut cgroups);
        Self {
            bridge: Path::new("/sys/class/net/docker0").exists(),
            tables: engine::output(list)
                .unwrap_or_default()
                .lines()
                .filter_map(|line| Some(line.strip_prefix("table ")?.to_owned()))
                .collect(),
            cgroups,
        }
    }

    /// Takes away what is there now, was not before, and has nothing in it that lives.
    fn clear(&self) {
        let now = Self::now();
        if now.bridge && !self.bridge {
            let mut delete = Command::new("ip");
            delete.args(["link", "del", "docker0"]);
            engine::output(delete).ok();
        }
        let docker = |name: &str| !name.contains("gantry");
        for table in now.tables.difference(&self.tables).filter(|t| docker(t)) {
            let mut delete = Command::new("nft");
            delete.args(["delete", "table"]).args(table.split(' '));
            engine::output(delete).ok();
        }
        // Deepest first; the kernel refuses those in use.
        for group in now.cgroups.iter().rev() {
            if !self.cgroups.contains(group) && group.to_str().is_some_and(docker) {
                std::fs::remove_dir(group).ok();
            }
        }
    }
}

fn groups(folder: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.insert(entry.path());
            groups(&entry.path(), found);
        }
    }
}

/// Docker Engine without networks: nothing of the machine's own is changed by it.
pub(crate) const NO_NETWORKS: &[&str] = &[
    "--bridge=none",
    "--iptables=false",
    "--ip6tables=false",
    "--ip-forward=false",
    "--ip-masq=false",
];

impl Peers {
    /// The tree, when it and its script are there; Docker Engine is started in it, with these flags, if it does not run.
    pub(crate) fn find(flags: &[&str]) -> Result<Option<Self>> {
        let script = std::env::var_os("GANTRY_CONFORMANCE")
            .map_or_else(
                || binary::root().join("../shared/conformance"),
                PathBuf::from,
            )
            .join("peers.sh");
        let dir = std::env::var_os("PEERS")
            .map_or_else(|| PathBuf::from("/var/tmp/gantry-peers"), PathBuf::from);
        if !script.is_file() || !dir.join("usr/bin/podman").is_file() {
            eprintln!("no peers tree: Gantry is measured without Docker and Podman");
            return Ok(None);
        }
        let answers = |args: &[&str]| -> Result<bool> {
            let status = Command::new(&script)
                .args(args)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()?;
            Ok(status.success())
        };
        let mut rules = Command::new(&script);
        rules.args(["enter", "iptables", "-S", "FORWARD"]);
        let policy = engine::output(rules)
            .ok()
            .and_then(|text| Some(text.lines().next()?.split_once("-P FORWARD ")?.1.to_owned()));
        let before = Leftovers::now();
        let own_docker = !answers(&["enter", "docker", "version"])?;
        let start = [&["dockerd"], flags].concat();
        if own_docker && !answers(&start)? {
            eprintln!("Docker Engine does not start in the peers tree");
            return Ok(None);
        }
        let holder = std::fs::read_to_string(dir.with_extension("holder"))?;
        Ok(Some(Self {
            script,
            holder: holder.trim().to_owned(),
            dir,
            own_docker,
            policy,
            before,
        }))
    }

    pub(crate) fn engines(&self) -> Result<Vec<Box<dyn Engine>>> {
        let peer = |name, program, programs, daemon| Peer {
            name,
            program,
            programs,
            holder: self.holder.clone(),
            dir: self.dir.clone(),
            script: self.script.clone(),
            restartable: daemon && self.own_docker,
        };
        Ok(vec![
            Box::new(peer("Docker", "docker", DOCKER, true)),
            Box::new(peer("Podman", "podman", PODMAN, false)),
        ])
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        if self.own_docker {
            if let Some(policy) = &self.policy {
                Command::new(&self.script)
                    .args(["enter", "iptables", "-P", "FORWARD", policy])
                    .status()
                    .ok();
            }
            Command::new(&self.script).arg("stop").status().ok();
            self.before.clear();
        }
    }
}

#[derive(Debug)]
struct Peer {
    name: &'static str,
    program: &'static str,
    programs: &'static [&'static str],
    holder: String,
    dir: PathBuf,
    script: PathBuf,
    restartable: bool,
}

impl Engine for Peer {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    /// `nsenter` adds a millisecond or two, and executes the client in its own place.
    fn client(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["-t", &self.holder, "-m", "--", self.program])
            .args(words)
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("HOME", "/root")
            .env("PODMAN_IGNORE_CGROUPSV1_WARNING", "1")
            .current_dir("/");
        command
    }

    fn memory(&self) -> Result<Option<u64>> {
        engine::pss(|program| self.owns(program)).map(Some)
    }

    fn owns(&self, program: &Path) -> bool {
        program
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| self.programs.contains(&name))
    }

    fn has_daemon(&self) -> bool {
        self.program != "podman"
    }

    fn plain_http(&self) -> &'static [&'static str] {
        match self.program {
            "podman" => &["--tls-verify=false"],
            _ => &[],
        }
    }

    fn size(&self) -> Option<u64> {
        let folders = ["usr/bin", "usr/sbin", "usr/libexec", "usr/lib/podman"];
        let file = |name: &str| {
            folders
                .iter()
                .find_map(|folder| self.dir.join(folder).join(name).metadata().ok())
        };
        Some(
            self.programs
                .iter()
                .filter_map(|name| file(name))
                .map(|meta| meta.len())
                .sum(),
        )
    }

    /// The daemon and the containerd that it starts, ended by the script and started again in a fresh namespace.
    fn restarts(&mut self, runs: usize) -> Result<Option<Vec<Duration>>> {
        if !self.restartable {
            return Ok(None);
        }
        let mut times = Vec::new();
        for _ in 0..runs {
            engine::output(script(&self.script, "stop"))?;
            // The tree's namespace first, so that only the daemon is timed.
            let mut enter = script(&self.script, "enter");
            enter.arg("true");
            engine::output(enter)?;
            let start = Instant::now();
            engine::output(script(&self.script, "dockerd"))?;
            times.push(start.elapsed());
        }
        self.holder = std::fs::read_to_string(self.dir.with_extension("holder"))?
            .trim()
            .to_owned();
        Ok(Some(times))
    }
}

fn script(path: &Path, word: &str) -> Command {
    let mut command = Command::new(path);
    command.arg(word).stdin(Stdio::null());
    command
}

/// An engine known by its client's command alone.
#[derive(Debug)]
pub(crate) struct Named {
    name: String,
    command: Vec<String>,
}

impl Named {
    pub(crate) fn new(name: &str, command: &str) -> Self {
        Self {
            name: name.to_owned(),
            command: command.split_whitespace().map(str::to_owned).collect(),
        }
    }
}

impl Engine for Named {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn client(&self, words: &[&str]) -> Command {
        let mut all = self.command.iter();
        let mut command = Command::new(all.next().map_or("", String::as_str));
        command.args(all).args(words);
        command
    }

    fn memory(&self) -> Result<Option<u64>> {
        Ok(None)
    }

    fn owns(&self, _program: &Path) -> bool {
        false
    }

    fn size(&self) -> Option<u64> {
        None
    }

    fn restarts(&mut self, _runs: usize) -> Result<Option<Vec<Duration>>> {
        Ok(None)
    }
}
