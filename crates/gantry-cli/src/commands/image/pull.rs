//! `gantry pull`, and the pull that `run` does by itself.

use gantry_oci::Reference;

use super::load::show;
use super::trust::Untrusted;
use crate::client::{Client, talk};
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::flags;
use crate::format::Display;

pub(crate) const COMMAND: Command = Command {
    names: &["image pull", "pull"],
    about: "Download an image from a registry",
    usage: "[OPTIONS] NAME[:TAG|@DIGEST]",
    args: Count::Exactly(1),
    mixed: true,
    run,
};

flags! {
    struct PullFlags {
        /// Download all tagged images in the repository
        all_tags: bool = "all-tags" short "a";
        /// Skip image verification
        disable_content_trust: Untrusted = "disable-content-trust" default "true";
        /// Set platform if server is multi-platform capable
        platform: Option<String> = "platform";
        /// Suppress verbose output
        quiet: bool = "quiet" short "q";
    }
}

/// Where a pull's progress goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Progress {
    Stdout,
    Stderr,
    None,
}

impl Progress {
    pub(crate) fn for_stderr(quiet: bool) -> Progress {
        if quiet {
            Progress::None
        } else {
            Progress::Stderr
        }
    }

    fn display(self) -> Display {
        match self {
            Progress::Stdout => Display::stdout(),
            Progress::Stderr => Display::stderr(),
            Progress::None => Display::none(),
        }
    }
}

fn run(cx: &Cx) -> Outcome {
    let mut flags = PullFlags::default();
    let args = cx.read(&COMMAND, &mut [&mut flags])?;
    let mut name = Reference::parse(&args[0]).map_err(|error| Failure::new(error.to_string()))?;
    let plain = name.tag.is_none() && name.digest.is_none();
    if flags.all_tags && !plain {
        return Err(Failure::new("tag can't be used with --all-tags/-a"));
    }
    if plain && !flags.all_tags {
        name = name.or_latest();
        if !flags.quiet {
            cx.print("Using default tag: latest\n")?;
        }
    }
    flags.disable_content_trust.check()?;
    let progress = if flags.quiet {
        Progress::None
    } else {
        Progress::Stdout
    };
    talk(cx, async |client| {
        let platform = flags.platform.as_deref();
        fetch(cx, &client, &name, platform, progress).await?;
        cx.print(&format!("{name}\n"))?;
        Ok(0)
    })
}

/// Pulls one image; its progress goes where `progress` says.
pub(crate) async fn pull(
    cx: &Cx,
    client: &Client,
    image: &str,
    platform: Option<&str>,
    progress: Progress,
) -> Result<(), Failure> {
    let name = Reference::parse(image)
        .map_err(|error| Failure::new(error.to_string()))?
        .or_latest();
    fetch(cx, client, &name, platform, progress).await
}

/// Pulls what a name stands for: without a tag, all that there are.
async fn fetch(
    cx: &Cx,
    client: &Client,
    name: &Reference,
    platform: Option<&str>,
    progress: Progress,
) -> Result<(), Failure> {
    let auth = cx.config().registry_auth(&name.domain);
    let auth = auth.map_err(Failure::new)?;
    let digest = name.digest.as_ref().map(ToString::to_string);
    let tag = digest.as_deref().or(name.tag.as_deref());
    let answer = client
        .post("/images/create")
        .query("fromImage", &name.name())
        .query_if("platform", platform)
        .query_if("tag", tag)
        .header("x-registry-auth", auth)
        .send()
        .await?;
    show(answer, progress.display()).await
}
