//! Where a text stops being JSON, in the words of Go's scanner.

/// What Go says of a text that is no JSON value; `None` where Go would take it.
pub(super) fn complaint(text: &[u8]) -> Option<String> {
    let mut scanner = Scanner { text, at: 0 };
    scanner.space();
    if scanner.at == text.len() {
        return Some("EOF".to_owned());
    }
    match scanner.value(0) {
        Ok(()) => {
            scanner.space();
            (scanner.at < text.len()).then(|| "unexpected content after JSON".to_owned())
        }
        Err(Stop::End) => Some("unexpected EOF".to_owned()),
        Err(Stop::Deep) => Some("exceeded max depth".to_owned()),
        Err(Stop::Bad(context)) => Some(format!(
            "invalid character {} {context}",
            quote(scanner.text[scanner.at])
        )),
    }
}

// COMPAT: Go takes 10,000 levels; nothing that the API knows has more than ten.
const DEEPEST: usize = 128;

enum Stop {
    End,
    Deep,
    Bad(&'static str),
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

type Step = Result<(), Stop>;

impl Scanner<'_> {
    fn peek(&self) -> Result<u8, Stop> {
        self.text.get(self.at).copied().ok_or(Stop::End)
    }

    fn space(&mut self) {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Step {
        if depth > DEEPEST {
            return Err(Stop::Deep);
        }
        self.space();
        match self.peek()? {
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => self.string(),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.word(
                b"true",
                [
                    "in literal true (expecting 'r')",
                    "in literal true (expecting 'u')",
                    "in literal true (expecting 'e')",
                    "",
                ],
            ),
            b'f' => self.word(
                b"false",
                [
                    "in literal false (expecting 'a')",
                    "in literal false (expecting 'l')",
                    "in literal false (expecting 's')",
                    "in literal false (expecting 'e')",
                ],
            ),
            b'n' => self.word(
                b"null",
                [
                    "in literal null (expecting 'u')",
                    "in literal null (expecting 'l')",
                    "in literal null (expecting 'l')",
                    "",
                ],
            ),
            _ => Err(Stop::Bad("looking for beginning of value")),
        }
    }

    fn object(&mut self, depth: usize) -> Step {
        self.at += 1;
        self.space();
        if self.peek()? == b'}' {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.space();
            if self.peek()? != b'"' {
                return Err(Stop::Bad("looking for beginning of object key string"));
            }
            self.string()?;
            self.space();
            if self.peek()? != b':' {
                return Err(Stop::Bad("after object key"));
            }
            self.at += 1;
            self.value(depth + 1)?;
            self.space();
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(Stop::Bad("after object key:value pair")),
            }
        }
    }

    fn array(&mut self, depth: usize) -> Step {
        self.at += 1;
        self.space();
        if self.peek()? == b']' {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value(depth + 1)?;
            self.space();
            match self.peek()? {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(Stop::Bad("after array element")),
            }
        }
    }

    fn string(&mut self) -> Step {
        self.at += 1;
        loop {
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                b'\\' => {
                    self.at += 1;
                    match self.peek()? {
                        b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => self.at += 1,
                        b'u' => {
                            self.at += 1;
                            for _ in 0..4 {
                                if !self.peek()?.is_ascii_hexdigit() {
                                    return Err(Stop::Bad("in \\u hexadecimal character escape"));
                                }
                                self.at += 1;
                            }
                        }
                        _ => return Err(Stop::Bad("in string escape code")),
                    }
                }
                0..=0x1f => return Err(Stop::Bad("in string literal")),
                _ => self.at += 1,
            }
        }
    }

    fn digits(&mut self, context: &'static str) -> Step {
        if !self.peek()?.is_ascii_digit() {
            return Err(Stop::Bad(context));
        }
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Step {
        if self.peek()? == b'-' {
            self.at += 1;
        }
        if self.peek()? == b'0' {
            self.at += 1;
        } else {
            self.digits("in numeric literal")?;
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits("after decimal point in numeric literal")?;
        }
        if matches!(self.text.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek()?, b'+' | b'-') {
                self.at += 1;
            }
            self.digits("in exponent of numeric literal")?;
        }
        Ok(())
    }

    fn word(&mut self, word: &[u8], contexts: [&'static str; 4]) -> Step {
        self.at += 1;
        for (expected, context) in word[1..].iter().zip(contexts) {
            if self.peek()? != *expected {
                return Err(Stop::Bad(context));
            }
            self.at += 1;
        }
        Ok(())
    }
}

/// Go's way to show the byte (taken as a Latin-1 character).
fn quote(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        b'\\' => r"'\\'".to_owned(),
        b'\n' => r"'\n'".to_owned(),
        b'\r' => r"'\r'".to_owned(),
        b'\t' => r"'\t'".to_owned(),
        0..=0x1f | 0x7f..=0xa0 => format!("'\\x{byte:02x}'"),
        _ => format!("'{}'", char::from(byte)),
    }
}
