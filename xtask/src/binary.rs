//! The shipped binary: static, for the musl target, in release mode.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::debian;

pub(crate) const TARGET: &str = "x86_64-unknown-linux-musl";

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_path_buf()
}

/// The folder that cargo builds into.
pub(crate) fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Installs what the build needs and builds the binary; says where it is.
pub(crate) fn build() -> Result<PathBuf> {
    debian::rust_target(TARGET)?;
    // SQLite, ring and zstd have C in them.
    debian::need(&[
        ("gcc", "gcc"),
        ("/usr/include/stdio.h", "libc6-dev"),
        ("musl-gcc", "musl-tools"),
    ])?;
    debian::run(cargo().args(["build", "--release", "--target", TARGET, "-p", "gantry"]))?;
    Ok(target_dir().join(TARGET).join("release/gantry"))
}

/// Cargo at the repository's root.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}
