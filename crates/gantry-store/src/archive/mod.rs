//! `docker load` archives (Docker's manifest.json and OCI layouts), `import` of a plain tar, `save`.
//!
//! An archive has an OCI layout with Docker's `manifest.json` (and `repositories`, of old) beside it: the one tells of all
//! images, for each platform, the other of those that a name stands for without a platform.

mod load;
mod save;

pub use load::{LoadOptions, Loaded, load, load_with};
pub use save::{manifest, save};

/// The architecture's name in images.
pub use gantry_oci::platform::machine_architecture as architecture;

use crate::layers::Expected;
use crate::{Result, Store, StoreError};
use gantry_oci::Digest;
use gantry_oci::config::{History, ImageConfig, RootFs};
use gantry_oci::manifest::Descriptor;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Read;

/// One image of Docker's `manifest.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
    /// The image that it was made from, where that is in the archive, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    /// Layers by diff ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layer_sources: Option<BTreeMap<Digest, Descriptor>>,
}

/// The annotation that has an image's full name.
const IMAGE_NAME: &str = "io.containerd.image.name";
/// The one that has its tag; some have the full name in it.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

fn invalid(message: impl Into<String>) -> StoreError {
    StoreError::Invalid(message.into())
}

/// Makes an image of one layer out of a root file system's tar; `config` is completed with `rootfs` and `history`.
pub fn import(store: &Store, reader: &mut dyn Read, mut config: ImageConfig) -> Result<Digest> {
    let lease = store.layers.lease();
    let stored = store
        .layers
        .unpack(reader, &Expected::default())
        .and_then(|layer| {
            config.rootfs = RootFs {
                diff_ids: vec![layer.diff_id],
                ..RootFs::default()
            };
            let (created, comment) = (config.created.clone(), config.comment.clone());
            config.history.push(History {
                created,
                comment,
                ..History::default()
            });
            let bytes = serde_json::to_vec(&config).map_err(|e| invalid(e.to_string()))?;
            store.images.put(&bytes)
        });
    drop(lease);
    store.images.collect_layers()?;
    stored
}
