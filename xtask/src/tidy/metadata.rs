//! What cargo knows of the workspace's packages and of all that they depend on.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use crate::binary::cargo;

/// What `cargo metadata` says.
pub(crate) fn read() -> Result<Metadata> {
    let answer = cargo()
        .args(["metadata", "--format-version", "1", "--locked"])
        .stderr(Stdio::inherit())
        .output()
        .context("start cargo metadata")?;
    ensure!(answer.status.success(), "cargo metadata failed");
    serde_json::from_slice(&answer.stdout).context("read cargo metadata")
}

/// The part of `cargo metadata` that is asked for.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    pub(crate) workspace_members: Vec<String>,
}

/// One package of the graph.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
    pub(crate) dependencies: Vec<Dependency>,
}

/// One line of a package's dependencies; `kind` is none for a normal one.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) kind: Option<String>,
}
