//! How a command ends when it does not end well: what is printed and the exit code.

/// A failed command. An empty text prints nothing.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) text: String,
    pub(crate) code: u8,
}

/// A finished command: its exit code.
pub(crate) type Outcome = Result<u8, Failure>;

impl Failure {
    pub(crate) fn new(text: impl Into<String>) -> Failure {
        Failure {
            text: text.into(),
            code: 1,
        }
    }

    /// Ends with `code` and prints nothing more.
    pub(crate) fn quiet(code: u8) -> Failure {
        Failure {
            text: String::new(),
            code,
        }
    }

    pub(crate) fn with_code(mut self, code: u8) -> Failure {
        self.code = code;
        self
    }

    /// Several failures of one command: a line each.
    pub(crate) fn all(texts: Vec<String>) -> Outcome {
        if texts.is_empty() {
            return Ok(0);
        }
        Err(Failure::new(texts.join("\n")))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        // Whoever read our output has gone; that is not worth a word.
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Failure::quiet(1);
        }
        Failure::new(error.to_string())
    }
}
