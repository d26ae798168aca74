//! Debian's own ufw and firewalld on a machine of a test's.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::client::{Ran, ran};
use crate::rootfs::{once, said};
use crate::{Machine, until};

/// How long a program in there may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Mounts the tree `$1` so that nothing is written to it, and stays in it.
const HOLD: &str = "set -e
mount -t tmpfs firewalls /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o lowerdir=\"$1\",upperdir=/mnt/upper,workdir=/mnt/work firewalls /mnt/root
cd /mnt/root
mount -t proc proc proc
mount -t sysfs sys sys
mount --rbind /dev dev
mount -t tmpfs run run
mkdir run/dbus
exec chroot . sleep infinity";

/// A Debian that has ufw and firewalld, on a machine's network. Its files, mounts and processes are its own, and gone
/// with it; rules that it has made stay with the network.
#[derive(Debug)]
pub struct Firewalls {
    holder: Child,
    /// The first process inside.
    first: u32,
    programs: PathBuf,
}

impl Firewalls {
    pub fn on(machine: &Machine) -> Self {
        let tree = tree();
        let mut command = machine.inside(&["unshare", "--mount", "--pid", "--fork"]);
        command
            .args(["--kill-child", "sh", "-c", HOLD, "sh"])
            .arg(tree)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let holder = command.spawn().expect("namespaces can be made");
        let mut first = None;
        until("a tree with firewalls is mounted", PATIENCE, || {
            first = child_of(holder.id()).filter(|child| is_called(*child, "sleep"));
            first.is_some()
        });
        let first = first.unwrap_or_default();
        let programs = std::env::temp_dir().join(format!("gantry-firewalls-{first}"));
        std::fs::create_dir(&programs).expect("a folder can be made");
        let script = format!(
            "#!/bin/sh\nexec {} firewall-cmd \"$@\"\n",
            entry(first).join(" ")
        );
        let file = programs.join("firewall-cmd");
        std::fs::write(&file, script).expect("a file can be written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755))
            .expect("a mode can be set");
        Self {
            holder,
            first,
            programs,
        }
    }

    /// Runs a program in there; words are divided by blanks.
    #[track_caller]
    pub fn run(&self, line: &str) -> Ran {
        let entry = entry(self.first);
        let mut command = Command::new(&entry[0]);
        command.args(&entry[1..]).args(line.split_whitespace());
        ran(command, b"", PATIENCE)
    }

    /// A folder with a `firewall-cmd` that speaks with this firewalld, for daemons that look for one.
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// Starts firewalld, with a bus of its own.
    pub fn start_firewalld(&self) {
        self.run("dbus-daemon --system --fork").ok();
        self.launch_firewalld();
    }

    /// Ends firewalld as its service does, and starts it again.
    pub fn restart_firewalld(&self) {
        let process = self.run("cat /run/firewalld.pid").ok();
        self.run(&format!("kill {process}")).ok();
        // It stays as a zombie, without words.
        let words = format!("grep -q firewalld /proc/{process}/cmdline");
        until("firewalld has ended", PATIENCE, || {
            self.run(&words).code != 0
        });
        self.launch_firewalld();
    }

    fn launch_firewalld(&self) {
        self.run("firewalld").ok();
        until("firewalld runs", PATIENCE, || {
            self.run("firewall-cmd --state").code == 0
        });
    }
}

impl Drop for Firewalls {
    fn drop(&mut self) {
        self.holder.kill().ok();
        self.holder.wait().ok();
        std::fs::remove_dir_all(&self.programs).ok();
    }
}

/// What comes before a command to run it inside.
fn entry(first: u32) -> Vec<String> {
    let words = format!("nsenter --net --mount --pid --root --wd -t {first} --");
    words.split(' ').map(str::to_owned).collect()
}

/// The unpacked tree.
fn tree() -> PathBuf {
    once("firewalls-trixie", |work| {
        let root = work.join("tar");
        // dbus and libpam-systemd are what the others need for a bus and a login service.
        let packages = "ufw,firewalld,dbus,libpam-systemd,iptables,nftables,procps";
        said(
            Command::new("debootstrap")
                .args(["--variant=minbase", &format!("--include={packages}")])
                .arg("trixie")
                .arg(&root),
        );
        for folder in ["var/cache/apt/archives", "var/lib/apt/lists"] {
            std::fs::remove_dir_all(root.join(folder)).ok();
        }
    })
}

fn child_of(process: u32) -> Option<u32> {
    let file = format!("/proc/{process}/task/{process}/children");
    let children = std::fs::read_to_string(file).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

fn is_called(process: u32, name: &str) -> bool {
    let file = Path::new("/proc").join(process.to_string()).join("comm");
    std::fs::read_to_string(file).is_ok_and(|comm| comm.trim_end() == name)
}
