//! `inspect`: all that is known of a container, in Docker's shape.

use super::Containers;
use super::record::{MountKind, Record, Status};
use crate::error::Result;
use crate::volumes::LOCAL;
use gantry_api::container::{
    ContainerInspect, ContainerState, EndpointSettings, GraphDriver, MountPoint, NetworkSettings,
    PortBinding, PortMap,
};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Go's zero time.
const NEVER: &str = "0001-01-01T00:00:00Z";

fn time(time: Option<Timestamp>) -> String {
    time.map_or_else(|| NEVER.to_owned(), |t| t.to_string())
}

impl Containers {
    /// Tells all of a container; `size` also measures its files.
    pub async fn inspect(self: &Arc<Self>, name: &str, size: bool) -> Result<ContainerInspect> {
        let record = self.find(name)?.snapshot();
        let this = self.clone();
        crate::blocking(move || this.inspect_record(record, size)).await
    }

    fn inspect_record(&self, record: Record, size: bool) -> ContainerInspect {
        let context = &self.context;
        let dir = context.run_dir(&record.id);
        let path = |name: &str| {
            let file = dir.join(name);
            if file.exists() {
                file.display().to_string()
            } else {
                String::new()
            }
        };
        let mut command = record.command().into_iter();
        let (size_rw, size_root_fs) = match size.then(|| self.sizes(&record)) {
            Some((rw, all)) => (Some(rw), Some(all)),
            None => (None, None),
        };
        let mut data: BTreeMap<String, String> = context
            .store
            .snapshots
            .describe(&record.id)
            .into_iter()
            .collect();
        data.insert("ID".into(), record.id.clone());
        ContainerInspect {
            exec_ids: self.execs.of(&record.id),
            id: record.id.clone(),
            created: record.created.to_string(),
            path: command.next().unwrap_or_default(),
            args: command.collect(),
            state: state(&record),
            image: record.image_id.clone(),
            resolv_conf_path: path("resolv.conf"),
            hostname_path: path("hostname"),
            hosts_path: path("hosts"),
            log_path: if record.host_config.log_config.kind == "json-file"
                && record.state.started_at.is_some()
            {
                context.log_path(&record.id).display().to_string()
            } else {
                String::new()
            },
            name: format!("/{}", record.name),
            restart_count: record.restart_count,
            driver: context.store.snapshots.name().to_owned(),
            platform: "linux".into(),
            graph_driver: GraphDriver {
                data: Some(data),
                name: context.store.snapshots.name().to_owned(),
            },
            size_rw,
            size_root_fs,
            mounts: mount_points(&record),
            network_settings: self.network_settings(&record),
            host_config: record.host_config,
            config: record.config,
            ..ContainerInspect::default()
        }
    }

    fn network_settings(&self, record: &Record) -> NetworkSettings {
        let mut settings = NetworkSettings {
            networks: self.endpoints(record),
            ..NetworkSettings::default()
        };
        if record.state.pid != 0 && record.network_mode() != "host" {
            settings.sandbox_id.clone_from(&record.id);
            settings.sandbox_key = format!("/proc/{}/ns/net", record.state.pid);
        }
        if let Some(endpoint) = &record.endpoint {
            settings.endpoint_id.clone_from(&record.endpoint_id);
            settings.gateway = endpoint.gateway.to_string();
            settings.ip_address = endpoint.address.to_string();
            settings.ip_prefix_len = endpoint.prefix_len;
            settings.mac_address.clone_from(&endpoint.mac);
            settings.ports = port_map(record);
        }
        settings
    }

    /// The networks of a container by name.
    pub(super) fn endpoints(&self, record: &Record) -> BTreeMap<String, EndpointSettings> {
        let mode = record.network_mode();
        if mode.starts_with("container:") {
            return BTreeMap::new();
        }
        let mut settings = record.networks.get(mode).cloned().unwrap_or_default();
        if mode == "bridge" && record.state.started_at.is_some() {
            settings.network_id.clone_from(&self.context.bridge_id);
        }
        if let Some(endpoint) = &record.endpoint {
            settings.endpoint_id.clone_from(&record.endpoint_id);
            settings.gateway = endpoint.gateway.to_string();
            settings.ip_address = endpoint.address.to_string();
            settings.ip_prefix_len = endpoint.prefix_len;
            settings.mac_address.clone_from(&endpoint.mac);
        }
        BTreeMap::from([(mode.to_owned(), settings)])
    }
}

fn state(record: &Record) -> ContainerState {
    let state = &record.state;
    ContainerState {
        status: state.status.word().to_owned(),
        running: state.status.is_alive() || state.status == Status::Restarting,
        paused: state.status == Status::Paused,
        restarting: state.status == Status::Restarting,
        oom_killed: state.oom_killed,
        dead: state.status == Status::Dead,
        pid: state.pid,
        exit_code: state.exit_code,
        error: state.error.clone(),
        started_at: time(state.started_at),
        finished_at: time(state.finished_at),
        health: state.health.clone(),
    }
}

/// Exposed and published ports.
fn port_map(record: &Record) -> PortMap {
    let mut ports: PortMap = record
        .config
        .exposed_ports
        .iter()
        .flatten()
        .map(|(port, _)| (port.clone(), None))
        .collect();
    for port in record.endpoint.iter().flat_map(|e| &e.ports) {
        let bindings = ports
            .entry(format!("{}/{}", port.container_port, port.protocol))
            .or_default();
        bindings.get_or_insert_default().push(PortBinding {
            host_ip: port.host_ip.to_string(),
            host_port: port.host_port.to_string(),
        });
    }
    ports
}

/// The mounts as inspect and list show them; tmpfs of `--tmpfs` are not among them, as with Docker.
pub(super) fn mount_points(record: &Record) -> Vec<MountPoint> {
    let listed = |destination: &str| {
        let mut mounts = record.host_config.mounts.iter().flatten();
        mounts.any(|m| m.kind == "tmpfs" && m.target == destination)
    };
    record
        .mounts
        .iter()
        .filter(|m| m.kind != MountKind::Tmpfs || listed(&m.destination))
        .map(|m| MountPoint {
            kind: m.kind.word().to_owned(),
            source: m.source.clone(),
            destination: m.destination.clone(),
            name: m
                .volume
                .as_ref()
                .map_or_else(String::new, |v| v.name.clone()),
            driver: m.volume.as_ref().map_or("", |_| LOCAL).to_owned(),
            mode: m.mode.clone(),
            rw: !m.read_only,
            propagation: m.propagation.clone(),
        })
        .collect()
}
