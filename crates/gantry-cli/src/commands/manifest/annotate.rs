//! `gantry manifest annotate`

use super::{named, store};
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::flags;

pub(crate) const COMMAND: Command = Command {
    names: &["manifest annotate"],
    about: "Add additional information to a local image manifest",
    usage: "[OPTIONS] MANIFEST_LIST MANIFEST",
    args: Count::Exactly(2),
    mixed: true,
    run,
};

flags! {
    struct AnnotateFlags {
        /// Set architecture
        arch: String = "arch";
        /// Set operating system
        os: String = "os";
        /// Set operating system feature
        os_features: Vec<String> = "os-features" kind "strings";
        /// Set operating system version
        os_version: String = "os-version";
        /// Set architecture variant
        variant: String = "variant";
    }
}

/// Operating systems and their architectures that a list may name.
const KNOWN: &[(&str, &[&str])] = &[
    ("darwin", &["386", "amd64", "arm", "arm64"]),
    ("dragonfly", &["amd64"]),
    ("freebsd", &["386", "amd64", "arm"]),
    (
        "linux",
        &[
            "386", "amd64", "arm", "arm64", "ppc64le", "mips64", "mips64le", "riscv64", "s390x",
        ],
    ),
    ("netbsd", &["386", "amd64", "arm"]),
    ("openbsd", &["386", "amd64", "arm"]),
    ("plan9", &["386", "amd64"]),
    ("solaris", &["amd64"]),
    ("windows", &["386", "amd64"]),
];

fn run(cx: &Cx) -> Outcome {
    let mut flags = AnnotateFlags::default();
    let args = cx.read(&COMMAND, &mut [&mut flags])?;
    let parse = |text: &str, what: &str| {
        named(text).map_err(|failure| {
            Failure::new(format!(
                "annotate: error parsing name for {what} {text}: {}",
                failure.text
            ))
        })
    };
    let list = parse(&args[0], "manifest list")?;
    let name = parse(&args[1], "manifest")?;
    let store = store(cx);
    let mut stored = store.get(&list, &name)?.ok_or_else(|| {
        Failure::new(format!(
            "manifest for image {} does not exist in {}",
            args[1], args[0]
        ))
    })?;
    let platform = stored.descriptor.platform.get_or_insert_default();
    let set = |field: &mut String, given: &String| {
        if !given.is_empty() {
            field.clone_from(given);
        }
    };
    set(&mut platform.os, &flags.os);
    set(&mut platform.architecture, &flags.arch);
    let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    platform.variant = given(&flags.variant).or(platform.variant.take());
    platform.os_version = given(&flags.os_version).or(platform.os_version.take());
    for feature in flags.os_features.iter().flat_map(|text| text.split(',')) {
        if !platform.os_features.iter().any(|known| known == feature) {
            platform.os_features.push(feature.to_owned());
        }
    }
    let known = KNOWN.iter().any(|(os, architectures)| {
        *os == platform.os && architectures.contains(&platform.architecture.as_str())
    });
    if !known {
        return Err(Failure::new(format!(
            "manifest entry for image has unsupported os/arch combination: {}/{}",
            flags.os, flags.arch
        )));
    }
    store.save(&list, &name, &stored)?;
    Ok(0)
}
