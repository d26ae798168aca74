//! The list that is made of manifests, as a registry gets it.

use gantry_oci::manifest::Platform;
use gantry_oci::media_type::{DOCKER_LIST, OCI_INDEX, OCI_MANIFEST};
use gantry_oci::{Digest, Reference};
use serde::Serialize;

use super::store::Stored;
use crate::failure::Failure;
use crate::format::{escaped, indented};

/// Docker's manifest list, or an OCI index: both have the same form.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct List {
    schema_version: u32,
    pub(super) media_type: &'static str,
    manifests: Vec<Entry>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    media_type: String,
    size: u64,
    digest: Digest,
    platform: Platform,
}

impl List {
    /// A list with the manifests' platforms; they must all be in the list's registry.
    pub(super) fn of(name: &Reference, manifests: &[Stored]) -> Result<List, Failure> {
        let mut entries = Vec::new();
        for stored in manifests {
            let domain = stored.reference()?.domain;
            if domain != name.domain {
                return Err(Failure::new(format!(
                    "cannot use source images from a different registry than the target image: {domain} != {}",
                    name.domain
                )));
            }
            let descriptor = &stored.descriptor;
            entries.push(Entry {
                media_type: descriptor.media_type.clone(),
                size: descriptor.size,
                digest: descriptor.digest.clone(),
                platform: descriptor.platform.clone().unwrap_or_default(),
            });
        }
        let oci = entries
            .first()
            .is_some_and(|entry| entry.media_type == OCI_MANIFEST);
        Ok(List {
            schema_version: 2,
            media_type: if oci { OCI_INDEX } else { DOCKER_LIST },
            manifests: entries,
        })
    }

    pub(super) fn text(&self) -> String {
        let text = serde_json::to_string(self).unwrap_or_default();
        escaped(&indented(&text, "   "))
    }
}
