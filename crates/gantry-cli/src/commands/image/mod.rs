//! `gantry image ...`

pub(super) mod history;
pub(super) mod import;
pub(super) mod inspect;
pub(super) mod load;
pub(in crate::commands) mod ls;
pub(in crate::commands) mod prune;
pub(super) mod pull;
pub(super) mod push;
pub(super) mod rm;
pub(in crate::commands) mod save;
pub(super) mod tag;
mod tree;
mod trust;
