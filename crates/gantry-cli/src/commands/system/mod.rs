//! `gantry system ...`, and what concerns no single kind of object.

pub(super) mod df;
pub(super) mod events;
pub(super) mod info;
pub(super) mod inspect;
pub(super) mod prune;
pub(super) mod stop_daemon;
pub(super) mod version;
