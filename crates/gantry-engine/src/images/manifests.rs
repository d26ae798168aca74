//! What a name stands for, platform by platform (`images --tree`).

use super::Images;
use crate::error::Result;
use gantry_api::image::{
    AttestationProperties, ImagePlatform, ImageProperties, ManifestDescriptor, ManifestSize,
    ManifestSummary, UnpackedSize,
};
use gantry_oci::manifest::{Descriptor, Manifest, Platform};
use gantry_oci::{Digest, Reference, media_type};
use gantry_store::images::Image;
use std::collections::HashMap;
use std::sync::Arc;

/// Annotations of a manifest that is a statement about another one (BuildKit's).
const KIND: &str = "vnd.docker.reference.type";
const SUBJECT: &str = "vnd.docker.reference.digest";

/// The containers that stand on each image.
pub(super) type Users = HashMap<String, Vec<String>>;

impl Images {
    /// Which containers stand on each image.
    pub(super) fn users_by_image(&self) -> Users {
        let mut users = Users::new();
        for container in self.containers.all() {
            let image = container.record().image_id.clone();
            users.entry(image).or_default().push(container.id.clone());
        }
        users
    }

    /// The images that some names stand for, the one that is meant first.
    pub(super) fn set_of(
        &self,
        image: &Arc<Image>,
        names: &[&Reference],
    ) -> Result<Vec<Arc<Image>>> {
        let store = &self.context.store;
        let mut set = vec![image.clone()];
        for id in names.iter().flat_map(|name| store.images.named(name)) {
            if !set.iter().any(|known| known.id == id) {
                set.extend(store.images.get(&id)?);
            }
        }
        Ok(set)
    }

    /// The manifests of a set of images: those of the index that they came by, in its order, then the others.
    pub(super) fn manifests(
        &self,
        set: &[Arc<Image>],
        users: &Users,
    ) -> Result<Vec<ManifestSummary>> {
        let mut left: Vec<&Arc<Image>> = set.iter().collect();
        let mut list = Vec::new();
        for descriptor in self.index(set) {
            let platform = descriptor.platform.clone().unwrap_or_default();
            let annotation = |key: &str| descriptor.annotations.as_ref()?.get(key).cloned();
            if annotation(KIND).is_some_and(|kind| kind == "attestation-manifest") {
                list.push(ManifestSummary {
                    kind: "attestation".to_owned(),
                    attestation_data: Some(AttestationProperties {
                        of: annotation(SUBJECT).unwrap_or_default(),
                    }),
                    ..summary(&descriptor)
                });
                continue;
            }
            let at = left
                .iter()
                .position(|image| platform.is_same(&image.platform()));
            list.push(match at {
                Some(at) => self.available(left.remove(at), &descriptor, users)?,
                None => ManifestSummary {
                    kind: "image".to_owned(),
                    image_data: Some(ImageProperties {
                        platform: shown(&platform),
                        ..ImageProperties::default()
                    }),
                    ..summary(&descriptor)
                },
            });
        }
        for image in left {
            let descriptor = self.own_manifest(image)?;
            list.push(self.available(image, &descriptor, users)?);
        }
        Ok(list)
    }

    fn available(
        &self,
        image: &Image,
        descriptor: &Descriptor,
        users: &Users,
    ) -> Result<ManifestSummary> {
        let store = &self.context.store;
        let mut content = descriptor.size as i64;
        content += store
            .blobs
            .path(&image.id)
            .metadata()
            .map_or(0, |meta| meta.len() as i64);
        if store.layers.keeps_blobs() {
            for diff_id in &image.diff_ids {
                content += store
                    .layers
                    .get(diff_id)?
                    .map_or(0, |layer| layer.blob_size as i64);
            }
        }
        let unpacked = image.size as i64;
        Ok(ManifestSummary {
            available: true,
            size: ManifestSize {
                content,
                total: content + unpacked,
            },
            kind: "image".to_owned(),
            image_data: Some(ImageProperties {
                platform: shown(&image.platform()),
                size: UnpackedSize { unpacked },
                containers: users.get(image.id.as_str()).cloned().unwrap_or_default(),
            }),
            ..summary(descriptor)
        })
    }

    /// The entries of the index that the images came by; nothing where they came by none.
    fn index(&self, set: &[Arc<Image>]) -> Vec<Descriptor> {
        let blobs = &self.context.store.blobs;
        let digests = set.iter().flat_map(|image| &image.digests);
        let index = digests
            .filter_map(|name| name.digest.as_ref())
            .find_map(|digest| match Manifest::parse(&blobs.read(digest).ok()?) {
                Ok(Manifest::Index(index)) => Some(index),
                _ => None,
            });
        index.map(|index| index.manifests).unwrap_or_default()
    }

    /// The manifest that an image came by, or the one that it is saved with.
    fn own_manifest(&self, image: &Image) -> Result<Descriptor> {
        let store = &self.context.store;
        let known = store.manifests.of(&image.id)?.into_iter().next();
        let bytes = match &known {
            Some(known) => store.manifests.read(&known.digest)?,
            None => gantry_store::archive::manifest(store, image)?,
        };
        let kind = match Manifest::parse(&bytes) {
            Ok(Manifest::Image(manifest)) if !manifest.media_type.is_empty() => manifest.media_type,
            _ => media_type::OCI_MANIFEST.to_owned(),
        };
        Ok(Descriptor {
            media_type: kind,
            digest: Digest::of(&bytes),
            size: bytes.len() as u64,
            urls: Vec::new(),
            annotations: None,
            platform: Some(image.platform()),
        })
    }
}

fn shown(platform: &Platform) -> ImagePlatform {
    ImagePlatform {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        os_version: platform.os_version.clone().unwrap_or_default(),
        variant: platform.variant.clone().unwrap_or_default(),
    }
}

fn summary(descriptor: &Descriptor) -> ManifestSummary {
    ManifestSummary {
        id: descriptor.digest.to_string(),
        descriptor: ManifestDescriptor {
            media_type: descriptor.media_type.clone(),
            digest: descriptor.digest.to_string(),
            size: descriptor.size as i64,
            annotations: descriptor.annotations.clone(),
            platform: descriptor.platform.as_ref().map(shown),
        },
        ..ManifestSummary::default()
    }
}
