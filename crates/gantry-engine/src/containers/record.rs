//! A container as it is kept: one JSON record in the database, written whole at each change of state.

use gantry_api::container::{ContainerConfig, EndpointSettings, HostConfig};
use gantry_network::endpoint::Endpoint;
use gantry_store::snapshots::Base;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Docker's seven states (api/types/container.State).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    #[default]
    Created,
    Running,
    Paused,
    Restarting,
    Removing,
    Exited,
    Dead,
}

impl Status {
    /// All of them, in the order Docker names them in messages.
    pub const ALL: [Status; 7] = [
        Status::Created,
        Status::Running,
        Status::Paused,
        Status::Restarting,
        Status::Removing,
        Status::Exited,
        Status::Dead,
    ];

    /// The word that the API uses.
    pub fn word(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Restarting => "restarting",
            Status::Removing => "removing",
            Status::Exited => "exited",
            Status::Dead => "dead",
        }
    }

    /// Whether processes of the container are there.
    pub fn is_alive(self) -> bool {
        matches!(self, Status::Running | Status::Paused)
    }
}

/// Where a container is in its life.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct State {
    pub status: Status,
    /// PID of the first process while it is alive, in the daemon's PID namespace; else 0.
    pub pid: u32,
    pub exit_code: i32,
    /// Why the last start failed.
    pub error: String,
    pub oom_killed: bool,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    /// The user asked for the end (`stop`, `kill`): no restart policy brings it back.
    pub stopped_by_user: bool,
    /// The removal that goes on takes the anonymous volumes along.
    #[serde(default)]
    pub remove_volumes: bool,
    /// What the health check has found; none without one.
    #[serde(default)]
    pub health: Option<gantry_api::container::Health>,
}

/// A mount that the user asked for, resolved at create.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct MountRecord {
    pub kind: MountKind,
    /// The host's path (bind), the volume's folder (volume), empty (tmpfs).
    pub source: String,
    pub destination: String,
    pub read_only: bool,
    pub recursive: bool,
    /// `rprivate`, `rslave`, ...
    pub propagation: String,
    /// The mode text of `-v` as inspect shows it (`ro,z`).
    pub mode: String,
    /// tmpfs options, `size=65536k`.
    pub options: Vec<String>,
    /// Make the source folder when it is missing (`-v`, not `--mount`).
    pub create_source: bool,
    /// What a volume has beside; none for the others.
    #[serde(default)]
    pub volume: Option<VolumeUse>,
}

/// The mounts before a change that is under way: a daemon that dies has the next one finish it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MountsBefore {
    pub mounts: Vec<MountRecord>,
    pub host_config: HostConfig,
}

/// A volume's part of a mount.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct VolumeUse {
    /// Empty until create has made an anonymous one.
    pub name: String,
    /// `rm -v` removes it.
    pub anonymous: bool,
    /// A new volume takes over what the image has there.
    pub copy_up: bool,
    /// A folder below the volume, empty for all of it.
    pub subpath: String,
}

/// What kind of mount.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    Bind,
    Tmpfs,
    Volume,
}

impl MountKind {
    /// The word that the API uses.
    pub fn word(self) -> &'static str {
        match self {
            MountKind::Bind => "bind",
            MountKind::Tmpfs => "tmpfs",
            MountKind::Volume => "volume",
        }
    }
}

/// A link to another container on the default bridge.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct LinkRecord {
    /// What the linking container calls it.
    pub alias: String,
    /// The other's ID.
    pub container: String,
    /// The other's name, for messages when it is gone.
    pub name: String,
}

/// What of a record changes while the container lives: kept apart, so that a start and an exit write little.
#[derive(Serialize, Deserialize)]
pub(super) struct Changing {
    pub(super) state: State,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) restart_count: i64,
}

/// The record. What changes is stored apart from the rest, see [`Changing`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    pub id: String,
    /// Without the leading slash.
    pub name: String,
    pub created: Timestamp,
    /// `sha256:...`; empty for a container on a folder of the host.
    pub image_id: String,
    /// The request's configuration with the image's merged in.
    pub config: ContainerConfig,
    pub host_config: HostConfig,
    /// The networks that it joins at its start, by name, with what was asked for on each.
    pub networks: BTreeMap<String, EndpointSettings>,
    pub base: Base,
    #[serde(skip)]
    pub state: State,
    /// What it has on each network while it is alive.
    #[serde(skip)]
    pub endpoints: Vec<Endpoint>,
    pub mounts: Vec<MountRecord>,
    /// `--link` on the default bridge.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<LinkRecord>,
    /// `mounts` are not yet those of the running container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mounts_before: Option<Box<MountsBefore>>,
    #[serde(skip)]
    pub restart_count: i64,
}

impl Record {
    /// Names of the volumes that it uses.
    pub fn volumes(&self) -> impl Iterator<Item = &str> {
        let before = self.mounts_before.iter().flat_map(|b| &b.mounts);
        let mounts = self.mounts.iter().chain(before);
        mounts
            .filter_map(|m| m.volume.as_ref())
            .map(|volume| volume.name.as_str())
    }

    /// The program and its arguments: entrypoint, then command.
    pub fn command(&self) -> Vec<String> {
        let entrypoint = self.config.entrypoint.iter().flatten();
        entrypoint
            .chain(self.config.cmd.iter().flatten())
            .cloned()
            .collect()
    }

    pub(super) fn changing(&self) -> Changing {
        Changing {
            state: self.state.clone(),
            endpoints: self.endpoints.clone(),
            restart_count: self.restart_count,
        }
    }

    pub(super) fn take_up(&mut self, changing: Changing) {
        self.state = changing.state;
        self.endpoints = changing.endpoints;
        self.restart_count = changing.restart_count;
    }

    /// The first 12 digits of the ID.
    pub fn short_id(&self) -> &str {
        &self.id[..12]
    }

    /// The network mode with `default` resolved.
    pub fn network_mode(&self) -> &str {
        match self.host_config.network_mode.as_str() {
            "" | "default" => "bridge",
            other => other,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A record with nothing in it.
    pub(crate) fn record() -> Record {
        Record {
            id: "c".repeat(64),
            name: "con".into(),
            created: Timestamp::UNIX_EPOCH,
            image_id: String::new(),
            config: ContainerConfig::default(),
            host_config: HostConfig::default(),
            networks: BTreeMap::new(),
            base: Base::Layers(Vec::new()),
            state: State::default(),
            endpoints: Vec::new(),
            mounts: Vec::new(),
            links: Vec::new(),
            mounts_before: None,
            restart_count: 0,
        }
    }
}
