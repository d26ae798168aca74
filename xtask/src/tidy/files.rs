//! Sizes, names and heads of source files.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Lines that a file may have.
const LIMIT: usize = 800;

/// Tables and generated code, which may be longer.
const TABLES: &[&str] = &["crates/gantry-runtime/src/seccomp/default.rs"];

/// Names that attract everything.
const NAMES: &[&str] = &["utils", "util", "common", "misc", "helpers"];

const HEAD: [&str; 3] = ["//! Owns:", "//! Never:", "//! Start here:"];

pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for folder in ["crates", "xtask"] {
        collect(&root.join(folder), &mut files)?;
    }
    let mut faults = Vec::new();
    for path in files {
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let short = path.strip_prefix(root).unwrap_or(&path);
        faults.extend(faults_of(&short.to_string_lossy(), &text));
    }
    Ok(faults)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() && !path.is_symlink() {
            if path.file_name().is_none_or(|name| name != "target") {
                collect(&path, files)?;
            }
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(())
}

fn faults_of(path: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let lines = text.lines().count();
    if lines > LIMIT && !TABLES.contains(&path) {
        faults.push(format!("{path}: {lines} lines, {LIMIT} are the limit"));
    }
    let words = path.trim_end_matches(".rs").split('/');
    if let Some(word) = words.into_iter().find(|word| NAMES.contains(word)) {
        faults.push(format!(
            "{path}: \"{word}\" says nothing about what is inside"
        ));
    }
    let head = path.starts_with("crates/")
        && path.matches('/').count() == 3
        && path.ends_with("/src/lib.rs");
    if head && let Some(line) = HEAD.iter().find(|line| !text.contains(**line)) {
        faults.push(format!("{path}: its head lacks \"{line}\""));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::faults_of;

    #[test]
    fn tells_long_files_vague_names_and_missing_heads() {
        assert!(faults_of("crates/a/src/b.rs", "fn x() {}\n").is_empty());
        assert_eq!(faults_of("crates/a/src/b.rs", &"\n".repeat(801)).len(), 1);
        assert_eq!(faults_of("crates/a/src/utils/b.rs", "").len(), 1);
        assert_eq!(
            faults_of("crates/a/src/lib.rs", "//! Owns: x\n//! Never: y\n").len(),
            1
        );
    }
}
