//! One daemon with names of its own.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::client::{Ran, ran};
use crate::http::{self, Answer, Hijacked};
use crate::kernel::Names;
use crate::{Machine, rootfs, until};

/// How long a client command may take.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long the daemon may take to answer its first ping, on a machine where dozens start at once.
const START: Duration = Duration::from_secs(20);
/// How long the kernel may take to let go of what was a container's.
const TEARDOWN: Duration = Duration::from_secs(30);

static COUNT: AtomicU32 = AtomicU32::new(0);

/// How an engine's daemon is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// Length of the bridge's prefix.
    pub prefix: u8,
    /// More flags of the daemon.
    pub flags: Vec<String>,
    /// Its data root, where it is not in the engine's folder.
    pub data_root: Option<PathBuf>,
    /// A bridge that is there already, instead of one of the engine's own.
    pub users_bridge: Option<String>,
    /// Runs it on a network of its own.
    pub machine: Option<Arc<Machine>>,
    /// Name of the default bridge, for an engine on a network of its own; else one that no other engine has.
    pub bridge: Option<String>,
    /// A folder where the daemon looks for programs first.
    pub programs: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            prefix: 24,
            flags: Vec::new(),
            data_root: None,
            users_bridge: None,
            machine: None,
            bridge: None,
            programs: None,
        }
    }
}

/// A daemon of the real binary; containers and all are gone after its end, or the test fails.
#[derive(Debug)]
pub struct Engine {
    names: Names,
    subnet: String,
    options: Options,
    daemon: Option<Child>,
}

impl Engine {
    /// Starts a daemon of the binary that `$GANTRY_BINARY` names.
    pub fn start() -> Self {
        Self::with(Options::default())
    }

    /// Starts a daemon that has the image `busybox`.
    pub fn with_busybox() -> Self {
        let engine = Self::start();
        engine.import(&rootfs::busybox_tar(), "busybox");
        engine
    }

    /// Starts a daemon in a way of one's own.
    pub fn with(options: Options) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "end-to-end tests make containers and need root: run them by `cargo xtask test`"
        );
        let built = built_binary();
        let (pid, number) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let name = format!("gt{}{}", base36(pid), base36(number));
        let folder = std::env::temp_dir().join(format!("gantry-{name}"));
        std::fs::create_dir_all(&folder).expect("the engine's folder can be made");
        let binary = folder.join("gantry");
        // By a process of its own: a file that is open for writing here, while another test's thread forks, cannot be
        // executed ("text file busy").
        let mut copy = Command::new("cp");
        copy.arg(&built).arg(&binary);
        ran(copy, b"", PATIENCE).ok();
        let mut engine = Self {
            subnet: format!("10.{}.{}", 200 + pid % 50, number % 256),
            names: Names {
                bridge: options.bridge.clone().unwrap_or(format!("{name}b")),
                table: format!("gantry_{name}"),
                cgroup: format!("gantry-{name}"),
                folder,
                binary,
            },
            options,
            daemon: None,
        };
        engine.launch();
        engine
    }

    /// The command that starts this engine's daemon.
    pub fn daemon_command(&self) -> Command {
        let mut command = self.inside(&self.names.binary);
        command
            .arg("daemon")
            .args(["-H", &self.host()])
            .arg("--data-root")
            .arg(self.data_root())
            .arg("--exec-root")
            .arg(self.exec_root())
            .arg("--pidfile")
            .arg(self.names.folder.join("pid"))
            .args(match &self.options.users_bridge {
                Some(name) => vec!["--bridge".to_owned(), name.clone()],
                None => vec![
                    "--default-bridge-name".to_owned(),
                    self.names.bridge.clone(),
                    "--bip".to_owned(),
                    format!("{}.1/{}", self.subnet, self.options.prefix),
                ],
            })
            .args(["--nft-table", &self.names.table])
            .args(["--cgroup-parent", &format!("/{}", self.names.cgroup)])
            .args(["--log-level", "debug"])
            .args(&self.options.flags)
            .stdin(Stdio::null());
        if let Some(programs) = &self.options.programs {
            let path = std::env::var("PATH").unwrap_or_default();
            command.env("PATH", format!("{}:{path}", programs.display()));
        }
        command
    }

    /// A command that sees the daemon's network.
    fn inside(&self, program: impl AsRef<OsStr>) -> Command {
        let mut words = self
            .options
            .machine
            .as_ref()
            .map(|machine| machine.prefix())
            .unwrap_or_default()
            .into_iter();
        match words.next() {
            None => Command::new(program),
            Some(first) => {
                let mut command = Command::new(first);
                command.args(words).arg(program);
                command
            }
        }
    }

    /// Links that are ports of the engine's bridge.
    fn ports(&self) -> Vec<String> {
        let mut command = self.inside("ip");
        command.args(["-o", "link", "show", "master", &self.names.bridge]);
        let output = command.output().expect("ip can be run");
        // Without the bridge there is an error, and no port.
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(|line| Some(line.split(' ').nth(1)?.to_owned()))
            .collect()
    }

    /// Links that are not there before there are containers and networks: on a machine of its own all that are not the
    /// machine's, elsewhere the ports of the bridge.
    pub fn links(&self) -> Vec<String> {
        if self.options.machine.is_none() {
            return self.ports();
        }
        let output = self.inside("ip").args(["-o", "link"]).output();
        let output = output.expect("ip can be run");
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(|line| line.split(' ').nth(1))
            .map(|name| {
                name.trim_end_matches(':')
                    .split('@')
                    .next()
                    .unwrap_or_default()
            })
            .filter(|name| !["lo", "out", &self.names.bridge].contains(name))
            .filter(|name| self.options.users_bridge.as_deref() != Some(name))
            .map(str::to_owned)
            .collect()
    }

    /// The engine's table, family by family, as `nft list table` shows it; empty where there is none.
    pub fn rules(&self) -> String {
        let families = ["ip", "ip6", "inet", "bridge", "netdev"];
        let tables = families.map(|family| {
            let mut command = self.inside("nft");
            command.args(["-s", "list", "table", family, &self.names.table]);
            let output = command.output().expect("nft can be run");
            String::from_utf8_lossy(&output.stdout).into_owned()
        });
        tables.concat()
    }

    /// Starts the daemon again after its end, and waits until it answers.
    pub fn launch(&mut self) {
        assert!(self.daemon.is_none(), "the daemon runs already");
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.log_file())
            .expect("the daemon's log can be made");
        let start = Instant::now();
        let mut daemon = self
            .daemon_command()
            .stdout(log.try_clone().expect("a file can be cloned"))
            .stderr(log)
            .spawn()
            .expect("the daemon can be started");
        loop {
            let pinged = http::request(&self.socket(), "GET", "/_ping", &[], None);
            if pinged.is_ok_and(|answer| answer.status == 200) {
                break;
            }
            let ended = daemon.try_wait().expect("a child can be waited for");
            if ended.is_some() || start.elapsed() > START {
                daemon.kill().ok();
                daemon.wait().ok();
                let log = self.log();
                self.sweep();
                panic!("the daemon does not answer ({ended:?}); its log:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.daemon = Some(daemon);
    }

    /// Kills the daemon as nothing else can, with no time for a last word. Its spawner ends with it; shims go on.
    pub fn kill_daemon(&mut self) {
        let mut daemon = self.daemon.take().expect("the daemon runs");
        daemon.kill().expect("the daemon can be killed");
        daemon.wait().expect("the daemon can be waited for");
    }

    /// Puts a new file in the place of the binary, as an upgrade does; what runs keeps the old one.
    pub fn replace_binary(&self) {
        let new = self.names.folder.join("gantry.new");
        let mut copy = Command::new("cp");
        copy.arg(&self.names.binary).arg(&new);
        ran(copy, b"", PATIENCE).ok();
        std::fs::rename(new, &self.names.binary).expect("the binary can be replaced");
    }

    /// Ends the daemon politely; panics unless it ends with 0 in time.
    pub fn stop_daemon(&mut self) {
        let mut daemon = self.daemon.take().expect("the daemon runs");
        kill_process(pid_of(&daemon), Signal::TERM).expect("the daemon can be told to end");
        let end = Instant::now() + START;
        let status = loop {
            if let Some(status) = daemon.try_wait().expect("a child can be waited for") {
                break status;
            }
            if Instant::now() > end {
                daemon.kill().ok();
                daemon.wait().ok();
                panic!(
                    "the daemon did not end on SIGTERM; its log:\n{}",
                    self.log()
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        assert!(status.success(), "the daemon: {status}\n{}", self.log());
    }

    /// Takes note that the daemon has ended by itself; panics unless it has, with 0.
    pub fn reap(&mut self) {
        let mut daemon = self.daemon.take().expect("the daemon ran");
        let status = daemon.wait().expect("the daemon can be waited for");
        assert!(status.success(), "the daemon: {status}\n{}", self.log());
    }

    /// The daemon's process.
    pub fn daemon_pid(&self) -> i32 {
        pid_of(self.daemon.as_ref().expect("the daemon runs"))
            .as_raw_nonzero()
            .get()
    }

    /// The process that carries published ports which the kernel cannot lead to a container; None: there is none.
    pub fn proxy(&self) -> Option<i32> {
        let mut all = self.names.processes().into_iter();
        all.find(|pid| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
            name.is_ok_and(|name| name.trim() == "gantry-proxy")
        })
    }

    /// The shims: processes of the binary that are neither the daemon nor its child, and executed nothing.
    ///
    /// A shim is known by being the parent of the container's first process.
    pub fn shim_of(&self, container: &str) -> i32 {
        let pid = self.inspect(container)["State"]["Pid"]
            .as_i64()
            .expect("a container has a pid");
        assert!(pid > 0, "{container} does not run");
        parent_of(i32::try_from(pid).expect("a pid is small"))
    }

    // Where things are

    pub fn folder(&self) -> &Path {
        &self.names.folder
    }

    pub fn data_root(&self) -> PathBuf {
        self.options
            .data_root
            .clone()
            .unwrap_or_else(|| self.names.folder.join("d"))
    }

    pub fn exec_root(&self) -> PathBuf {
        self.names.folder.join("e")
    }

    pub fn socket(&self) -> PathBuf {
        self.names.folder.join("s")
    }

    /// The value for `-H`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The first three numbers of the bridge's subnet; `.1` is the bridge itself.
    pub fn subnet(&self) -> &str {
        &self.subnet
    }

    pub fn bridge(&self) -> &str {
        &self.names.bridge
    }

    pub fn cgroup(&self) -> &str {
        &self.names.cgroup
    }

    fn log_file(&self) -> PathBuf {
        self.names.folder.join("daemon.log")
    }

    /// What the daemon has said so far, its last 8,000 bytes.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.log_file()).unwrap_or_default();
        let start = bytes.len().saturating_sub(8000);
        String::from_utf8_lossy(&bytes[start..]).into_owned()
    }

    // Talking to it

    /// A client command, ready to be run.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.names.binary);
        command
            .args(["-H", &self.host()])
            .args(words)
            .env_remove("DOCKER_HOST")
            .env_remove("GANTRY_HOST");
        command
    }

    /// Runs a client command to its end.
    #[track_caller]
    pub fn gantry(&self, words: &[&str]) -> Ran {
        self.gantry_with(words, b"")
    }

    /// The same with something on its standard input.
    #[track_caller]
    pub fn gantry_with(&self, words: &[&str], input: &[u8]) -> Ran {
        ran(self.command(words), input, PATIENCE)
    }

    /// A request with no body, or a JSON one.
    #[track_caller]
    pub fn api(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let body = body.map(Value::to_string);
        self.api_bytes(
            method,
            path,
            "application/json",
            body.as_deref().map(str::as_bytes),
        )
    }

    /// A request with any body.
    #[track_caller]
    pub fn api_bytes(&self, method: &str, path: &str, kind: &str, body: Option<&[u8]>) -> Answer {
        http::request(
            &self.socket(),
            method,
            path,
            &[("Content-Type", kind)],
            body,
        )
        .unwrap_or_else(|error| panic!("{method} {path}: {error}\n{}", self.log()))
    }

    /// A request without a body in somebody's name: a registry's credentials (`{"username": ...}`) go with it.
    #[track_caller]
    pub fn api_as(&self, method: &str, path: &str, credentials: &Value) -> Answer {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::URL_SAFE.encode(credentials.to_string());
        http::request(
            &self.socket(),
            method,
            path,
            &[("X-Registry-Auth", &text)],
            None,
        )
        .unwrap_or_else(|error| panic!("{method} {path}: {error}\n{}", self.log()))
    }

    /// A request that takes the connection over.
    #[track_caller]
    pub fn hijack(&self, path: &str, body: &[u8]) -> Hijacked {
        http::hijack(&self.socket(), path, body)
            .unwrap_or_else(|error| panic!("{path}: {error}\n{}", self.log()))
    }

    /// Imports a tar as an image.
    #[track_caller]
    pub fn import(&self, tar: &Path, name: &str) {
        let path = tar.to_string_lossy();
        self.gantry(&["import", &path, name]).ok();
    }

    /// `inspect` of a container.
    #[track_caller]
    pub fn inspect(&self, container: &str) -> Value {
        self.api("GET", &format!("/containers/{container}/json"), None)
            .expect(200)
            .json()
    }

    /// Panics unless the daemon still does its work.
    #[track_caller]
    pub fn serves(&self) {
        self.api("GET", "/v1.51/info", None).expect(200);
        self.api("GET", "/containers/json?all=1", None).expect(200);
        self.api("GET", "/images/json", None).expect(200);
    }

    // The end

    /// Everything that containers have left in the kernel or on disk; empty where there is nothing.
    pub fn leaks(&self) -> Vec<String> {
        let names = &self.names;
        let mut found: Vec<String> = Vec::new();
        found.extend(names.mounts().iter().map(|point| format!("mount {point}")));
        found.extend(self.links().iter().map(|link| format!("link {link}")));
        let below_parent = |path: &PathBuf| {
            path.file_name()
                .is_none_or(|last| last != names.cgroup.as_str())
        };
        found.extend(
            names
                .cgroups()
                .iter()
                .filter(|path| below_parent(path))
                .map(|path| format!("cgroup {}", path.display())),
        );
        found.extend(names.contained().iter().map(|pid| format!("process {pid}")));
        for folder in [
            self.data_root().join("containers"),
            self.exec_root().join("c"),
            self.exec_root().join("x"),
        ] {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                found.push(format!("file {}", entry.path().display()));
            }
        }
        found
    }

    /// IDs of the networks that somebody has made.
    fn networks(&self) -> Vec<String> {
        let list = self.api("GET", "/networks", None).expect(200).json();
        let made = |network: &&Value| {
            !matches!(
                network["Name"].as_str(),
                Some("bridge" | "host" | "none") | None
            )
        };
        let list = list.as_array().expect("a list");
        list.iter()
            .filter(made)
            .filter_map(|network| network["Id"].as_str().map(str::to_owned))
            .collect()
    }

    /// Removes all containers and networks; then nothing of them may be left.
    #[track_caller]
    pub fn clean(&self) {
        let list = self
            .api("GET", "/containers/json?all=1", None)
            .expect(200)
            .json();
        for container in list.as_array().expect("a list") {
            let id = container["Id"].as_str().expect("an id");
            let answer = self.api("DELETE", &format!("/containers/{id}?force=1&v=1"), None);
            assert!(
                matches!(answer.status, 204 | 404 | 409),
                "rm {id}: {}",
                answer.text()
            );
        }
        for id in self.networks() {
            let answer = self.api("DELETE", &format!("/networks/{id}"), None);
            assert!(
                matches!(answer.status, 204 | 404),
                "network rm {id}: {}",
                answer.text()
            );
        }
        let end = Instant::now() + TEARDOWN;
        loop {
            let leaks = self.leaks();
            if leaks.is_empty() {
                return;
            }
            assert!(
                Instant::now() < end,
                "left behind after all containers are removed: {leaks:#?}\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Takes away by force whatever there still is.
    fn sweep(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().ok();
            daemon.wait().ok();
        }
        for pid in self
            .names
            .contained()
            .into_iter()
            .chain(self.names.processes())
        {
            if let Some(pid) = Pid::from_raw(pid) {
                kill_process(pid, Signal::KILL).ok();
            }
        }
        let end = Instant::now() + TEARDOWN;
        while !self.names.processes().is_empty() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        for point in self.names.mounts().iter().rev() {
            rustix::mount::unmount(point.as_str(), rustix::mount::UnmountFlags::DETACH).ok();
        }
        for folder in self.names.cgroups() {
            std::fs::remove_dir(folder).ok();
        }
        for (program, words) in [
            ("ip", ["link", "del", &self.names.bridge]),
            ("nft", ["delete", "table ip", &self.names.table]),
            ("nft", ["delete", "table ip6", &self.names.table]),
            ("nft", ["delete", "table inet", &self.names.table]),
        ] {
            self.inside(program).args(words).output().ok();
        }
        std::fs::remove_dir_all(&self.names.folder).ok();
    }
}

impl Drop for Engine {
    /// Cleans up, and fails the test where an orderly way leaves something; a test that has failed is swept only.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the daemon's log\n{}", self.log());
            self.sweep();
            return;
        }
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            if self.daemon.is_none() {
                self.launch();
            }
            self.clean();
            self.stop_daemon();
            // Neither shims nor the spawner outlive their work.
            until("the engine's processes end", TEARDOWN, || {
                self.names.processes().is_empty()
            });
        }));
        self.sweep();
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    }
}

fn built_binary() -> PathBuf {
    let path = std::env::var_os("GANTRY_BINARY")
        .map(PathBuf::from)
        .expect("$GANTRY_BINARY names no binary: run end-to-end tests by `cargo xtask test`");
    assert!(path.is_file(), "there is no {}", path.display());
    path
}

fn pid_of(child: &Child) -> Pid {
    i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .expect("a child has a pid")
}

fn parent_of(pid: i32) -> i32 {
    let status =
        std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    status
        .lines()
        .find_map(|line| line.strip_prefix("PPid:"))
        .and_then(|number| number.trim().parse().ok())
        .expect("a process has a parent")
}

fn base36(mut number: u32) -> String {
    let mut digits = Vec::new();
    loop {
        digits.push(char::from_digit(number % 36, 36).unwrap_or('0'));
        number /= 36;
        if number == 0 {
            return digits.iter().rev().collect();
        }
    }
}
