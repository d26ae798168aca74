//! A reader as a stream: batches from a blocking thread, woken by inotify, ended with the container.

use super::Frame;
use super::reader::{Reached, Reader};
use crate::containers::phase::Phase;
use rustix::fs::inotify;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};

/// Frames that are gathered before they are sent on.
const BATCH: usize = 512;
/// How often a log is looked at where there is no inotify (its limits are used up), and to be sure where there is.
const POLL: Duration = Duration::from_millis(250);
const SELDOM: Duration = Duration::from_secs(5);

/// Reads to the end, and on for as long as `alive` says so; every byte that the container wrote comes before the
/// stream's end. A reader of the stream that is slow holds up this task alone.
pub(super) async fn run(
    mut reader: Reader,
    path: std::path::PathBuf,
    frames: mpsc::Sender<Vec<Frame>>,
    alive: Option<watch::Receiver<Phase>>,
) {
    let mut alive = alive;
    // Before the first read: what is written after it wakes us.
    let changes = alive.as_ref().and_then(|_| Changes::of(&path));
    loop {
        // Asked before the read: what a container that has ended wrote is in the files by now.
        let ended = alive
            .as_mut()
            .is_none_or(|alive| !alive.borrow_and_update().alive);
        let read = tokio::task::spawn_blocking(move || {
            let mut batch = Vec::new();
            let reached = loop {
                match reader.read(&mut batch) {
                    Ok(Reached::More) if batch.len() < BATCH => {}
                    other => break other,
                }
            };
            (reader, batch, reached)
        });
        let Ok((back, batch, reached)) = read.await else {
            return;
        };
        reader = back;
        if !batch.is_empty() && frames.send(batch).await.is_err() {
            return;
        }
        match reached {
            Ok(Reached::More) => continue,
            Ok(Reached::Done) => return,
            Ok(Reached::End) if ended => return,
            Ok(Reached::End) => {}
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot read a container's log");
                return;
            }
        }
        let Some(alive) = alive.as_mut() else { return };
        tokio::select! {
            () = Changes::wait(changes.as_ref()) => {}
            // Its sender gone means that the container is, too: `borrow` keeps the last value.
            changed = alive.changed() => if changed.is_err() && alive.borrow().alive { return },
            () = frames.closed() => return,
        }
    }
}

/// Changes of a log's folder.
#[derive(Debug)]
struct Changes(AsyncFd<OwnedFd>);

impl Changes {
    fn of(path: &Path) -> Option<Self> {
        let fd =
            inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).ok()?;
        let events = inotify::WatchFlags::MODIFY
            | inotify::WatchFlags::CREATE
            | inotify::WatchFlags::MOVED_TO;
        inotify::add_watch(&fd, path.parent()?, events).ok()?;
        #[expect(
            deprecated,
            reason = "an OwnedFd keeps its descriptor, as the unsafe successor asks for"
        )]
        let fd = AsyncFd::new(fd);
        fd.ok().map(Self)
    }

    async fn wait(changes: Option<&Self>) {
        let Some(Self(fd)) = changes else {
            return tokio::time::sleep(POLL).await;
        };
        if let Ok(Ok(mut ready)) = tokio::time::timeout(SELDOM, fd.readable()).await {
            // What has happened does not matter, only that it has: the events are thrown away.
            let mut events = [0; 4096];
            while rustix::io::read(fd.get_ref(), &mut events).is_ok_and(|count| count > 0) {}
            ready.clear_ready();
        }
    }
}
