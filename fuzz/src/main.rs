//! Fuzz targets for the parsers of foreign bytes; `cargo xtask fuzz` builds and runs them.
//!
//! Owns: one function a target, which panics when something does not hold.
//! Never: ships.
//! Start here: [`TARGETS`]. The environment's `GANTRY_FUZZ_TARGET` chooses one, `GANTRY_FUZZ_FOLDER` is an empty folder
//! that it may use.
#![no_main]

mod archives;
mod documents;
mod mutate;
mod queries;
mod tars;

use std::path::PathBuf;
use std::sync::OnceLock;

type Target = fn(&[u8]);

const TARGETS: &[(&str, Target)] = &[
    ("manifest", documents::manifest),
    ("reference", documents::reference),
    ("words", documents::words),
    ("query", queries::answer),
    ("tar", tars::read),
    ("copy", tars::copy),
    ("layer", tars::layer),
    ("archive", archives::load),
    // Not of the daily round: has a fault that a run must find, see `cargo xtask fuzz --prove`.
    ("planted", tars::planted),
];

fn target() -> Target {
    static CHOSEN: OnceLock<Target> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let name = std::env::var("GANTRY_FUZZ_TARGET").expect("GANTRY_FUZZ_TARGET is set");
        let found = TARGETS.iter().find(|(known, _)| *known == name);
        found.expect("the target is known").1
    })
}

/// The folder for what a target unpacks.
pub(crate) fn folder() -> PathBuf {
    let folder = std::env::var_os("GANTRY_FUZZ_FOLDER").expect("GANTRY_FUZZ_FOLDER is set");
    PathBuf::from(folder)
}

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    // Every second change is one of an archive, where it is one.
    let room = max_size.min(data.len());
    let changed = (seed % 2 == 0 && size <= room)
        .then(|| mutate::archive(&mut data[..room], size, seed))
        .flatten();
    changed.unwrap_or_else(|| libfuzzer_sys::fuzzer_mutate(data, size, max_size))
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| target()(data));
