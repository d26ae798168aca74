//! The start of a daemon: records, shims and kernel objects are brought together again.
//!
//! A container whose shim lives goes on; one that ended meanwhile has its exit noted; one whose shim is gone is
//! ended and cleared away. Files and processes that no record names are removed.

use super::record::{Record, Status};
use super::transition::Operation;
use super::{Container, Containers, lock, networking, restart};
use crate::error::{Error, Result};
use crate::networks::Networks;
use gantry_network::endpoint::Endpoint;
use gantry_runtime::cgroup::Cgroup;
use gantry_runtime::shim_client::{self, ExitRecord, Found, Watch};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// All records in the database.
pub(crate) fn read_records(store: &gantry_store::Store, exec_root: &Path) -> Result<Vec<Record>> {
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
                // One that is known to run has those of its record, and none where it has left all its networks.
                if record.endpoints.is_empty() && !record.state.status.is_alive() {
                    record.endpoints = networking::noted(&exec_root.join("c").join(&id));
                }
                records.push(record);
            }
            Err(error) => {
                tracing::error!(container = id, %error, "a container's record cannot be read: left alone")
            }
        }
    }
    Ok(records)
}

/// The endpoints of containers that were alive when the daemon ended. One on a network that the container does not ask for
/// is of a connection that was not finished, or of the end of one: it goes. So does one with an address or a port that a later
/// start has got: its container had ended, and the daemon did not live to record that.
/// `runs` says whether a container still does.
pub(crate) fn take_endpoints(
    records: &mut [Record],
    networks: &Networks,
    runs: impl Fn(&str) -> bool,
) -> Vec<Endpoint> {
    for record in &mut *records {
        let asked: HashSet<String> = record
            .networks
            .keys()
            .filter_map(|name| Some(networks.find(name).ok()?.id.clone()))
            .collect();
        record.endpoints.retain(|e| asked.contains(&e.network));
    }
    let mut seen = HashSet::new();
    let mut twice = HashSet::new();
    for claim in records.iter().flat_map(|r| &r.endpoints).flat_map(claims) {
        if !seen.insert(claim.clone()) {
            twice.insert(claim);
        }
    }
    let ended: HashSet<String> = records
        .iter()
        .filter(|r| r.endpoints.iter().any(|e| !claims(e).is_disjoint(&twice)) && !runs(&r.id))
        .map(|r| r.id.clone())
        .collect();
    let mut order: Vec<&mut Record> = records
        .iter_mut()
        .filter(|r| !r.endpoints.is_empty())
        .collect();
    // A start that is not recorded yet is the last of all.
    order.sort_by_key(|r| {
        let started = r.state.status.is_alive().then_some(r.state.started_at);
        let runs = !ended.contains(&r.id);
        std::cmp::Reverse((runs, started.is_none(), started.flatten()))
    });
    let mut claimed = HashSet::new();
    let mut kept = Vec::new();
    for record in order {
        record.endpoints.retain(|endpoint| {
            let claims = claims(endpoint);
            let is_free = claims.is_disjoint(&claimed);
            if is_free {
                claimed.extend(claims);
            }
            is_free
        });
        kept.extend(record.endpoints.iter().cloned());
    }
    kept
}

/// Whether a container's process is there, as its shim says.
pub(crate) fn runs(exec_root: &Path, id: &str) -> bool {
    let found = shim_client::find(&exec_root.join("c").join(id));
    matches!(found, Ok(Found::Running { .. }))
}

/// What nobody else can have at the same time, as text: addresses on the network, ports of the host.
fn claims(endpoint: &Endpoint) -> HashSet<String> {
    let network = &endpoint.network;
    let v4 = endpoint.v4.map(|net| format!("{network} {}", net.addr()));
    let v6 = endpoint.v6.map(|net| format!("{network} {}", net.addr()));
    let ports = endpoint.ports.iter().filter(|port| port.host_port != 0);
    let ports = ports.map(|p| format!("{} {} {}", p.protocol, p.host_ip, p.host_port));
    v4.into_iter().chain(v6).chain(ports).collect()
}

impl Containers {
    /// Takes up the containers of an earlier daemon.
    pub(crate) async fn recover(self: &Arc<Self>, records: Vec<Record>) -> Result<()> {
        self.sweep(&records)?;
        for record in records {
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
            let run_dir = self.context.run_dir(&container.id);
            if status.is_alive() || run_dir.exists() {
                self.take_up(&container, &run_dir).await;
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
    async fn take_up(self: &Arc<Self>, container: &Arc<Container>, run_dir: &Path) {
        let found = shim_client::find(run_dir).unwrap_or_else(|error| {
            tracing::warn!(container = %container.id, %error, "cannot look for the shim");
            Found::Lost { pid: None }
        });
        match found {
            Found::Running { pid, watch, .. } => self.goes_on(container, pid, watch).await,
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
                } else {
                    let endpoints = std::mem::take(&mut container.record().endpoints);
                    self.leave(&container.id, &endpoints);
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
        let _ = std::fs::remove_dir_all(self.context.run_dir(&container.id));
        self.ended(container, exit).await;
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
    fn an_address_is_the_last_one_s_who_got_it() {
        let endpoint = |address: &str| Endpoint {
            id: address.into(),
            network: "n".into(),
            host_link: String::new(),
            link: "eth0".into(),
            v4: Some(address.parse().unwrap()),
            v6: None,
            gateway_v4: None,
            gateway_v6: None,
            mac: String::new(),
            ports: Vec::new(),
        };
        let claimed = claims(&endpoint("10.0.0.2/24"));
        assert!(!claimed.is_disjoint(&claims(&endpoint("10.0.0.2/24"))));
        assert!(claimed.is_disjoint(&claims(&endpoint("10.0.0.3/24"))));

        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(gantry_store::Store::open(dir.path()).unwrap());
        let networks = Networks::open(store, Default::default(), "host").unwrap();
        let bridge = networks.named("bridge").unwrap().id.clone();
        let record = |started: Option<i64>, address: &str| {
            let mut record = super::super::record::tests::record();
            record.id = format!("{address} {started:?}");
            record.networks.insert("bridge".into(), Default::default());
            record.endpoints = vec![Endpoint {
                network: bridge.clone(),
                ..endpoint(address)
            }];
            if let Some(second) = started {
                record.state.status = Status::Running;
                record.state.started_at = Some(jiff::Timestamp::from_second(second).unwrap());
            }
            record
        };
        let mut records = [
            record(Some(1), "10.0.0.2/24"),
            record(Some(2), "10.0.0.2/24"),
            record(Some(3), "10.0.0.3/24"),
            record(None, "10.0.0.3/24"),
            record(Some(1), "10.0.0.4/24"),
        ];
        records[4].networks.clear();
        let mut again = records.to_vec();
        let kept = take_endpoints(&mut records, &networks, |_| true);
        assert_eq!(kept.len(), 2);
        let left: Vec<usize> = records.iter().map(|r| r.endpoints.len()).collect();
        assert_eq!(left, [0, 1, 0, 1, 0]);
        // One that has joined a network later than it started has it, where the other has ended.
        take_endpoints(&mut again, &networks, |id| !id.contains("Some(2)"));
        let left: Vec<usize> = again.iter().map(|r| r.endpoints.len()).collect();
        assert_eq!(left, [1, 0, 0, 1, 0]);
    }
}
