//! Dependencies between the workspace's crates point down one list.

use super::metadata::Metadata;

/// From top to bottom; a crate may depend on those after it.
const ORDER: &[&str] = &[
    "gantry",
    "gantry-cli",
    "gantry-server",
    "gantry-engine",
    "gantry-build",
    "gantry-registry",
    "gantry-store",
    "gantry-network",
    "gantry-runtime",
    "gantry-tar",
    "gantry-api",
    "gantry-oci",
    "gantry-hello",
];

/// Crates for developers: nothing that ships depends on them but for its tests.
const TOOLS: &[&str] = &["gantry-testkit", "xtask"];

/// What is below but must not be used all the same, from the "must never" lines of ARCHITECTURE.md.
const NEVER: &[(&str, &[&str])] = &[
    (
        "gantry-cli",
        &[
            "gantry-server",
            "gantry-engine",
            "gantry-store",
            "gantry-network",
            "gantry-runtime",
        ],
    ),
    (
        "gantry-server",
        &["gantry-store", "gantry-network", "gantry-runtime"],
    ),
    (
        "gantry-registry",
        &["gantry-store", "gantry-network", "gantry-runtime"],
    ),
    (
        "gantry-store",
        &["gantry-network", "gantry-runtime", "hyper", "reqwest"],
    ),
    ("gantry-network", &["gantry-store", "gantry-runtime"]),
    (
        "gantry-runtime",
        &["tokio", "gantry-api", "rusqlite", "hyper"],
    ),
    ("gantry-tar", &["tokio", "tar", "gantry-api"]),
    ("gantry-api", &["tokio", "rustix", "libc"]),
    ("gantry-oci", &["tokio", "rustix", "libc"]),
    ("xtask", &["gantry"]),
];

pub(crate) fn check(metadata: &Metadata) -> Vec<String> {
    let mut faults = Vec::new();
    let members = metadata
        .packages
        .iter()
        .filter(|package| metadata.workspace_members.contains(&package.id));
    for package in members {
        let normal = package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind.as_deref() != Some("dev"))
            .map(|dependency| dependency.name.as_str());
        faults.extend(faults_of(&package.name, normal));
    }
    faults
}

fn faults_of<'a>(crate_name: &str, dependencies: impl Iterator<Item = &'a str>) -> Vec<String> {
    let place = |name: &str| ORDER.iter().position(|known| *known == name);
    let never = NEVER
        .iter()
        .find(|(name, _)| *name == crate_name)
        .map_or(&[][..], |(_, names)| *names);
    let tool = TOOLS.contains(&crate_name);
    let mut faults = Vec::new();
    if !tool && place(crate_name).is_none() {
        faults.push(format!(
            "{crate_name}: a new crate needs a place in the order of xtask/src/tidy/graph.rs and a line in ARCHITECTURE.md"
        ));
    }
    for dependency in dependencies {
        if never.contains(&dependency) {
            faults.push(format!("{crate_name} must never depend on {dependency}"));
        }
        if !tool && TOOLS.contains(&dependency) {
            faults.push(format!(
                "{crate_name} ships, and depends on the tool {dependency}"
            ));
        }
        if let (Some(from), Some(to)) = (place(crate_name), place(dependency))
            && to <= from
        {
            faults.push(format!(
                "{crate_name} depends on {dependency}, which is above it"
            ));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::faults_of;

    #[test]
    fn tells_what_points_up_and_what_is_forbidden() {
        let faults = |name, list: &[&'static str]| faults_of(name, list.iter().copied());
        assert!(faults("gantry-engine", &["gantry-store", "tokio"]).is_empty());
        assert_eq!(faults("gantry-store", &["gantry-engine"]).len(), 1);
        assert_eq!(faults("gantry-runtime", &["tokio"]).len(), 1);
        assert_eq!(faults("gantry-cli", &["gantry-testkit"]).len(), 1);
        assert!(faults("xtask", &["gantry-testkit"]).is_empty());
        assert_eq!(faults("gantry-new", &[]).len(), 1);
    }
}
