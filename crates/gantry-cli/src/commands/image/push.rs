//! `gantry push`

use std::io::IsTerminal;

use gantry_oci::Reference;
use gantry_oci::manifest::Platform;

use super::load::show;
use super::trust::Untrusted;
use crate::client::{encode, talk};
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::flags;
use crate::format::{Display, Note, note};

pub(crate) const COMMAND: Command = Command {
    names: &["image push", "push"],
    about: "Upload an image to a registry",
    usage: "[OPTIONS] NAME[:TAG]",
    args: Count::Exactly(1),
    mixed: true,
    run,
};

flags! {
    struct PushFlags {
        /// Push all tags of an image to the repository
        all_tags: bool = "all-tags" short "a";
        /// Skip image signing
        disable_content_trust: Untrusted = "disable-content-trust" default "true";
        /// Push a platform-specific manifest as a single-platform image to the registry.
        ///
        /// Image index won't be pushed, meaning that other manifests, including attestations
        /// won't be preserved.
        ///
        /// 'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)
        platform: Option<String> = "platform";
        /// Suppress verbose output
        quiet: bool = "quiet" short "q";
    }
}

/// What is said of a push of one platform.
const ONE_PLATFORM: &str = "Using --platform pushes only the specified platform manifest of a multi-platform image index.\n\
    Other components, like attestations, will not be included.\n\
    To push the complete multi-platform image, remove the --platform flag.\n";

fn run(cx: &Cx) -> Outcome {
    let mut flags = PushFlags::default();
    let args = cx.read(&COMMAND, &mut [&mut flags])?;
    let platform = flags.platform.as_deref().filter(|text| !text.is_empty());
    let platform = match platform {
        Some(text) => Some(one_platform(cx, text)?),
        None => None,
    };
    let name = Reference::parse(&args[0]).map_err(|error| Failure::new(error.to_string()))?;
    let plain = name.tag.is_none() && name.digest.is_none();
    if flags.all_tags && !plain {
        return Err(Failure::new("tag can't be used with --all-tags/-a"));
    }
    let mut name = name;
    if plain && !flags.all_tags {
        name = name.or_latest();
        if !flags.quiet {
            cx.print("Using default tag: latest\n")?;
        }
    }
    flags.disable_content_trust.check()?;
    let auth = cx.config().registry_auth(&name.domain);
    let auth = auth.map_err(Failure::new)?;
    if name.digest.is_some() {
        return Err(Failure::new("cannot push a digest reference"));
    }
    talk(cx, async |client| {
        let path = format!("/images/{}/push", encode(&name.familiar_name()));
        let answer = client
            .post(path)
            .query_if("platform", platform.as_deref())
            .query_if("tag", name.tag.as_deref())
            .header("x-registry-auth", auth)
            .send()
            .await?;
        if !flags.quiet {
            show(answer, Display::stdout()).await?;
            return Ok(0);
        }
        show(answer, Display::none()).await?;
        cx.print(&format!("{name}\n"))?;
        Ok(0)
    })
}

/// The platform as the API takes it, with a remark for the user.
fn one_platform(cx: &Cx, text: &str) -> Result<String, Failure> {
    let platform = Platform::parse(text).map_err(|error| {
        // COMPAT: no line's end between the two.
        Failure::new(format!("Invalid platform {text}{error}"))
    })?;
    let remark = note(Note::Info, ONE_PLATFORM, std::io::stdout().is_terminal());
    cx.print(&remark)?;
    serde_json::to_string(&platform).map_err(|error| Failure::new(error.to_string()))
}
