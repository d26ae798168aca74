//! JSON documents and short texts.

use gantry_api::filter::Filters;
use gantry_oci::config::ImageConfig;
use gantry_oci::manifest::{ImageIndex, Manifest};
use gantry_oci::{Digest, Reference};

/// What is read is written and read again as the same.
pub(crate) fn manifest(data: &[u8]) {
    if let Ok(manifest) = Manifest::parse(data) {
        let again = match &manifest {
            Manifest::Image(image) => serde_json::to_vec(image),
            Manifest::Index(index) => serde_json::to_vec(index),
        };
        let again = again.expect("a manifest can be written");
        let again = Manifest::parse(&again).expect("what was written can be read");
        assert_eq!(format!("{manifest:?}"), format!("{again:?}"));
    }
    if let Ok(index) = serde_json::from_slice::<ImageIndex>(data) {
        let again = serde_json::to_vec(&index).expect("an index can be written");
        let again: ImageIndex = serde_json::from_slice(&again).expect("and read");
        assert_eq!(format!("{index:?}"), format!("{again:?}"));
    }
    if let Ok(config) = serde_json::from_slice::<ImageConfig>(data) {
        let again = serde_json::to_vec(&config).expect("a configuration can be written");
        let again: ImageConfig = serde_json::from_slice(&again).expect("and read");
        assert_eq!(config, again);
    }
}

/// Whatever a reference is, its full and its familiar form mean the same.
pub(crate) fn reference(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(digest) = Digest::parse(text) {
        assert_eq!(digest.as_str(), text);
        assert_eq!(digest.hex().len(), 64);
    }
    let Ok(reference) = Reference::parse(text) else {
        return;
    };
    for form in [reference.to_string(), reference.familiar()] {
        let again = Reference::parse(&form).expect("its own form can be read");
        assert_eq!(again, reference, "{text:?} {form:?}");
    }
    // It becomes part of paths and URLs.
    assert!(
        !reference
            .path
            .split('/')
            .any(|part| matches!(part, "" | "." | "..")),
        "{text:?}"
    );
    assert!(
        reference.to_string().bytes().all(|b| b.is_ascii_graphic()),
        "{text:?}"
    );
}

/// Platforms, sizes, filters.
pub(crate) fn words(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let _ = gantry_engine::images::platform(text);
    let _ = gantry_engine::containers::create::size_in_bytes(text);
    if let Ok(filters) = Filters::parse(text) {
        let _ = filters.validate(&["label", "dangling", "until"]);
        let _ = filters.boolean("dangling", false);
        let labels = [("a".to_owned(), "b".to_owned())].into();
        let _ = filters.matches_all_labels("label", &labels);
        let _ = filters.matches_prefix("name", "x") || filters.matches_exactly("name", "x");
    }
}
