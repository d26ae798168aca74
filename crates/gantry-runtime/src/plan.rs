//! The plan: an OCI spec made ready for the shim, so that little is left to think about between fork and exec.
//!
//! The daemon writes it (postcard) into a memfd; descriptors travel beside it and are named by their index.

use crate::capabilities::CapSets;
use crate::log::{LogFormat, RemoteSettings};
use crate::spawn::Streams;
use serde::{Deserialize, Serialize};

/// Index of a descriptor that came with the request.
pub(crate) type Fd = usize;

/// What the daemon asks the spawner for: each makes a shim of its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Request {
    Start(Box<Plan>),
    Exec(Box<ExecPlan>),
}

/// A further process in a running container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ExecPlan {
    /// The container's first process: a pidfd, whose namespaces are entered, and its number.
    pub(crate) target: Fd,
    pub(crate) target_pid: u32,
    pub(crate) cgroup_path: String,
    pub(crate) places: Places,
    pub(crate) stdio: StdioPlan,
    pub(crate) process: ProcessPlan,
}

/// Where a shim is found, and who is connected to it from the beginning.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Places {
    pub(crate) run_dir: Fd,
    pub(crate) listener: Fd,
    /// The shim's end of the daemon's watch connection.
    pub(crate) watcher: Fd,
    pub(crate) attached: Vec<(Fd, Streams)>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) id: String,
    pub(crate) rootfs: Fd,
    pub(crate) places: Places,
    pub(crate) log: LogPlan,
    pub(crate) stdio: StdioPlan,
    pub(crate) cgroup_path: String,
    /// `linux.resources` of the spec as JSON: the cgroup module reads it.
    pub(crate) resources: Vec<u8>,
    pub(crate) init: InitPlan,
    /// Whether the steps are timed.
    pub(crate) trace: bool,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct LogPlan {
    pub(crate) file: Option<LogFilePlan>,
    pub(crate) remote: Option<RemotePlan>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LogFilePlan {
    pub(crate) dir: Fd,
    pub(crate) name: String,
    pub(crate) format: LogFormat,
    pub(crate) max_size: Option<u64>,
    pub(crate) max_files: u32,
    pub(crate) compress: bool,
    pub(crate) attrs: Vec<(String, String)>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RemotePlan {
    pub(crate) settings: RemoteSettings,
    pub(crate) socket: Option<Fd>,
    /// The folder of a unix socket, to connect to it again.
    pub(crate) directory: Option<Fd>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StdioPlan {
    pub(crate) tty: bool,
    /// Whether the clients get their output in frames: what they expect need not be what a terminal gives.
    pub(crate) framed: bool,
    pub(crate) open_stdin: bool,
    pub(crate) stdin_once: bool,
    pub(crate) console_size: Option<(u16, u16)>,
}

/// What the first process does between its birth and exec.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct InitPlan {
    /// CLONE_NEW* flags for clone3.
    pub(crate) new_namespaces: u64,
    /// Namespaces to join by setns, in order.
    pub(crate) join: Vec<Fd>,
    /// A PID namespace, which the shim enters for its child: a process never changes its own.
    pub(crate) join_pid: Option<Fd>,
    /// A cgroup namespace is entered after the cgroup.
    pub(crate) new_cgroup_namespace: bool,
    pub(crate) hostname: Option<String>,
    pub(crate) domainname: Option<String>,
    pub(crate) mounts: Vec<MountPlan>,
    pub(crate) devices: Vec<DevicePlan>,
    pub(crate) masked: Vec<String>,
    pub(crate) readonly: Vec<String>,
    pub(crate) readonly_root: bool,
    /// MS_* propagation of the root, as in `linux.rootfsPropagation`.
    pub(crate) root_propagation: u64,
    pub(crate) sysctls: Vec<(String, String)>,
    pub(crate) process: ProcessPlan,
}

/// What a process becomes: limits, privileges, program.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ProcessPlan {
    pub(crate) rlimits: Vec<(u32, u64, u64)>,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) no_new_privileges: bool,
    pub(crate) seccomp: Option<Vec<u8>>,
    pub(crate) capabilities: CapabilityPlan,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) umask: Option<u32>,
    pub(crate) cwd: String,
    /// The working directory is made where it is missing.
    pub(crate) make_cwd: bool,
    pub(crate) env: Vec<String>,
    pub(crate) args: Vec<String>,
}

/// Bit masks of the five capability sets.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct CapabilityPlan {
    pub(crate) bounding: u64,
    pub(crate) effective: u64,
    pub(crate) permitted: u64,
    pub(crate) inheritable: u64,
    pub(crate) ambient: u64,
}

impl From<CapSets> for CapabilityPlan {
    fn from(sets: CapSets) -> Self {
        Self {
            bounding: sets.bounding,
            effective: sets.effective,
            permitted: sets.permitted,
            inheritable: sets.inheritable,
            ambient: sets.ambient,
        }
    }
}

impl From<CapabilityPlan> for CapSets {
    fn from(plan: CapabilityPlan) -> Self {
        Self {
            bounding: plan.bounding,
            effective: plan.effective,
            permitted: plan.permitted,
            inheritable: plan.inheritable,
            ambient: plan.ambient,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct MountPlan {
    pub(crate) destination: String,
    pub(crate) what: Mounted,
    /// MOUNT_ATTR_* set on it.
    pub(crate) attributes: u64,
    pub(crate) attributes_recursive: bool,
    /// MS_* propagation, 0: none given.
    pub(crate) propagation: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Mounted {
    /// A file system made in the container's namespaces: type, source, options (`key=value` or flags).
    New {
        kind: String,
        source: String,
        options: Vec<String>,
    },
    /// A detached mount that the daemon cloned; `is_dir` tells what target it needs.
    Bind { mount: Fd, is_dir: bool },
    /// The cgroup hierarchies, one below another on v1.
    Cgroup { read_only: bool },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DevicePlan {
    pub(crate) path: String,
    /// `c`, `b` or `p`
    pub(crate) kind: char,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// What the shim answers over the request's reply socket; a pidfd of the container's first process comes with `Started`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Reply {
    Started {
        pid: u32,
        shim_pid: u32,
        started_at: std::time::SystemTime,
        timings: Vec<(String, u64)>,
    },
    Exec {
        exit_code: i32,
        message: String,
    },
    Setup {
        step: String,
        message: String,
    },
}
