//! Reading a command line by pflag's rules.

use super::{Flags, Spec};

/// Why reading ended early.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// `--help` was asked for; `true` where it was `-h`.
    Help(bool),
    /// Docker's words for what is wrong.
    Wrong(String),
}

struct Reader<'a, 'b> {
    sets: &'a mut [&'b mut dyn Flags],
}

impl Reader<'_, '_> {
    fn find(&self, test: impl Fn(&Spec) -> bool) -> Option<(usize, usize, Spec)> {
        self.sets.iter().enumerate().find_map(|(set, flags)| {
            let specs = flags.specs();
            let at = specs.iter().position(&test)?;
            Some((set, at, specs[at]))
        })
    }

    /// `long` is the name that it was called by.
    fn set(
        &mut self,
        (set, at, spec): (usize, usize, Spec),
        long: &str,
        text: &str,
    ) -> Result<(), Stop> {
        self.sets[set].set(at, text).map_err(|why| {
            let name = if spec.short.is_empty() {
                format!("--{long}")
            } else {
                format!("-{}, --{long}", spec.short)
            };
            Stop::Wrong(format!(
                "invalid argument \"{text}\" for \"{name}\" flag: {why}"
            ))
        })
    }

    fn long(&mut self, body: &str, rest: &mut std::vec::IntoIter<String>) -> Result<(), Stop> {
        let (name, value) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (body, None),
        };
        if name.is_empty() || name.starts_with('-') {
            return Err(Stop::Wrong(format!("bad flag syntax: --{body}")));
        }
        // Listed in some help texts, but never a value.
        if name == "help" {
            return Err(Stop::Help(false));
        }
        let Some(found) = self.find(|spec| spec.long == name || spec.old == name) else {
            return Err(Stop::Wrong(format!("unknown flag: --{name}")));
        };
        match value {
            Some(value) => self.set(found, name, value),
            None if found.2.switch => self.set(found, name, "true"),
            None => match rest.next() {
                Some(value) => self.set(found, name, &value),
                None => Err(Stop::Wrong(format!("flag needs an argument: --{name}"))),
            },
        }
    }

    fn shorts(&mut self, body: &str, rest: &mut std::vec::IntoIter<String>) -> Result<(), Stop> {
        for (at, letter) in body.char_indices() {
            let after = &body[at + letter.len_utf8()..];
            let Some(found) = self.find(|spec| spec.short.chars().eq([letter])) else {
                return Err(if letter == 'h' {
                    Stop::Help(true)
                } else {
                    Stop::Wrong(format!("unknown shorthand flag: '{letter}' in -{body}"))
                });
            };
            let long = found.2.long;
            if let Some(value) = after.strip_prefix('=') {
                return self.set(found, long, value);
            }
            if found.2.switch {
                self.set(found, long, "true")?;
                continue;
            }
            if !after.is_empty() {
                return self.set(found, long, after);
            }
            return match rest.next() {
                Some(value) => self.set(found, long, &value),
                None => Err(Stop::Wrong(format!(
                    "flag needs an argument: '{letter}' in -{body}"
                ))),
            };
        }
        Ok(())
    }
}

/// Reads `words` into `sets` and gives back what are not flags. With `mixed`, flags may follow other
/// words; without, the first other word ends them (as for `run IMAGE CMD -x`).
pub(crate) fn parse(
    words: Vec<String>,
    sets: &mut [&mut dyn Flags],
    mixed: bool,
) -> Result<Vec<String>, Stop> {
    let mut reader = Reader { sets };
    let mut rest = words.into_iter();
    let mut others = Vec::new();
    while let Some(word) = rest.next() {
        if word == "--" {
            others.extend(rest.by_ref());
        } else if let Some(body) = word.strip_prefix("--") {
            reader.long(body, &mut rest)?;
        } else if word.len() > 1 && word.starts_with('-') {
            reader.shorts(&word[1..], &mut rest)?;
        } else {
            others.push(word);
            if !mixed {
                others.extend(rest.by_ref());
            }
        }
    }
    Ok(others)
}
