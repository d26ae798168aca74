//! What a start finds that no record names is removed; what a record names and is not there is forgotten.

use crate::{At, Result, Store};
use std::collections::HashSet;

/// Brings records and files together.
pub(crate) fn collect(store: &Store) -> Result<()> {
    let layers = store.layers.all()?;
    let named: HashSet<&str> = layers.iter().map(|(diff_id, _)| diff_id.hex()).collect();
    for name in store.layers.on_disk()? {
        // What has no layer's name is somebody else's.
        let Ok(diff_id) = gantry_oci::Digest::from_hex(&name) else {
            continue;
        };
        if !named.contains(name.as_str()) {
            tracing::info!(layer = name, "a layer without a record is removed");
            let _ = std::fs::remove_dir_all(store.layers.path(&diff_id));
        }
    }
    for (diff_id, _) in &layers {
        let place = store.layers.path(diff_id);
        if !place.try_exists().at("cannot read", &place)? {
            tracing::warn!(layer = %diff_id, "a layer's files are gone: its record is removed");
            store.layers.remove(diff_id)?;
        }
    }
    let mut used: HashSet<String> = store
        .layers
        .all()?
        .into_iter()
        .map(|(_, blob)| blob.to_string())
        .collect();
    for image in store.images.all()? {
        used.insert(image.id.to_string());
        used.extend(
            image
                .digests
                .iter()
                .filter_map(|r| r.digest.as_ref())
                .map(ToString::to_string),
        );
    }
    for blob in store.blobs.all()? {
        if !used.contains(blob.as_str()) {
            store.blobs.remove(&blob)?;
        }
    }
    store.images.collect_layers()
}
