//! From the OCI runtime spec to a [`Plan`]: done in the daemon, where paths of the host mean what they say.

use crate::capabilities::CapSets;
use crate::log::{Address, LogRequest};
use crate::plan::{
    DevicePlan, ExecPlan, InitPlan, LogFilePlan, LogPlan, MountPlan, Mounted, Places, Plan,
    ProcessPlan, RemotePlan, Request, StdioPlan,
};
use crate::spawn::{Attached, ExecRequest, StartError, StartRequest, Stdio};
use oci_spec::runtime::{LinuxDeviceType, LinuxNamespaceType, LinuxSeccomp, Mount, Process, Spec};
use rustix::mount::OpenTreeFlags;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// A request and the descriptors that its indexes name.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) request: Request,
    pub(crate) fds: Vec<OwnedFd>,
    /// The daemon's end of the watch connection: there before the container, so that no exit is too early for it.
    pub(crate) watch: UnixStream,
}

/// A set-up failure in words that stand alone, as runc says them.
fn refuse(message: impl Into<String>) -> StartError {
    StartError::Setup {
        step: String::new(),
        message: message.into(),
    }
}

fn failed(step: impl Into<String>, error: impl std::fmt::Display) -> StartError {
    StartError::Setup {
        step: step.into(),
        message: error.to_string(),
    }
}

/// The descriptors of a request, in the order of their indexes.
#[derive(Debug, Default)]
struct Fds(Vec<OwnedFd>);

impl Fds {
    fn add(&mut self, fd: impl Into<OwnedFd>) -> usize {
        self.0.push(fd.into());
        self.0.len() - 1
    }
}

fn compile_log(log: LogRequest, fds: &mut Fds) -> Result<LogPlan, StartError> {
    let parent = |path: &Path| path.parent().unwrap_or(Path::new("/")).to_owned();
    let file = match log.file {
        None => None,
        Some(file) => Some(LogFilePlan {
            dir: fds.add(open_dir(&parent(&file.path))?),
            name: file
                .path
                .file_name()
                .map(|n| n.to_string_lossy().into_owned())
                .unwrap_or_default(),
            format: file.format,
            max_size: file.max_size,
            max_files: file.max_files,
            compress: file.compress,
            attrs: file.attrs,
        }),
    };
    let remote = match log.remote {
        None => None,
        Some(remote) => Some(RemotePlan {
            socket: remote.socket.map(|socket| fds.add(socket)),
            directory: match &remote.settings.address {
                Address::Stream(path) | Address::Datagram(path) => {
                    Some(fds.add(open_dir(&parent(Path::new(path)))?))
                }
                Address::Udp(_) | Address::Tcp(_) => None,
            },
            settings: remote.settings,
        }),
    };
    Ok(LogPlan { file, remote })
}

/// Compiles a request; every path of the host is opened here.
pub(crate) fn compile(request: StartRequest<'_>) -> Result<Compiled, StartError> {
    let StartRequest {
        id,
        spec,
        rootfs,
        netns,
        run_dir,
        log,
        stdio,
        attached,
        // The spec's args and mounts have the init program.
        trace,
    } = request;
    let mut fds = Fds::default();
    let rootfs = fds.add(rootfs);
    let (places, watch) = places(run_dir, attached, &mut fds)?;
    let log = compile_log(log, &mut fds)?;
    let netns = netns.map(|fd| fds.add(fd));
    let linux = spec
        .linux()
        .as_ref()
        .ok_or_else(|| refuse("the spec has no linux part"))?;
    let resources = linux.resources().clone().unwrap_or_default();
    let plan = Plan {
        id: id.to_owned(),
        rootfs,
        places,
        log,
        stdio: stdio_plan(&stdio, !stdio.tty),
        cgroup_path: cgroup_path(id, spec),
        resources: serde_json::to_vec(&resources).map_err(|e| failed("encode the resources", e))?,
        init: init_plan(spec, netns, &mut fds)?,
        trace,
    };
    Ok(Compiled {
        request: Request::Start(Box::new(plan)),
        fds: fds.0,
        watch,
    })
}

/// The cgroup below each hierarchy's root.
pub(crate) fn cgroup_path(id: &str, spec: &Spec) -> String {
    let given = spec
        .linux()
        .as_ref()
        .and_then(|l| l.cgroups_path().as_ref());
    given
        .map(|path| path.display().to_string())
        .unwrap_or_else(|| format!("/gantry/{id}"))
}

/// Compiles an exec.
pub(crate) fn compile_exec(request: ExecRequest<'_>) -> Result<Compiled, StartError> {
    let ExecRequest {
        target,
        target_pid,
        cgroup_path,
        process,
        seccomp,
        run_dir,
        stdio,
        framed,
        attached,
    } = request;
    let mut fds = Fds::default();
    let (places, watch) = places(run_dir, attached, &mut fds)?;
    let plan = ExecPlan {
        target: fds.add(target),
        target_pid,
        cgroup_path: cgroup_path.to_owned(),
        places,
        stdio: stdio_plan(&stdio, framed),
        process: process_plan(process, seccomp, false)?,
    };
    Ok(Compiled {
        request: Request::Exec(Box::new(plan)),
        fds: fds.0,
        watch,
    })
}

fn stdio_plan(stdio: &Stdio, framed: bool) -> StdioPlan {
    StdioPlan {
        tty: stdio.tty,
        framed,
        open_stdin: stdio.open_stdin,
        stdin_once: stdio.stdin_once,
        console_size: stdio.console_size,
    }
}

/// The shim's socket in its run directory, and the connection on which it tells the exit.
fn places(
    run_dir: &Path,
    attached: Vec<Attached>,
    fds: &mut Fds,
) -> Result<(Places, UnixStream), StartError> {
    let dir = open_dir(run_dir)?;
    let listener = UnixListener::bind(crate::shim_client::socket_in(&dir))
        .map_err(|e| failed(format!("listen in {}", run_dir.display()), e))?;
    let (watch, watcher) =
        UnixStream::pair().map_err(|e| failed("make the watch connection", e))?;
    let places = Places {
        run_dir: fds.add(dir),
        listener: fds.add(listener),
        watcher: fds.add(watcher),
        attached: attached
            .into_iter()
            .map(|client| (fds.add(client.socket), client.streams))
            .collect(),
    };
    Ok((places, watch))
}

fn open_dir(path: &Path) -> Result<OwnedFd, StartError> {
    use rustix::fs::{Mode, OFlags};
    rustix::fs::open(
        path,
        OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|e| failed(format!("open {}", path.display()), std::io::Error::from(e)))
}

fn init_plan(spec: &Spec, netns: Option<usize>, fds: &mut Fds) -> Result<InitPlan, StartError> {
    let linux = spec
        .linux()
        .as_ref()
        .ok_or_else(|| refuse("the spec has no linux part"))?;
    let process = spec
        .process()
        .as_ref()
        .ok_or_else(|| refuse("the spec has no process"))?;
    let namespaces = namespaces(spec, netns, fds)?;
    let text = |paths: &Option<Vec<String>>| paths.clone().unwrap_or_default();
    Ok(InitPlan {
        sysctls: sysctls(spec, &namespaces)?,
        new_namespaces: namespaces.new,
        new_cgroup_namespace: namespaces.cgroup,
        join: namespaces.join,
        join_pid: namespaces.join_pid,
        hostname: spec.hostname().clone(),
        domainname: spec.domainname().clone(),
        mounts: spec
            .mounts()
            .iter()
            .flatten()
            .map(|mount| mount_plan(mount, fds))
            .collect::<Result<_, _>>()?,
        devices: linux.devices().iter().flatten().map(device).collect(),
        masked: text(linux.masked_paths()),
        readonly: text(linux.readonly_paths()),
        readonly_root: spec
            .root()
            .as_ref()
            .is_some_and(|root| root.readonly() == Some(true)),
        root_propagation: linux.rootfs_propagation().as_deref().map_or(0, |name| {
            let recursive = if name.starts_with('r') {
                libc::MS_REC
            } else {
                0
            };
            propagation(name) | recursive
        }),
        process: process_plan(process, linux.seccomp().as_ref(), true)?,
    })
}

fn process_plan(
    process: &Process,
    seccomp: Option<&LinuxSeccomp>,
    make_cwd: bool,
) -> Result<ProcessPlan, StartError> {
    let user = process.user();
    let args = process.args().clone().unwrap_or_default();
    if args.is_empty() {
        return Err(refuse("args must not be empty"));
    }
    let seccomp = seccomp
        .map(|policy| {
            crate::seccomp::compile(policy).map_err(|e| failed("compile the seccomp policy", e))
        })
        .transpose()?;
    Ok(ProcessPlan {
        rlimits: rlimits(process)?,
        oom_score_adj: process.oom_score_adj(),
        no_new_privileges: process.no_new_privileges() == Some(true),
        seccomp,
        capabilities: process
            .capabilities()
            .as_ref()
            .map(|sets| CapSets::from(sets).into())
            .unwrap_or_default(),
        uid: user.uid(),
        gid: user.gid(),
        groups: user.additional_gids().clone().unwrap_or_default(),
        umask: user.umask(),
        cwd: process.cwd().display().to_string(),
        make_cwd,
        env: process.env().clone().unwrap_or_default(),
        args,
    })
}

#[derive(Debug, Default)]
struct Namespaces {
    new: u64,
    cgroup: bool,
    join: Vec<usize>,
    join_pid: Option<usize>,
    /// Kinds that are not the host's.
    own: Vec<LinuxNamespaceType>,
}

fn namespaces(spec: &Spec, netns: Option<usize>, fds: &mut Fds) -> Result<Namespaces, StartError> {
    let mut out = Namespaces::default();
    let linux = spec
        .linux()
        .as_ref()
        .ok_or_else(|| refuse("the spec has no linux part"))?;
    for namespace in linux.namespaces().iter().flatten() {
        let kind = namespace.typ();
        out.own.push(kind);
        if let Some(path) = namespace.path() {
            let file = std::fs::File::open(path)
                .map_err(|e| failed(format!("open the namespace {}", path.display()), e))?;
            let file = fds.add(file);
            if kind == LinuxNamespaceType::Pid {
                out.join_pid = Some(file);
            } else {
                out.join.push(file);
            }
            continue;
        }
        let flag = match kind {
            LinuxNamespaceType::Mount => libc::CLONE_NEWNS,
            LinuxNamespaceType::Cgroup => {
                out.cgroup = true;
                continue;
            }
            LinuxNamespaceType::Uts => libc::CLONE_NEWUTS,
            LinuxNamespaceType::Ipc => libc::CLONE_NEWIPC,
            LinuxNamespaceType::Pid => libc::CLONE_NEWPID,
            LinuxNamespaceType::Network if netns.is_some() => continue,
            LinuxNamespaceType::Network => libc::CLONE_NEWNET,
            other => return Err(refuse(format!("{other:?} namespaces are not offered"))),
        };
        out.new |= flag as u64;
    }
    out.join.extend(netns);
    if netns.is_some() {
        out.own.push(LinuxNamespaceType::Network);
    }
    // The container's mounts are always its own.
    out.new |= libc::CLONE_NEWNS as u64;
    Ok(out)
}

/// Only what a namespace of the container's own keeps to itself may be set.
fn sysctls(spec: &Spec, namespaces: &Namespaces) -> Result<Vec<(String, String)>, StartError> {
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let own = |kind| namespaces.own.contains(&kind);
    let mut list: Vec<(String, String)> = Vec::new();
    let Some(given) = spec.linux().as_ref().and_then(|l| l.sysctl().as_ref()) else {
        return Ok(list);
    };
    for (name, value) in given {
        let dotted = name.replace('/', ".");
        let ipc = IPC.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.");
        let allowed = (ipc && own(LinuxNamespaceType::Ipc))
            || (dotted.starts_with("net.") && own(LinuxNamespaceType::Network))
            || (matches!(dotted.as_str(), "kernel.domainname" | "kernel.hostname")
                && own(LinuxNamespaceType::Uts));
        if !allowed {
            return Err(refuse(format!(
                "sysctl \"{name}\" is not in a separate kernel namespace"
            )));
        }
        list.push((dotted.replace('.', "/"), value.clone()));
    }
    list.sort();
    Ok(list)
}

fn rlimits(process: &Process) -> Result<Vec<(u32, u64, u64)>, StartError> {
    const NAMES: [&str; 16] = [
        "CPU",
        "FSIZE",
        "DATA",
        "STACK",
        "CORE",
        "RSS",
        "NPROC",
        "NOFILE",
        "MEMLOCK",
        "AS",
        "LOCKS",
        "SIGPENDING",
        "MSGQUEUE",
        "NICE",
        "RTPRIO",
        "RTTIME",
    ];
    let mut list = Vec::new();
    for limit in process.rlimits().iter().flatten() {
        let name = serde_json::to_value(limit.typ())
            .ok()
            .and_then(|v| v.as_str().map(str::to_owned))
            .unwrap_or_default();
        let short = name.strip_prefix("RLIMIT_").unwrap_or(&name);
        let number = NAMES.iter().position(|n| *n == short);
        let number = number.ok_or_else(|| refuse(format!("wrong rlimit value: {name}")))?;
        list.push((number as u32, limit.soft(), limit.hard()));
    }
    Ok(list)
}

fn device(device: &oci_spec::runtime::LinuxDevice) -> DevicePlan {
    DevicePlan {
        path: device.path().display().to_string(),
        kind: match device.typ() {
            LinuxDeviceType::B => 'b',
            LinuxDeviceType::P => 'p',
            _ => 'c',
        },
        major: device.major() as u32,
        minor: device.minor() as u32,
        mode: device.file_mode().unwrap_or(0o666),
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
    }
}

/// MS_* bits of a propagation's name, with or without `r` in front.
fn propagation(name: &str) -> u64 {
    match name.strip_prefix('r').unwrap_or(name) {
        "private" => libc::MS_PRIVATE,
        "slave" => libc::MS_SLAVE,
        "shared" => libc::MS_SHARED,
        "unbindable" => libc::MS_UNBINDABLE,
        _ => 0,
    }
}

/// What mount_setattr(2) wants cleared before it sets another mode of access times.
fn access_time_cleared(attributes: u64) -> u64 {
    if attributes & libc::MOUNT_ATTR__ATIME == 0 {
        0
    } else {
        libc::MOUNT_ATTR__ATIME
    }
}

/// A mount of the spec's kind on its own, not attached anywhere yet, and whether it is a directory's.
pub(crate) fn detached(mount: &Mount) -> Result<(OwnedFd, bool), StartError> {
    let mut fds = Fds::default();
    let plan = mount_plan(mount, &mut fds)?;
    let nothing = || refuse("a mount of the control groups cannot be made later");
    match plan.what {
        Mounted::Bind { is_dir, .. } => Ok((fds.0.pop().ok_or_else(nothing)?, is_dir)),
        Mounted::New {
            kind,
            source,
            options,
        } => crate::init::new_file_system(&kind, &source, &options, plan.attributes)
            .map(|made| (made, true))
            .map_err(|e| failed(format!("mount {}", plan.destination), e)),
        Mounted::Cgroup { .. } => Err(nothing()),
    }
}

fn mount_plan(mount: &Mount, fds: &mut Fds) -> Result<MountPlan, StartError> {
    let mut plan = MountPlan {
        destination: mount.destination().display().to_string(),
        what: Mounted::Cgroup { read_only: false },
        attributes: 0,
        attributes_recursive: false,
        propagation: 0,
    };
    let kind = mount.typ().clone().unwrap_or_default();
    let source = mount
        .source()
        .as_ref()
        .map(|s| s.display().to_string())
        .unwrap_or_default();
    let (mut bind, mut recursive, mut data) = (kind == "bind", false, Vec::new());
    for option in mount.options().iter().flatten() {
        match option.as_str() {
            "bind" => bind = true,
            "rbind" => (bind, recursive) = (true, true),
            "ro" => plan.attributes |= libc::MOUNT_ATTR_RDONLY,
            "rro" => {
                (plan.attributes, plan.attributes_recursive) =
                    (plan.attributes | libc::MOUNT_ATTR_RDONLY, true)
            }
            "nosuid" => plan.attributes |= libc::MOUNT_ATTR_NOSUID,
            "nodev" => plan.attributes |= libc::MOUNT_ATTR_NODEV,
            "noexec" => plan.attributes |= libc::MOUNT_ATTR_NOEXEC,
            "noatime" => plan.attributes |= libc::MOUNT_ATTR_NOATIME,
            "strictatime" => plan.attributes |= libc::MOUNT_ATTR_STRICTATIME,
            "nodiratime" => plan.attributes |= libc::MOUNT_ATTR_NODIRATIME,
            "rw" | "relatime" | "suid" | "dev" | "exec" | "defaults" | "tmpcopyup" => {}
            other if propagation(other) != 0 => plan.propagation = propagation(other),
            other => data.push(other.to_owned()),
        }
    }
    if kind == "cgroup" || kind == "cgroup2" {
        plan.what = Mounted::Cgroup {
            read_only: plan.attributes & libc::MOUNT_ATTR_RDONLY != 0,
        };
    } else if bind {
        let is_dir = std::fs::metadata(&source)
            .map_err(|e| failed(format!("bind {source} to {}", plan.destination), e))?
            .is_dir();
        let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
        let tree =
            rustix::mount::open_tree(rustix::fs::CWD, source.as_str(), flags).map_err(|e| {
                failed(
                    format!("bind {source} to {}", plan.destination),
                    std::io::Error::from(e),
                )
            })?;
        crate::sys::mount_setattr(
            tree.as_fd(),
            plan.attributes_recursive,
            plan.attributes,
            access_time_cleared(plan.attributes),
            0,
        )
        .and_then(|()| {
            // Never the host's own group of mounts unless it is asked for: what is mounted below would show there.
            let propagation = match plan.propagation {
                0 => libc::MS_PRIVATE,
                given => given,
            };
            crate::sys::mount_setattr(tree.as_fd(), true, 0, 0, propagation)
        })
        .map_err(|e| failed(format!("options of {}", plan.destination), e))?;
        plan.what = Mounted::Bind {
            mount: fds.add(tree),
            is_dir,
        };
    } else {
        plan.what = Mounted::New {
            kind,
            source,
            options: data,
        };
    }
    Ok(plan)
}
