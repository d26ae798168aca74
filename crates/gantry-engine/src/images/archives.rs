//! `import`, `load` and `save`: images as files.

use super::names::new_name;
use super::report::line;
use super::{Archive, Images, ImportRequest, ProgressSender, changes, resolve};
use crate::error::{Error, Result};
use crate::pieces::Pieces;
use bytes::Bytes;
use gantry_api::progress::Progress;
use gantry_oci::config::ImageConfig;
use gantry_oci::manifest::Platform;
use gantry_oci::{Digest, Reference};
use gantry_store::archive::{self, LoadOptions};
use jiff::Timestamp;
use std::io::{self, Write};
use tokio::sync::mpsc;

/// Bytes of a piece of an archive that is sent.
const PIECE: usize = 64 << 10;

/// The machine's platform, or the one asked for (`os/arch[/variant]`).
pub(super) fn platform(text: &str) -> Result<(String, String, String)> {
    let platform = resolve::platform(text)?.unwrap_or_else(Platform::of_machine);
    if platform.os != "linux" {
        return Err(Error::invalid(format!(
            "operating system is not supported: {}",
            platform.os
        )));
    }
    let variant = platform.variant.unwrap_or_default();
    Ok((platform.os, platform.architecture, variant))
}

/// What an import asks for, checked before the archive is read.
#[derive(Debug)]
pub(super) struct Import {
    name: Option<Reference>,
    config: ImageConfig,
}

impl Import {
    pub(super) fn check(request: &ImportRequest) -> Result<Self> {
        let (os, architecture, variant) = platform(&request.platform)?;
        let name = match request.repository.as_str() {
            "" => None,
            repository => Some(new_name(repository, &request.tag)?),
        };
        let comment = match request.message.as_str() {
            "" => format!("Imported from {}", request.source),
            message => message.to_owned(),
        };
        let mut config = ImageConfig {
            architecture,
            variant,
            os,
            created: Some(Timestamp::now().to_string()),
            comment,
            ..ImageConfig::default()
        };
        for change in &request.changes {
            changes::apply(&mut config.config, change)?;
        }
        Ok(Self { name, config })
    }
}

impl Images {
    pub(super) fn import_blocking(
        &self,
        import: Import,
        mut archive: Archive,
        progress: &ProgressSender,
    ) -> Result<()> {
        if let Some(name) = &import.name {
            self.context.policy.admit_name(name, "an import")?;
        }
        let store = &self.context.store;
        let id = archive::import(store, &mut archive, import.config)?;
        if let Some(name) = &import.name {
            store.images.tag(name, &id)?;
        }
        self.tell_of(&id, "import")?;
        let _ = progress.blocking_send(Progress::status(id.to_string()));
        Ok(())
    }

    pub(super) fn load_blocking(
        &self,
        mut archive: Archive,
        platform: Option<&Platform>,
        quiet: bool,
        progress: &ProgressSender,
    ) -> Result<()> {
        let tell = |layer: &str, current: u64, total: u64| {
            if !quiet {
                // Nobody is held up for progress that is not read.
                let _ = progress.try_send(line(layer, "Loading layer", current, total));
            }
        };
        let options = LoadOptions {
            platform,
            progress: &tell,
            admit: &|name| {
                let admitted = self.context.policy.admit_name(name, "a load");
                admitted.map_err(|refused| refused.message)
            },
        };
        let loaded = match archive::load_with(&self.context.store, &mut archive, &options) {
            Ok(loaded) => loaded,
            Err(error) => {
                let error = Error::from(error);
                tracing::info!(%error, "an archive cannot be loaded");
                let _ = progress.blocking_send(Progress::failure(error.message));
                return Ok(());
            }
        };
        for image in loaded {
            self.tell_of(&image.id, "load")?;
            for (name, before) in &image.taken {
                let _ = progress.blocking_send(Progress::stream(format!(
                    "The image {} already exists, renaming the old one with ID {before} to empty string\n",
                    name.familiar()
                )));
            }
            let lines = match image.tags.as_slice() {
                [] => vec![format!("Loaded image ID: {}\n", image.id)],
                tags => {
                    let lines = tags
                        .iter()
                        .map(|tag| format!("Loaded image: {}\n", tag.familiar()));
                    lines.collect()
                }
            };
            for line in lines {
                let _ = progress.blocking_send(Progress::stream(line));
            }
        }
        Ok(())
    }

    fn tell_of(&self, id: &Digest, action: &str) -> Result<()> {
        if let Some(image) = self.context.store.images.get(id)? {
            self.tell(&image, action, id.as_str());
        }
        Ok(())
    }

    /// The images of some names, each with the names that the archive is to have for it.
    pub(super) fn to_save(
        &self,
        names: &[String],
        platform: Option<&Platform>,
    ) -> Result<Vec<(Digest, Vec<Reference>)>> {
        if names.is_empty() {
            return Err(Error::invalid("no image is named"));
        }
        let mut images: Vec<(Digest, Vec<Reference>)> = Vec::new();
        for name in names {
            for (id, reference) in self.named_for_save(name, platform)? {
                let at = images.iter().position(|(other, _)| *other == id);
                let at = at.unwrap_or_else(|| {
                    images.push((id, Vec::new()));
                    images.len() - 1
                });
                let known = &mut images[at].1;
                known.extend(reference.filter(|reference| !known.contains(reference)));
            }
        }
        Ok(images)
    }

    /// A bare name stands for all its tags, a reference for itself, an ID for the image without names; each for all of
    /// its platforms, or the one that is asked for.
    fn named_for_save(
        &self,
        name: &str,
        platform: Option<&Platform>,
    ) -> Result<Vec<(Digest, Option<Reference>)>> {
        let store = &self.context.store;
        let parsed = Reference::parse(name).ok();
        let bare = parsed
            .as_ref()
            .filter(|r| r.tag.is_none() && r.digest.is_none());
        let mut tags: Vec<Reference> = Vec::new();
        if let Some(bare) = bare {
            let all = store.images.all()?;
            let names = all.iter().flat_map(|image| &image.tags);
            tags.extend(names.filter(|tag| tag.name() == bare.name()).cloned());
            tags.sort_by_cached_key(ToString::to_string);
            tags.dedup();
        }
        let sets: Vec<_> = match tags.is_empty() {
            false => tags
                .into_iter()
                .map(|tag| (store.images.named(&tag), Some(tag)))
                .collect(),
            true => {
                let found = store.images.find_all(name)?;
                let ids: Vec<Digest> = found.iter().map(|image| image.id.clone()).collect();
                let tagged = |r: &Reference| found.iter().any(|image| image.tags.contains(r));
                vec![(ids, parsed.filter(tagged))]
            }
        };
        let mut images = Vec::new();
        for (ids, tag) in sets {
            for id in self.served(&ids, platform)? {
                images.push((id, tag.clone()));
            }
        }
        match images.is_empty() {
            false => Ok(images),
            // COMPAT: other requests complete the name with its tag here.
            true => Err(Error::not_found(format!("No such image: {name}"))),
        }
    }

    /// Those of a set of images that serve a platform best; an error where none does.
    fn served(&self, ids: &[Digest], platform: Option<&Platform>) -> Result<Vec<Digest>> {
        let Some(platform) = platform.filter(|_| !ids.is_empty()) else {
            return Ok(ids.to_vec());
        };
        let mut ranked = Vec::new();
        for id in ids {
            let image = self.context.store.images.get(id)?;
            ranked.extend(image.and_then(|image| Some((platform.rank(&image.platform())?, id))));
        }
        match ranked.iter().min_by_key(|(rank, _)| *rank) {
            Some((_, id)) => Ok(vec![(*id).clone()]),
            None => Err(Error::system(format!(
                "no suitable export target found for platform {platform}"
            ))),
        }
    }

    /// Writes the archive into `pieces`, until it is whole or nobody takes them any more.
    pub(super) fn save_blocking(
        &self,
        images: &[(Digest, Vec<Reference>)],
        pieces: mpsc::Sender<io::Result<Bytes>>,
    ) {
        let mut writer = Pieces::new(PIECE, pieces.clone());
        let saved = archive::save(&self.context.store, images, &mut writer)
            .map_err(Error::from)
            .and_then(|()| {
                writer
                    .flush()
                    .map_err(|e| Error::caused("cannot send the archive", e))
            });
        match saved {
            Ok(()) => {
                for (id, _) in images {
                    if let Err(error) = self.tell_of(id, "save") {
                        tracing::warn!(%error, "cannot tell of a saved image");
                    }
                }
            }
            Err(error) => {
                let _ = pieces.blocking_send(Err(io::Error::other(error)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms() {
        assert_eq!(platform("").unwrap().0, "linux");
        let arm = ("linux".to_owned(), "arm".to_owned(), "v7".to_owned());
        assert_eq!(platform("linux/arm/v7").unwrap(), arm);
        for bad in ["windows/amd64", "linux/a/b/c", "x"] {
            assert!(platform(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_import_is_checked_first() {
        let request = |repository: &str, change: &str| ImportRequest {
            source: "-".to_owned(),
            repository: repository.to_owned(),
            changes: vec![change.to_owned()],
            ..ImportRequest::default()
        };
        let import = Import::check(&request("tx", "CMD [\"sh\"]")).unwrap();
        assert_eq!(import.name.unwrap().familiar(), "tx:latest");
        assert_eq!(import.config.comment, "Imported from -");
        let refused = Import::check(&request("tx", "NONSENSE x")).unwrap_err();
        assert_eq!(refused.message, "NONSENSE is not a valid change command");
        assert!(Import::check(&request("UPPER", "CMD x")).is_err());
    }
}
