//! What a start finds that no record names is removed; what a record names and is not there is forgotten.

use crate::layers::Layers;
use crate::{At, Result, Store};
use gantry_oci::Digest;
use std::collections::HashSet;

/// Forgets layers that are not there any more, or not what they were. Before images are read, which need them.
pub(crate) fn forget_lost_layers(layers: &Layers) -> Result<()> {
    let mut lost = Vec::new();
    for (diff_id, _) in layers.all()? {
        if !layers.is_there(&diff_id)? {
            tracing::warn!(layer = %diff_id, "a layer's files are gone: its record is removed");
            lost.push(diff_id);
        }
    }
    lost.extend(layers.broken_by_a_power_cut()?);
    for diff_id in lost {
        for tree in layers.remove(&diff_id)? {
            std::fs::remove_dir_all(&tree).at("cannot remove the layer", &tree)?;
        }
    }
    Ok(())
}

/// Removes what no record names.
pub(crate) fn collect(store: &Store) -> Result<()> {
    let layers = store.layers.all()?;
    let named: HashSet<&Digest> = layers.iter().map(|(diff_id, _)| diff_id).collect();
    for (place, diff_id) in store.layers.on_disk()? {
        if !named.contains(&diff_id) {
            tracing::info!(layer = %diff_id, "a layer without a record is removed");
            let _ = std::fs::remove_dir_all(&place);
        }
    }
    let mut used: HashSet<String> = HashSet::new();
    for (diff_id, blob) in store.layers.all()? {
        // Kept before, and not to be kept any more: unless there is nothing else to write the layer's tar by.
        if store.layers.keeps_blobs() || !store.layers.has_recipe(&diff_id)? {
            used.insert(blob.to_string());
        }
    }
    crate::manifests::forget(&store.database)?;
    if !store.layers.keeps_blobs() {
        store.blobs.empty_index()?;
    }
    let laid_out = store.images.lay_out()?;
    used.extend(laid_out.iter().map(ToString::to_string));
    used.extend(crate::manifests::all(&store.database)?);
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
    store.layers.remove_partial(false)?;
    store.images.collect_layers()?;
    store.layers.collect_shared()?;
    store.layers.settle();
    Ok(())
}
