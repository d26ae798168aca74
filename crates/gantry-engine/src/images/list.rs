//! `images`: the list, newest first, and what its filters let through.

use super::{Images, ListOptions};
use crate::containers::filters::until;
use crate::error::{Error, Result};
use gantry_api::filter::Filters;
use gantry_api::image::ImageSummary;
use gantry_oci::{Digest, Reference};
use gantry_store::images::Image;
use jiff::Timestamp;
use regex::Regex;
use std::collections::BTreeMap;

const NAMES: [&str; 7] = [
    "before",
    "dangling",
    "label",
    "label!",
    "reference",
    "since",
    "until",
];

/// When an image was made; the beginning of time where it does not say.
pub(super) fn created(image: &Image) -> Timestamp {
    let text = image.config.created.as_deref().unwrap_or_default();
    text.parse().unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The filters of a list, checked and resolved.
struct Wanted<'a> {
    filters: &'a Filters,
    /// Only images with a name, or only those without.
    named: Option<bool>,
    references: Vec<Regex>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
}

impl Wanted<'_> {
    fn matches(&self, image: &Image) -> bool {
        let made = created(image);
        let labels = image.config.config.labels.clone().unwrap_or_default();
        self.named
            .is_none_or(|named| named != image.tags.is_empty())
            && self.before.is_none_or(|time| made < time)
            && self.since.is_none_or(|time| made > time)
            && self.filters.matches_all_labels("label", &labels)
            && !(self.filters.contains("label!")
                && self.filters.matches_all_labels("label!", &labels))
    }

    fn shows(&self, reference: &Reference) -> bool {
        self.references.is_empty()
            || self.references.iter().any(|pattern| {
                pattern.is_match(&reference.familiar())
                    || pattern.is_match(&reference.familiar_name())
            })
    }
}

impl Images {
    pub(super) fn list_blocking(&self, options: &ListOptions) -> Result<Vec<ImageSummary>> {
        let wanted = self.wanted(&options.filters)?;
        let all = self.context.store.images.all()?;
        let shared = match options.shared_size {
            true => Some(self.layer_uses(&all)?),
            false => None,
        };
        let mut shown: Vec<_> = all.iter().filter(|image| wanted.matches(image)).collect();
        shown.sort_by_key(|image| std::cmp::Reverse(created(image)));
        let mut list = Vec::with_capacity(shown.len());
        for image in shown {
            let names = |references: &[Reference]| -> Vec<String> {
                let shown = references.iter().filter(|name| wanted.shows(name));
                shown.map(Reference::familiar).collect()
            };
            let (tags, digests) = (names(&image.tags), names(&image.digests));
            if !wanted.references.is_empty() && tags.is_empty() && digests.is_empty() {
                continue;
            }
            let (shared_size, containers) = match &shared {
                None => (-1, -1),
                Some(uses) => (
                    shared_bytes(image, uses),
                    self.users(&image.id).len() as i64,
                ),
            };
            list.push(ImageSummary {
                containers,
                created: created(image).as_second(),
                id: image.id.to_string(),
                labels: image.config.config.labels.clone(),
                parent_id: self.parent(image),
                repo_digests: Some(digests),
                repo_tags: Some(tags),
                shared_size,
                size: image.size as i64,
                virtual_size: None,
            });
        }
        Ok(list)
    }

    fn wanted<'a>(&self, filters: &'a Filters) -> Result<Wanted<'a>> {
        let refuse = |error: gantry_api::filter::FilterError| Error::invalid(error.0);
        filters.validate(&NAMES).map_err(refuse)?;
        let named = match filters.contains("dangling") {
            true => Some(!filters.boolean("dangling", false).map_err(refuse)?),
            false => None,
        };
        let time = |name: &str| -> Result<Option<Timestamp>> {
            let Some(text) = filters.get(name).last() else {
                return Ok(None);
            };
            Ok(Some(created(&self.find(text)?)))
        };
        let before = match (time("before")?, until(filters)?) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let references = filters.get("reference").map(pattern);
        Ok(Wanted {
            filters,
            named,
            references: references.collect::<Result<_>>()?,
            before,
            since: time("since")?,
        })
    }

    /// Each layer's size, and how many images have it.
    fn layer_uses(&self, images: &[Image]) -> Result<BTreeMap<Digest, (u64, usize)>> {
        let mut uses: BTreeMap<Digest, (u64, usize)> = BTreeMap::new();
        for layer in images.iter().flat_map(|image| &image.diff_ids) {
            if let Some((_, count)) = uses.get_mut(layer) {
                *count += 1;
            } else {
                let size = self.context.store.layers.get(layer)?.map_or(0, |l| l.size);
                uses.insert(layer.clone(), (size, 1));
            }
        }
        Ok(uses)
    }
}

fn shared_bytes(image: &Image, uses: &BTreeMap<Digest, (u64, usize)>) -> i64 {
    let layers = image.diff_ids.iter().filter_map(|layer| uses.get(layer));
    let shared = layers.filter(|(_, count)| *count > 1).map(|(size, _)| size);
    shared.sum::<u64>() as i64
}

/// A shell pattern over a reference, in which `*` does not pass a slash (Go's `path.Match`).
fn pattern(glob: &str) -> Result<Regex> {
    let mut out = String::from("^");
    let mut letters = glob.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '*' => out.push_str("[^/]*"),
            '?' => out.push_str("[^/]"),
            '[' | ']' | '-' | '^' => out.push(letter),
            '\\' => {
                let escaped = letters.next().unwrap_or('\\');
                out.push_str(&regex::escape(&escaped.to_string()));
            }
            other => out.push_str(&regex::escape(&other.to_string())),
        }
    }
    out.push('$');
    Regex::new(&out).map_err(|_| Error::invalid(format!("invalid filter 'reference={glob}'")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_references() {
        let matches = |glob: &str, name: &str| pattern(glob).unwrap().is_match(name);
        assert!(matches("tx-*", "tx-busybox:latest"));
        assert!(matches("busybox", "busybox") && !matches("busybox", "busybox:1"));
        assert!(matches("*:1", "busybox:1") && !matches("*:1", "a/busybox:1"));
        assert!(matches("*/*", "a/b") && matches("[ab]?", "bx") && matches("a.b", "a.b"));
        assert!(!matches("a.b", "axb"));
        assert!(pattern("[").is_err());
    }
}
