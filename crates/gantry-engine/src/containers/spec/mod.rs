//! The one place where request, image and the daemon's defaults become an OCI runtime spec.
//!
//! [`SpecInput`] holds what was looked up (users, devices, other containers' namespaces); [`build`] turns it into a
//! document without asking the machine again. The order of mounts, environment and device rules is that of the
//! `config.json` which Docker Engine 28 hands to runc.

mod devices;
mod environment;
mod exec;
mod input;
mod mounts;
mod resources;
mod security;
mod user;

#[cfg(test)]
mod tests;

pub(crate) use devices::HostDevice;
pub(crate) use exec::exec;
pub(crate) use mounts::of_user as user_mount;
pub(crate) use resources::limits;
pub(crate) use security::{SecurityOptions, check_security_options};
pub use user::ResolvedUser;
pub(crate) use user::resolve as resolve_user;

use super::record::MountRecord;
use super::start::RUNTIME_PREFIX;
use crate::error::{Error, Result};
use gantry_api::container::{ContainerConfig, HostConfig};
use gantry_runtime::capabilities;
use oci_spec::runtime::{
    Linux, LinuxCapabilities, LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType,
    PosixRlimit, PosixRlimitBuilder, PosixRlimitType, Process, Root, RootBuilder, Spec,
    UserBuilder,
};
use std::collections::HashMap;
use std::path::PathBuf;

/// The runtime spec's version that the documents follow.
const OCI_VERSION: &str = "1.2.1";

/// How one kind of namespace is come by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Namespace {
    New,
    Host,
    /// Joined by its path below `/proc`.
    Join(PathBuf),
}

/// What a spec is made from.
#[derive(Debug)]
pub struct SpecInput<'a> {
    /// The request's configuration, the image's merged in.
    pub(crate) config: &'a ContainerConfig,
    pub(crate) host: &'a HostConfig,
    /// Entrypoint and command.
    pub(crate) command: Vec<String>,
    /// Variables of containers that this one is linked to.
    pub(crate) link_environment: Vec<String>,
    pub(crate) user: ResolvedUser,
    pub(crate) mounts: &'a [MountRecord],
    /// `/etc/hosts`, `/etc/hostname`, `/etc/resolv.conf`: destination and the host's file.
    pub(crate) etc: [(&'static str, PathBuf); 3],
    /// Group below each hierarchy's root.
    pub(crate) cgroup_path: String,
    pub(crate) network: Namespace,
    pub(crate) pid: Namespace,
    pub(crate) ipc: Namespace,
    /// `/dev/shm` of the container whose IPC namespace is joined.
    pub(crate) shm_source: Option<PathBuf>,
    pub(crate) devices: Vec<HostDevice>,
    pub(crate) security: SecurityOptions,
    /// Our binary, for `--init`.
    pub(crate) program: PathBuf,
    /// What the daemon itself may do; `--cap-add ALL` gives no more.
    pub(crate) available_capabilities: u64,
}

/// Builds the spec.
///
/// # Errors
/// What only shows now: a device of the request that is not there, a resource that cannot be, a bad seccomp profile.
pub fn build(input: &SpecInput<'_>) -> Result<Spec> {
    let mut spec = Spec::default();
    spec.set_version(OCI_VERSION.to_owned());
    spec.set_root(Some(root(input)?));
    spec.set_mounts(Some(mounts::all(input)));
    let capabilities = granted(input.host, input.available_capabilities)?;
    spec.set_process(Some(process(input, capabilities)?));
    let own_uts = input.host.uts_mode != "host";
    spec.set_hostname(own_uts.then(|| input.config.hostname.clone()));
    spec.set_annotations(
        input
            .host
            .annotations
            .as_ref()
            .map(|a| a.clone().into_iter().collect()),
    );
    spec.set_linux(Some(linux(input, capabilities)?));
    Ok(spec)
}

/// A value that cannot be put into a document: a mistake of ours, told as the engine's fault.
fn unbuildable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::caused("cannot build the runtime spec", error)
}

fn root(input: &SpecInput<'_>) -> Result<Root> {
    RootBuilder::default()
        .path("rootfs")
        .readonly(input.host.readonly_rootfs)
        .build()
        .map_err(unbuildable)
}

/// The capabilities as bits.
fn granted(host: &HostConfig, available: u64) -> Result<u64> {
    let named = |field, list: &Option<Vec<String>>| {
        capabilities::parse(list.as_deref().unwrap_or_default(), available)
            .map_err(|e| Error::invalid(format!("invalid {field}: {e}")))
    };
    let add = named("CapAdd", &host.cap_add)?;
    let drop = named("CapDrop", &host.cap_drop)?;
    // A daemon that lacks a default capability itself cannot give it.
    let basis = capabilities::DOCKER_DEFAULT & available;
    Ok(capabilities::resolve(
        basis,
        add,
        drop,
        host.privileged,
        available,
    ))
}

fn process(input: &SpecInput<'_>, capabilities: u64) -> Result<Process> {
    let config = input.config;
    let mut process = Process::default();
    process.set_terminal(Some(config.tty));
    let mut user = UserBuilder::default()
        .uid(input.user.uid)
        .gid(input.user.gid);
    user = user.additional_gids(input.user.additional_gids.clone());
    process.set_user(user.build().map_err(unbuildable)?);
    let mut args = input.command.clone();
    if uses_init(input) {
        args.splice(0..0, [mounts::INIT.to_owned(), "--".to_owned()]);
    }
    process.set_args(Some(args));
    process.set_env(Some(environment::of(
        config,
        config.tty,
        &input.link_environment,
        &[],
        &input.user.home,
    )));
    let cwd = if config.working_dir.is_empty() {
        "/"
    } else {
        &config.working_dir
    };
    process.set_cwd(cwd.into());
    process.set_capabilities(Some(capability_sets(capabilities)));
    process.set_rlimits(Some(rlimits(input.host)?));
    process.set_no_new_privileges(Some(input.security.no_new_privileges));
    process.set_oom_score_adj(i32::try_from(input.host.oom_score_adj).ok());
    Ok(process)
}

fn capability_sets(capabilities: u64) -> LinuxCapabilities {
    let set = capabilities::to_oci(capabilities);
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(set.clone()));
    sets.set_effective(Some(set.clone()));
    sets.set_permitted(Some(set));
    sets.set_inheritable(None);
    sets.set_ambient(None);
    sets
}

/// Whether our init is PID 1. COMPAT: in another's PID namespace `--init` has no effect.
fn uses_init(input: &SpecInput<'_>) -> bool {
    input.host.init == Some(true) && input.pid == Namespace::New
}

fn rlimits(host: &HostConfig) -> Result<Vec<PosixRlimit>> {
    let mut limits = Vec::new();
    for limit in host.ulimits.iter().flatten() {
        let kind = format!("RLIMIT_{}", limit.name.to_ascii_uppercase());
        // COMPAT: what the runtime says at the start; create takes any name.
        let kind: PosixRlimitType = kind
            .parse()
            .map_err(|_| Error::system(format!("{RUNTIME_PREFIX}wrong rlimit value: {kind}")))?;
        // -1 is no limit, as in the kernel's own type.
        let built = PosixRlimitBuilder::default()
            .typ(kind)
            .hard(limit.hard as u64)
            .soft(limit.soft as u64);
        limits.push(built.build().map_err(unbuildable)?);
    }
    Ok(limits)
}

fn linux(input: &SpecInput<'_>, capabilities: u64) -> Result<Linux> {
    let host = input.host;
    let mut linux = Linux::default();
    linux.set_cgroups_path(Some(input.cgroup_path.clone().into()));
    linux.set_namespaces(Some(namespaces(input)?));
    linux.set_sysctl(Some(sysctls(input)));
    linux.set_resources(Some(resources::all(input)?));
    linux.set_devices(Some(devices::nodes(&input.devices)?));
    linux.set_rootfs_propagation(mounts::rootfs_propagation(input.mounts));
    let hidden = |paths: &Option<Vec<String>>| if host.privileged { None } else { paths.clone() };
    linux.set_masked_paths(hidden(&host.masked_paths));
    linux.set_readonly_paths(hidden(&host.readonly_paths));
    linux.set_seccomp(security::seccomp(
        &input.security,
        host.privileged,
        capabilities,
    )?);
    Ok(linux)
}

fn namespaces(input: &SpecInput<'_>) -> Result<Vec<LinuxNamespace>> {
    let uts = if input.host.uts_mode == "host" {
        Namespace::Host
    } else {
        Namespace::New
    };
    let cgroup = if input.host.cgroupns_mode == "private" {
        Namespace::New
    } else {
        Namespace::Host
    };
    let mut list = Vec::new();
    for (kind, how) in [
        (LinuxNamespaceType::Mount, &Namespace::New),
        (LinuxNamespaceType::Network, &input.network),
        (LinuxNamespaceType::Uts, &uts),
        (LinuxNamespaceType::Pid, &input.pid),
        (LinuxNamespaceType::Ipc, &input.ipc),
        (LinuxNamespaceType::Cgroup, &cgroup),
    ] {
        let namespace = LinuxNamespaceBuilder::default().typ(kind);
        let namespace = match how {
            Namespace::Host => continue,
            Namespace::New => namespace,
            Namespace::Join(path) => namespace.path(path.clone()),
        };
        list.push(namespace.build().map_err(unbuildable)?);
    }
    Ok(list)
}

fn sysctls(input: &SpecInput<'_>) -> HashMap<String, String> {
    let mut list = HashMap::new();
    let mode = input.host.network_mode.as_str();
    if mode != "host" && !mode.starts_with("container:") {
        list.insert(
            "net.ipv4.ip_unprivileged_port_start".to_owned(),
            "0".to_owned(),
        );
        list.insert(
            "net.ipv4.ping_group_range".to_owned(),
            "0 2147483647".to_owned(),
        );
    }
    if !input.config.domainname.is_empty() && input.host.uts_mode != "host" {
        list.insert(
            "kernel.domainname".to_owned(),
            input.config.domainname.clone(),
        );
    }
    list.extend(
        input
            .host
            .sysctls
            .iter()
            .flatten()
            .map(|(name, value)| (name.clone(), value.clone())),
    );
    list
}
