//! The keys that detach from a terminal: `ctrl-p,ctrl-q` unless told otherwise.

/// A sequence of keys to watch for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DetachKeys {
    keys: Vec<u8>,
    matched: usize,
}

impl Default for DetachKeys {
    fn default() -> Self {
        DetachKeys {
            keys: vec![16, 17],
            matched: 0,
        }
    }
}

impl DetachKeys {
    /// Reads `a,ctrl-b`; Docker's words where that is no sequence.
    pub(crate) fn parse(text: &str) -> Result<DetachKeys, String> {
        let mut keys = Vec::new();
        for word in text.split(',') {
            let key = match word.strip_prefix("ctrl-") {
                Some(letter) => match letter.as_bytes() {
                    [letter @ b'a'..=b'z'] => letter - b'a' + 1,
                    [letter @ (b'@' | b'['..=b'_')] => letter - b'@',
                    _ => return Err(format!("Unknown character: '{word}'")),
                },
                None => match word.as_bytes() {
                    [letter] => *letter,
                    _ => return Err(format!("Unknown character: '{word}'")),
                },
            };
            keys.push(key);
        }
        Ok(DetachKeys { keys, matched: 0 })
    }

    /// What of the input is to be sent on; the bool says that the sequence is complete. A beginning of it
    /// is held back until it is clear whether it goes on.
    pub(crate) fn filter(&mut self, input: &[u8]) -> (Vec<u8>, bool) {
        let mut out = Vec::with_capacity(input.len() + self.matched);
        for &byte in input {
            if self.keys.get(self.matched) == Some(&byte) {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.matched = 0;
                    return (out, true);
                }
                continue;
            }
            out.extend_from_slice(&self.keys[..self.matched]);
            self.matched = usize::from(self.keys.first() == Some(&byte));
            if self.matched == 0 {
                out.push(byte);
            }
        }
        (out, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_read() {
        assert_eq!(
            DetachKeys::parse("ctrl-p,ctrl-q").unwrap(),
            DetachKeys::default()
        );
        assert_eq!(
            DetachKeys::parse("a,ctrl-@,ctrl-_").unwrap().keys,
            [97, 0, 31]
        );
        assert!(DetachKeys::parse("ctrl-").is_err());
        assert!(DetachKeys::parse("ab").is_err());
    }

    #[test]
    fn input_passes_unless_the_sequence_is_complete() {
        let mut keys = DetachKeys::default();
        assert_eq!(keys.filter(b"ab"), (b"ab".to_vec(), false));
        assert_eq!(keys.filter(&[b'a', 16]), (b"a".to_vec(), false));
        assert_eq!(keys.filter(b"x"), (vec![16, b'x'], false));
        assert_eq!(keys.filter(&[16, 16]), (vec![16], false));
        assert_eq!(keys.filter(&[17, b'z']), (vec![], true));
    }
}
