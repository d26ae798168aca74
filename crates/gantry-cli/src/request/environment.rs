//! `-e`, `--env-file`, `--label-file`: lines of names and values.

use crate::flags::{Checked, Rule};

/// What the files and the flags give together.
pub(crate) fn of(files: &[String], own: &Checked<Variable>) -> Result<Vec<String>, String> {
    let mut lines = Vec::new();
    for file in files {
        lines.extend(read_lines(file, |name| {
            std::env::var(name)
                .ok()
                .map(|value| format!("{name}={value}"))
        })?);
    }
    lines.extend(own.items.iter().cloned());
    Ok(lines)
}

/// `NAME=value`; a bare `NAME` takes the value of our environment, if it has one there.
#[derive(Debug)]
pub(crate) struct Variable;

impl Rule for Variable {
    type Item = String;
    fn read(text: &str) -> Result<String, String> {
        if text.is_empty() || text.starts_with('=') {
            return Err(format!("invalid environment variable: {text}"));
        }
        if !text.contains('=')
            && let Ok(value) = std::env::var(text)
        {
            return Ok(format!("{text}={value}"));
        }
        Ok(text.to_owned())
    }
}

/// The lines of a file of variables. `inherit` says what a bare name becomes; none drops the line.
pub(crate) fn read_lines(
    path: &str,
    inherit: impl Fn(&str) -> Option<String>,
) -> Result<Vec<String>, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("open {path}: {}", words(&error)))?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let text = std::str::from_utf8(bytes)
        .map_err(|_| format!("invalid env file ({path}): not valid UTF-8"))?;
    let mut lines = Vec::new();
    for line in text.lines().map(str::trim_start) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (line, None),
        };
        if name.is_empty() {
            return Err(format!(
                "invalid env file ({path}): no variable name on line '{line}'"
            ));
        }
        if name.contains(char::is_whitespace) {
            return Err(format!(
                "invalid env file ({path}): variable '{name}' contains whitespaces"
            ));
        }
        match value {
            Some(value) => lines.push(format!("{name}={value}")),
            None => lines.extend(inherit(name)),
        }
    }
    Ok(lines)
}

/// An I/O error in Go's words.
pub(crate) fn words(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        std::io::ErrorKind::IsADirectory => "is a directory".to_owned(),
        _ => error.to_string(),
    }
}
