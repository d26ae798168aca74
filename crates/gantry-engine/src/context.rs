//! What the services share: the rooms below, the settings, and the way to tell of an event.

use crate::containers::record::Record;
use crate::events::Events;
use crate::networks::NetworkRecord;
use gantry_network::plane::Plane;
use gantry_runtime::spawn::Spawner;
use gantry_store::Store;
use std::path::PathBuf;
use std::sync::Arc;

/// The daemon's settings that the engine reads.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `--data-root`
    pub data_root: PathBuf,
    /// `--exec-root`
    pub exec_root: PathBuf,
    /// `--cgroup-parent`: group below each hierarchy's root, `/gantry` unless given.
    pub cgroup_parent: String,
    /// The log driver of containers that name none.
    pub log_driver: String,
    /// Log options for containers that give none (`max-size`, `max-file`, ...).
    pub log_options: std::collections::BTreeMap<String, String>,
    /// Our binary, bound into containers with `--init`.
    pub program: PathBuf,
    /// `dns`, `dns-opts`, `dns-search` of daemon.json.
    pub dns: Vec<String>,
    pub dns_options: Vec<String>,
    pub dns_search: Vec<String>,
    /// `--host-gateway-ip`: what `host-gateway` stands for in `--add-host`; none: the default bridge's addresses.
    pub host_gateways: Vec<std::net::IpAddr>,
    /// `default-shm-size`, bytes.
    pub shm_size: i64,
    pub transfers: crate::images::TransferLimits,
    /// `image-policy`: which images may come, see [`crate::images::policy`].
    pub image_policy: Option<PathBuf>,
    /// Whether each start's steps are timed and written to the log (`--trace-starts`).
    pub trace_starts: bool,
}

/// Shared by the services of one engine.
#[derive(Debug)]
pub struct Context {
    pub settings: Settings,
    pub store: Arc<Store>,
    pub spawner: Arc<Spawner>,
    /// The networks in the kernel.
    pub plane: Arc<Plane>,
    pub events: Arc<Events>,
    /// Whether the machine has cgroup v2 only.
    pub unified_cgroup: bool,
    /// The one client of all registries: its connections and tokens are shared.
    pub registry: gantry_registry::Registry,
    pub networks: crate::networks::Networks,
    pub volumes: crate::volumes::Volumes,
    pub(crate) policy: crate::images::policy::Policy,
    pub(crate) spare: crate::containers::spare::Spare,
    pub(crate) served: crate::networks::served::Served,
    pub(crate) released: crate::containers::links::Released,
}

impl Context {
    /// `<exec-root>/c/<id>`
    pub fn run_dir(&self, id: &str) -> PathBuf {
        self.settings.exec_root.join("c").join(id)
    }

    /// Bytes of the disk that a container takes: its writable layer, its folder with the log.
    pub(crate) fn container_disk(&self, id: &str) -> gantry_store::Result<u64> {
        let layer = gantry_store::usage::of_container(&self.settings.data_root, id)?;
        Ok(layer + gantry_store::usage::of_content(&self.container_dir(id))?)
    }

    /// `<data-root>/containers/<id>`
    pub fn container_dir(&self, id: &str) -> PathBuf {
        self.settings.data_root.join("containers").join(id)
    }

    /// `<data-root>/containers/<id>/<id>-json.log`
    pub fn log_path(&self, id: &str) -> PathBuf {
        self.container_dir(id).join(format!("{id}-json.log"))
    }

    /// The cgroup of a container, below each hierarchy's root.
    pub fn cgroup_path(&self, record: &Record) -> String {
        let parent = match record.host_config.cgroup_parent.as_str() {
            "" => &self.settings.cgroup_parent,
            given => given,
        };
        format!("/{}/{}", parent.trim_matches('/'), record.id)
    }

    /// Publishes an event about a container, with Docker's attributes: image, name, labels and the extra ones.
    pub fn tell(&self, record: &Record, action: &str, extra: &[(&str, &str)]) {
        let mut attributes: std::collections::BTreeMap<String, String> =
            record.config.labels.clone().unwrap_or_default();
        if !record.config.image.is_empty() {
            attributes.insert("image".into(), record.config.image.clone());
        }
        attributes.insert("name".into(), record.name.clone());
        for (key, value) in extra {
            attributes.insert((*key).to_owned(), (*value).to_owned());
        }
        self.events
            .publish("container", action, &record.id, attributes);
    }

    /// Publishes an event about a network and a container.
    pub fn tell_network(&self, action: &str, network: &NetworkRecord, container: &str) {
        let attributes = [
            ("container", container),
            ("name", &network.name),
            ("type", &network.driver),
        ];
        let attributes = attributes
            .into_iter()
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect();
        self.events
            .publish("network", action, &network.id, attributes);
    }
}
