//! `images`: the list, newest first, and what its filters let through.

use super::{Images, ListOptions};
use crate::containers::filters::until;
use crate::error::{Error, Result};
use gantry_api::container::Map;
use gantry_api::filter::Filters;
use gantry_api::image::ImageSummary;
use gantry_oci::{Digest, Reference};
use gantry_store::images::Image;
use jiff::Timestamp;
use regex::Regex;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

const NAMES: [&str; 6] = ["before", "dangling", "label", "reference", "since", "until"];

/// When an image was made; the beginning of time where it does not say.
pub(super) fn created(image: &Image) -> Timestamp {
    let text = image.config.created.as_deref().unwrap_or_default();
    text.parse().unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The filters of a list, checked and resolved.
struct Wanted<'a> {
    filters: &'a Filters,
    /// Only images without a tag, or none without a name.
    dangling: Option<bool>,
    references: Vec<Regex>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
}

impl Wanted<'_> {
    fn matches(&self, image: &Image) -> bool {
        let made = created(image);
        let none = Map::new();
        let labels = image.config.config.labels.as_ref().unwrap_or(&none);
        let told = image.config.created.is_some();
        self.before.is_none_or(|time| told && made < time)
            && self.since.is_none_or(|time| told && made > time)
            && self.filters.matches_all_labels("label", labels)
    }

    fn shows(&self, reference: &Reference) -> bool {
        self.references.is_empty()
            || self.references.iter().any(|pattern| {
                pattern.is_match(&reference.familiar())
                    || pattern.is_match(&reference.familiar_name())
            })
    }

    /// Whether an image is shown by what is left of its names. `inner`: others were made from it.
    // COMPAT: moby's ImageService.Images (daemon/images/image_list.go).
    fn lets_through(&self, tags: usize, digests: usize, inner: bool, all: bool) -> bool {
        let only_dangling = self.dangling == Some(true);
        if only_dangling && (inner || tags > 0) {
            return false;
        }
        if tags + digests > 0 {
            return true;
        }
        (all || !inner) && self.dangling != Some(false) && self.references.is_empty()
    }
}

impl Images {
    pub(super) fn list_blocking(&self, options: &ListOptions) -> Result<Vec<ImageSummary>> {
        let wanted = self.wanted(&options.filters)?;
        let store = &self.context.store;
        let all = store.images.all()?;
        let shared = match options.shared_size {
            true => Some(self.layer_uses(&all)?),
            false => None,
        };
        let parents: HashSet<&Digest> = all.iter().filter_map(|i| i.parent.as_ref()).collect();
        let users = self.users_by_image();
        let mut shown: Vec<_> = all.iter().filter(|image| wanted.matches(image)).collect();
        shown.sort_by_cached_key(|image| std::cmp::Reverse(created(image)));
        let mut list = Vec::with_capacity(shown.len());
        for image in shown {
            let names = |references: &[Reference]| -> Vec<String> {
                let shown = references.iter().filter(|name| wanted.shows(name));
                let meant = shown.filter(|name| options.all || self.is_meant(name, image));
                meant.map(Reference::familiar).collect()
            };
            let (tags, digests) = (names(&image.tags), names(&image.digests));
            let hidden = tags.len() + digests.len() == 0 && !image.tags.is_empty();
            let inner = parents.contains(&image.id);
            if hidden || !wanted.lets_through(tags.len(), digests.len(), inner, options.all) {
                continue;
            }
            let set = match options.all {
                true => vec![image.clone()],
                false => {
                    let names = image.tags.iter().chain(&image.digests);
                    let meant: Vec<_> = names.filter(|name| self.is_meant(name, image)).collect();
                    self.set_of(image, &meant)?
                }
            };
            // What has no line of its own is told of here.
            let meant = |other: &Arc<Image>| {
                let mut names = other.tags.iter().chain(&other.digests);
                other.id != image.id && names.any(|name| self.is_meant(name, other))
            };
            let own: Vec<_> = set.iter().filter(|other| !meant(other)).collect();
            let containers = own.iter().filter_map(|image| users.get(image.id.as_str()));
            let manifests = match options.manifests {
                true => self.manifests(&set, &users)?,
                false => Vec::new(),
            };
            let shared = shared.as_ref();
            list.push(ImageSummary {
                containers: containers.map(|users| users.len() as i64).sum(),
                created: created(image).as_second(),
                id: image.id.to_string(),
                labels: image.config.config.labels.clone(),
                parent_id: image
                    .parent
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
                repo_digests: Some(digests),
                repo_tags: Some(tags),
                shared_size: shared.map_or(-1, |uses| {
                    own.iter().map(|image| shared_bytes(image, uses)).sum()
                }),
                size: own.iter().map(|image| image.size as i64).sum(),
                virtual_size: None,
                manifests,
            });
        }
        Ok(list)
    }

    /// Whether a name stands for this image where no platform is asked for.
    fn is_meant(&self, name: &Reference, image: &Image) -> bool {
        self.context.store.images.named(name).first() == Some(&image.id)
    }

    fn wanted<'a>(&self, filters: &'a Filters) -> Result<Wanted<'a>> {
        let refuse = |error: gantry_api::filter::FilterError| Error::invalid(error.0);
        filters.validate(&NAMES).map_err(refuse)?;
        let dangling = match filters.contains("dangling") {
            true => Some(filters.boolean("dangling", false).map_err(refuse)?),
            false => None,
        };
        let times = |name: &str| -> Result<Vec<Timestamp>> {
            let images = filters
                .get(name)
                .map(|text| Ok(created(&*self.find(text)?)));
            images.collect()
        };
        let before = times("before")?.into_iter().chain(until(filters)?).min();
        let references = filters.get("reference").map(pattern);
        Ok(Wanted {
            filters,
            dangling,
            references: references.collect::<Result<_>>()?,
            before,
            since: times("since")?.into_iter().max(),
        })
    }

    /// Each layer's size, and how many images have it.
    fn layer_uses(&self, images: &[Arc<Image>]) -> Result<BTreeMap<Digest, (u64, usize)>> {
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
    // COMPAT: Go's words for a broken pattern, and Docker's status.
    Regex::new(&out).map_err(|_| Error::system("syntax error in pattern"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted<'a>(filters: &'a Filters, dangling: Option<bool>) -> Wanted<'a> {
        Wanted {
            filters,
            dangling,
            references: Vec::new(),
            before: None,
            since: None,
        }
    }

    /// As Docker's image service decides it: (dangling, tags, digests, others were made from it, all) and the answer.
    #[test]
    fn what_is_listed() {
        let filters = Filters::default();
        for (dangling, tags, digests, inner, all, shown) in [
            (None, 1, 0, false, false, true),
            (None, 1, 1, true, false, true),
            (None, 0, 1, false, false, true),
            (None, 0, 0, false, false, true),
            (None, 0, 0, true, false, false),
            (None, 0, 0, true, true, true),
            (Some(true), 0, 0, false, false, true),
            (Some(true), 0, 1, false, false, true),
            (Some(true), 1, 0, false, false, false),
            (Some(true), 0, 0, true, true, false),
            (Some(false), 0, 0, false, true, false),
            (Some(false), 0, 1, false, false, true),
            (Some(false), 1, 0, true, false, true),
        ] {
            let wanted = wanted(&filters, dangling);
            let found = wanted.lets_through(tags, digests, inner, all);
            assert_eq!(found, shown, "{dangling:?} {tags} {digests} {inner} {all}");
        }
        let mut by_name = wanted(&filters, None);
        by_name.references = vec![pattern("a*").unwrap()];
        assert!(
            !by_name.lets_through(0, 0, false, true) && by_name.lets_through(1, 0, false, false)
        );
    }

    #[test]
    fn times_and_labels() {
        let image = |text: &str| {
            let config = serde_json::from_str(text).unwrap();
            Image {
                id: Digest::of(b"x"),
                config,
                diff_ids: Vec::new(),
                size: 0,
                tags: Vec::new(),
                digests: Vec::new(),
                last_tagged: None,
                parent: None,
            }
        };
        let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        let made = image(r#"{"created":"2024-01-02T00:00:00Z","config":{"Labels":{"a":"b"}}}"#);
        let timeless = image("{}");
        let none = Filters::default();
        let mut times = wanted(&none, None);
        assert!(times.matches(&made) && times.matches(&timeless));
        times.before = at("2024-01-02T00:00:00Z");
        assert!(!times.matches(&made), "not before itself");
        times.before = at("2024-01-03T00:00:00Z");
        times.since = at("2024-01-01T00:00:00Z");
        assert!(times.matches(&made) && !times.matches(&timeless));
        let labels = Filters::parse(r#"{"label":["a=b"]}"#).unwrap();
        assert!(wanted(&labels, None).matches(&made) && !wanted(&labels, None).matches(&timeless));
        let other = Filters::parse(r#"{"label":["a=b","c"]}"#).unwrap();
        assert!(!wanted(&other, None).matches(&made));
    }

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
