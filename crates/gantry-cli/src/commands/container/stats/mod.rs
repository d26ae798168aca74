//! `gantry stats`

mod row;

use std::cell::RefCell;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use gantry_api::stats::Stats;
use serde::Deserialize;
use tokio::sync::Notify;

use self::row::{Row, TABLE, listing};
use crate::client::{Answer, Answered, Client, talk};
use crate::commands::each::container;
use crate::commands::formats::TableFormat;
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::flags;

pub(crate) const COMMAND: Command = Command {
    names: &["container stats", "stats"],
    about: "Display a live stream of container(s) resource usage statistics",
    usage: "[OPTIONS] [CONTAINER...]",
    args: Count::AtLeast(0),
    mixed: true,
    run,
};

/// How often the table is drawn.
const DRAW: Duration = Duration::from_millis(500);
/// A container without numbers for so long is shown without any.
const SILENCE: Duration = Duration::from_secs(2);

flags! {
    struct StatsFlags {
        /// Show all containers (default shows just running)
        all: bool = "all" short "a";
        /// Disable streaming stats and only pull the first result
        no_stream: bool = "no-stream";
        /// Do not truncate output
        no_trunc: bool = "no-trunc";
    }
}

/// The rows, which the streams fill.
#[derive(Default)]
struct Board {
    rows: RefCell<Vec<Row>>,
    /// A row has got its first numbers, or an error.
    news: Notify,
}

type Work<'a> = FuturesUnordered<LocalBoxFuture<'a, ()>>;

impl Board {
    /// Adds a row, and the work that fills it; a container has one row.
    fn add<'a>(&'a self, work: &Work<'a>, client: &'a Client, name: &str, stream: bool) {
        let mut rows = self.rows.borrow_mut();
        if rows.iter().any(|row| row.container == name) {
            return;
        }
        rows.push(Row::new(name));
        work.push(Box::pin(collect(self, client, name.to_owned(), stream)));
    }

    fn remove(&self, name: &str) {
        self.rows.borrow_mut().retain(|row| row.container != name);
    }

    /// Changes a row; false where it is gone.
    fn change(&self, name: &str, change: impl FnOnce(&mut Row)) -> bool {
        let mut rows = self.rows.borrow_mut();
        let row = rows.iter_mut().find(|row| row.container == name);
        let found = row.map(change).is_some();
        self.news.notify_one();
        found
    }

    fn complete(&self) -> bool {
        self.rows.borrow().iter().all(|row| row.seen)
    }
}

/// Reads the numbers of one container until there are no more.
async fn collect(board: &Board, client: &Client, name: String, stream: bool) {
    let asked = async {
        let call = client.get(container(&name, "/stats")?);
        call.query("stream", if stream { "1" } else { "0" })
            .send()
            .await
    };
    let mut answer = match asked.await {
        Ok(answer) => answer,
        Err(error) => {
            board.change(&name, |row| row.fail(error.to_string()));
            return;
        }
    };
    let mut pending = Vec::new();
    loop {
        let next = next::<Stats>(&mut answer, &mut pending);
        let there = match tokio::time::timeout(SILENCE, next).await {
            Ok(Ok(Some(stats))) => board.change(&name, |row| row.take(&stats)),
            Ok(Ok(None)) => return,
            Ok(Err(error)) => {
                board.change(&name, |row| row.fail(error.to_string()));
                return;
            }
            Err(_) => board.change(&name, |row| row.fail("timeout waiting for stats".into())),
        };
        if !there || !stream {
            return;
        }
    }
}

/// The next JSON value of an answer that comes in pieces.
async fn next<T: for<'de> Deserialize<'de>>(
    answer: &mut Answer<'_>,
    pending: &mut Vec<u8>,
) -> Answered<Option<T>> {
    loop {
        let mut values = serde_json::Deserializer::from_slice(pending).into_iter::<T>();
        if let Some(Ok(value)) = values.next() {
            let used = values.byte_offset();
            pending.drain(..used);
            return Ok(Some(value));
        }
        match answer.chunk().await? {
            Some(bytes) => pending.extend_from_slice(&bytes),
            None => return Ok(None),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Event {
    action: String,
    actor: Actor,
}

#[derive(Deserialize)]
struct Actor {
    #[serde(rename = "ID")]
    id: String,
}

fn run(cx: &Cx) -> Outcome {
    let mut shown = TableFormat::default();
    let mut flags = StatsFlags::default();
    let names = cx.read(&COMMAND, &mut [&mut shown, &mut flags])?;
    talk(cx, async |client| {
        let board = Board::default();
        let mut work = Work::new();
        let stream = !flags.no_stream;
        let mut events = None;
        if names.is_empty() {
            // Events first, so that no start is missed between the list and them.
            if stream {
                let filter = "{\"type\":{\"container\":true}}";
                let call = client.get("/events").query("filters", filter);
                events = Some(call.send().await?);
            }
            let call = client.get("/containers/json").switch("all", flags.all);
            for listed in call.json::<Vec<Listed>>().await? {
                board.add(&work, &client, &listed.id, stream);
            }
        }
        for name in &names {
            board.add(&work, &client, name, stream);
        }
        while !board.complete() {
            tokio::select! {
                Some(()) = work.next() => {}
                () = board.news.notified() => {}
            }
        }
        let errors = |row: &Row| row.error.clone();
        let wrong: Vec<String> = board.rows.borrow().iter().filter_map(errors).collect();
        if !names.is_empty() && !wrong.is_empty() {
            return Failure::all(wrong);
        }
        if !stream {
            return draw(cx, &shown, &flags, &board);
        }
        let mut ticker = tokio::time::interval(DRAW);
        let mut pending = Vec::new();
        loop {
            tokio::select! {
                _ = ticker.tick() => {
                    draw(cx, &shown, &flags, &board)?;
                    let nothing_left = board.rows.borrow().is_empty() && !names.is_empty();
                    if nothing_left {
                        return Ok(0);
                    }
                }
                Some(()) = work.next(), if !work.is_empty() => {}
                event = event(&mut events, &mut pending) => match event? {
                    // The daemon has gone.
                    None => return Ok(0),
                    Some(event) => match event.action.as_str() {
                        "start" => board.add(&work, &client, &event.actor.id, true),
                        "create" if flags.all => board.add(&work, &client, &event.actor.id, true),
                        "die" if !flags.all => board.remove(&event.actor.id),
                        "destroy" => board.remove(&event.actor.id),
                        _ => {}
                    },
                },
            }
        }
    })
}

/// The next event; without a subscription there is none, ever.
async fn event(events: &mut Option<Answer<'_>>, pending: &mut Vec<u8>) -> Answered<Option<Event>> {
    match events {
        Some(answer) => next(answer, pending).await,
        None => std::future::pending().await,
    }
}

fn draw(cx: &Cx, shown: &TableFormat, flags: &StatsFlags, board: &Board) -> Outcome {
    let format = shown.format.as_deref();
    let format = format.or(cx.config().stats_format.as_deref());
    let listing = listing(&board.rows.borrow(), !flags.no_trunc);
    let text = listing.render(format, TABLE).map_err(Failure::new)?;
    if flags.no_stream {
        cx.print(&text)?;
        return Ok(0);
    }
    // From the top of the screen; what stood there before is erased line by line, and below.
    let mut screen = String::from("\x1b[H");
    for line in text.lines() {
        screen.push_str(line);
        screen.push_str(" \x1b[K\n");
    }
    screen.push_str("\x1b[J");
    cx.print(&screen)?;
    Ok(0)
}
