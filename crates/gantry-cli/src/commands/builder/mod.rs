//! `gantry builder ...`

pub(super) mod prune;
