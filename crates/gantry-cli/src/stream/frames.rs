//! Docker's multiplexed stream: a header of 8 bytes (stream, 0, 0, 0, length big-endian), then the bytes.

/// Which of our streams bytes are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Stdout,
    Stderr,
    /// A message of the daemon about the stream itself.
    Daemon,
}

/// How many bytes are used up, and the run of payload among them.
pub(crate) type Step<'a> = (usize, Option<(Target, &'a [u8])>);

/// Takes the stream apart, whatever pieces it comes in.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    header: [u8; 8],
    filled: usize,
    /// Bytes of the present frame that are still to come.
    left: usize,
}

impl Frames {
    /// The next run of payload in `bytes`, and how many of its bytes are used up by it.
    pub(crate) fn next<'a>(&mut self, bytes: &'a [u8]) -> Result<Step<'a>, String> {
        let mut used = 0;
        if self.left == 0 {
            let want = 8 - self.filled;
            used = want.min(bytes.len());
            self.header[self.filled..self.filled + used].copy_from_slice(&bytes[..used]);
            self.filled += used;
            if self.filled < 8 {
                return Ok((used, None));
            }
            let [_, _, _, _, a, b, c, d] = self.header;
            self.left = u32::from_be_bytes([a, b, c, d]) as usize;
            if self.left == 0 {
                self.filled = 0;
            }
        }
        let target = match self.header[0] {
            0 | 1 => Target::Stdout,
            2 => Target::Stderr,
            3 => Target::Daemon,
            other => return Err(format!("Unrecognized input header: {other}")),
        };
        let rest = &bytes[used..];
        let payload = &rest[..self.left.min(rest.len())];
        self.left -= payload.len();
        if self.left == 0 {
            self.filled = 0;
        }
        let run = (!payload.is_empty()).then_some((target, payload));
        Ok((used + payload.len(), run))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stream: u8, text: &str) -> Vec<u8> {
        let mut bytes = vec![stream, 0, 0, 0];
        bytes.extend((text.len() as u32).to_be_bytes());
        bytes.extend(text.as_bytes());
        bytes
    }

    fn collect(bytes: &[u8], piece: usize) -> (String, String) {
        let mut frames = Frames::default();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        for mut piece in bytes.chunks(piece) {
            while !piece.is_empty() {
                let (used, run) = frames.next(piece).unwrap();
                match run {
                    Some((Target::Stdout, payload)) => out.extend_from_slice(payload),
                    Some((Target::Stderr, payload)) => err.extend_from_slice(payload),
                    _ => {}
                }
                piece = &piece[used..];
            }
        }
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(out), text(err))
    }

    #[test]
    fn frames_come_apart_in_any_pieces() {
        let bytes = [
            frame(1, "one "),
            frame(2, "zwei"),
            frame(1, ""),
            frame(1, "two"),
        ]
        .concat();
        for piece in 1..=bytes.len() {
            assert_eq!(collect(&bytes, piece), ("one two".into(), "zwei".into()));
        }
    }

    #[test]
    fn a_foreign_stream_is_told() {
        let wrong = Frames::default().next(b"hello world").unwrap_err();
        assert_eq!(wrong, "Unrecognized input header: 104");
    }
}
