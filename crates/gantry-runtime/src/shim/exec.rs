//! The birth of an exec: a further process in a running container, with a shim of its own, so that neither the
//! container's shim nor another exec ever waits for it.

use super::birth::{Chain, Running, Taking, Unborn, Womb, end, own_pid, setup, take_over};
use crate::cgroup::{Cgroup, CgroupHandle};
use crate::init::{self, Joining};
use crate::plan::{ExecPlan, Reply};
use crate::spawner::Host;
use crate::steps::Steps;
use crate::sys;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::SystemTime;

/// Makes the process and waits until it has become the program; on failure nothing is left.
pub(super) fn bring_up(
    plan: ExecPlan,
    fds: Vec<OwnedFd>,
    host: Host,
) -> Result<(Running, Reply), Reply> {
    let cgroup = Cgroup {
        path: plan.cgroup_path.clone(),
    };
    let mut handle = cgroup
        .open()
        .map_err(|e| setup("open the container's cgroup", Chain(&e)))?;
    let target = fds
        .get(plan.target)
        .ok_or_else(|| setup("take the request", "a descriptor is missing"))?;
    sys::join_pids_of(target.as_fd())
        .map_err(|e| setup("enter the container's PID namespace", e))?;
    let bear = |handle: &CgroupHandle, in_v2: bool| {
        let womb = Womb {
            stdio: &plan.stdio,
            run_dir: fds[plan.places.run_dir].as_fd(),
            host: &host,
        };
        let v2 = handle.v2_dir().filter(|_| in_v2);
        womb.bear(0, v2, &mut Steps::new(false), |stdio, sync| {
            init::join(Joining {
                plan: &plan,
                fds: &fds,
                cgroup: handle,
                in_v2,
                proc: host.proc.as_fd(),
                stdio,
                sync,
            })
        })
    };
    let mut born = bear(&handle, true);
    if let Err(Unborn::Cloning(error)) = &born
        && error.raw_os_error() == Some(libc::EBUSY)
    {
        // The container has groups of its own below, and so its group may hold no process (cgroup-v2, "no internal
        // process constraint"): where its first process is, as runc does.
        handle
            .go_where(host.proc.as_fd(), plan.target_pid)
            .map_err(|e| setup("open the cgroup of the first process", e))?;
        born = bear(&handle, true);
    }
    let born = born.map_err(|unborn| match unborn {
        // No process is born in a PID namespace whose first process has ended.
        Unborn::Cloning(error) if error.raw_os_error() == Some(libc::ENOMEM) => {
            setup("", "cannot exec in a stopped container")
        }
        Unborn::Cloning(error) => setup("make the process", error),
        Unborn::Told(reply) => reply,
    })?;
    let started_at = SystemTime::now();
    let pid = born.0;
    let kill = born.1.try_clone();
    let running = take_over(&plan.places, plan.stdio.clone(), Taking::from(fds), born);
    let running = running.inspect_err(|_| kill_by(&kill))?;
    let reply = Reply::Started {
        pid,
        shim_pid: own_pid(),
        started_at,
        timings: Vec::new(),
    };
    Ok((running, reply))
}

fn kill_by(pidfd: &io::Result<OwnedFd>) {
    if let Ok(pidfd) = pidfd {
        end(pidfd.as_fd());
    }
}
