//! `image inspect` and `history`.

use super::Images;
use super::resolve;
use crate::error::{Error, Result};
use gantry_api::container::{ContainerConfig, GraphDriver};
use gantry_api::image::{HistoryItem, ImageInspect, ImageMetadata, RootFs};
use gantry_oci::Reference;
use gantry_oci::manifest::Platform;
use gantry_store::images::Image;
use jiff::Timestamp;

/// Go's zero time.
const NEVER: &str = "0001-01-01T00:00:00Z";

impl Images {
    pub(super) fn inspect_blocking(
        &self,
        name: &str,
        platform: Option<&Platform>,
        manifests: bool,
    ) -> Result<ImageInspect> {
        let image = resolve::find(&self.context.store, name, platform)?;
        let manifests = match manifests {
            true => {
                let names: Vec<_> = image.tags.iter().chain(&image.digests).collect();
                self.manifests(&self.set_of(&image, &names)?, &self.users_by_image())?
            }
            false => Vec::new(),
        };
        let config: ContainerConfig = serde_json::to_value(&image.config.config)
            .and_then(serde_json::from_value)
            .map_err(|error| Error::caused("the image's configuration is broken", error))?;
        let names = |references: &[Reference]| references.iter().map(Reference::familiar).collect();
        let last_tag_time = image
            .last_tagged
            .and_then(|time| Timestamp::try_from(time).ok())
            .map_or_else(|| NEVER.to_owned(), |time| time.to_string());
        let comment = match image.config.comment.as_str() {
            "" => image.config.history.last().map(|last| last.comment.clone()),
            comment => Some(comment.to_owned()),
        };
        let layers = image.diff_ids.iter().map(ToString::to_string).collect();
        Ok(ImageInspect {
            id: image.id.to_string(),
            repo_tags: names(&image.tags),
            repo_digests: names(&image.digests),
            parent: image
                .parent
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            comment: comment.unwrap_or_default(),
            created: image.config.created.clone(),
            docker_version: image.config.docker_version.clone(),
            author: image.config.author.clone(),
            config: config.into(),
            architecture: image.config.architecture.clone(),
            variant: image.config.variant.clone(),
            os: image.config.os.clone(),
            os_version: image.config.os_version.clone(),
            size: image.size as i64,
            virtual_size: None,
            graph_driver: GraphDriver {
                data: None,
                name: self.context.store.snapshots.name().to_owned(),
            },
            root_fs: RootFs {
                kind: "layers".to_owned(),
                layers,
            },
            metadata: ImageMetadata { last_tag_time },
            manifests,
        })
    }

    pub(super) fn history_blocking(
        &self,
        name: &str,
        platform: Option<&Platform>,
    ) -> Result<Vec<HistoryItem>> {
        let image = resolve::find(&self.context.store, name, platform)?;
        let mut sizes = Vec::with_capacity(image.diff_ids.len());
        for layer in &image.diff_ids {
            let size = self.context.store.layers.get(layer)?.map_or(0, |l| l.size);
            sizes.push(size as i64);
        }
        let mut items = history(&image, &sizes)?;
        // Images that it was made from here, step by step.
        let mut ancestor = image;
        for item in items.iter_mut().skip(1) {
            let store = &self.context.store;
            let parent = ancestor.parent.as_ref().map(|id| store.images.get(id));
            let Some(parent) = parent.transpose()?.flatten() else {
                break;
            };
            item.id = parent.id.to_string();
            item.tags = Some(parent.tags.iter().map(Reference::familiar).collect());
            ancestor = parent;
        }
        Ok(items)
    }
}

/// The steps of an image, newest first; `sizes` are those of its layers, lowest first.
fn history(image: &Image, sizes: &[i64]) -> Result<Vec<HistoryItem>> {
    let mut sizes = sizes.iter();
    let mut items = Vec::with_capacity(image.config.history.len());
    for step in &image.config.history {
        let size = if step.empty_layer {
            0
        } else {
            *sizes
                .next()
                .ok_or_else(|| Error::system("too many non-empty layers in History section"))?
        };
        let time = step
            .created
            .as_deref()
            .and_then(|text| text.parse::<Timestamp>().ok());
        items.push(HistoryItem {
            comment: step.comment.clone(),
            created: time.map_or(0, |time| time.as_second()),
            created_by: step.created_by.clone(),
            id: "<missing>".to_owned(),
            size,
            tags: None,
        });
    }
    items.reverse();
    if let Some(newest) = items.first_mut() {
        newest.id = image.id.to_string();
        newest.tags = Some(image.tags.iter().map(Reference::familiar).collect());
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_oci::Digest;

    fn image(history: &str) -> Image {
        let text = format!(
            r#"{{"architecture":"amd64","os":"linux","created":"2024-01-02T03:04:05Z","history":{history}}}"#
        );
        Image {
            id: Digest::of(b"x"),
            config: serde_json::from_str(&text).unwrap(),
            diff_ids: vec![Digest::of(b"1"), Digest::of(b"2")],
            size: 30,
            tags: vec![Reference::parse("busybox:1").unwrap()],
            digests: Vec::new(),
            last_tagged: None,
            parent: None,
        }
    }

    #[test]
    fn steps_with_and_without_layers() {
        let image = image(
            r#"[{"created_by":"a","created":"1970-01-01T00:00:09Z"},{"created_by":"b","empty_layer":true},{"created_by":"c","comment":"k"}]"#,
        );
        let items = history(&image, &[10, 20]).unwrap();
        let shown: Vec<_> = items
            .iter()
            .map(|i| (i.created_by.as_str(), i.size))
            .collect();
        assert_eq!(shown, [("c", 20), ("b", 0), ("a", 10)]);
        assert_eq!(
            items[0].tags.as_deref(),
            Some(&["busybox:1".to_owned()][..])
        );
        assert_eq!((items[2].id.as_str(), items[2].created), ("<missing>", 9));
        assert_eq!(items[0].created, 0);
        assert!(history(&image, &[10]).is_err());
    }
}
