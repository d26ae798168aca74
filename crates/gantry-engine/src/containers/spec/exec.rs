//! The process of an exec: the container's own with what the exec asks for in its place.

use super::{ResolvedUser, capability_sets, environment, granted, rlimits, security, unbuildable};
use crate::containers::record::Record;
use crate::error::Result;
use gantry_api::exec::ExecOptions;
use gantry_runtime::capabilities;
use oci_spec::runtime::{LinuxSeccomp, Process, UserBuilder};

/// Builds the process, and the system call policy that it runs under.
///
/// # Errors
/// A limit or a profile of the container's that cannot be.
pub(crate) fn exec(
    record: &Record,
    options: &ExecOptions,
    user: &ResolvedUser,
    links: &[String],
) -> Result<(Process, Option<LinuxSeccomp>)> {
    let host = &record.host_config;
    let security = security::parse(host)?;
    let available = capabilities::available();
    let containers = granted(host, available)?;
    let mut process = Process::default();
    process.set_terminal(Some(options.tty));
    let built = UserBuilder::default()
        .uid(user.uid)
        .gid(user.gid)
        .additional_gids(user.additional_gids.clone());
    process.set_user(built.build().map_err(unbuildable)?);
    process.set_args(options.cmd.clone());
    process.set_env(Some(environment::of(
        &record.config,
        options.tty,
        links,
        options.env.as_deref().unwrap_or_default(),
        &user.home,
    )));
    let cwd = match options.working_dir.as_str() {
        "" => "/",
        given => given,
    };
    process.set_cwd(cwd.into());
    let own = if options.privileged {
        available
    } else {
        containers
    };
    process.set_capabilities(Some(capability_sets(own)));
    process.set_rlimits(Some(rlimits(host)?));
    process.set_no_new_privileges(Some(security.no_new_privileges));
    process.set_oom_score_adj(i32::try_from(host.oom_score_adj).ok());
    // As with runc the policy is the container's, also for a privileged exec.
    let seccomp = security::seccomp(&security, host.privileged, containers)?;
    Ok((process, seccomp))
}
