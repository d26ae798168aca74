//! `--disable-content-trust`: Docker's Notary signatures, which we neither make nor check.

use crate::failure::Failure;
use crate::flags::FlagValue;

/// The flag's state. Its default counts as the first time it is set.
#[derive(Debug, Default)]
pub(super) struct Untrusted {
    times: u32,
    on: bool,
}

impl FlagValue for Untrusted {
    const KIND: &'static str = "";
    const SWITCH: bool = true;
    fn accept(&mut self, text: &str) -> Result<(), String> {
        self.times += 1;
        self.on.accept(text)
    }
}

impl Untrusted {
    /// Fails where signatures are asked for, by the flag or by `$DOCKER_CONTENT_TRUST`: to go on without them would not be
    /// what was meant.
    // COMPAT: Docker's client asks a Notary server.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let mut wanted = false;
        let text = std::env::var("DOCKER_CONTENT_TRUST").unwrap_or_default();
        wanted.accept(&text).ok();
        let untrusted = if self.times > 1 { self.on } else { !wanted };
        if untrusted {
            return Ok(());
        }
        Err(Failure::new(
            "content trust by Notary is not supported: leave --disable-content-trust and DOCKER_CONTENT_TRUST as they are \
             by default",
        ))
    }
}
