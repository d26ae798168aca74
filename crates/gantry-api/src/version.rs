//! The version of the API that a request speaks, and the versions of this engine.

use std::fmt;
use std::str::FromStr;

/// The newest version that this engine speaks.
pub const CURRENT: ApiVersion = ApiVersion::new(1, 51);
/// The oldest version that this engine speaks.
pub const MINIMUM: ApiVersion = ApiVersion::new(1, 24);

/// The Docker Engine whose behaviour is offered.
pub const DOCKER: &str = "28.5.2";
/// The version of Gantry itself.
pub const GANTRY: &str = env!("CARGO_PKG_VERSION");

/// What `version` and `info` call the server's version: Docker's, with Gantry's as build metadata.
// COMPAT: clients compare the server's version with Docker releases (minikube, Dev Containers), so that
// Gantry's own number cannot stand there alone.
pub fn server_version() -> String {
    format!("{DOCKER}+gantry.{GANTRY}")
}

/// `major.minor`, ordered by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion {
    major: u16,
    minor: u16,
}

/// The text is no API version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoApiVersion;

impl ApiVersion {
    /// A version by its numbers.
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }

    /// Whether container streams without a terminal have a content type of their own
    /// (`application/vnd.docker.multiplexed-stream`, since 1.42).
    pub fn names_multiplexed_streams(self) -> bool {
        self >= Self::new(1, 42)
    }

    /// Whether images have a `VirtualSize` (up to 1.43).
    pub fn has_virtual_size(self) -> bool {
        self < Self::new(1, 44)
    }

    /// Whether an event carries the old `status`, `id` and `from` (up to 1.51).
    pub fn has_old_event_fields(self) -> bool {
        self < Self::new(1, 52)
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for ApiVersion {
    type Err = NoApiVersion;

    fn from_str(text: &str) -> Result<Self, NoApiVersion> {
        let (major, minor) = text.split_once('.').ok_or(NoApiVersion)?;
        let number = |part: &str| {
            if part.bytes().all(|b| b.is_ascii_digit()) {
                part.parse().map_err(|_| NoApiVersion)
            } else {
                Err(NoApiVersion)
            }
        };
        Ok(Self::new(number(major)?, number(minor)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_number() {
        let parse = |text: &str| text.parse::<ApiVersion>().unwrap();
        assert!(parse("1.9") < parse("1.24"));
        assert_eq!(parse("1.51"), CURRENT);
        assert_eq!(parse("1.51").to_string(), "1.51");
        for bad in ["", "1", "1.", ".1", "1.+4", "1.2.3", "a.b", "1.99999999"] {
            assert!(bad.parse::<ApiVersion>().is_err(), "{bad}");
        }
    }
}
