//! `tag`, `rmi` and `image prune`: the names of images, and images that have none.

use super::Images;
use super::resolve;
use crate::containers::create::no_such_image;
use crate::containers::filters::until_for_prune;
use crate::error::{Error, Result};
use gantry_api::filter::Filters;
use gantry_api::image::{DeleteItem, PruneResponse};
use gantry_oci::manifest::Platform;
use gantry_oci::{Digest, Reference};
use gantry_store::images::Image;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What `rmi` is asked for beside a name.
#[derive(Debug, Clone, Default)]
pub struct RemoveOptions {
    /// Stopped containers and further names do not keep the image.
    pub force: bool,
    /// Parents that have neither names nor users go, too.
    pub prune: bool,
    /// Only the image for this platform.
    pub platform: Option<Platform>,
}

/// A container that stands on an image.
pub(super) struct User {
    short_id: String,
    alive: bool,
}

/// What stands in the way of a deletion.
struct Refusal {
    error: Error,
    why: Why,
}

/// Who is in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Children,
    Names,
    Container,
}

fn untagged(name: String) -> DeleteItem {
    DeleteItem {
        untagged: Some(name),
        deleted: None,
    }
}

fn deleted(digest: &Digest) -> DeleteItem {
    DeleteItem {
        untagged: None,
        deleted: Some(digest.to_string()),
    }
}

/// The first 12 digits.
fn short(id: &Digest) -> &str {
    &id.hex()[..12]
}

/// Whether a text is an ID, or the beginning of one.
fn is_id(id: &Digest, text: &str) -> bool {
    id.as_str().starts_with(text) || id.hex().starts_with(text)
}

/// All names of an image.
fn names(image: &Image) -> impl Iterator<Item = &Reference> {
    image.tags.iter().chain(&image.digests)
}

/// Whether all names are of one repository, with one tag at most; no names are not.
// COMPAT: moby's isSingleReference (daemon/images/image_delete.go).
fn single(image: &Image) -> bool {
    let repositories: BTreeSet<_> = image.digests.iter().map(Reference::name).collect();
    match (image.tags.as_slice(), image.digests.len()) {
        ([], 0) => false,
        ([_], 0) | ([], 1) => true,
        ([], _) => repositories.len() == 1,
        ([tag], _) => repositories.len() == 1 && repositories.contains(&tag.name()),
        _ => false,
    }
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
        let images = self.context.store.images.find_all(name)?;
        let image = images.first().ok_or_else(|| no_such_image(name))?;
        let ids: Vec<Digest> = images.iter().map(|image| image.id.clone()).collect();
        self.context.store.images.tag_set(&reference, &ids)?;
        self.tell(image, "tag", &reference.familiar());
        Ok(())
    }

    /// Tells an event about an image, with Docker's attributes: its labels and a name.
    pub(super) fn tell(&self, image: &Image, action: &str, name: &str) {
        let mut attributes = image.config.config.labels.clone().unwrap_or_default();
        attributes.insert("name".to_owned(), name.to_owned());
        let id = image.id.as_str();
        self.context.events.publish("image", action, id, attributes);
    }

    /// An event about a name that came from a registry, or went there.
    // COMPAT: moby names the event by what was asked for, not by the image's ID.
    pub(super) fn tell_transfer(&self, reference: &Reference, action: &str) {
        let image = self.find(&reference.to_string()).ok();
        let labels = image.and_then(|image| image.config.config.labels.clone());
        let mut attributes = labels.unwrap_or_default();
        attributes.insert("name".to_owned(), reference.familiar_name());
        let events = &self.context.events;
        events.publish("image", action, &reference.familiar(), attributes);
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

    // COMPAT: the order of the steps, and which ones are silent, are moby's (daemon/images/image_delete.go).
    pub(super) fn remove_blocking(
        &self,
        name: &str,
        options: &RemoveOptions,
    ) -> Result<Vec<DeleteItem>> {
        let image = resolve::find(&self.context.store, name, options.platform.as_ref())?;
        let mut removed = Vec::new();
        if is_id(&image.id, name) {
            self.remove_by_id(&image, options, &mut removed)?;
        } else {
            self.remove_by_name(&image, name, options, &mut removed)?;
        }
        Ok(removed)
    }

    fn remove_by_id(
        &self,
        image: &Image,
        options: &RemoveOptions,
        removed: &mut Vec<DeleteItem>,
    ) -> Result<()> {
        if single(image) {
            let refused = self.refusal(image, options.force, false)?;
            refused.map_or(Ok(()), |refusal| Err(refusal.error))?;
            for reference in names(image) {
                self.untag(image, reference, removed)?;
            }
        }
        self.delete(&image.id, options.force, options.prune, false, removed)?;
        Ok(())
    }

    fn remove_by_name(
        &self,
        image: &Image,
        name: &str,
        options: &RemoveOptions,
        removed: &mut Vec<DeleteItem>,
    ) -> Result<()> {
        let asked = Reference::parse(name).map_err(|error| Error::invalid(error.to_string()))?;
        let asked = asked.or_latest();
        let store = &self.context.store;
        let mut reference = asked.clone();
        if reference.digest.is_some() {
            reference.tag = None;
        }
        let ids = match options.platform {
            Some(_) => vec![image.id.clone()],
            None => store.images.named(&reference),
        };
        let images: Vec<_> = ids.iter().map(|id| store.images.get(id)).collect();
        let images: Vec<_> = images
            .into_iter()
            .filter_map(|found| found.ok().flatten())
            .collect();
        for image in images
            .iter()
            .filter(|image| !options.force && single(image))
        {
            if let Some(user) = self.users(&image.id).first() {
                return Err(Error::conflict(format!(
                    "conflict: unable to remove repository reference {name:?} (must force) - container {} is using its \
                     referenced image {}",
                    user.short_id,
                    short(&image.id)
                )));
            }
        }
        for image in &images {
            store.images.untag_image(&reference, &image.id)?;
            self.tell(image, "untag", image.id.as_str());
        }
        if store.images.named(&reference).is_empty() {
            removed.push(untagged(asked.familiar()));
        }
        for image in &images {
            self.remove_rest(image, &reference, options, removed)?;
        }
        Ok(())
    }

    /// What goes with the last tag of a repository: the digests of its name, and the image with its last name.
    fn remove_rest(
        &self,
        image: &Image,
        gone: &Reference,
        options: &RemoveOptions,
        removed: &mut Vec<DeleteItem>,
    ) -> Result<()> {
        let store = &self.context.store;
        let same = |reference: &&Reference| reference.name() == gone.name();
        let mut left: Vec<_> = names(image).filter(|name| *name != gone).collect();
        let tags_left = left.iter().any(|name| name.digest.is_none() && same(name));
        if gone.digest.is_none() && !tags_left {
            let digests: Vec<_> = left.extract_if(.., |name| same(&&**name)).collect();
            for digest in digests {
                store.images.untag_image(digest, &image.id)?;
                if store.images.named(digest).is_empty() {
                    removed.push(untagged(digest.familiar()));
                }
            }
        }
        if left.is_empty() {
            self.delete(&image.id, options.force, options.prune, true, removed)?;
        }
        Ok(())
    }

    /// Takes a name from an image. What others have of it stays.
    fn untag(
        &self,
        image: &Image,
        reference: &Reference,
        removed: &mut Vec<DeleteItem>,
    ) -> Result<()> {
        let images = &self.context.store.images;
        images.untag_image(reference, &image.id)?;
        self.tell(image, "untag", image.id.as_str());
        if images.named(reference).is_empty() {
            removed.push(untagged(reference.familiar()));
        }
        Ok(())
    }

    /// Why an image cannot be deleted. `names`: its own names keep it, too.
    fn refusal(&self, image: &Image, force: bool, names: bool) -> Result<Option<Refusal>> {
        let refuse = |how: &str, text: String, why: Why| {
            let error = Error::conflict(format!(
                "conflict: unable to delete {} ({how} be forced) - {text}",
                short(&image.id)
            ));
            Ok(Some(Refusal { error, why }))
        };
        let all = self.context.store.images.all()?;
        if all
            .iter()
            .any(|other| other.parent.as_ref() == Some(&image.id))
        {
            let why = "image has dependent child images".to_owned();
            return refuse("cannot", why, Why::Children);
        }
        let users = self.users(&image.id);
        if let Some(user) = users.iter().find(|user| user.alive) {
            let why = format!("image is being used by running container {}", user.short_id);
            return refuse("cannot", why, Why::Container);
        }
        if force {
            return Ok(None);
        }
        if names && !(image.tags.is_empty() && image.digests.is_empty()) {
            let why = "image is referenced in multiple repositories".to_owned();
            return refuse("must", why, Why::Names);
        }
        match users.first() {
            Some(user) => {
                let why = format!("image is being used by stopped container {}", user.short_id);
                refuse("must", why, Why::Container)
            }
            None => Ok(None),
        }
    }

    /// Deletes an image with the names that it still has, and its parents where `prune`. `quiet`: what is in the way is
    /// no error, unless nobody would ever see the image again. The answer is the bytes of the disk that became free.
    fn delete(
        &self,
        id: &Digest,
        force: bool,
        prune: bool,
        quiet: bool,
        removed: &mut Vec<DeleteItem>,
    ) -> Result<u64> {
        let (mut id, mut force, mut quiet) = (id.clone(), force, quiet);
        let mut freed = 0;
        // From child to parent.
        loop {
            let Some(image) = self.context.store.images.get(&id)? else {
                return Ok(freed);
            };
            if let Some(refusal) = self.refusal(&image, force, true)? {
                let nameless = image.tags.is_empty() && image.digests.is_empty();
                let dangling = nameless && refusal.why != Why::Children;
                if quiet && (!dangling || refusal.why == Why::Container) {
                    return Ok(freed);
                }
                return Err(refusal.error);
            }
            let deletion = self.context.store.images.delete(&id)?;
            for name in &deletion.untagged {
                self.tell(&image, "untag", id.as_str());
                removed.push(untagged(name.familiar()));
            }
            self.tell(&image, "delete", id.as_str());
            removed.push(deleted(&id));
            removed.extend(deletion.chains.iter().map(deleted));
            freed += deletion.freed;
            match &image.parent {
                Some(parent) if prune => id = parent.clone(),
                _ => return Ok(freed),
            }
            (force, quiet) = (false, true);
        }
    }

    pub(super) fn prune_blocking(&self, filters: &Filters) -> Result<PruneResponse> {
        let Ok(_alone) = self.pruning.try_lock() else {
            return Err(Error::conflict("a prune operation is already running"));
        };
        let refuse = |error: gantry_api::filter::FilterError| Error::invalid(error.0);
        filters
            .validate(&["dangling", "label", "label!", "until"])
            .map_err(refuse)?;
        let dangling = filters.boolean("dangling", true).map_err(refuse)?;
        let until = until_for_prune(filters)?;
        let mut all = self.context.store.images.all()?;
        all.sort_by_key(|image| std::cmp::Reverse(super::list::created(image)));
        let kept = self.kept(&all);
        let parents: BTreeSet<_> = all
            .iter()
            .filter_map(|image| image.parent.as_ref())
            .collect();
        let mut items = Vec::new();
        let mut space_reclaimed = 0;
        for image in &all {
            let labels = image.config.config.labels.clone().unwrap_or_default();
            let wanted = (!dangling || image.tags.is_empty())
                && !(parents.contains(&image.id) && (dangling || names(image).next().is_none()))
                && until.is_none_or(|until| super::list::created(image) <= until)
                && filters.matches_all_labels("label", &labels)
                && !(filters.contains("label!") && filters.matches_all_labels("label!", &labels))
                && !kept.contains(&image.id);
            if !wanted {
                continue;
            }
            for reference in names(image) {
                self.untag(image, reference, &mut items)?;
            }
            space_reclaimed += self.delete(&image.id, false, true, true, &mut items)?;
        }
        // Of downloads that broke off nobody keeps track: who wants everything unused gone means them, too.
        let everything = !dangling
            && !["label", "label!", "until"]
                .iter()
                .any(|f| filters.contains(f));
        if everything {
            space_reclaimed += self.context.store.layers.remove_partial(true)?;
        }
        let attributes = BTreeMap::from([("reclaimed".to_owned(), space_reclaimed.to_string())]);
        self.context
            .events
            .publish("image", "prune", "", attributes);
        Ok(PruneResponse {
            images_deleted: Some(items).filter(|items| !items.is_empty()),
            space_reclaimed,
        })
    }

    /// The images that no prune takes: those of containers, and for other platforms those of the same names.
    // COMPAT: Docker takes all names but the last one from an image that a container uses, when it has several.
    fn kept(&self, all: &[Arc<Image>]) -> BTreeSet<Digest> {
        let containers = self.containers.all().into_iter();
        let used =
            containers.filter_map(|container| Digest::parse(&container.record().image_id).ok());
        let used: BTreeSet<Digest> = used.collect();
        let images = all.iter().filter(|image| used.contains(&image.id));
        let sets = images
            .flat_map(|image| &image.tags)
            .map(|tag| self.context.store.images.named(tag));
        let beside: Vec<Digest> = sets.flatten().collect();
        used.into_iter().chain(beside).collect()
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
    fn names_of_one_repository() {
        let of = |name: &str, n: u8| format!("{name}@{}", Digest::of(&[n]));
        let (a, a2, b) = (of("a", 1), of("a", 2), of("b", 1));
        for (tags, digests, expected) in [
            (&[][..], &[][..], false),
            (&["a:1"], &[], true),
            (&[], &[&a], true),
            (&[], &[&a, &a2], true),
            (&[], &[&a, &b], false),
            (&["a:1"], &[&a, &a2], true),
            (&["b:1"], &[&a], false),
            (&["a:1", "a:2"], &[], false),
            (&["a:1", "a:2"], &[&a], false),
        ] {
            let digests: Vec<&str> = digests.iter().map(|d: &&String| d.as_str()).collect();
            assert_eq!(
                single(&image(tags, &digests)),
                expected,
                "{tags:?} {digests:?}"
            );
        }
    }

    #[test]
    fn ids_and_their_beginnings() {
        let id = Digest::of(b"x");
        assert!(is_id(&id, &id.hex()[..3]) && is_id(&id, id.as_str()) && is_id(&id, id.hex()));
        assert!(!is_id(&id, "busybox"));
    }
}
