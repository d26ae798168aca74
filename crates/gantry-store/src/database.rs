//! `gantry.db`: SQLite in WAL mode, `synchronous=NORMAL`: a crash of the machine may lose the last transactions, never
//! the file.

use crate::{At, Result};
use rusqlite::Connection;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS record (kind TEXT, id TEXT, body TEXT NOT NULL, PRIMARY KEY (kind, id)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS layer (
        diff_id TEXT PRIMARY KEY, blob TEXT NOT NULL, size INTEGER NOT NULL, blob_size INTEGER NOT NULL) WITHOUT ROWID;
    -- boot: under which boot of the machine it was written; empty once it is on the disk for certain.
    CREATE TABLE IF NOT EXISTS layer_tar (diff_id TEXT PRIMARY KEY, tar_size INTEGER NOT NULL, boot TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS layer_blob (
        diff_id TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL, media_type TEXT NOT NULL,
        UNIQUE (diff_id, digest));
    CREATE INDEX IF NOT EXISTS layer_of_blob ON layer_blob (digest);
    CREATE TABLE IF NOT EXISTS blob_source (
        digest TEXT NOT NULL, repository TEXT NOT NULL, PRIMARY KEY (digest, repository)) WITHOUT ROWID;
    -- Blocks of the disk that a layer's files take.
    CREATE TABLE IF NOT EXISTS layer_disk (diff_id TEXT PRIMARY KEY, bytes INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS image (id TEXT PRIMARY KEY, last_tagged INTEGER) WITHOUT ROWID;
    -- Both tags and name@digest.
    CREATE TABLE IF NOT EXISTS reference (name TEXT PRIMARY KEY, image TEXT NOT NULL) WITHOUT ROWID;
    -- Images for other platforms than that of the one that `reference` has for the name.
    CREATE TABLE IF NOT EXISTS sibling (name TEXT NOT NULL, image TEXT NOT NULL, UNIQUE (name, image));
    -- Images that were made from another one here.
    CREATE TABLE IF NOT EXISTS parent (image TEXT PRIMARY KEY, parent TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS manifest (
        image TEXT NOT NULL, digest TEXT NOT NULL, repository TEXT NOT NULL, UNIQUE (image, digest, repository));
    CREATE TABLE IF NOT EXISTS snapshot (id TEXT PRIMARY KEY, base TEXT NOT NULL) WITHOUT ROWID;
";

/// The file, and with it its WAL, is for its owner alone: records have containers' environments.
fn private_file(path: &Path) -> Result<()> {
    let mut options = std::fs::File::options();
    let made = options.create(true).truncate(false).write(true).mode(0o600);
    made.open(path).at("cannot open", path)?;
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let file = Path::new(&name);
        if file.exists() {
            crate::set_mode(file, 0o600)?;
        }
    }
    Ok(())
}

/// The one connection, behind a mutex.
#[derive(Debug)]
pub struct Database {
    connection: Mutex<Connection>,
}

impl Database {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        private_file(path)?;
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "normal")?;
        connection.pragma_update(None, "cache_size", -256)?;
        connection.set_prepared_statement_cache_capacity(32);
        connection.execute_batch(SCHEMA)?;
        Ok(Self {
            connection: Mutex::new(connection),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one statement.
    pub(crate) fn execute(&self, sql: &str, parameters: impl rusqlite::Params) -> Result<()> {
        self.lock().prepare_cached(sql)?.execute(parameters)?;
        Ok(())
    }

    /// Two texts a row.
    pub(crate) fn pairs(
        &self,
        sql: &str,
        parameters: impl rusqlite::Params,
    ) -> Result<Vec<(String, String)>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(sql)?;
        let rows = statement.query_map(parameters, |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<std::result::Result<_, _>>()?)
    }

    /// Writes a record (JSON text) of an engine's kind (`container`, `network`, ...), replacing the old one.
    pub fn put(&self, kind: &str, id: &str, json: &str) -> Result<()> {
        self.execute(
            "INSERT OR REPLACE INTO record VALUES (?, ?, ?)",
            (kind, id, json),
        )
    }

    /// Deletes a record; fine when there is none.
    pub fn delete(&self, kind: &str, id: &str) -> Result<()> {
        self.execute("DELETE FROM record WHERE kind = ? AND id = ?", (kind, id))
    }

    /// Deletes the records of two kinds that have one ID.
    pub fn delete_both(&self, kinds: [&str; 2], id: &str) -> Result<()> {
        self.execute(
            "DELETE FROM record WHERE kind IN (?, ?) AND id = ?",
            (kinds[0], kinds[1], id),
        )
    }

    /// All records of a kind, as `(id, json)`.
    pub fn all(&self, kind: &str) -> Result<Vec<(String, String)>> {
        self.pairs("SELECT id, body FROM record WHERE kind = ?", [kind])
    }
}
