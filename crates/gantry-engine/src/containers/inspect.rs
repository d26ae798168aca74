//! `inspect`: all that is known of a container, in Docker's shape.

use super::Containers;
use super::record::{MountKind, Record, Status};
use crate::error::Result;
use crate::volumes::LOCAL;
use gantry_api::container::{ContainerInspect, ContainerState, GraphDriver, MountPoint};
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

    fn inspect_record(&self, mut record: Record, size: bool) -> ContainerInspect {
        record.host_config.links = self.shown_links(&record);
        let context = &self.context;
        // Who shares another's network shares its files.
        let other = record.network_mode().strip_prefix("container:");
        let other = other.and_then(|name| self.find(name).ok());
        let dir = context.run_dir(other.as_ref().map_or(&record.id, |other| &other.id));
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
