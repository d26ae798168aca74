//! `gantry system ...`, and what concerns no single kind of object.

pub(super) mod version;
