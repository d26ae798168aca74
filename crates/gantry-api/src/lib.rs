//! Docker Engine API wire types (version 1.51) and the API version table.
//!
//! Owns: the JSON of requests and answers, as Docker writes it: which keys are always there, which are
//! `null` when unset and which are left out; how Go reads JSON, numbers and filters, with its words for
//! what is wrong with them.
//! Never: does I/O.
//! Start here: [`container`], [`image`], [`event`], [`system`]; [`filter::Filters`]; [`version::ApiVersion`].

pub mod container;
pub mod event;
pub mod exec;
pub mod files;
pub mod filter;
pub mod go;
pub mod image;
pub mod network;
pub mod progress;
pub mod registry;
pub mod stats;
pub mod system;
pub mod update;
pub mod version;
pub mod volume;

/// The body of every error answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ErrorBody {
    pub message: String,
}
