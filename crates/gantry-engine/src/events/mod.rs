//! The event bus: what happens is told to all who listen now, and kept for a while for those who ask later.
//!
//! Publishing never waits. A reader that falls [`CAPACITY`] events behind is dropped: its subscription ends,
//! and it may come back with `since`.

mod matching;
#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
use gantry_api::event::{Actor, Event};
use gantry_api::filter::Filters;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::broadcast;

/// Events kept for `since`, as many as Docker keeps.
pub const KEPT: usize = 256;
/// Events that a reader may be behind.
// COMPAT: Docker drops single events of a slow reader, who does not learn of it.
pub const CAPACITY: usize = 4096;

/// The bus. Share it by `Arc`.
#[derive(Debug)]
pub struct Events {
    past: Mutex<Past>,
    live: broadcast::Sender<Arc<Event>>,
}

#[derive(Debug, Default)]
struct Past {
    events: VecDeque<Arc<Event>>,
    /// Time of the newest event, Unix nanoseconds: no two events have one time.
    newest: i64,
}

/// Which events are asked for.
#[derive(Debug, Clone, Default)]
pub struct EventQuery {
    /// Unix nanoseconds; past events are told only where this or `until` is given.
    pub since: Option<i64>,
    /// Unix nanoseconds; the subscription ends then.
    pub until: Option<i64>,
    pub filters: Filters,
}

impl Default for Events {
    fn default() -> Self {
        Self::new()
    }
}

impl Events {
    /// A bus on which nothing has happened.
    pub fn new() -> Self {
        Self {
            past: Mutex::default(),
            live: broadcast::Sender::new(CAPACITY),
        }
    }

    fn past(&self) -> MutexGuard<'_, Past> {
        // Each change is complete before anything can panic.
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells an event, now.
    pub fn publish(
        &self,
        kind: &str,
        action: &str,
        id: &str,
        attributes: BTreeMap<String, String>,
    ) {
        let actor = Actor {
            id: id.to_owned(),
            attributes,
        };
        let mut past = self.past();
        past.newest = now().max(past.newest + 1);
        let event = Arc::new(Event::new(kind, action, actor, past.newest));
        if past.events.len() == KEPT {
            past.events.pop_front();
        }
        past.events.push_back(event.clone());
        // Sent under the lock, so that a subscription sees each event once: past or live. An error says
        // that nobody listens.
        let _ = self.live.send(event);
    }

    /// Subscribes from now on, with the past events that were asked for first.
    pub fn subscribe(&self, query: EventQuery) -> Result<Subscription> {
        if let (Some(since), Some(until)) = (query.since, query.until)
            && until < since
        {
            return Err(Error::invalid(format!(
                "`since` time ({}) cannot be after `until` time ({})",
                since.div_euclid(1_000_000_000),
                until.div_euclid(1_000_000_000)
            )));
        }
        let past = self.past();
        let told = if query.since.is_some() || query.until.is_some() {
            let since = query.since.unwrap_or(i64::MIN);
            let until = query.until.unwrap_or(i64::MAX);
            past.events
                .iter()
                .filter(|event| (since..=until).contains(&event.time_nano))
                .filter(|event| matching::matches(&query.filters, event))
                .cloned()
                .collect()
        } else {
            VecDeque::new()
        };
        let left = query.until.map(|until| until.saturating_sub(now()));
        let live = match left {
            Some(nanos) if nanos <= 0 => None,
            _ => Some(self.live.subscribe()),
        };
        drop(past);
        let deadline = left
            .and_then(|nanos| u64::try_from(nanos).ok())
            // An end too far away for the clock is no end.
            .and_then(|nanos| tokio::time::Instant::now().checked_add(Duration::from_nanos(nanos)));
        Ok(Subscription {
            past: told,
            live,
            deadline,
            filters: query.filters,
            dropped: false,
        })
    }

    /// How many listen.
    pub fn listeners(&self) -> usize {
        self.live.receiver_count()
    }
}

/// Unix nanoseconds.
fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|age| i64::try_from(age.as_nanos()).ok())
        .unwrap_or(0)
}

/// A reader's place on the bus.
#[derive(Debug)]
pub struct Subscription {
    past: VecDeque<Arc<Event>>,
    live: Option<broadcast::Receiver<Arc<Event>>>,
    deadline: Option<tokio::time::Instant>,
    filters: Filters,
    dropped: bool,
}

impl Subscription {
    /// Whether it has ended because the reader was too slow.
    pub fn was_dropped(&self) -> bool {
        self.dropped
    }

    /// The next event; `None` at `until`, or when the reader was too slow.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        if let Some(event) = self.past.pop_front() {
            return Some(event);
        }
        let live = self.live.as_mut()?;
        loop {
            let event = match self.deadline {
                None => live.recv().await,
                Some(deadline) => tokio::time::timeout_at(deadline, live.recv()).await.ok()?,
            };
            match event {
                Ok(event) if matching::matches(&self.filters, &event) => return Some(event),
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "a reader of events is dropped");
                    self.dropped = true;
                    self.live = None;
                    return None;
                }
            }
        }
    }
}
