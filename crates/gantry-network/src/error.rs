//! What can go wrong with a network.
use crate::netlink::Refusal;
use std::io;

#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// What was asked for makes no sense here.
    #[error("{0}")]
    Invalid(String),
    /// The kernel refused; `what` says what was tried and on what.
    #[error("{what}")]
    Kernel {
        what: String,
        #[source]
        source: io::Error,
    },
    /// No free address of that family (4 or 6).
    #[error("no available IPv{family} addresses on this network's address pools: {network}")]
    Exhausted { family: u8, network: String },
    /// The address that was asked for belongs to another endpoint.
    #[error("Address already in use")]
    AddressInUse,
    /// A host port that cannot be had, in Docker's words.
    #[error("{0}")]
    Port(String),
    /// Errors of a clean-up, which goes on after each.
    #[error("{}", .0.iter().map(with_source).collect::<Vec<_>>().join("; "))]
    Several(Vec<NetworkError>),
}

impl NetworkError {
    /// For `map_err`: an operation of the kernel, with its own text where it gave one.
    pub(crate) fn kernel<E: Into<Refusal>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let mut what = what.into();
        move |error| {
            let refusal = error.into();
            if let Some(text) = refusal.text {
                what = format!("{what} ({text})");
            }
            Self::Kernel {
                what,
                source: refusal.error,
            }
        }
    }

    /// One error for what a clean-up collected.
    pub(crate) fn all(mut errors: Vec<NetworkError>) -> Result<(), NetworkError> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Self::Several(errors)),
        }
    }
}

fn with_source(error: &NetworkError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
