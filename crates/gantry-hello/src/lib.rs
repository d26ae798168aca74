//! The built-in hello-world program: a static ELF file of a few KB, compiled from `program.rs` by the build script.
//!
//! Owns: that program. Never: depends on anything.

/// The program's bytes.
pub const PROGRAM: &[u8] = &[];
