//! Names of images. A name stands for a set of images, one for each platform; the first one is the one that is meant
//! where no platform is asked for: the machine's if it is there, else the one that came last.

use crate::images::Image;
use gantry_oci::manifest::Platform;
use gantry_oci::{Digest, Reference};
use std::collections::BTreeMap;
use std::sync::Arc;

/// All images and all names, in memory.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) images: BTreeMap<Digest, Arc<Image>>,
    /// Full references (with tag, or with digest) to image IDs; none is empty.
    pub(crate) references: BTreeMap<String, Vec<Digest>>,
}

impl Table {
    /// The images of a name, the one that is meant first; empty where there is no such name.
    pub(crate) fn named(&self, reference: &Reference) -> &[Digest] {
        self.references
            .get(&reference.to_string())
            .map_or(&[], Vec::as_slice)
    }

    /// The images that a name stands for once this one was added: in the place of the one for the same platform.
    pub(crate) fn with(&self, reference: &Reference, id: &Digest) -> Vec<Digest> {
        let platform = |id: &Digest| self.images.get(id).map(|image| image.platform());
        let Some(own) = platform(id) else {
            return self.named(reference).to_vec();
        };
        let others = self.named(reference).iter().filter(|other| {
            *other != id && platform(other).is_some_and(|other| !other.is_same(&own))
        });
        let mut set: Vec<Digest> = std::iter::once(id).chain(others).cloned().collect();
        let machine = Platform::of_machine();
        let machines = |id: &Digest| platform(id).is_some_and(|p| p.is_same(&machine));
        if let Some(at) = set.iter().position(machines) {
            set[..=at].rotate_right(1);
        }
        set
    }

    /// Lets a name stand for these images alone; for none, there is no such name any more.
    pub(crate) fn name(&mut self, reference: &Reference, ids: &[Digest]) {
        let text = reference.to_string();
        for owner in self.references.remove(&text).unwrap_or_default() {
            if let Some(image) = self.images.get_mut(&owner) {
                let image = Arc::make_mut(image);
                image.tags.retain(|r| r != reference);
                image.digests.retain(|r| r != reference);
            }
        }
        let mut named = Vec::with_capacity(ids.len());
        for id in ids {
            let Some(image) = self.images.get_mut(id) else {
                continue;
            };
            let image = Arc::make_mut(image);
            let names = match reference.digest {
                Some(_) => &mut image.digests,
                None => &mut image.tags,
            };
            names.push(reference.clone());
            names.sort_by_cached_key(ToString::to_string);
            named.push(id.clone());
        }
        if !named.is_empty() {
            self.references.insert(text, named);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_oci::config::ImageConfig;

    fn table(platforms: &[(&str, &str)]) -> (Table, Vec<Digest>) {
        let mut table = Table::default();
        let mut ids = Vec::new();
        for (at, (architecture, variant)) in platforms.iter().enumerate() {
            let id = Digest::of(&[at as u8]);
            let config = ImageConfig {
                os: "linux".into(),
                architecture: (*architecture).into(),
                variant: (*variant).into(),
                ..ImageConfig::default()
            };
            let image = Image::of(id.clone(), config, 0);
            table.images.insert(id.clone(), Arc::new(image));
            ids.push(id);
        }
        (table, ids)
    }

    #[test]
    fn the_machines_image_is_meant_else_the_last() {
        let own = gantry_oci::platform::machine_architecture();
        let (mut table, ids) = table(&[("s390x", ""), (own, ""), ("riscv64", ""), ("s390x", "")]);
        let name = Reference::parse("a:1").unwrap();
        let mut add = |at: usize| {
            let set = table.with(&name, &ids[at]);
            table.name(&name, &set);
            let found: Vec<usize> = set
                .iter()
                .map(|id| ids.iter().position(|other| other == id).unwrap())
                .collect();
            found
        };
        assert_eq!(add(0), [0]);
        assert_eq!(add(2), [2, 0], "the last one");
        assert_eq!(add(1), [1, 2, 0], "the machine's");
        assert_eq!(add(3), [1, 3, 2], "the same platform makes way");
        assert_eq!(add(3), [1, 3, 2]);
        assert!(table.images[&ids[0]].tags.is_empty());
        assert_eq!(table.images[&ids[2]].tags, std::slice::from_ref(&name));
        table.name(&name, &ids[..1]);
        assert_eq!(table.named(&name), &ids[..1]);
        assert!(table.images[&ids[1]].tags.is_empty());
        table.name(&name, &[]);
        assert!(table.references.is_empty() && table.images[&ids[0]].tags.is_empty());
    }
}
