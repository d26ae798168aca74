//! `gantry update`

use gantry_api::container::{HostConfig, PortMap};
use gantry_api::update::{Changes, UpdateBody, UpdateResponse};

use crate::client::talk;
use crate::commands::each::container;
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::{Checked, flags};
use crate::request::{
    Bytes, Cpus, Label, MemorySwap, MountRule, Variable, Weight, pairs, published, restart_policy,
};

pub(crate) const COMMAND: Command = Command {
    names: &["container update", "update"],
    about: "Update configuration of one or more containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    args: Count::AtLeast(1),
    mixed: true,
    run,
};

flags! {
    struct UpdateFlags {
        /// Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)
        blkio_weight: Weight = "blkio-weight";
        /// Limit CPU CFS (Completely Fair Scheduler) period
        cpu_period: i64 = "cpu-period";
        /// Limit CPU CFS (Completely Fair Scheduler) quota
        cpu_quota: i64 = "cpu-quota";
        /// Limit the CPU real-time period in microseconds
        cpu_rt_period: i64 = "cpu-rt-period";
        /// Limit the CPU real-time runtime in microseconds
        cpu_rt_runtime: i64 = "cpu-rt-runtime";
        /// CPU shares (relative weight)
        cpu_shares: i64 = "cpu-shares" short "c";
        /// Number of CPUs
        cpus: Cpus = "cpus";
        /// CPUs in which to allow execution (0-3, 0,1)
        cpuset_cpus: String = "cpuset-cpus";
        /// MEMs in which to allow execution (0-3, 0,1)
        cpuset_mems: String = "cpuset-mems";
        /// Set a variable for the next start (NAME=value)
        env: Checked<Variable> = "env" short "e";
        /// Take a variable away at the next start
        env_rm: Vec<String> = "env-rm";
        kernel_memory: Bytes = "kernel-memory";
        /// Set a label
        label_add: Checked<Label> = "label-add";
        /// Take a label away
        label_rm: Vec<String> = "label-rm";
        /// Set an option of the log driver for the next start; an empty value takes it away
        log_opt: Vec<String> = "log-opt";
        /// Memory limit
        memory: Bytes = "memory" short "m";
        /// Memory soft limit
        memory_reservation: Bytes = "memory-reservation";
        /// Swap limit equal to memory plus swap: -1 to enable unlimited swap
        memory_swap: MemorySwap = "memory-swap";
        /// Attach a filesystem mount to the container, now and at each start
        mount_add: Checked<MountRule> = "mount-add";
        /// Take the mount at this path away
        mount_rm: Vec<String> = "mount-rm";
        /// Tune container pids limit (set -1 for unlimited)
        pids_limit: i64 = "pids-limit";
        /// Publish a port of the container, now and at each start
        publish_add: Vec<String> = "publish-add";
        /// Take a published port away ([[ip:]hostPort:]containerPort[/protocol])
        publish_rm: Vec<String> = "publish-rm";
        /// Restart policy to apply when a container exits
        restart: String = "restart";
    }
}

fn ports(texts: &[String]) -> Result<PortMap, Failure> {
    let (_, bindings) = published(texts).map_err(Failure::new)?;
    Ok(bindings)
}

fn body(flags: &UpdateFlags) -> Result<UpdateBody, Failure> {
    let policy = match flags.restart.as_str() {
        "" => None,
        text => Some(restart_policy(text).map_err(Failure::new)?),
    };
    let body = UpdateBody {
        host_config: HostConfig {
            blkio_weight: flags.blkio_weight.0,
            cpuset_cpus: flags.cpuset_cpus.clone(),
            cpuset_mems: flags.cpuset_mems.clone(),
            cpu_shares: flags.cpu_shares,
            memory: flags.memory.0,
            memory_reservation: flags.memory_reservation.0,
            memory_swap: flags.memory_swap.0,
            cpu_period: flags.cpu_period,
            cpu_quota: flags.cpu_quota,
            cpu_realtime_period: flags.cpu_rt_period,
            cpu_realtime_runtime: flags.cpu_rt_runtime,
            nano_cpus: flags.cpus.0,
            pids_limit: Some(flags.pids_limit).filter(|limit| *limit != 0),
            restart_policy: policy.unwrap_or_default(),
            ..HostConfig::default()
        },
        kernel_memory: flags.kernel_memory.0,
        gantry_update: Changes {
            env: flags.env.items.clone(),
            env_remove: flags.env_rm.clone(),
            labels: flags.label_add.items.iter().cloned().collect(),
            labels_remove: flags.label_rm.clone(),
            log_options: pairs(&flags.log_opt),
            mounts: flags.mount_add.items.clone(),
            mounts_remove: flags.mount_rm.clone(),
            ports: ports(&flags.publish_add)?,
            ports_remove: ports(&flags.publish_rm)?,
        },
    };
    if body == UpdateBody::default() {
        return Err(Failure::new(
            "you must provide one or more flags when using this command",
        ));
    }
    Ok(body)
}

fn run(cx: &Cx) -> Outcome {
    let mut flags = UpdateFlags::default();
    let names = cx.read(&COMMAND, &mut [&mut flags])?;
    let body = body(&flags)?;
    talk(cx, async |client| {
        let (mut warnings, mut wrong) = (Vec::new(), Vec::new());
        for name in &names {
            let updated = async {
                let call = client.post(container(name, "/update")?);
                call.body(&body)?.json::<UpdateResponse>().await
            };
            match updated.await {
                Ok(answer) => {
                    cx.print(&format!("{name}\n"))?;
                    warnings.extend(answer.warnings.into_iter().flatten());
                }
                Err(error) => wrong.push(error.to_string()),
            }
        }
        if !warnings.is_empty() {
            cx.print(&format!("{}\n", warnings.join("\n")))?;
        }
        Failure::all(wrong)
    })
}
