//! `gantry volume ...`

pub(super) mod create;
pub(super) mod inspect;
pub(in crate::commands) mod ls;
pub(in crate::commands) mod prune;
pub(super) mod rm;
