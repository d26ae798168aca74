//! Which image is meant: by name, ID or the beginning of one, and by platform.

use crate::containers::create::no_such_image;
use crate::error::{Error, Result};
use gantry_oci::Reference;
use gantry_oci::manifest::Platform;
use gantry_store::Store;
use gantry_store::images::Image;
use std::sync::Arc;

/// A platform as the API takes it (`os/arch[/variant]`); none for an empty text.
pub fn platform(text: &str) -> Result<Option<Platform>> {
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = Platform::parse(text).map_err(|error| Error::invalid(error.to_string()))?;
    Ok(Some(parsed))
}

/// The image that is meant: the one for the platform that is asked for, else the one that stands for the name.
pub(crate) fn find(store: &Store, text: &str, platform: Option<&Platform>) -> Result<Arc<Image>> {
    let all = store.images.find_all(text)?;
    let first = all.first().ok_or_else(|| no_such_image(text))?;
    let Some(platform) = platform else {
        return Ok(first.clone());
    };
    let ranked = all
        .iter()
        .filter_map(|image| Some((platform.rank(&image.platform())?, image)));
    match ranked.min_by_key(|(rank, _)| *rank) {
        Some((_, image)) => Ok(image.clone()),
        None => Err(other_platform(text, &first.platform(), platform)),
    }
}

fn other_platform(text: &str, found: &Platform, asked: &Platform) -> Error {
    // COMPAT: a full name is shown as people write it, anything else as it was asked for (moby's GetImage).
    let shown = match Reference::parse(text) {
        Ok(reference) if reference.to_string() == text => reference.familiar(),
        _ => text.to_owned(),
    };
    Error::not_found(format!(
        "image with reference {shown} was found but its platform ({found}) does not match the specified platform ({asked})"
    ))
}
