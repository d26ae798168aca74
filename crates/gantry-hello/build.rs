//! Compiles `src/program.rs` for the target's architecture: freestanding, static, a few KB.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=src/program.rs");
    println!("cargo:rerun-if-changed=build.rs");
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let output = PathBuf::from(variable("OUT_DIR")).join("hello");
    // The program needs `core` alone, and the linker that comes with rustc: no C compiler, no libc.
    let status = Command::new(variable("RUSTC"))
        .args([
            "--edition",
            "2024",
            "--crate-name",
            "hello",
            "--crate-type",
            "bin",
        ])
        .args(["--target", &variable("TARGET")])
        .args([
            "-C",
            "opt-level=s",
            "-C",
            "panic=abort",
            "-C",
            "strip=symbols",
        ])
        .args([
            "-C",
            "relocation-model=static",
            "-C",
            "target-feature=+crt-static",
        ])
        .args([
            "-C",
            "linker=rust-lld",
            "-C",
            "linker-flavor=ld.lld",
            "-C",
            "link-self-contained=no",
        ])
        .args(["-C", "default-linker-libraries=no"])
        .args([
            "-C",
            "link-args=-static --nmagic --build-id=none --gc-sections --no-eh-frame-hdr",
        ])
        .arg("-o")
        .arg(&output)
        .arg("src/program.rs")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS")
        .status()
        .expect("rustc runs");
    assert!(status.success(), "src/program.rs does not compile");
    println!("cargo:rustc-env=GANTRY_HELLO={}", output.display());
}
