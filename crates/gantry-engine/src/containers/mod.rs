//! Containers: the table of them, and one file for each thing that is done to one.
//!
//! A request goes `create` (a [`record::Record`] in the database, a snapshot in the store) -> `start`
//! (mount, network, [`spec`], spawner) -> `exit` (the shim's word, or its death) -> `remove`.
//!
//! Locks: [`Container::turn`] lets one operation at a time change a container (start, stop, remove) and may
//! be held across awaits; [`Container::record`]'s and the table's mutexes are held for a few instructions only.

pub mod attach;
pub mod create;
pub(crate) mod defaults;
pub(crate) mod etc;
pub mod exec;
mod exit;
pub mod files;
pub(crate) mod filters;
pub(crate) mod health;
pub mod inspect;
mod linked;
pub(crate) mod links;
pub mod list;
mod live_mounts;
mod mounts;
pub mod names;
mod networking;
pub mod pause;
pub mod phase;
mod published;
pub mod record;
pub(crate) mod recover;
pub mod remove;
mod restart;
pub mod signal;
pub(crate) mod spare;
pub mod spec;
mod start;
pub mod stats;
mod stop;
pub mod top;
pub mod transition;
pub mod update;
mod validate;

use crate::context::Context;
use crate::error::{Error, Result};
use gantry_runtime::spawn::Attached;
use phase::{Phase, WaitCondition};
use record::Record;
use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use tokio::sync::watch;
use transition::Operation;

/// One container in memory.
#[derive(Debug)]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    record: Mutex<Record>,
    live: Mutex<Live>,
    phase: watch::Sender<Phase>,
    turn: tokio::sync::Mutex<()>,
    /// Held while a start takes the waiting clients, so that none attaches in between and is forgotten.
    gate: tokio::sync::Mutex<()>,
    /// Held while processes are frozen, thawed or sent a signal: a frozen process does not die of one.
    freezing: tokio::sync::Mutex<()>,
    /// Held while the record is written, so that what is written last is the newest.
    saving: Mutex<()>,
    /// A client has asked for the removal, which is still under way.
    going: std::sync::atomic::AtomicBool,
    /// Who looks into its files.
    views: files::Views,
}

/// What is known of a container's processes; nothing of it is kept.
#[derive(Debug, Default)]
struct Live {
    /// The first process, while it is alive.
    pidfd: Option<OwnedFd>,
    /// Clients that attached before the start.
    waiting: Vec<Attached>,
    /// The task that watches the shim; it ends when the shim is gone.
    supervisor: Option<tokio::task::JoinHandle<()>>,
    back_off: restart::BackOff,
    health: Option<health::Monitor>,
    /// No restart policy brings this run back.
    restarts_cancelled: bool,
    /// A SIGKILL is on its way to the first process.
    killed: bool,
}

/// Takes a mutex; a panic in another holder does not make the data unreadable (each change is one assignment).
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Container {
    fn new(record: Record) -> Self {
        let alive =
            record.state.status.is_alive() || record.state.status == record::Status::Restarting;
        let phase = Phase {
            alive,
            code: record.state.exit_code,
            ..Phase::default()
        };
        Self {
            id: record.id.clone(),
            record: Mutex::new(record),
            live: Mutex::default(),
            phase: watch::Sender::new(phase),
            turn: tokio::sync::Mutex::new(()),
            gate: tokio::sync::Mutex::new(()),
            freezing: tokio::sync::Mutex::new(()),
            saving: Mutex::new(()),
            going: std::sync::atomic::AtomicBool::new(false),
            views: files::Views::default(),
        }
    }

    /// The record, to be read or changed without waiting.
    pub fn record(&self) -> MutexGuard<'_, Record> {
        lock(&self.record)
    }

    /// A copy of the record.
    pub fn snapshot(&self) -> Record {
        self.record().clone()
    }

    /// The record of a container whose end has not been noticed, to give it endpoints; whoever notes the end takes them all.
    fn while_alive(&self) -> Option<MutexGuard<'_, Record>> {
        let live = lock(&self.live);
        let record = self.record();
        live.pidfd.is_some().then_some(record)
    }

    /// Whether its first process is there at this moment, whatever has been noted.
    fn has_process(&self) -> bool {
        use std::os::fd::AsFd as _;
        let there = |fd: &OwnedFd| gantry_runtime::signal::send(fd.as_fd(), 0).is_ok();
        lock(&self.live).pidfd.as_ref().is_some_and(there)
    }

    /// Whether processes of it are there, for who waits for their end.
    pub(crate) fn phases(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }
}

/// Whether this is what a request to a shim gives whose container has just ended.
fn shim_is_gone(error: &std::io::Error) -> bool {
    use std::io::ErrorKind as K;
    matches!(
        error.kind(),
        K::NotFound | K::ConnectionRefused | K::ConnectionReset | K::BrokenPipe | K::UnexpectedEof
    )
}

/// Kinds of records in the database.
const CONTAINER: &str = "container";
const STATE: &str = "container-state";

/// The table, by ID and by name.
#[derive(Debug, Default)]
struct Table {
    by_id: BTreeMap<String, Arc<Container>>,
    by_name: HashMap<String, String>,
}

/// The container service.
#[derive(Debug)]
pub struct Containers {
    pub(crate) context: Arc<Context>,
    table: RwLock<Table>,
    execs: exec::Execs,
}

impl Containers {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self {
            context,
            table: RwLock::default(),
            execs: exec::Execs::default(),
        }
    }

    fn table(&self) -> std::sync::RwLockReadGuard<'_, Table> {
        self.table
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn table_mut(&self) -> std::sync::RwLockWriteGuard<'_, Table> {
        self.table
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Finds by ID, by name (with or without `/`), or by a prefix of the ID that is not ambiguous.
    pub fn find(&self, text: &str) -> Result<Arc<Container>> {
        let missing = || Error::not_found(format!("No such container: {text}"));
        let table = self.table();
        if let Some(container) = table.by_id.get(text) {
            return Ok(container.clone());
        }
        let name = text.strip_prefix('/').unwrap_or(text);
        if let Some(id) = table.by_name.get(name) {
            return table.by_id.get(id).cloned().ok_or_else(missing);
        }
        if name.contains('/') {
            drop(table);
            return self.find_by_link(name).ok_or_else(missing);
        }
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(missing());
        }
        let mut matching = table
            .by_id
            .range(text.to_owned()..)
            .take_while(|(id, _)| id.starts_with(text));
        match (matching.next(), matching.next()) {
            (Some((_, one)), None) => Ok(one.clone()),
            (Some(_), Some(_)) => Err(Error::invalid(format!(
                "multiple IDs found with provided prefix: {text}"
            ))),
            _ => Err(missing()),
        }
    }

    /// Every container, oldest first.
    pub fn all(&self) -> Vec<Arc<Container>> {
        self.table().by_id.values().cloned().collect()
    }

    fn insert(&self, container: Arc<Container>) {
        let name = container.record().name.clone();
        let mut table = self.table_mut();
        table.by_name.insert(name, container.id.clone());
        table.by_id.insert(container.id.clone(), container);
    }

    fn forget(&self, container: &Container) {
        let name = container.record().name.clone();
        let mut table = self.table_mut();
        table.by_id.remove(&container.id);
        if table.by_name.get(&name) == Some(&container.id) {
            table.by_name.remove(&name);
        }
        drop(table);
        self.forget_execs(&container.id);
    }

    /// Writes what of the record does not change by itself: at create and rename.
    fn save(&self, record: &Record) -> Result<()> {
        self.put(CONTAINER, &record.id, record)
    }

    /// Writes what changes while the container lives, as it is now.
    fn save_state(&self, container: &Container) -> Result<()> {
        let _saving = lock(&container.saving);
        let changing = container.record().changing();
        self.put(STATE, &container.id, &changing)
    }

    fn put(&self, kind: &str, id: &str, value: &impl serde::Serialize) -> Result<()> {
        let json = serde_json::to_string(value)
            .map_err(|e| Error::caused("cannot encode the container's record", e))?;
        Ok(self.context.store.database.put(kind, id, &json)?)
    }

    /// Waits for an exit, a stop or the removal. The container is looked up first; the future then lasts until
    /// the condition is met.
    pub fn wait(
        self: &Arc<Self>,
        name: &str,
        condition: WaitCondition,
    ) -> Result<impl Future<Output = gantry_api::container::WaitResponse> + Send + use<>> {
        let container = self.find(name)?;
        let mut phases = container.phase.subscribe();
        let before = phases.borrow().exits;
        Ok(async move {
            let phase = match phases.wait_for(|now| condition.is_met(before, now)).await {
                Ok(phase) => phase.clone(),
                Err(_) => container.phase.borrow().clone(),
            };
            gantry_api::container::WaitResponse {
                error: (!phase.error.is_empty()).then(|| gantry_api::container::WaitError {
                    message: phase.error.clone(),
                }),
                status_code: phase.code.into(),
            }
        })
    }

    /// Sets the terminal's size.
    pub async fn resize(&self, name: &str, rows: u16, columns: u16) -> Result<()> {
        let container = self.find(name)?;
        let asked = container
            .record()
            .state
            .ask(Operation::Resize, &container.id, name);
        asked?;
        let run_dir = self.context.run_dir(&container.id);
        crate::blocking(move || gantry_runtime::shim_client::resize(&run_dir, rows, columns))
            .await?
            .map_err(|e| match shim_is_gone(&e) {
                true => stop::not_running(&container.id),
                false => Error::caused("cannot resize the terminal", e),
            })?;
        let size = [
            ("height", &*rows.to_string()),
            ("width", &*columns.to_string()),
        ];
        self.context.tell(&container.snapshot(), "resize", &size);
        Ok(())
    }

    /// Gives a container another name.
    pub async fn rename(self: &Arc<Self>, name: &str, new: &str) -> Result<()> {
        if name.is_empty() || new.is_empty() {
            return Err(Error::invalid("Neither old nor new names may be empty"));
        }
        let container = self.find(name)?;
        let (this, name, new) = (self.clone(), name.to_owned(), new.to_owned());
        crate::to_the_end(async move {
            let _turn = container.turn.lock().await;
            let new = new.strip_prefix('/').unwrap_or(&new);
            this.rename_in_turn(&container, &name, new)
        })
        .await?
    }

    fn rename_in_turn(&self, container: &Container, name: &str, new: &str) -> Result<()> {
        if !create::is_name(new) {
            // COMPAT: Docker shows the name with its slash here, but not at create.
            return Err(Error::invalid(format!(
                "Error when allocating new name: Invalid container name (/{new}), only {} are allowed",
                create::NAME_PATTERN
            )));
        }
        let old = container.record().name.clone();
        if old == new {
            return Err(Error::invalid(
                "Renaming a container with the same name as its current name",
            ));
        }
        let asked = container
            .record()
            .state
            .ask(Operation::Rename, &container.id, name);
        asked?;
        {
            let mut table = self.table_mut();
            if let Some(owner) = table.by_name.get(new) {
                return Err(Error::conflict(format!(
                    "Error when allocating new name: {}",
                    create::name_taken(new, owner)
                )));
            }
            table.by_name.remove(&old);
            table.by_name.insert(new.to_owned(), container.id.clone());
        }
        let record = {
            let mut record = container.record();
            record.name = new.to_owned();
            record.clone()
        };
        self.save(&record)?;
        if self.context.served.serves(&record.id) {
            self.note_names(&record);
        }
        self.context
            .tell(&record, "rename", &[("oldName", &format!("/{old}"))]);
        Ok(())
    }
}
