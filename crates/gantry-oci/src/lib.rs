//! Digests, references, manifests, image configurations and media types.
//!
//! Owns: the vocabulary of the OCI image and distribution specifications, as data.
//! Never: does I/O.
//! Start here: [`Digest`], [`Reference`], [`manifest::Manifest`], [`config::ImageConfig`].

pub mod config;
pub mod digest;
pub mod manifest;
pub mod media_type;
pub mod platform;
pub mod reference;

pub use digest::{Digest, Sha256};
pub use reference::Reference;
