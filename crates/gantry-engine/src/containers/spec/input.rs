//! What a spec needs to know of the machine and of other containers, looked up.

use super::{Namespace, SpecInput, devices, security, user};
use crate::containers::Containers;
use crate::containers::etc::EtcFiles;
use crate::containers::record::Record;
use crate::error::{Error, Result};
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

impl Containers {
    /// Gathers what the spec of a container is built from. `has_netns`: the start brings a network namespace along.
    pub(in crate::containers) fn spec_input<'r>(
        &self,
        record: &'r Record,
        rootfs: BorrowedFd<'_>,
        files: &EtcFiles,
        has_netns: bool,
    ) -> Result<SpecInput<'r>> {
        let host = &record.host_config;
        let shared = host.ipc_mode.strip_prefix("container:");
        let ipc_pid = shared.map(|other| self.pid_of(other, "IPC")).transpose()?;
        Ok(SpecInput {
            config: &record.config,
            host,
            command: record.command(),
            link_environment: self.link_environment(record)?,
            user: user::resolve(
                rootfs,
                &record.config.user,
                host.group_add.as_deref().unwrap_or_default(),
            )?,
            mounts: &record.mounts,
            etc: [
                ("/etc/resolv.conf", files.resolv_conf.clone()),
                ("/etc/hostname", files.hostname.clone()),
                ("/etc/hosts", files.hosts.clone()),
            ],
            cgroup_path: self.context.cgroup_path(record),
            network: if has_netns {
                Namespace::New
            } else {
                Namespace::Host
            },
            pid: match host.pid_mode.strip_prefix("container:") {
                Some(other) => {
                    Namespace::Join(format!("/proc/{}/ns/pid", self.pid_of(other, "PID")?).into())
                }
                None if host.pid_mode == "host" => Namespace::Host,
                None => Namespace::New,
            },
            ipc: match ipc_pid {
                Some(pid) => Namespace::Join(format!("/proc/{pid}/ns/ipc").into()),
                None if host.ipc_mode == "host" => Namespace::Host,
                None => Namespace::New,
            },
            shm_source: ipc_pid.map(|pid| PathBuf::from(format!("/proc/{pid}/root/dev/shm"))),
            devices: devices::find(host)?,
            security: security::parse(host)?,
            program: self.context.settings.program.clone(),
            available_capabilities: gantry_runtime::capabilities::available(),
        })
    }

    /// The first process of a container whose namespace is to be shared.
    fn pid_of(&self, other: &str, what: &str) -> Result<u32> {
        let found = self.find(other).map_err(|e| {
            Error::system(format!(
                "joining {what} namespace of container: {}",
                e.message
            ))
        })?;
        let pid = found.record().state.pid;
        if pid == 0 {
            return Err(Error::conflict(format!(
                "cannot join {what} namespace of a non running container: {}",
                found.id
            )));
        }
        Ok(pid)
    }
}
