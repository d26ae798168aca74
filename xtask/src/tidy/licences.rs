//! Every dependency's licence can be met beside Apache-2.0.

use std::path::Path;

use anyhow::{Context, Result};

use super::metadata::Metadata;

/// `deny.toml` has the same list; [`check`] holds the two together.
const ALLOWED: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    "bzip2-1.0.6",
];

pub(crate) fn check(metadata: &Metadata, root: &Path) -> Result<Vec<String>> {
    let mut faults: Vec<String> = metadata
        .packages
        .iter()
        .filter_map(|package| {
            let (name, version) = (&package.name, &package.version);
            match package.license.as_deref() {
                None => Some(format!("{name} {version} names no licence")),
                Some(text) if allowed(text) => None,
                Some(text) => Some(format!(
                    "{name} {version}: the licence \"{text}\" is not on the list"
                )),
            }
        })
        .collect();
    let deny = std::fs::read_to_string(root.join("deny.toml")).context("read deny.toml")?;
    if listed(&deny) != ALLOWED {
        faults.push("deny.toml and xtask/src/tidy/licences.rs allow different licences".to_owned());
    }
    Ok(faults)
}

/// The strings of the array `allow` under `[licenses]`.
fn listed(deny: &str) -> Vec<&str> {
    let section = deny.split("[licenses]").nth(1).unwrap_or_default();
    let array = section.split("allow = [").nth(1).unwrap_or_default();
    let array = array.split(']').next().unwrap_or_default();
    array.split('"').skip(1).step_by(2).collect()
}

/// Whether an SPDX expression (with `/` as the older spelling of OR) can be met from the list.
fn allowed(expression: &str) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let holds = either(&words, &mut at);
    holds && at == words.len()
}

fn either(words: &[&str], at: &mut usize) -> bool {
    let mut holds = both(words, at);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        let other = both(words, at);
        holds = holds || other;
    }
    holds
}

fn both(words: &[&str], at: &mut usize) -> bool {
    let mut holds = one(words, at);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        let other = one(words, at);
        holds = holds && other;
    }
    holds
}

fn one(words: &[&str], at: &mut usize) -> bool {
    let word = words.get(*at);
    *at += 1;
    let Some(word) = word else {
        return false;
    };
    if *word == "(" {
        let holds = either(words, at);
        let closed = words.get(*at) == Some(&")");
        *at += 1;
        return holds && closed;
    }
    if words.get(*at) == Some(&"WITH") {
        let exception = words.get(*at + 1).copied().unwrap_or_default();
        *at += 2;
        return ALLOWED.contains(&format!("{word} WITH {exception}").as_str());
    }
    ALLOWED.contains(word)
}

#[cfg(test)]
mod tests {
    use super::{ALLOWED, allowed, listed};

    #[test]
    fn reads_expressions() {
        for good in [
            "MIT",
            "MIT/Apache-2.0",
            "MIT OR GPL-3.0-only",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR MIT",
        ] {
            assert!(allowed(good), "{good}");
        }
        for bad in [
            "GPL-2.0",
            "MIT AND GPL-2.0",
            "(MIT OR X) AND GPL-2.0",
            "",
            "MIT OR",
            "(MIT",
        ] {
            assert!(!allowed(bad), "{bad}");
        }
    }

    #[test]
    fn reads_the_list_of_deny_toml() {
        let root = crate::binary::root().join("deny.toml");
        assert_eq!(listed(&std::fs::read_to_string(root).unwrap()), ALLOWED);
    }
}
