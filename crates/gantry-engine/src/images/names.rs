//! `tag`, `rmi` and `image prune`: the names of images, and images that have none.

use super::Images;
use crate::containers::filters::until;
use crate::error::{Error, Result};
use gantry_api::filter::Filters;
use gantry_api::image::{DeleteItem, PruneResponse};
use gantry_oci::{Digest, Reference};
use gantry_store::images::{Image, Removed};
use std::collections::{BTreeMap, BTreeSet};

/// A container that stands on an image.
pub(super) struct User {
    short_id: String,
    alive: bool,
}

fn untagged(reference: &Reference) -> DeleteItem {
    DeleteItem {
        untagged: Some(reference.familiar()),
        deleted: None,
    }
}

fn item(removed: Removed) -> DeleteItem {
    match removed {
        Removed::Untagged(name) => DeleteItem {
            untagged: Some(name),
            deleted: None,
        },
        Removed::Deleted(digest) => DeleteItem {
            untagged: None,
            deleted: Some(digest.to_string()),
        },
    }
}

/// The first 12 digits.
fn short(id: &Digest) -> &str {
    &id.hex()[..12]
}

/// The name that `text` gives the image by; none where it is an ID.
fn named<'a>(image: &'a Image, text: &str) -> Option<&'a Reference> {
    let asked = Reference::parse(text).ok()?.or_latest();
    image.tags.iter().chain(&image.digests).find(|reference| {
        reference.name() == asked.name()
            && match &asked.digest {
                Some(digest) => reference.digest.as_ref() == Some(digest),
                None => reference.digest.is_none() && reference.tag == asked.tag,
            }
    })
}

/// Whether there is one tag (or none), and digests of that name alone.
fn single(image: &Image) -> bool {
    let names: BTreeSet<_> = image
        .tags
        .iter()
        .chain(&image.digests)
        .map(Reference::name)
        .collect();
    image.tags.len() <= 1 && names.len() <= 1
}

/// Parses the name of `tag`.
pub(super) fn new_name(repository: &str, tag: &str) -> Result<Reference> {
    let refuse = |message: String| Error::invalid(message);
    let mut reference = Reference::parse(repository).map_err(|error| refuse(error.to_string()))?;
    if reference.digest.is_some() {
        return Err(refuse(
            "refusing to create a tag with a digest reference".to_owned(),
        ));
    }
    if !tag.is_empty() {
        let whole = format!("{}:{tag}", reference.name());
        match Reference::parse(&whole) {
            Ok(parsed) if parsed.tag.as_deref() == Some(tag) => reference = parsed,
            _ => return Err(refuse("invalid tag format".to_owned())),
        }
    }
    if reference.familiar_name() == "sha256" {
        return Err(refuse(
            "refusing to create an ambiguous tag using digest algorithm as name".to_owned(),
        ));
    }
    Ok(reference.or_latest())
}

impl Images {
    pub(super) fn tag_blocking(&self, name: &str, repository: &str, tag: &str) -> Result<()> {
        let reference = new_name(repository, tag)?;
        let image = self.find(name)?;
        self.context.store.images.tag(&reference, &image.id)?;
        self.tell(&image, "tag", &reference.familiar());
        Ok(())
    }

    /// Tells an event about an image, with Docker's attributes: its labels and a name.
    pub(super) fn tell(&self, image: &Image, action: &str, name: &str) {
        let mut attributes = image.config.config.labels.clone().unwrap_or_default();
        attributes.insert("name".to_owned(), name.to_owned());
        let id = image.id.as_str();
        self.context.events.publish("image", action, id, attributes);
    }

    /// The containers that stand on an image.
    pub(super) fn users(&self, id: &Digest) -> Vec<User> {
        let all = self.containers.all().into_iter();
        all.filter_map(|container| {
            let record = container.record();
            (record.image_id == id.as_str()).then(|| User {
                short_id: record.short_id().to_owned(),
                alive: record.state.status.is_alive(),
            })
        })
        .collect()
    }

    pub(super) fn remove_blocking(&self, name: &str, force: bool) -> Result<Vec<DeleteItem>> {
        let image = self.find(name)?;
        let mut removed = Vec::new();
        let Some(reference) = named(&image, name) else {
            if single(&image) {
                self.refuse_use(&image, force)?;
            }
            // The image's own names go with it.
            self.delete(&image, force || single(&image), &mut removed)?;
            return Ok(removed);
        };
        if let (false, true, Some(user)) = (
            force,
            single(&image),
            self.users(&image.id).into_iter().next(),
        ) {
            return Err(Error::conflict(format!(
                "conflict: unable to remove repository reference {:?} (must force) - container {} is using its \
                 referenced image {}",
                reference.familiar(),
                user.short_id,
                short(&image.id)
            )));
        }
        self.untag(&image, reference, &mut removed)?;
        let tags_left = image.tags.iter().any(|tag| tag != reference);
        let digests: Vec<_> = image
            .digests
            .iter()
            .filter(|digest| *digest != reference)
            .collect();
        let same_name = digests
            .iter()
            .all(|digest| digest.name() == reference.name());
        if tags_left || !same_name {
            return Ok(removed);
        }
        if reference.digest.is_some() && !digests.is_empty() {
            return Ok(removed);
        }
        for digest in digests {
            self.untag(&image, digest, &mut removed)?;
        }
        // A name was asked to go, and went: an image that is in use stays without one.
        if self.refuse_use(&image, force).is_ok() {
            self.delete(&image, true, &mut removed)?;
        }
        Ok(removed)
    }

    fn untag(
        &self,
        image: &Image,
        reference: &Reference,
        removed: &mut Vec<DeleteItem>,
    ) -> Result<()> {
        self.context.store.images.untag(reference)?;
        self.tell(image, "untag", image.id.as_str());
        removed.push(untagged(reference));
        Ok(())
    }

    /// Why an image that containers stand on cannot be deleted.
    fn refuse_use(&self, image: &Image, force: bool) -> Result<()> {
        let users = self.users(&image.id);
        let id = short(&image.id);
        if let Some(user) = users.iter().find(|user| user.alive) {
            return Err(Error::conflict(format!(
                "conflict: unable to delete {id} (cannot be forced) - image is being used by running container {}",
                user.short_id
            )));
        }
        match users.first() {
            Some(user) if !force => Err(Error::conflict(format!(
                "conflict: unable to delete {id} (must be forced) - image is being used by stopped container {}",
                user.short_id
            ))),
            _ => Ok(()),
        }
    }

    /// Deletes an image with all its names.
    fn delete(&self, image: &Image, several: bool, removed: &mut Vec<DeleteItem>) -> Result<()> {
        self.refuse_use(image, several)?;
        if !several {
            return Err(Error::conflict(format!(
                "conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories",
                short(&image.id)
            )));
        }
        let gone = self.context.store.images.delete(&image.id)?;
        for removed in &gone {
            if matches!(removed, Removed::Untagged(_)) {
                self.tell(image, "untag", image.id.as_str());
            }
        }
        self.tell(image, "delete", image.id.as_str());
        removed.extend(gone.into_iter().map(item));
        Ok(())
    }

    pub(super) fn prune_blocking(&self, filters: &Filters) -> Result<PruneResponse> {
        let refuse = |error: gantry_api::filter::FilterError| Error::invalid(error.0);
        filters
            .validate(&["dangling", "label", "label!", "until"])
            .map_err(refuse)?;
        let dangling = filters.boolean("dangling", true).map_err(refuse)?;
        let until = until(filters)?;
        let before = self.layers_size()?;
        let mut deleted = Vec::new();
        for image in self.context.store.images.all()? {
            let labels = image.config.config.labels.clone().unwrap_or_default();
            let wanted = (!dangling || image.tags.is_empty())
                && until.is_none_or(|until| super::list::created(&image) < until)
                && filters.matches_all_labels("label", &labels)
                && !(filters.contains("label!") && filters.matches_all_labels("label!", &labels))
                && self.users(&image.id).is_empty();
            if wanted {
                self.delete(&image, true, &mut deleted)?;
            }
        }
        let space_reclaimed = before.saturating_sub(self.layers_size()?);
        let attributes = BTreeMap::from([("reclaimed".to_owned(), space_reclaimed.to_string())]);
        self.context
            .events
            .publish("image", "prune", "", attributes);
        Ok(PruneResponse {
            images_deleted: Some(deleted).filter(|deleted| !deleted.is_empty()),
            space_reclaimed,
        })
    }

    /// Bytes of all layers that images are made of, each counted once.
    pub(crate) fn layers_size(&self) -> Result<u64> {
        let store = &self.context.store;
        let images = store.images.all()?;
        let layers: BTreeSet<_> = images.iter().flat_map(|image| &image.diff_ids).collect();
        let mut total = 0;
        for layer in layers {
            total += store.layers.get(layer)?.map_or(0, |layer| layer.size);
        }
        Ok(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_names() {
        assert_eq!(new_name("a", "").unwrap().familiar(), "a:latest");
        assert_eq!(new_name("a:1", "").unwrap().familiar(), "a:1");
        assert_eq!(new_name("a:1", "2").unwrap().familiar(), "a:2");
        let words = |repository, tag| new_name(repository, tag).unwrap_err().message;
        assert_eq!(words("tx-copy", "-bad-"), "invalid tag format");
        assert_eq!(words("tx-copy", "a/b"), "invalid tag format");
        assert_eq!(
            words("UPPER", ""),
            "invalid reference format: repository name (library/UPPER) must be lowercase"
        );
    }

    fn image(tags: &[&str], digests: &[&str]) -> Image {
        let parse = |texts: &[&str]| texts.iter().map(|t| Reference::parse(t).unwrap()).collect();
        Image {
            id: Digest::of(b"x"),
            config: serde_json::from_str("{}").unwrap(),
            diff_ids: Vec::new(),
            size: 0,
            tags: parse(tags),
            digests: parse(digests),
            last_tagged: None,
            parent: None,
        }
    }

    #[test]
    fn names_of_an_image() {
        let digest = format!("a@{}", Digest::of(b"m"));
        let image = image(&["a:latest", "b:1"], &[&digest]);
        assert_eq!(named(&image, "a").unwrap().familiar(), "a:latest");
        assert_eq!(named(&image, "b:1").unwrap().familiar(), "b:1");
        assert_eq!(named(&image, &digest).unwrap().familiar(), digest);
        assert!(named(&image, "b").is_none() && named(&image, short(&image.id)).is_none());
        assert!(!single(&image));
        let one = super::tests::image(&["a:latest"], &[&digest]);
        assert!(single(&one));
        assert!(!single(&super::tests::image(&["b:1"], &[&digest])));
    }
}
