//! `commit`: a container's writable layer becomes a layer, and with the layers below it an image.
//!
//! Order of writes: the layer's files and its blob, then its record, the configuration, the image's record, its parent. A
//! crash in between leaves a layer that no image has, which the next start collects.

use crate::layers::Expected;
use crate::snapshots::Driver;
use crate::{At, Result, Store, StoreError};
use gantry_oci::Digest;
use gantry_oci::config::{History, ImageConfig, RootFs};
use std::path::Path;

/// An image to be made of a container.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    /// The layers that the container stands on, lowest first.
    pub base: Vec<Digest>,
    /// The image's configuration with its parent's history; layers and the new step are added.
    pub config: ImageConfig,
    /// How the new layer came about.
    pub step: History,
    /// The container's image.
    pub parent: Option<Digest>,
}

/// Stores a container's writable layer and the image; a layer without anything in it is left out.
pub fn commit(store: &Store, id: &str, commit: Commit) -> Result<Digest> {
    let lease = store.layers.lease();
    let stored = leased(store, id, commit);
    drop(lease);
    store.images.collect_layers()?;
    stored
}

fn leased(store: &Store, id: &str, commit: Commit) -> Result<Digest> {
    let Commit {
        mut base,
        mut config,
        mut step,
        parent,
    } = commit;
    let (mut reader, writer) = std::io::pipe().at("cannot make a pipe", Path::new("-"))?;
    let layer = std::thread::scope(|scope| {
        let snapshots: &dyn Driver = &*store.snapshots;
        let packing = scope.spawn(move || {
            let mut writer = std::io::BufWriter::with_capacity(256 << 10, writer);
            snapshots.pack(id, &mut writer)
        });
        let unpacked = store.layers.unpack(&mut reader, &Expected::default());
        // Whoever packs must not wait for a reader that has given up.
        drop(reader);
        let packed = packing
            .join()
            .map_err(|_| StoreError::Invalid("the thread that packs a layer panicked".into()))?;
        // An archive that was cut short may look whole.
        unpacked.and_then(|layer| packed.map(|()| layer))
    })?;
    let documented = config.history.iter().filter(|h| !h.empty_layer).count();
    // Layers that nobody told the story of.
    for _ in documented..base.len() {
        config.history.insert(0, History::default());
    }
    if layer.diff_id == Digest::of(&[0; 1024]) {
        step.empty_layer = true;
    } else {
        base.push(layer.diff_id);
    }
    config.history.push(step);
    config.rootfs = RootFs {
        diff_ids: base,
        ..RootFs::default()
    };
    let bytes = serde_json::to_vec(&config).map_err(|e| StoreError::Invalid(e.to_string()))?;
    let image = store.images.put(&bytes)?;
    if let Some(parent) = parent.filter(|parent| *parent != image) {
        store.images.set_parent(&image, &parent)?;
    }
    Ok(image)
}
