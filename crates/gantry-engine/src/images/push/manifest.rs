//! Which manifest a push is to end in: one that is known for the image, or a new one.

use crate::error::{Error, Result};
use gantry_oci::manifest::{ImageManifest, Manifest};
use gantry_oci::media_type::{
    DOCKER_CONFIG, DOCKER_LAYER, DOCKER_LAYER_GZIP, DOCKER_MANIFEST, OCI_CONFIG, OCI_LAYER,
    OCI_LAYER_GZIP, OCI_LAYER_ZSTD, OCI_MANIFEST,
};
use gantry_oci::{Digest, Reference};
use gantry_store::Store;
use gantry_store::images::Image;
use gantry_store::layers::LayerBlob;
use gantry_store::manifests::KnownManifest;
use serde::Serialize;

/// What is to be pushed.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// A manifest that is known for the image, with its exact bytes.
    known: Option<(ImageManifest, Vec<u8>)>,
}

impl Plan {
    /// Looks for the manifest that the repository, or else its registry, had for the image.
    pub(super) fn make(store: &Store, image: &Image, to: &Reference) -> Result<Self> {
        for diff_id in &image.diff_ids {
            // Found, it is under the push's lease: it stays until the end, whoever removes the image.
            let found = store.layers.get(diff_id)?;
            found
                .ok_or_else(|| Error::not_found(format!("layer {diff_id} is not in the store")))?;
        }
        let mut known = store.manifests.of(&image.id)?;
        // Stable: the last that was added is the first of its kind.
        known.sort_by_key(|known| rank(known, to));
        for manifest in known {
            let bytes = store.manifests.read(&manifest.digest)?;
            let Ok(Manifest::Image(parsed)) = Manifest::parse(&bytes) else {
                continue;
            };
            // What a registry says of its own blobs is good enough for itself; elsewhere only what was verified counts.
            let trusted = rank(&manifest, to) < ELSEWHERE;
            if parsed.config.digest == image.id && fits(store, image, &parsed, trusted)? {
                return Ok(Self {
                    known: Some((*parsed, bytes)),
                });
            }
        }
        Ok(Self::default())
    }

    /// The blob that a layer has in the known manifest.
    pub(super) fn blob(&self, layer: usize) -> Option<LayerBlob> {
        let (manifest, _) = self.known.as_ref()?;
        let layer = manifest.layers.get(layer)?;
        Some(LayerBlob {
            digest: layer.digest.clone(),
            size: layer.size,
            media_type: layer.media_type.clone(),
        })
    }

    /// The manifest's media type and bytes, for the layers as the repository has them.
    pub(super) fn manifest(
        &self,
        config: &Digest,
        config_size: u64,
        layers: &[LayerBlob],
    ) -> Result<(String, Vec<u8>)> {
        let mut oci = layers
            .iter()
            .any(|layer| layer.media_type == OCI_LAYER_ZSTD);
        if let Some((known, bytes)) = &self.known {
            let digests = known.layers.iter().map(|layer| &layer.digest);
            let kind = match known.media_type.as_str() {
                "" => OCI_MANIFEST,
                given => given,
            };
            if digests.eq(layers.iter().map(|layer| &layer.digest)) {
                return Ok((kind.to_owned(), bytes.clone()));
            }
            oci |= kind == OCI_MANIFEST;
        }
        let (kind, config_kind) = match oci {
            true => (OCI_MANIFEST, OCI_CONFIG),
            false => (DOCKER_MANIFEST, DOCKER_CONFIG),
        };
        let layers = layers.iter().map(|layer| Entry {
            media_type: layer_type(&layer.media_type, oci),
            size: layer.size,
            digest: &layer.digest,
        });
        let written = write(&Document {
            schema_version: 2,
            media_type: kind,
            config: Entry {
                media_type: config_kind,
                size: config_size,
                digest: config,
            },
            layers: layers.collect(),
        });
        let bytes = written.map_err(|e| Error::caused("cannot write the manifest", e))?;
        Ok((kind.to_owned(), bytes))
    }
}

const ELSEWHERE: u8 = 2;

/// How near to a repository a manifest is.
fn rank(known: &KnownManifest, to: &Reference) -> u8 {
    let host = known.repository.split('/').next();
    match known.repository == to.name() {
        true => 0,
        false if host == Some(to.domain.as_str()) => 1,
        false => ELSEWHERE,
    }
}

/// Whether a manifest's layers are the image's.
fn fits(store: &Store, image: &Image, manifest: &ImageManifest, trusted: bool) -> Result<bool> {
    if manifest.layers.len() != image.diff_ids.len() {
        return Ok(false);
    }
    if trusted {
        return Ok(true);
    }
    for (diff_id, layer) in image.diff_ids.iter().zip(&manifest.layers) {
        let blobs = store.layers.blobs_of(diff_id)?;
        if !blobs.iter().any(|blob| blob.digest == layer.digest) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A layer's media type in a manifest of the one kind or the other.
fn layer_type(of: &str, oci: bool) -> &str {
    match (of, oci) {
        (OCI_LAYER_GZIP | DOCKER_LAYER_GZIP, true) => OCI_LAYER_GZIP,
        (OCI_LAYER_GZIP | DOCKER_LAYER_GZIP, false) => DOCKER_LAYER_GZIP,
        (OCI_LAYER | DOCKER_LAYER, true) => OCI_LAYER,
        (OCI_LAYER | DOCKER_LAYER, false) => DOCKER_LAYER,
        (other, _) => other,
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    schema_version: u32,
    media_type: &'a str,
    config: Entry<'a>,
    layers: Vec<Entry<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    media_type: &'a str,
    size: u64,
    digest: &'a Digest,
}

// COMPAT: the members' order and three spaces, as distribution writes manifests: the same blobs give the same digest.
fn write(document: &Document<'_>) -> serde_json::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let form = serde_json::ser::PrettyFormatter::with_indent(b"   ");
    document.serialize(&mut serde_json::Serializer::with_formatter(
        &mut bytes, form,
    ))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(text: &str, media_type: &str) -> LayerBlob {
        LayerBlob {
            digest: Digest::of(text.as_bytes()),
            size: text.len() as u64,
            media_type: media_type.to_owned(),
        }
    }

    #[test]
    fn docker_s_form() {
        let config = Digest::of(b"{}");
        let layer = blob("abc", OCI_LAYER_GZIP);
        let (kind, bytes) = Plan::default()
            .manifest(&config, 2, std::slice::from_ref(&layer))
            .unwrap();
        assert_eq!(kind, DOCKER_MANIFEST);
        let expected = format!(
            "{{\n   \"schemaVersion\": 2,\n   \"mediaType\": \"{DOCKER_MANIFEST}\",\n   \"config\": {{\n      \"mediaType\": \"{DOCKER_CONFIG}\",\n      \"size\": 2,\n      \"digest\": \"{config}\"\n   }},\n   \"layers\": [\n      {{\n         \"mediaType\": \"{DOCKER_LAYER_GZIP}\",\n         \"size\": 3,\n         \"digest\": \"{}\"\n      }}\n   ]\n}}",
            layer.digest
        );
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }

    #[test]
    fn zstd_is_oci_s_alone() {
        let layers = [blob("a", OCI_LAYER_GZIP), blob("b", OCI_LAYER_ZSTD)];
        let (kind, bytes) = Plan::default()
            .manifest(&Digest::of(b""), 0, &layers)
            .unwrap();
        assert_eq!(kind, OCI_MANIFEST);
        let text = String::from_utf8(bytes).unwrap();
        assert!(
            text.contains(OCI_LAYER_GZIP) && !text.contains("docker"),
            "{text}"
        );
    }

    #[test]
    fn a_known_manifest_stays_as_it_is_while_its_layers_do() {
        let (config, layer) = (Digest::of(b"{}"), blob("abc", OCI_LAYER_GZIP));
        let text = format!(
            r#"{{"schemaVersion":2,"config":{{"digest":"{config}","size":2}},"layers":[{{"digest":"{}","size":3}}],"annotations":{{"a":"b"}}}}"#,
            layer.digest
        );
        let Manifest::Image(parsed) = Manifest::parse(text.as_bytes()).unwrap() else {
            panic!("an image's manifest");
        };
        let plan = Plan {
            known: Some((*parsed, text.clone().into_bytes())),
        };
        let same = plan.manifest(&config, 2, &[layer]).unwrap();
        assert_eq!(same, (OCI_MANIFEST.to_owned(), text.into_bytes()));
        let other = blob("other", OCI_LAYER_GZIP);
        let (kind, bytes) = plan.manifest(&config, 2, &[other]).unwrap();
        assert_eq!(kind, OCI_MANIFEST, "the image's kind stays");
        assert!(String::from_utf8(bytes).unwrap().contains(OCI_LAYER_GZIP));
    }
}
