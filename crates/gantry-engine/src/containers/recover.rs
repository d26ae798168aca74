//! The start of a daemon: records, shims and kernel objects are brought together again.
//!
//! A container whose shim lives goes on; one that ended meanwhile has its exit noted; one whose shim is gone is
//! ended and cleared away. Files and processes that no record names are removed.

use super::record::{Record, Status};
use super::transition::Operation;
use super::{Container, Containers, exit, lock, networking, restart};
use crate::error::{Error, Result};
use crate::networks::Networks;
use gantry_network::endpoint::Endpoint;
use gantry_runtime::cgroup::Cgroup;
use gantry_runtime::shim_client::{self, ExitRecord, Found, Watch};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is found of the last runs of containers, by their IDs; nothing of those that have left nothing.
pub(crate) type Runs = HashMap<String, Found>;

/// All records in the database.
pub(crate) fn read_records(store: &gantry_store::Store) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    let mut states: HashMap<String, String> =
        store.database.all(super::STATE)?.into_iter().collect();
    for (id, json) in store.database.all(super::CONTAINER)? {
        match serde_json::from_str::<Record>(&json) {
            Ok(mut record) => {
                let changing = states
                    .remove(&id)
                    .and_then(|json| serde_json::from_str(&json).ok());
                changing
                    .into_iter()
                    .for_each(|changing| record.take_up(changing));
                records.push(record);
            }
            Err(error) => {
                tracing::error!(container = id, %error, "a container's record cannot be read: left alone")
            }
        }
    }
    Ok(records)
}

/// Asks the shims of containers that were alive, or were being started, when the last daemon ended.
pub(crate) fn find_runs(records: &[Record], exec_root: &Path) -> Runs {
    let mut runs = Runs::new();
    for record in records {
        let run_dir = run_dir(exec_root, &record.id);
        if !record.state.status.is_alive() && !run_dir.exists() {
            continue;
        }
        let found = shim_client::find(&run_dir).unwrap_or_else(|error| {
            tracing::warn!(container = %record.id, %error, "cannot look for the shim");
            Found::Lost { pid: None }
        });
        runs.insert(record.id.clone(), found);
    }
    runs
}

/// The endpoints of containers that run: what the record says, or what the start has noted where the record is of an earlier
/// run. Who runs no more has none, whatever its record says: its end may not have been recorded, and its addresses and ports
/// be others' since. An endpoint on a network that the container does not ask for is of a connection that was not finished,
/// or of the end of one: it goes.
pub(crate) fn take_endpoints(
    records: &mut [Record],
    runs: &Runs,
    networks: &Networks,
    exec_root: &Path,
) -> Vec<Endpoint> {
    let mut kept = Vec::new();
    for record in records {
        let Some(Found::Running { pid, .. }) = runs.get(&record.id) else {
            record.endpoints.clear();
            continue;
        };
        if record.state.pid != *pid {
            record.endpoints = networking::noted(&run_dir(exec_root, &record.id));
        }
        let asked: HashSet<String> = record
            .networks
            .keys()
            .filter_map(|name| Some(networks.find(name).ok()?.id.clone()))
            .collect();
        record.endpoints.retain(|e| asked.contains(&e.network));
        kept.extend(record.endpoints.iter().cloned());
    }
    kept
}

fn run_dir(exec_root: &Path, id: &str) -> PathBuf {
    exec_root.join("c").join(id)
}

impl Containers {
    /// Takes up the containers of an earlier daemon.
    pub(crate) async fn recover(
        self: &Arc<Self>,
        records: Vec<Record>,
        mut runs: Runs,
    ) -> Result<()> {
        self.sweep(&records)?;
        for record in records {
            let found = runs.remove(&record.id);
            let container = Arc::new(Container::new(record));
            self.insert(container.clone());
            let status = container.record().state.status;
            if status == Status::Removing {
                let _turn = container.turn.lock().await;
                if let Err(error) = self.remove_in_turn(&container, true).await {
                    tracing::warn!(container = %container.id, %error, "cannot finish a removal");
                }
                continue;
            }
            if let Some(found) = found {
                self.take_up(&container, found).await;
            }
            self.finish_mounts(&container).await;
            let record = container.snapshot();
            if !(restart::wanted_at_start(&record) || record.state.status == Status::Restarting) {
                continue;
            }
            if container.record().state.enter(Operation::BringBack) {
                container.phase.send_modify(|phase| phase.alive = true);
                self.restart_later(&container, std::time::Duration::ZERO);
            }
        }
        Ok(())
    }

    /// A container that was alive, or was being started, when the last daemon ended.
    async fn take_up(self: &Arc<Self>, container: &Arc<Container>, found: Found) {
        match found {
            Found::Running { pid, watch, .. } => self.goes_on(container, pid, watch).await,
            Found::Exited(exit) if exit::is_noted(&container.record(), &exit) => {
                self.clear_kernel(container, None);
                self.after_exit(container);
            }
            Found::Exited(exit) => {
                // Also where the last daemon did not live to record the start.
                container.record().state.enter(Operation::FoundRunning);
                self.clear_kernel(container, None);
                self.ended_meanwhile(container, exit).await;
            }
            Found::Lost { pid } => {
                self.clear_kernel(container, pid);
                // A start that was cut off before it was recorded never ran for anybody.
                if container.record().state.status.is_alive() {
                    let exit = ExitRecord {
                        code: 137,
                        oom_killed: false,
                        finished_at: std::time::SystemTime::now(),
                    };
                    self.ended_meanwhile(container, exit).await;
                }
            }
        }
    }

    async fn goes_on(self: &Arc<Self>, container: &Arc<Container>, pid: u32, watch: Watch) {
        let handle = i32::try_from(pid)
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        let opened = handle
            .map(|pid| rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()));
        lock(&container.live).pidfd = opened.and_then(std::result::Result::ok);
        let found = self.found(container);
        {
            let mut record = container.record();
            if !record.state.status.is_alive() {
                // The daemon ended between the start and its record.
                record.state.started_at = Some(jiff::Timestamp::now());
            }
            record.state.enter(found);
            record.state.pid = pid;
        }
        container.phase.send_modify(|phase| phase.alive = true);
        if let Err(error) = self.save_state(container) {
            tracing::error!(container = %container.id, %error, "cannot record that the container runs");
        }
        let (this, found) = (self.clone(), container.clone());
        let _ = crate::blocking(move || {
            this.finish_links(&found);
            this.take_up_names(&found.snapshot());
        })
        .await;
        self.supervise(container, watch);
        self.watch_health(container);
    }

    async fn ended_meanwhile(self: &Arc<Self>, container: &Arc<Container>, exit: ExitRecord) {
        // Its next start waits until its folder is gone.
        let _turn = container.turn.lock().await;
        self.ended(container, exit).await;
        let _ = std::fs::remove_dir_all(self.context.run_dir(&container.id));
        self.after_exit(container);
    }

    fn clear_kernel(&self, container: &Container, pid: Option<u32>) {
        if let Some(pid) = pid
            .and_then(|p| i32::try_from(p).ok())
            .and_then(rustix::process::Pid::from_raw)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        let cgroup = Cgroup {
            path: self.context.cgroup_path(&container.record()),
        };
        if let Err(error) = cgroup.destroy() {
            tracing::error!(container = %container.id, %error, "cannot remove the cgroup");
        }
        if !container.record().state.status.is_alive() {
            let _ = std::fs::remove_dir_all(self.context.run_dir(&container.id));
        }
    }

    /// Removes what no record names: run directories with their processes, folders, writable layers.
    fn sweep(&self, records: &[Record]) -> Result<()> {
        let known: HashSet<&str> = records.iter().map(|r| r.id.as_str()).collect();
        let settings = &self.context.settings;
        for id in names_in(&settings.exec_root.join("c"))? {
            if known.contains(id.as_str()) {
                continue;
            }
            tracing::info!(container = id, "processes without a record are ended");
            let run_dir = self.context.run_dir(&id);
            if let Ok(Found::Running { pid, .. } | Found::Lost { pid: Some(pid) }) =
                shim_client::find(&run_dir)
                && let Some(pid) = i32::try_from(pid)
                    .ok()
                    .and_then(rustix::process::Pid::from_raw)
            {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
            let cgroup = Cgroup {
                path: format!("/{}/{id}", settings.cgroup_parent.trim_matches('/')),
            };
            if let Err(error) = cgroup.destroy() {
                tracing::error!(container = id, %error, "cannot remove the cgroup");
            }
            let _ = std::fs::remove_dir_all(run_dir);
        }
        for id in names_in(&settings.data_root.join("containers"))? {
            if !known.contains(id.as_str()) {
                let _ = std::fs::remove_dir_all(self.context.container_dir(&id));
            }
        }
        for id in self.context.store.snapshots.list()? {
            if !known.contains(id.as_str()) {
                self.context.store.snapshots.remove(&id)?;
            }
        }
        Ok(())
    }
}

/// Names in a directory, which is made when it is missing.
fn names_in(dir: &Path) -> Result<Vec<String>> {
    let wrap = |e| Error::caused(&format!("cannot read {}", dir.display()), e);
    std::fs::create_dir_all(dir).map_err(wrap)?;
    let entries = std::fs::read_dir(dir).map_err(wrap)?;
    Ok(entries
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_runs_has_endpoints_whatever_the_records_say() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(gantry_store::Store::open(dir.path()).unwrap());
        let networks = Networks::open(store, Default::default(), "host").unwrap();
        let bridge = networks.named("bridge").unwrap().id.clone();
        let endpoint = |network: &str, last: u8| Endpoint {
            id: format!("{network} {last}"),
            network: network.into(),
            host_link: String::new(),
            link: "eth0".into(),
            v4: Some(format!("10.0.0.{last}/24").parse().unwrap()),
            v6: None,
            gateway_v4: None,
            gateway_v6: None,
            mac: String::new(),
            ports: Vec::new(),
        };
        let record = |id: &str, pid: u32, endpoints: &[Endpoint]| {
            let mut record = super::super::record::tests::record();
            record.id = id.into();
            record.networks.insert("bridge".into(), Default::default());
            record.endpoints = endpoints.to_vec();
            record.state.pid = pid;
            record.state.status = match pid {
                0 => Status::Exited,
                _ => Status::Running,
            };
            record
        };
        let of = |last| endpoint(&bridge, last);
        let mut records = [
            record("runs", 7, &[of(2), endpoint("left", 3)]),
            // The address was the first one's before; the end is not recorded.
            record("ended", 8, &[of(2)]),
            record("lost", 9, &[of(4)]),
            record("left-all", 10, &[]),
            // The start is not recorded, nor is the end of the run before.
            record("restarted", 11, &[of(2)]),
            record("begun", 0, &[]),
            record("failed", 0, &[]),
        ];
        for (id, last) in [
            ("runs", 5),
            ("left-all", 6),
            ("restarted", 7),
            ("begun", 8),
            ("failed", 9),
        ] {
            let dir = run_dir(dir.path(), id);
            std::fs::create_dir_all(&dir).unwrap();
            networking::note(&dir, &[of(last)]).unwrap();
        }
        let running = |pid| Found::Running {
            pid,
            shim_pid: 1,
            watch: Watch {
                socket: std::os::unix::net::UnixStream::pair().unwrap().0,
            },
        };
        let runs = Runs::from([
            ("runs".into(), running(7)),
            ("ended".into(), Found::Exited(ExitRecord::now(0))),
            ("lost".into(), Found::Lost { pid: None }),
            ("left-all".into(), running(10)),
            ("restarted".into(), running(12)),
            ("begun".into(), running(13)),
            ("failed".into(), Found::Lost { pid: None }),
        ]);
        let kept = take_endpoints(&mut records, &runs, &networks, dir.path());
        assert_eq!(kept, [of(2), of(7), of(8)]);
        let left: Vec<usize> = records.iter().map(|r| r.endpoints.len()).collect();
        assert_eq!(left, [1, 0, 0, 0, 1, 1, 0]);
    }
}
