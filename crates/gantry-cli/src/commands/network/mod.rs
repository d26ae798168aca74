//! `gantry network ...`

pub(super) mod prune;
