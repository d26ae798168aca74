//! The built-in hello-world program: a static ELF file of a few KB, compiled from `program.rs` by the build script.
//!
//! Owns: that program.
//! Never: depends on anything.
//! Start here: [`PROGRAM`].
#![forbid(unsafe_code)]

/// The program's bytes: an ELF file for the architecture that this crate is built for.
pub const PROGRAM: &[u8] = include_bytes!(env!("GANTRY_HELLO"));

#[cfg(test)]
mod tests {
    use super::PROGRAM;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    #[test]
    fn greets_and_exits_with_zero() {
        let path = std::env::temp_dir().join(format!("gantry-hello-{}", std::process::id()));
        std::fs::write(&path, PROGRAM).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        // In an empty environment, as an image has nothing else.
        let output = Command::new(&path).env_clear().output();
        std::fs::remove_file(&path).unwrap();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert!(output.stderr.is_empty());
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.starts_with("\nHello from Gantry!\n"), "{text}");
        assert!(text.contains("gantry run -it"), "{text}");
    }

    #[test]
    fn is_small_and_needs_no_loader() {
        assert!(PROGRAM.starts_with(b"\x7fELF"));
        assert!(PROGRAM.len() < 8 * 1024, "{} bytes", PROGRAM.len());
        let interpreter = b"/ld-";
        assert!(!PROGRAM.windows(interpreter.len()).any(|w| w == interpreter));
    }
}
