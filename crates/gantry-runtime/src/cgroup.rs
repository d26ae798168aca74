//! Control groups, v1 (each hierarchy, hybrid included) and v2.

/// One container's group in every hierarchy, found again from its path alone.
#[derive(Debug, Clone)]
pub struct Cgroup {
    /// Path below each hierarchy's root, e.g. `/gantry/<id>`.
    pub path: String,
}
impl Cgroup {
    /// Kills every process in the group, waits until it is empty (bounded) and removes its directories.
    /// Fine to call when nothing is there.
    pub fn destroy(&self) -> std::io::Result<()> {
        todo!()
    }
}
