//! Tar archives, made and read in our own process.
//!
//! Owns: the format (v7, ustar, PAX, GNU), trees into archives, archives into trees.
//! Never: follows a link out of the tree it was given; knows layers, images or containers; depends on tokio.
//! Start here: [`Root`], then [`pack`] and [`unpack`]; [`TarReader`] for the format alone.

mod content;
mod error;
pub mod pack;
mod pax;
mod reader;
mod root;
mod sparse;
pub mod unpack;
mod writer;

pub use content::{copy_content, remove_tree, times};
pub use error::{Error, Result, words};
pub use reader::{Entry, Kind, TarReader};
pub use root::{Root, clean, join};
pub use writer::TarWriter;
