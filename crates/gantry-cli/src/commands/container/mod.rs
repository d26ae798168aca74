//! `gantry container ...`

pub(super) mod create;
pub(super) mod ls;
pub(super) mod port;
pub(super) mod run;

mod exit;
