//! `gantry.db`: SQLite in WAL mode, `synchronous=NORMAL`.
use crate::Result;

/// The one connection, behind a mutex.
#[derive(Debug)]
pub struct Database {}

impl Database {
    /// Writes a record (JSON text) of an engine's kind (`container`, `network`, ...), replacing the old one.
    pub fn put(&self, _kind: &str, _id: &str, _json: &str) -> Result<()> {
        todo!()
    }
    pub fn delete(&self, _kind: &str, _id: &str) -> Result<()> {
        todo!()
    }
    /// All records of a kind, as `(id, json)`.
    pub fn all(&self, _kind: &str) -> Result<Vec<(String, String)>> {
        todo!()
    }
}
