//! A container's files: what changed, archives in and out, export, and how two containers differ.

mod archive;
mod changes;
mod compare;
mod export;
mod pieces;
mod views;

pub use archive::{Extract, FileStream};
pub(super) use views::Views;
