//! `gantry image ...`

pub(super) mod pull;
