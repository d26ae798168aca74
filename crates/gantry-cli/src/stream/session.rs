//! Copying between our streams and a hijacked connection.

use std::future::pending;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::signal::unix::{SignalKind, signal};

use super::descriptor::{Input, Output};
use super::frames::{Frames, Target};
use super::{DetachKeys, Signals, terminal};
use crate::client::{ApiError, Client, Hijacked};

const BUFFER: usize = 64 * 1024;

/// What is connected to what.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The container has a terminal: its output is raw bytes.
    pub(crate) tty: bool,
    pub(crate) stdin: bool,
    /// stdout or stderr.
    pub(crate) output: bool,
    /// Watched for in the input.
    pub(crate) keys: Option<DetachKeys>,
}

/// How a session ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The stream is over.
    Finished,
    /// The detach keys were typed.
    Detached,
}

/// An attached session.
pub(crate) struct Session {
    connection: Hijacked,
    plan: Plan,
}

impl Session {
    pub(crate) fn new(connection: Hijacked, plan: Plan) -> Session {
        Session { connection, plan }
    }

    /// Copies until one end is done.
    pub(crate) async fn run(self) -> Result<End, ApiError> {
        let (reader, writer) = tokio::io::split(self.connection);
        let tty = self.plan.tty;
        let output = async {
            if tty {
                copy_raw(reader).await
            } else {
                copy_frames(reader).await
            }
        };
        let input = async {
            if !self.plan.stdin {
                return pending().await;
            }
            copy_input(writer, self.plan.keys).await
        };
        tokio::pin!(output, input);
        tokio::select! {
            // Output first: what is there is written before we look at why to stop.
            biased;
            done = &mut output => done.map(|()| End::Finished),
            end = &mut input => {
                if end == End::Detached || !self.plan.output {
                    return Ok(end);
                }
                output.await.map(|()| End::Finished)
            }
        }
    }
}

async fn copy_raw(mut reader: ReadHalf<Hijacked>) -> Result<(), ApiError> {
    let stdout = Output::stdout();
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = reader.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        stdout.write_all(&buffer[..count]).await?;
    }
}

async fn copy_frames(mut reader: ReadHalf<Hijacked>) -> Result<(), ApiError> {
    let mut sink = FrameSink::default();
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = reader.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        sink.write(&buffer[..count]).await?;
    }
}

/// Writes a multiplexed stream to our stdout and stderr.
#[derive(Default)]
pub(crate) struct FrameSink {
    frames: Frames,
    stdout: Option<Output>,
    stderr: Option<Output>,
}

impl FrameSink {
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), ApiError> {
        let mut piece = bytes;
        while !piece.is_empty() {
            let (used, run) = self.frames.next(piece).map_err(ApiError::Connection)?;
            piece = &piece[used..];
            let Some((target, payload)) = run else {
                continue;
            };
            let written = match target {
                Target::Stdout => {
                    let stdout = self.stdout.get_or_insert_with(Output::stdout);
                    stdout.write_all(payload).await
                }
                Target::Stderr => {
                    let stderr = self.stderr.get_or_insert_with(Output::stderr);
                    stderr.write_all(payload).await
                }
                Target::Daemon => {
                    return Err(ApiError::Connection(format!(
                        "error from daemon in stream: {}",
                        String::from_utf8_lossy(payload)
                    )));
                }
            };
            written?;
        }
        Ok(())
    }
}

/// Sends our stdin; at its end the container's side is told, while its output may go on.
async fn copy_input(mut writer: WriteHalf<Hijacked>, mut keys: Option<DetachKeys>) -> End {
    let stdin = Input::stdin();
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = match stdin.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        let sent = match &mut keys {
            None => writer.write_all(&buffer[..count]).await,
            Some(keys) => {
                let (bytes, detached) = keys.filter(&buffer[..count]);
                let sent = writer.write_all(&bytes).await;
                if detached {
                    return End::Detached;
                }
                sent
            }
        };
        // A container that has closed its stdin is no error.
        if sent.is_err() || writer.flush().await.is_err() {
            break;
        }
    }
    writer.shutdown().await.ok();
    End::Finished
}

/// Passes each signal on to the container at `path`; never ends.
pub(crate) async fn forward_signals(client: &Client, path: &str, mut signals: Signals) {
    loop {
        let number = signals.next().await.to_string();
        let call = client.post(format!("{path}/kill"));
        // A container that has just ended cannot be signalled, and need not.
        call.query("signal", &number).done().await.ok();
    }
}

/// Tells the terminal of the container or exec at `path` the size of ours, now and whenever it changes; never ends.
pub(crate) async fn follow_size(client: &Client, path: &str, known: Option<[u32; 2]>) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else {
        return pending().await;
    };
    let mut told = known;
    loop {
        let now = terminal::size();
        if let Some([rows, columns]) = now.filter(|_| now != told) {
            let call = client.post(format!("{path}/resize"));
            let call = call.query("h", &rows.to_string());
            call.query("w", &columns.to_string()).done().await.ok();
            told = now;
        }
        changes.recv().await;
    }
}
