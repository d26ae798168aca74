//! `stop` and `kill`: signals to the first process, by its pidfd (a stopped shim cannot hold them up).

use super::record::{Record, Status};
use super::transition::{Operation, Outcome, Refusal};
use super::{Container, Containers, lock, signal};
use crate::error::{Error, ErrorKind, Result};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

/// Seconds between the stop signal and SIGKILL, where neither request nor container say.
const STOP_TIMEOUT: i64 = 10;
const KILL: i32 = 9;
/// How long a killed container may take to end before the request fails.
const KILL_WAIT: Duration = Duration::from_secs(10);

impl Containers {
    /// Sends a signal (a name or a number; empty: SIGKILL).
    pub async fn kill(self: &Arc<Self>, name: &str, signal: &str) -> Result<()> {
        let container = self.find(name)?;
        let prefix = |e: Error| {
            Error::new(
                e.kind,
                format!("cannot kill container: {name}: {}", e.message),
            )
        };
        let number =
            parse_signal(if signal.is_empty() { "KILL" } else { signal }).map_err(prefix)?;
        let operation = if ends(&container.record(), number) {
            Operation::Kill
        } else {
            Operation::Signal
        };
        let ask = || container.record().state.ask(operation, &container.id, name);
        let mut asked = ask();
        if let Ok(Outcome::Becomes(_)) = asked {
            // Between two runs: in turn, as its next start may be on its way.
            let _turn = container.turn.lock().await;
            if self.not_restarted(&container, true) {
                return Ok(());
            }
            asked = ask();
        }
        match asked {
            // It has no process now, and a signal that does not end it is of no use.
            Err(error) if error.kind == ErrorKind::NotModified => return Ok(()),
            other => other.map_err(prefix)?,
        };
        self.send(&container, number).await.map_err(prefix)?;
        if number == KILL {
            // As Docker: the answer to a SIGKILL comes when the container has ended.
            let _ = tokio::time::timeout(KILL_WAIT, container.not_alive()).await;
        }
        Ok(())
    }

    /// Ends a container; false when it was not running.
    pub async fn stop(
        self: &Arc<Self>,
        name: &str,
        signal: Option<&str>,
        timeout: Option<i64>,
    ) -> Result<bool> {
        let container = self.find(name)?;
        let signal = signal
            .filter(|s| !s.is_empty())
            .map(parse_signal)
            .transpose()?;
        let this = self.clone();
        crate::to_the_end(async move {
            let _turn = container.turn.lock().await;
            this.stop_in_turn(&container, signal, timeout).await
        })
        .await?
    }

    /// Ends a container; the caller holds its turn.
    pub(super) async fn stop_in_turn(
        self: &Arc<Self>,
        container: &Arc<Container>,
        signal: Option<i32>,
        timeout: Option<i64>,
    ) -> Result<bool> {
        let asked = container
            .record()
            .state
            .ask(Operation::Stop, &container.id, "");
        match asked {
            Err(error) if error.kind == ErrorKind::NotModified => return Ok(false),
            other => other?,
        };
        if self.not_restarted(container, true) {
            self.context.tell(&container.snapshot(), "stop", &[]);
            return Ok(true);
        }
        let record = container.snapshot();
        let signal = signal
            .or_else(|| signal::parse(&record.config.stop_signal))
            .unwrap_or(15);
        let timeout = timeout
            .or(record.config.stop_timeout)
            .unwrap_or(STOP_TIMEOUT);
        let sent = self.send(container, signal).await;
        let ended = match (sent, u64::try_from(timeout)) {
            (Err(_), _) => false,
            (Ok(()), Err(_)) => {
                container.not_alive().await;
                true
            }
            (Ok(()), Ok(seconds)) => {
                tokio::time::timeout(Duration::from_secs(seconds), container.not_alive())
                    .await
                    .is_ok()
            }
        };
        if !ended {
            self.kill_in_turn(container).await?;
        }
        self.context.tell(&container.snapshot(), "stop", &[]);
        Ok(true)
    }

    /// SIGKILL, and waits for the end.
    pub(super) async fn kill_in_turn(self: &Arc<Self>, container: &Arc<Container>) -> Result<()> {
        if self.not_restarted(container, true) || !container.record().state.status.is_alive() {
            return Ok(());
        }
        let sent = self.send(container, KILL).await;
        if tokio::time::timeout(KILL_WAIT, container.not_alive())
            .await
            .is_ok()
        {
            return Ok(());
        }
        sent?;
        Err(Error::system(format!(
            "tried to kill container {}, but did not receive an exit event within {} s: a process of it may be stuck in the kernel",
            container.id,
            KILL_WAIT.as_secs()
        )))
    }

    /// Sends a signal to the first process, tells of it, and lets it come through where the container is frozen.
    async fn send(self: &Arc<Self>, container: &Arc<Container>, number: i32) -> Result<()> {
        let frozen = container.freezing.lock().await;
        let (record, ends) = {
            let mut record = container.record();
            let ends = ends(&record, number);
            // COMPAT: as Docker, any signal by hand keeps `unless-stopped` from bringing it back.
            record.state.stopped_by_user = true;
            (record.clone(), ends)
        };
        {
            let mut live = lock(&container.live);
            live.restarts_cancelled |= ends;
            live.killed |= number == KILL;
        }
        // A daemon that dies before the end must not bring it back.
        if !matches!(record.host_config.restart_policy.name.as_str(), "" | "no")
            && let Err(error) = self.save_state(container)
        {
            tracing::error!(container = %container.id, %error, "cannot record that the container is to end");
        }
        container.signal(number)?;
        if ends && record.state.status == Status::Paused {
            self.thaw(container).await?;
        }
        drop(frozen);
        self.context
            .tell(&record, "kill", &[("signal", &number.to_string())]);
        Ok(())
    }
}

/// Whether a signal is meant to end the container for good.
// COMPAT: as Docker: SIGKILL and the container's stop signal; where it has none of its own, every signal.
fn ends(record: &Record, number: i32) -> bool {
    let own = &record.config.stop_signal;
    number == KILL || own.is_empty() || signal::parse(own) == Some(number)
}

impl Container {
    /// Waits until no process of the container is left.
    pub(super) async fn not_alive(&self) {
        let mut phases = self.phase.subscribe();
        let _ = phases.wait_for(|phase| !phase.alive).await;
    }

    /// Sends a signal to the first process.
    pub(super) fn signal(&self, number: i32) -> Result<()> {
        let live = lock(&self.live);
        let pidfd = live.pidfd.as_ref().ok_or_else(|| not_running(&self.id))?;
        match gantry_runtime::signal::send(pidfd.as_fd(), number) {
            Err(error) if error.raw_os_error() == Some(3) => Err(not_running(&self.id)),
            other => other.map_err(|e| Error::caused("cannot send the signal", e)),
        }
    }
}

/// Docker's answer to what needs a running container.
pub(super) fn not_running(id: &str) -> Error {
    Refusal::NotRunning.error(id, id)
}

fn parse_signal(text: &str) -> Result<i32> {
    signal::parse(text).ok_or_else(|| Error::invalid(format!("invalid signal: {text}")))
}
