//! `import`, `load` and `save`: images as files.

use super::names::new_name;
use super::{Archive, Images, ImportRequest, ProgressSender, changes};
use crate::error::{Error, Result};
use bytes::Bytes;
use gantry_api::progress::{Progress, ProgressDetail};
use gantry_oci::config::ImageConfig;
use gantry_oci::{Digest, Reference};
use gantry_store::archive;
use jiff::Timestamp;
use std::io::{self, Write};
use tokio::sync::mpsc;

/// Bytes of a piece of an archive that is sent.
const PIECE: usize = 64 << 10;

/// The machine's platform, or the one asked for (`os/arch[/variant]`).
pub(super) fn platform(text: &str) -> Result<(String, String, String)> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let mut parts = text.split('/').map(str::to_owned);
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(os), None, ..) if os.is_empty() => {
            Ok(("linux".to_owned(), architecture.to_owned(), String::new()))
        }
        (Some(os), None, ..) if os == "linux" => Ok((os, architecture.to_owned(), String::new())),
        (Some(os), Some(architecture), variant, None) if os == "linux" => {
            Ok((os, architecture, variant.unwrap_or_default()))
        }
        _ => Err(Error::invalid(format!(
            "{text:?}: unknown operating system or architecture: invalid argument"
        ))),
    }
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
            "" => "Imported from -",
            message => message,
        };
        let mut config = ImageConfig {
            architecture,
            variant,
            os,
            created: Some(Timestamp::now().to_string()),
            comment: comment.to_owned(),
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
        quiet: bool,
        progress: &ProgressSender,
    ) -> Result<()> {
        let tell = |layer: &str, bytes: u64| {
            if !quiet {
                // Nobody is held up for progress that is not read.
                let _ = progress.try_send(Progress {
                    progress_detail: Some(ProgressDetail {
                        current: bytes,
                        total: 0,
                    }),
                    ..Progress::of(layer, "Loading layer")
                });
            }
        };
        let loaded = match archive::load(&self.context.store, &mut archive, &tell) {
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
    pub(super) fn to_save(&self, names: &[String]) -> Result<Vec<(Digest, Vec<Reference>)>> {
        if names.is_empty() {
            return Err(Error::invalid("no image is named"));
        }
        let mut images: Vec<(Digest, Vec<Reference>)> = Vec::new();
        for name in names {
            for (id, references) in self.named_for_save(name)? {
                match images.iter_mut().find(|(other, _)| *other == id) {
                    None => images.push((id, references)),
                    Some((_, known)) => {
                        for reference in references {
                            if !known.contains(&reference) {
                                known.push(reference);
                            }
                        }
                    }
                }
            }
        }
        Ok(images)
    }

    /// A bare name stands for all its tags, a reference for itself, an ID for the image without names.
    fn named_for_save(&self, name: &str) -> Result<Vec<(Digest, Vec<Reference>)>> {
        // COMPAT: other requests complete the name with its tag here.
        let missing = || Error::not_found(format!("No such image: {name}"));
        let store = &self.context.store;
        let parsed = Reference::parse(name).ok();
        if let Some(bare) = parsed
            .as_ref()
            .filter(|r| r.tag.is_none() && r.digest.is_none())
        {
            let mut found = Vec::new();
            for image in store.images.all()? {
                let own = image.tags.iter();
                let tags: Vec<_> = own
                    .filter(|tag| tag.name() == bare.name())
                    .cloned()
                    .collect();
                if !tags.is_empty() {
                    found.push((image.id.clone(), tags));
                }
            }
            if !found.is_empty() {
                return Ok(found);
            }
        }
        let image = store.images.find(name)?.ok_or_else(missing)?;
        let references = parsed.filter(|reference| image.tags.contains(reference));
        Ok(vec![(image.id.clone(), references.into_iter().collect())])
    }

    /// Writes the archive into `pieces`, until it is whole or nobody takes them any more.
    pub(super) fn save_blocking(
        &self,
        images: &[(Digest, Vec<Reference>)],
        pieces: mpsc::Sender<io::Result<Bytes>>,
    ) {
        let mut writer = Pieces {
            buffer: Vec::with_capacity(PIECE),
            pieces,
        };
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
                let _ = writer.pieces.blocking_send(Err(io::Error::other(error)));
            }
        }
    }
}

/// Gathers what is written into pieces of some size.
struct Pieces {
    buffer: Vec<u8>,
    pieces: mpsc::Sender<io::Result<Bytes>>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let take = bytes.len().min(PIECE - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..take]);
        if self.buffer.len() == PIECE {
            self.flush()?;
        }
        Ok(take)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE));
        let sent = self.pieces.blocking_send(Ok(piece.into()));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
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

    #[tokio::test]
    async fn pieces_are_bounded_and_whole() {
        let (sender, mut receiver) = mpsc::channel(2);
        let written = tokio::task::spawn_blocking(move || {
            let mut pieces = Pieces {
                buffer: Vec::new(),
                pieces: sender,
            };
            pieces.write_all(&[7; 3 * PIECE + 5]).unwrap();
            pieces.flush().unwrap();
        });
        let mut sizes = Vec::new();
        while let Some(piece) = receiver.recv().await {
            sizes.push(piece.unwrap().len());
        }
        written.await.unwrap();
        assert_eq!(sizes, [PIECE, PIECE, PIECE, 5]);
    }
}
