//! The state machine of a container: one table of states and operations, which every handler asks.
//!
//! `docs/states.md` shows it as a picture; a test holds the two together. What clients ask for is refused in
//! Docker's words; what happens by itself ([`Operation::Exit`] and those after it) is `Nothing` where it comes too late.

use super::record::{State, Status};
use crate::error::{Error, ErrorKind, Result};

/// What is done to a container, or happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Start,
    Restart,
    Stop,
    /// A signal that ends it for good: SIGKILL or its stop signal.
    Kill,
    /// Any other signal.
    Signal,
    Pause,
    Unpause,
    Rename,
    Update,
    Remove,
    RemoveByForce,
    Exec,
    Attach,
    Resize,
    Top,
    Stats,
    /// Its processes have ended.
    Exit,
    /// They have, and the restart policy brings them back after a pause.
    ExitForAWhile,
    /// That pause is over.
    StartAgain,
    /// No restart follows after all: it was stopped, or the start failed.
    GiveUp,
    /// A signal let frozen processes go on.
    Thaw,
    RemovalFailed,
    /// A daemon that starts finds the processes running.
    FoundRunning,
    /// It finds them frozen.
    FoundFrozen,
    /// It brings an ended container back.
    BringBack,
}

/// What comes of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done, and when it has succeeded the container is in this state.
    Becomes(Status),
    /// It is done and the state stays.
    Stays,
    /// There is nothing to do (304 where a client asked).
    Nothing,
    Refused(Refusal),
}

/// Why an operation is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    NotRunning,
    StartOfPaused,
    AlreadyPaused,
    NotPaused,
    ExecInPaused,
    AttachToPaused,
    Restarting,
    AttachToRestarting,
    RemovalOfRunning,
    RemovalOfPaused,
    RemovalOfRestarting,
    RemovalGoesOn,
    StartOfDead,
    UpdateOfDead,
    AttachToDead,
}

/// The table.
pub fn outcome(status: Status, operation: Operation) -> Outcome {
    use Operation as O;
    use Outcome::{Becomes, Nothing, Refused, Stays};
    use Refusal as R;
    use Status as S;
    match (operation, status) {
        (O::Start, S::Created | S::Exited) => Becomes(S::Running),
        (O::Start, S::Running | S::Restarting) => Nothing,
        (O::Start, S::Paused) => Refused(R::StartOfPaused),

        (O::Restart, S::Created | S::Exited | S::Running | S::Paused | S::Restarting) => {
            Becomes(S::Running)
        }
        (O::Start | O::Restart, S::Removing | S::Dead) => Refused(R::StartOfDead),

        (O::Stop, S::Running | S::Paused | S::Restarting) => Becomes(S::Exited),
        (O::Stop, S::Created | S::Exited | S::Removing | S::Dead) => Nothing,

        // The exit is seen later.
        (O::Kill | O::Signal, S::Running | S::Paused) => Stays,
        (O::Kill, S::Restarting) => Becomes(S::Exited),
        (O::Signal, S::Restarting) => Nothing,
        (O::Kill | O::Signal | O::Pause, S::Created | S::Exited | S::Removing | S::Dead) => {
            Refused(R::NotRunning)
        }

        (O::Pause, S::Running) => Becomes(S::Paused),
        (O::Pause, S::Paused) => Refused(R::AlreadyPaused),
        (O::Pause, S::Restarting) => Refused(R::Restarting),
        (O::Unpause, S::Paused) => Becomes(S::Running),
        (O::Unpause, _) => Refused(R::NotPaused),

        (O::Rename, S::Removing) => Refused(R::RemovalGoesOn),
        (O::Rename | O::Stats, _) => Stays,
        (O::Update, S::Removing | S::Dead) => Refused(R::UpdateOfDead),
        (O::Update, _) => Stays,

        (O::Remove, S::Running) => Refused(R::RemovalOfRunning),
        (O::Remove, S::Paused) => Refused(R::RemovalOfPaused),
        (O::Remove, S::Restarting) => Refused(R::RemovalOfRestarting),
        (O::Remove | O::RemoveByForce, S::Removing) => Refused(R::RemovalGoesOn),
        (O::Remove | O::RemoveByForce, _) => Becomes(S::Removing),

        (O::Exec, S::Running) => Stays,
        (O::Exec, S::Paused) => Refused(R::ExecInPaused),
        (O::Exec | O::Top, S::Restarting) => Refused(R::Restarting),
        (O::Top | O::Resize, S::Running | S::Paused) => Stays,
        (O::Exec | O::Top | O::Resize, _) => Refused(R::NotRunning),

        (O::Attach, S::Created | S::Running | S::Exited) => Stays,
        (O::Attach, S::Paused) => Refused(R::AttachToPaused),
        (O::Attach, S::Restarting) => Refused(R::AttachToRestarting),
        (O::Attach, S::Removing | S::Dead) => Refused(R::AttachToDead),

        (O::Exit, S::Running | S::Paused) => Becomes(S::Exited),
        (O::ExitForAWhile, S::Running | S::Paused) => Becomes(S::Restarting),
        (O::StartAgain, S::Restarting) => Becomes(S::Running),
        (O::GiveUp, S::Restarting) => Becomes(S::Exited),
        (O::Thaw, S::Paused) => Becomes(S::Running),
        (O::RemovalFailed, S::Removing) => Becomes(S::Dead),
        (O::FoundRunning, S::Removing | S::Dead) => Nothing,
        (O::FoundRunning, _) => Becomes(S::Running),
        (O::FoundFrozen, S::Removing | S::Dead) => Nothing,
        (O::FoundFrozen, _) => Becomes(S::Paused),
        (O::BringBack, S::Exited | S::Restarting) => Becomes(S::Restarting),
        (
            O::Exit
            | O::ExitForAWhile
            | O::StartAgain
            | O::GiveUp
            | O::Thaw
            | O::RemovalFailed
            | O::BringBack,
            _,
        ) => Nothing,
    }
}

impl Refusal {
    /// Docker's words and kind. `name` is what the client called the container.
    pub fn error(self, id: &str, name: &str) -> Error {
        let words = match self {
            Self::NotRunning => format!("container {id} is not running"),
            Self::StartOfPaused => "cannot start a paused container, try unpause instead".into(),
            Self::AlreadyPaused => format!("Container {id} is already paused"),
            Self::NotPaused => {
                // COMPAT: the only one of these that Docker answers with 500.
                return Error::system(format!("Container {id} is not paused"));
            }
            Self::ExecInPaused => {
                format!("Container {name} is paused, unpause the container before exec")
            }
            Self::AttachToPaused => {
                format!("container {name} is paused, unpause the container before attach")
            }
            Self::Restarting => {
                format!("Container {id} is restarting, wait until the container is running")
            }
            Self::AttachToRestarting => {
                format!("container {name} is restarting, wait until the container is running")
            }
            Self::RemovalOfRunning => removal(name, "running"),
            Self::RemovalOfRestarting => removal(name, "restarting"),
            Self::RemovalOfPaused => format!(
                "cannot remove container \"{name}\": container is paused and must be unpaused first"
            ),
            Self::RemovalGoesOn => format!("removal of container {name} is already in progress"),
            Self::StartOfDead => "container is marked for removal and cannot be started".into(),
            Self::UpdateOfDead => format!(
                "Cannot update container {id}: container is marked for removal and cannot be \"update\""
            ),
            Self::AttachToDead => format!("container {id} is marked for removal"),
        };
        Error::conflict(words)
    }
}

fn removal(name: &str, state: &str) -> String {
    format!(
        "cannot remove container \"{name}\": container is {state}: stop the container before removing or force remove"
    )
}

impl State {
    /// Asks whether an operation may be done now; `NotModified` when there is nothing to do.
    pub(super) fn ask(&self, operation: Operation, id: &str, name: &str) -> Result<Outcome> {
        match outcome(self.status, operation) {
            Outcome::Refused(refusal) => Err(refusal.error(id, name)),
            Outcome::Nothing => Err(Error::new(ErrorKind::NotModified, "")),
            other => Ok(other),
        }
    }

    /// Notes that an operation has been done. False, and nothing is changed, where it cannot be done (any more).
    pub(super) fn enter(&mut self, operation: Operation) -> bool {
        match outcome(self.status, operation) {
            Outcome::Becomes(status) => {
                self.status = status;
                true
            }
            Outcome::Stays => true,
            Outcome::Nothing | Outcome::Refused(_) => false,
        }
    }
}

#[cfg(test)]
mod tests;
