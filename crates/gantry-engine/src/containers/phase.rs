//! What those who wait for a container are told: a counter of exits, and the end.

/// The part of a container's life that `wait` watches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Phase {
    /// Exits (and failed starts) so far in this daemon's life.
    pub exits: u64,
    pub alive: bool,
    pub removed: bool,
    pub code: i32,
    /// Why the removal that somebody waits for failed.
    pub error: String,
}

/// `condition` of `POST /containers/{id}/wait`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitCondition {
    #[default]
    NotRunning,
    NextExit,
    Removed,
}

impl WaitCondition {
    /// Docker's words; empty is `not-running`.
    pub fn parse(text: &str) -> crate::Result<Self> {
        match text {
            "" | "not-running" => Ok(Self::NotRunning),
            "next-exit" => Ok(Self::NextExit),
            "removed" => Ok(Self::Removed),
            other => Err(crate::Error::invalid(format!(
                "invalid condition: {other:?}"
            ))),
        }
    }

    /// Whether `now` ends a wait that began when `before` exits had been counted.
    pub fn is_met(self, before: u64, now: &Phase) -> bool {
        match self {
            // COMPAT: an exit ends the wait, also when a restart policy brings the container back.
            Self::NotRunning => !now.alive || now.exits > before || now.removed,
            Self::NextExit => now.exits > before || now.removed,
            Self::Removed => now.removed || !now.error.is_empty(),
        }
    }
}
