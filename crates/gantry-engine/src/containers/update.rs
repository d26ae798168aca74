//! `update`: limits and restart policy of a container, at once where it runs; and, beyond Docker, its mounts and more of
//! its record.
//!
//! The kernel comes first: when it refuses a limit, all are as before and the record is not touched; when the record
//! cannot be written, the kernel gets the old limits back.

use super::networking::live_ports::PortChange;
use super::record::Record;
use super::transition::Operation;
use super::{Container, Containers, spec, validate};
use crate::error::{Error, Result};
use gantry_api::container::{HostConfig, LogConfig};
use gantry_api::update::{Changes, UpdateBody, UpdateResponse};
use std::sync::Arc;

/// The least kernel memory that can be asked for, bytes.
const MINIMUM_KERNEL_MEMORY: i64 = 6 << 20;

impl Containers {
    /// Changes a container; what is 0 or empty in the request stays.
    ///
    /// # Errors
    /// `InvalidParameter` for values that cannot be, `Conflict` for what does not go with the container's other settings,
    /// `System` when the kernel refuses a limit.
    pub async fn update(self: &Arc<Self>, name: &str, body: UpdateBody) -> Result<UpdateResponse> {
        let UpdateBody {
            mut host_config,
            kernel_memory,
            gantry_update,
        } = body;
        // COMPAT: 0 and every negative number mean no limit.
        host_config.pids_limit = host_config.pids_limit.map(|limit| limit.max(0));
        validate::resources(&host_config, true)?;
        validate::restart_policy(&host_config.restart_policy)?;
        let warnings = kernel_memory_words(kernel_memory)?;
        check_env(&gantry_update)?;
        let container = self.find(name)?;
        let (this, name) = (self.clone(), name.to_owned());
        crate::to_the_end(async move {
            let _turn = container.turn.lock().await;
            let asked = &host_config;
            this.update_in_turn(&container, &name, asked, &gantry_update)
                .await
        })
        .await??;
        Ok(UpdateResponse {
            warnings: (!warnings.is_empty()).then_some(warnings),
        })
    }

    async fn update_in_turn(
        self: &Arc<Self>,
        container: &Arc<Container>,
        name: &str,
        asked: &HostConfig,
        changes: &Changes,
    ) -> Result<()> {
        let id = &container.id;
        let wrap = |e: Error| {
            let message = format!("Cannot update container {id}: {}", e.message);
            Error::new(e.kind, message)
        };
        let before = container.snapshot();
        before.state.ask(Operation::Update, id, name)?;
        let mut after = before.clone();
        merge(&mut after.host_config, asked).map_err(wrap)?;
        apply(&mut after, changes).map_err(wrap)?;
        let (add, remove) = (&changes.mounts, &changes.mounts_remove);
        super::mounts::change(&mut after, add, remove).map_err(wrap)?;
        change_ports(&before, &mut after, changes).map_err(wrap)?;
        let (old, new) = (
            spec::limits(&before.host_config)?,
            spec::limits(&after.host_config)?,
        );
        let live = before.state.status.is_alive() && old != new;
        if live {
            let (cgroup, from, to) = (self.cgroup(container), old.clone(), new.clone());
            let updated = crate::blocking(move || cgroup.update(&from, &to)).await?;
            // What has ended meanwhile gets the new limits at its next start, also when its exit is not noted yet.
            if let Err(error) = updated
                && container.has_process()
            {
                return Err(wrap(Error::caused("cannot change the limits", error)));
            }
        }
        let ports = PortChange::between(&before, &after, &changes.ports_remove)?;
        let ports = self
            .change_live_ports(container, ports)
            .await
            .map_err(wrap)?;
        let changed = if after.mounts == before.mounts {
            self.save(&after)
        } else {
            self.change_mounts(container, &before, &mut after).await
        };
        if let Err(error) = changed {
            if let Err(error) = self.change_live_ports(container, ports).await {
                tracing::warn!(container = %id, %error, "cannot put old ports back");
            }
            if live {
                let cgroup = self.cgroup(container);
                let restored = crate::blocking(move || cgroup.update(&new, &old)).await?;
                if let Err(error) = restored {
                    tracing::warn!(container = %id, %error, "cannot put old limits back");
                }
            }
            return Err(wrap(error));
        }
        {
            let mut record = container.record();
            record.host_config = after.host_config;
            record.config = after.config;
            record.mounts = after.mounts;
        }
        self.context.tell(&container.snapshot(), "update", &[]);
        Ok(())
    }
}

impl Containers {
    /// Changes the ports of a container that runs; what undoes it.
    async fn change_live_ports(
        self: &Arc<Self>,
        container: &Arc<Container>,
        change: PortChange,
    ) -> Result<PortChange> {
        if change.is_empty() || !container.has_process() {
            return Ok(PortChange::default());
        }
        let (this, container) = (self.clone(), container.clone());
        crate::blocking(move || this.change_ports(&container, &change)).await?
    }
}

/// Docker's words about kernel memory, which today's runtimes leave alone.
fn kernel_memory_words(kernel_memory: i64) -> Result<Vec<String>> {
    if kernel_memory <= 0 {
        return Ok(Vec::new());
    }
    if kernel_memory < MINIMUM_KERNEL_MEMORY {
        return Err(Error::invalid("Minimum kernel memory limit allowed is 6MB"));
    }
    Ok(vec![
        "Your kernel does not support kernel memory limit capabilities or the cgroup is not mounted. Limitation discarded.".to_owned(),
    ])
}

fn check_env(changes: &Changes) -> Result<()> {
    for entry in &changes.env {
        if entry.is_empty() || entry.starts_with('=') {
            return Err(Error::invalid(format!(
                "invalid environment variable: {entry}"
            )));
        }
    }
    Ok(())
}

/// Takes over what is asked for, by Docker's rules (`UpdateContainer` of its container package).
fn merge(own: &mut HostConfig, asked: &HostConfig) -> Result<()> {
    let conflict = |text: &str| Err(Error::conflict(format!("Conflicting options: {text}")));
    if asked.nano_cpus > 0 && own.cpu_period > 0 {
        return conflict("Nano CPUs cannot be updated as CPU Period has already been set");
    }
    if asked.nano_cpus > 0 && own.cpu_quota > 0 {
        return conflict("Nano CPUs cannot be updated as CPU Quota has already been set");
    }
    if asked.cpu_period > 0 && own.nano_cpus > 0 {
        return conflict("CPU Period cannot be updated as NanoCPUs has already been set");
    }
    if asked.cpu_quota > 0 && own.nano_cpus > 0 {
        return conflict("CPU Quota cannot be updated as NanoCPUs has already been set");
    }
    // COMPAT: as Docker, also where neither memory nor swap has a limit yet.
    if asked.memory > own.memory_swap && asked.memory_swap == 0 {
        return Err(Error::conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        ));
    }
    for (own, asked) in [
        (&mut own.cpu_shares, asked.cpu_shares),
        (&mut own.nano_cpus, asked.nano_cpus),
        (&mut own.cpu_period, asked.cpu_period),
        (&mut own.cpu_quota, asked.cpu_quota),
        (&mut own.memory, asked.memory),
        (&mut own.memory_swap, asked.memory_swap),
        (&mut own.memory_reservation, asked.memory_reservation),
        (&mut own.cpu_realtime_period, asked.cpu_realtime_period),
        (&mut own.cpu_realtime_runtime, asked.cpu_realtime_runtime),
    ] {
        if asked != 0 {
            *own = asked;
        }
    }
    if asked.blkio_weight != 0 {
        own.blkio_weight = asked.blkio_weight;
    }
    for (own, asked) in [
        (&mut own.cpuset_cpus, &asked.cpuset_cpus),
        (&mut own.cpuset_mems, &asked.cpuset_mems),
    ] {
        if !asked.is_empty() {
            own.clone_from(asked);
        }
    }
    own.pids_limit = asked.pids_limit.or(own.pids_limit);
    let policy = &asked.restart_policy;
    if !policy.name.is_empty() {
        if own.auto_remove && policy.name != "no" {
            return Err(Error::conflict(
                "Restart policy cannot be updated because AutoRemove is enabled for the container",
            ));
        }
        own.restart_policy = policy.clone();
    }
    Ok(())
}

/// Takes over other ports.
fn change_ports(before: &Record, after: &mut Record, changes: &Changes) -> Result<()> {
    let (add, remove) = (&changes.ports, &changes.ports_remove);
    if add.is_empty() && remove.is_empty() {
        return Ok(());
    }
    let live: Vec<_> = super::list::ports(before)
        .into_iter()
        .filter_map(|at| Some((format!("{}/{}", at.private_port, at.kind), at.public_port?)))
        .collect();
    let (config, host) = (&mut after.config, &mut after.host_config);
    super::published::change(config, host, add, remove, &live)
}

/// Takes over what only Gantry can change.
fn apply(record: &mut Record, changes: &Changes) -> Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    fn name(entry: &str) -> &str {
        entry.split('=').next().unwrap_or_default()
    }
    let env = record.config.env.get_or_insert_default();
    env.retain(|entry| !changes.env_remove.iter().any(|gone| gone == name(entry)));
    for entry in &changes.env {
        match env.iter_mut().find(|own| name(own) == name(entry)) {
            Some(own) => own.clone_from(entry),
            None => env.push(entry.clone()),
        }
    }
    let labels = record.config.labels.get_or_insert_default();
    labels.retain(|key, _| !changes.labels_remove.contains(key));
    labels.extend(changes.labels.clone());
    if !changes.log_options.is_empty() {
        let LogConfig { config, .. } = &mut record.host_config.log_config;
        config.extend(changes.log_options.clone());
        config.retain(|_, value| !value.is_empty());
        let log = &record.host_config.log_config;
        crate::logs::validate(&log.kind, &log.config).map_err(Error::invalid)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn limits(memory: i64, swap: i64) -> HostConfig {
        HostConfig {
            memory,
            memory_swap: swap,
            ..HostConfig::default()
        }
    }

    #[test]
    fn what_is_not_asked_for_stays() {
        let mut own = limits(64 << 20, 128 << 20);
        own.pids_limit = Some(10);
        merge(&mut own, &limits(96 << 20, 0)).unwrap();
        assert_eq!((own.memory, own.memory_swap), (96 << 20, 128 << 20));
        assert_eq!(own.pids_limit, Some(10));
        let error = merge(&mut own, &limits(256 << 20, 0)).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Conflict);
        assert!(error.message.starts_with("Memory limit should be smaller"));
        merge(&mut own, &limits(256 << 20, -1)).unwrap();
        assert_eq!((own.memory, own.memory_swap), (256 << 20, -1));
        let mut free = HostConfig::default();
        assert!(merge(&mut free, &limits(64 << 20, 0)).is_err());
        merge(&mut free, &limits(64 << 20, 64 << 20)).unwrap();
    }

    #[test]
    fn settings_that_do_not_go_together() {
        let period = HostConfig {
            cpu_period: 50_000,
            ..HostConfig::default()
        };
        let cpus = HostConfig {
            nano_cpus: 500_000_000,
            ..HostConfig::default()
        };
        let said = |own: &HostConfig, asked: &HostConfig| {
            merge(&mut own.clone(), asked).unwrap_err().message
        };
        assert_eq!(
            said(&period, &cpus),
            "Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set"
        );
        assert_eq!(
            said(&cpus, &period),
            "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set"
        );
        let mut own = HostConfig {
            auto_remove: true,
            ..HostConfig::default()
        };
        let mut asked = HostConfig::default();
        asked.restart_policy.name = "always".into();
        assert_eq!(
            said(&own, &asked),
            "Restart policy cannot be updated because AutoRemove is enabled for the container"
        );
        asked.restart_policy.name = "no".into();
        merge(&mut own, &asked).unwrap();
    }

    #[test]
    fn kernel_memory() {
        assert!(kernel_memory_words(0).unwrap().is_empty());
        assert_eq!(kernel_memory_words(8 << 20).unwrap().len(), 1);
        assert!(kernel_memory_words(5).is_err());
    }
}
