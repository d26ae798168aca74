//! Health checks: a probe is an exec, its results are counted, and the container's health follows from them.
//!
//! The rules are those of Docker Engine 28 (daemon/health.go), and one more: what happens to a container that becomes
//! unhealthy (`OnFailure`).

use super::exec::ExecAttach;
use super::record::{Record, Status};
use super::{Container, Containers, lock};
use gantry_api::container::{ContainerConfig, Health, HealthConfig, HealthResult};
use gantry_api::exec::ExecOptions;
use jiff::Timestamp;
use rustix::process::Signal;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;

const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: i64 = 3;
/// Results that are kept.
const KEPT: usize = 5;
/// Bytes kept of a probe's output.
const OUTPUT: usize = 4096;
/// How long a killed probe may take to end.
const GRACE: Duration = Duration::from_secs(5);

const STARTING: &str = "starting";
const HEALTHY: &str = "healthy";
const UNHEALTHY: &str = "unhealthy";

/// Ends a container's probes when it is dropped.
#[derive(Debug)]
pub(super) struct Monitor(tokio::task::AbortHandle);

impl Drop for Monitor {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What is run as a probe; none where there is no check.
fn command(config: &ContainerConfig) -> Option<Vec<String>> {
    let test = config.healthcheck.as_ref()?.test.as_deref()?;
    match test.first()?.as_str() {
        "CMD" if test.len() > 1 => Some(test[1..].to_vec()),
        "CMD-SHELL" if test.len() > 1 => {
            let shell = config.shell.clone().filter(|shell| !shell.is_empty());
            let mut all = shell.unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()]);
            all.extend_from_slice(&test[1..]);
            Some(all)
        }
        _ => None,
    }
}

/// The health in words, for `ps` and its filters: `none` without a check.
pub(super) fn word(record: &Record) -> &str {
    match &record.state.health {
        Some(health) if !health.status.is_empty() => &health.status,
        _ => "none",
    }
}

/// The health at the beginning of a run; results of the last one stay.
pub(super) fn begin(record: &mut Record) {
    if command(&record.config).is_none() {
        record.state.health = None;
        return;
    }
    let health = record.state.health.get_or_insert_default();
    STARTING.clone_into(&mut health.status);
    health.failing_streak = 0;
}

/// The health of a container that has ended.
pub(super) fn end(record: &mut Record) {
    if let Some(health) = &mut record.state.health {
        // COMPAT: for Docker a container that is not there is not healthy.
        UNHEALTHY.clone_into(&mut health.status);
    }
}

fn given(nanoseconds: i64, otherwise: Duration) -> Duration {
    match u64::try_from(nanoseconds) {
        Ok(n) if n > 0 => Duration::from_nanos(n),
        _ => otherwise,
    }
}

/// The pause before the next probe, counted from the end of the last one.
fn pause(config: &HealthConfig, health: &Health, since_start: Duration) -> Duration {
    let in_start_period = since_start < given(config.start_period, Duration::ZERO);
    if in_start_period && health.status == STARTING {
        given(config.start_interval, START_INTERVAL)
    } else {
        given(config.interval, INTERVAL)
    }
}

/// Counts a result; true where the status has changed. `since_start` is when the probe began.
fn count(
    config: &HealthConfig,
    health: &mut Health,
    result: HealthResult,
    since_start: Duration,
) -> bool {
    let before = health.status.clone();
    if result.exit_code == 0 {
        health.failing_streak = 0;
        HEALTHY.clone_into(&mut health.status);
    } else {
        let excused =
            health.status == STARTING && since_start < given(config.start_period, Duration::ZERO);
        if !excused {
            health.failing_streak += 1;
            let retries = match config.retries {
                ..=0 => RETRIES,
                given => given,
            };
            if health.failing_streak >= retries {
                UNHEALTHY.clone_into(&mut health.status);
            }
        }
    }
    health.log.push(result);
    if health.log.len() > KEPT {
        health.log.remove(0);
    }
    before != health.status
}

impl Containers {
    /// Probes a running container until it ends.
    pub(super) fn watch_health(self: &Arc<Self>, container: &Arc<Container>) {
        let record = container.snapshot();
        let Some(probe) = command(&record.config) else {
            return;
        };
        let Some(config) = record.config.healthcheck.clone() else {
            return;
        };
        let started = record.state.started_at.unwrap_or_default();
        let (this, probed) = (self.clone(), container.clone());
        let task = tokio::spawn(async move {
            loop {
                let health = probed.record().state.health.clone().unwrap_or_default();
                tokio::time::sleep(pause(&config, &health, since(started))).await;
                // Neither does a paused container answer, nor one that is on its way out.
                if probed.record().state.status != Status::Running {
                    continue;
                }
                let began = since(started);
                let result = this.probe(&probed, &probe, &config).await;
                this.note_health(&probed, &config, result, began);
            }
        });
        lock(&container.live).health = Some(Monitor(task.abort_handle()));
    }

    fn note_health(
        self: &Arc<Self>,
        container: &Arc<Container>,
        config: &HealthConfig,
        result: HealthResult,
        since_start: Duration,
    ) {
        let (record, changed) = {
            let mut record = container.record();
            if !record.state.status.is_alive() {
                return;
            }
            let health = record.state.health.get_or_insert_default();
            let changed = count(config, health, result, since_start);
            (record.clone(), changed)
        };
        if let Err(error) = self.save_state(container) {
            tracing::warn!(container = %container.id, %error, "cannot record the health");
        }
        if !changed {
            return;
        }
        self.context
            .tell(&record, &format!("health_status: {}", word(&record)), &[]);
        if word(&record) == UNHEALTHY {
            self.on_failure(container, &config.on_failure);
        }
    }

    /// Does what is asked for when a container has become unhealthy.
    fn on_failure(self: &Arc<Self>, container: &Arc<Container>, action: &str) {
        let (this, container, action) = (self.clone(), container.clone(), action.to_owned());
        // On a task of its own: the end of the container ends the one that probes.
        tokio::spawn(async move {
            let done = match action.as_str() {
                // As if it had died by itself: its restart policy applies.
                "kill" => container.signal(Signal::KILL.as_raw()),
                "restart" => this.restart(&container.id, None, None).await,
                "stop" => this.stop(&container.id, None, None).await.map(drop),
                _ => return,
            };
            if let Err(error) = done {
                tracing::warn!(container = %container.id, %error, action, "cannot act on an unhealthy container");
            }
        });
    }

    /// Runs the probe once.
    async fn probe(
        self: &Arc<Self>,
        container: &Container,
        command: &[String],
        config: &HealthConfig,
    ) -> HealthResult {
        let timeout = given(config.timeout, TIMEOUT);
        let mut result = HealthResult {
            start: Timestamp::now().to_string(),
            ..HealthResult::default()
        };
        let options = ExecOptions {
            attach_stdout: true,
            attach_stderr: true,
            cmd: Some(command.to_vec()),
            ..ExecOptions::default()
        };
        let mut output = Vec::new();
        let outcome = match self.exec_note(&container.id, options, true).await {
            Ok(id) => {
                let running = self.run_probe(&id, &mut output);
                let outcome = match tokio::time::timeout(timeout, running).await {
                    Ok(outcome) => outcome,
                    Err(_) => {
                        self.exec_kill(&id, GRACE).await;
                        let said = std::mem::take(&mut output);
                        let said = match said.is_empty() {
                            true => String::new(),
                            false => format!(": {}", text(said)),
                        };
                        Err(format!(
                            "Health check exceeded timeout ({}){said}",
                            words(timeout)
                        ))
                    }
                };
                self.exec_forget(&id).await;
                outcome
            }
            Err(error) => Err(error.message),
        };
        match outcome {
            Ok(code) => (result.exit_code, result.output) = (code.into(), text(output)),
            Err(why) => (result.exit_code, result.output) = (-1, why),
        }
        result.end = Timestamp::now().to_string();
        result
    }

    async fn run_probe(self: &Arc<Self>, id: &str, output: &mut Vec<u8>) -> Result<i32, String> {
        let started = self.exec_start(id, Some(ExecAttach::default())).await;
        let stream = started.map_err(|e| e.message)?;
        if let Some(mut stream) = stream {
            let mut chunk = [0; 4096];
            while let Ok(n) = stream.socket.read(&mut chunk).await
                && n > 0
            {
                // One byte more than is kept tells that there was more.
                let room = (OUTPUT + 1).saturating_sub(output.len());
                output.extend_from_slice(&chunk[..n.min(room)]);
            }
        }
        self.exec_code(id).await.map_err(|e| e.message)
    }
}

fn since(time: Timestamp) -> Duration {
    Duration::try_from(Timestamp::now().duration_since(time)).unwrap_or_default()
}

/// A probe's output as it is kept.
fn text(mut output: Vec<u8>) -> String {
    let cut = output.len() > OUTPUT;
    output.truncate(OUTPUT);
    let mut text = String::from_utf8_lossy(&output).into_owned();
    if cut {
        text.push_str("...");
    }
    text
}

/// A duration as Go's `time.Duration` prints it: `1m30s`, `1.5s`, `200ms`.
fn words(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    let decimal = |unit: u128, name: &str| {
        let mut text = format!("{}", nanoseconds / unit);
        let rest = nanoseconds % unit;
        if rest > 0 {
            let width = unit.ilog10() as usize;
            text.push('.');
            text.push_str(format!("{rest:0width$}").trim_end_matches('0'));
        }
        text + name
    };
    match nanoseconds {
        0 => "0s".into(),
        1..1_000 => format!("{nanoseconds}ns"),
        1_000..1_000_000 => decimal(1_000, "µs"),
        1_000_000..1_000_000_000 => decimal(1_000_000, "ms"),
        _ => {
            let (minutes, rest) = (duration.as_secs() / 60, duration.as_secs() % 60);
            let seconds = words_of_seconds(rest, duration.subsec_nanos());
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

fn words_of_seconds(seconds: u64, nanoseconds: u32) -> String {
    if nanoseconds == 0 {
        return format!("{seconds}s");
    }
    let fraction = format!("{nanoseconds:09}");
    format!("{seconds}.{}s", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn result(exit_code: i64) -> HealthResult {
        HealthResult {
            exit_code,
            ..HealthResult::default()
        }
    }

    fn starting() -> Health {
        Health {
            status: STARTING.into(),
            ..Health::default()
        }
    }

    #[test]
    fn three_failures_in_a_row_make_it_unhealthy_and_one_success_healthy() {
        let config = HealthConfig::default();
        let mut health = starting();
        let late = Duration::from_secs(99);
        for (code, status, streak, changed) in [
            (1, STARTING, 1, false),
            (1, STARTING, 2, false),
            (0, HEALTHY, 0, true),
            (1, HEALTHY, 1, false),
            (-1, HEALTHY, 2, false),
            (1, UNHEALTHY, 3, true),
            (1, UNHEALTHY, 4, false),
            (0, HEALTHY, 0, true),
        ] {
            assert_eq!(count(&config, &mut health, result(code), late), changed);
            assert_eq!(
                (health.status.as_str(), health.failing_streak),
                (status, streak)
            );
        }
        assert_eq!(health.log.len(), KEPT);
    }

    #[test]
    fn failures_in_the_start_period_do_not_count() {
        let config = HealthConfig {
            start_period: 10 * SECOND,
            retries: 1,
            ..HealthConfig::default()
        };
        let mut health = starting();
        assert!(!count(
            &config,
            &mut health,
            result(1),
            Duration::from_secs(9)
        ));
        assert_eq!(
            (health.status.as_str(), health.failing_streak),
            (STARTING, 0)
        );
        // Healthy once, failures count also within the period.
        assert!(count(
            &config,
            &mut health,
            result(0),
            Duration::from_secs(9)
        ));
        assert!(count(
            &config,
            &mut health,
            result(1),
            Duration::from_secs(9)
        ));
        assert_eq!(health.status, UNHEALTHY);
        let mut late = starting();
        assert!(count(
            &config,
            &mut late,
            result(1),
            Duration::from_secs(10)
        ));
        assert_eq!(late.status, UNHEALTHY);
    }

    #[test]
    fn pauses() {
        let seconds = Duration::from_secs;
        let config = HealthConfig {
            start_period: 10 * SECOND,
            ..HealthConfig::default()
        };
        assert_eq!(pause(&config, &starting(), seconds(0)), START_INTERVAL);
        assert_eq!(pause(&config, &starting(), seconds(10)), INTERVAL);
        let mut healthy = starting();
        HEALTHY.clone_into(&mut healthy.status);
        assert_eq!(pause(&config, &healthy, seconds(0)), INTERVAL);
        let config = HealthConfig {
            interval: SECOND,
            start_interval: SECOND / 2,
            start_period: SECOND,
            ..HealthConfig::default()
        };
        assert_eq!(
            pause(&config, &starting(), seconds(0)),
            Duration::from_millis(500)
        );
        assert_eq!(pause(&config, &starting(), seconds(1)), seconds(1));
    }

    #[test]
    fn commands() {
        let of = |test: &[&str]| {
            command(&ContainerConfig {
                healthcheck: Some(HealthConfig {
                    test: Some(test.iter().map(|t| (*t).to_owned()).collect()),
                    ..HealthConfig::default()
                }),
                ..ContainerConfig::default()
            })
        };
        assert_eq!(of(&["CMD", "a", "b"]).unwrap(), ["a", "b"]);
        assert_eq!(of(&["CMD-SHELL", "a b"]).unwrap(), ["/bin/sh", "-c", "a b"]);
        assert_eq!(of(&["NONE"]), None);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn output_and_durations() {
        assert_eq!(text(vec![b'x'; OUTPUT]), "x".repeat(OUTPUT));
        assert_eq!(text(vec![b'x'; OUTPUT + 1]), "x".repeat(OUTPUT) + "...");
        for (milliseconds, text) in [
            (1, "1ms"),
            (1_000, "1s"),
            (1_500, "1.5s"),
            (90_000, "1m30s"),
            (3_600_000, "1h0m0s"),
        ] {
            assert_eq!(words(Duration::from_millis(milliseconds)), text);
        }
        assert_eq!(words(Duration::from_micros(1_500)), "1.5ms");
    }
}
