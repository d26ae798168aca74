//! Restart policies, and `restart`.
//!
//! Between an exit and the next start the container is `restarting`: those who wait for its end go on waiting, and `stop`
//! makes it `exited` at once.

use super::record::Record;
use super::transition::Operation;
use super::{Container, Containers, signal};
use crate::error::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::time::Duration;

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// A run that lasts so long makes the next delay the first one again.
const STEADY: Duration = Duration::from_secs(10);

/// The pause before the next start: 100 ms, doubled up to a minute.
#[derive(Debug, Default)]
pub(super) struct BackOff(Option<Duration>);

impl BackOff {
    /// The pause after a run of this length.
    pub(super) fn next(&mut self, ran: Duration) -> Duration {
        let delay = match self.0 {
            Some(last) if ran < STEADY => (last * 2).min(LONGEST_DELAY),
            _ => FIRST_DELAY,
        };
        self.0 = Some(delay);
        delay
    }
}

/// Whether the policy brings a container back that has just ended and that nobody has asked to end.
pub(super) fn wanted(record: &Record) -> bool {
    let policy = &record.host_config.restart_policy;
    match policy.name.as_str() {
        "always" => true,
        "unless-stopped" => !record.state.stopped_by_user,
        "on-failure" => {
            let left = policy.maximum_retry_count == 0
                || record.restart_count < policy.maximum_retry_count;
            record.state.exit_code != 0 && left
        }
        _ => false,
    }
}

/// Whether a daemon that starts brings an ended container back: `always` means it even after a `stop`.
// COMPAT: Docker's `on-failure` brings a container back, too, whose `stop` had to use SIGKILL; here a stop is final.
pub(super) fn wanted_at_start(record: &Record) -> bool {
    let on_failure = record.host_config.restart_policy.name == "on-failure";
    record.state.started_at.is_some()
        && wanted(record)
        && !(on_failure && record.state.stopped_by_user)
}

/// Counts a restart and tells the pause before it; `None` where an ended container stays ended. `cancelled`: somebody has
/// asked for the end of this run.
pub(super) fn decide(
    record: &mut Record,
    cancelled: bool,
    back_off: &mut BackOff,
) -> Option<Duration> {
    if cancelled || !wanted(record) {
        return None;
    }
    record.restart_count += 1;
    let state = &record.state;
    let ran = match (state.started_at, state.finished_at) {
        (Some(from), Some(to)) => Duration::try_from(to.duration_since(from)).unwrap_or_default(),
        _ => Duration::ZERO,
    };
    Some(back_off.next(ran))
}

impl Containers {
    /// Starts a `restarting` container after its pause, unless it is stopped or removed meanwhile.
    pub(super) fn restart_later(self: &Arc<Self>, container: &Arc<Container>, delay: Duration) {
        let (this, container) = (self.clone(), container.clone());
        let exits = container.phase.borrow().exits;
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let _turn = container.turn.lock().await;
            // It was stopped, started and has ended again: that end has a pause of its own.
            if container.phase.borrow().exits != exits {
                return;
            }
            if let Err(error) = this.start_in_turn(&container, Operation::StartAgain).await {
                if error.kind == ErrorKind::NotModified {
                    return;
                }
                tracing::warn!(container = %container.id, %error, "cannot restart");
                this.not_restarted(&container, false);
            }
        });
    }

    /// A `restarting` container becomes `exited`; false where it is not restarting. `by_user`: somebody asked for it.
    pub(super) fn not_restarted(&self, container: &Container, by_user: bool) -> bool {
        let record = {
            let mut record = container.record();
            if !record.state.enter(Operation::GiveUp) {
                return false;
            }
            record.state.stopped_by_user |= by_user;
            record.clone()
        };
        if let Err(error) = self.save_state(container) {
            tracing::error!(container = %container.id, %error, "cannot record the end of restarts");
        }
        container.phase.send_modify(|phase| {
            phase.exits += 1;
            phase.alive = false;
            phase.code = record.state.exit_code;
        });
        true
    }

    /// Stops (where it runs) and starts.
    pub async fn restart(
        self: &Arc<Self>,
        name: &str,
        signal: Option<&str>,
        timeout: Option<i64>,
    ) -> Result<()> {
        let container = self.find(name)?;
        let number = match signal.filter(|s| !s.is_empty()) {
            // COMPAT: Docker answers 500 here and 400 elsewhere.
            Some(text) => Some(signal::parse(text).ok_or_else(|| {
                Error::system(format!(
                    "Cannot restart container {name}: invalid signal: {text}"
                ))
            })?),
            None => None,
        };
        let (this, name) = (self.clone(), name.to_owned());
        crate::to_the_end(async move {
            let _turn = container.turn.lock().await;
            let asked = container
                .record()
                .state
                .ask(Operation::Restart, &container.id, &name);
            // COMPAT: Docker has no other status than 500 for a restart that fails.
            let wrap =
                |e: Error| Error::system(format!("Cannot restart container {name}: {}", e.message));
            asked.map_err(wrap)?;
            this.stop_in_turn(&container, number, timeout)
                .await
                .map_err(wrap)?;
            this.start_in_turn(&container, Operation::Restart)
                .await
                .map_err(wrap)?;
            this.context.tell(&container.snapshot(), "restart", &[]);
            Ok(())
        })
        .await?
    }
}

#[cfg(test)]
mod tests;
