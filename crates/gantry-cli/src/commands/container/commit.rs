//! `gantry commit`

use gantry_api::files::CommitResponse;

use crate::client::talk;
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::flags;

pub(crate) const COMMAND: Command = Command {
    names: &["container commit", "commit"],
    about: "Create a new image from a container's changes",
    usage: "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    args: Count::Between(1, 2),
    mixed: false,
    run,
};

flags! {
    struct CommitFlags {
        /// Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")
        author: String = "author" short "a";
        /// Apply Dockerfile instruction to the created image
        change: Vec<String> = "change" short "c";
        /// Commit message
        message: String = "message" short "m";
        /// Pause container during commit
        pause: bool = "pause" short "p" default "true";
    }
}

fn run(cx: &Cx) -> Outcome {
    let mut flags = CommitFlags::default();
    let args = cx.read(&COMMAND, &mut [&mut flags])?;
    let (mut repository, mut tag) = (None, None);
    if let Some(name) = args.get(1).filter(|name| !name.is_empty()) {
        let reference =
            gantry_oci::Reference::parse(name).map_err(|error| Failure::new(error.to_string()))?;
        if reference.digest.is_some() {
            return Err(Failure::new(
                "refusing to create a tag with a digest reference",
            ));
        }
        let reference = reference.or_latest();
        repository = Some(reference.familiar_name());
        tag = reference.tag;
    }
    talk(cx, async |client| {
        let mut call = client
            .post("/commit")
            .query("container", &args[0])
            .query_if("repo", repository.as_deref())
            .query_if("tag", tag.as_deref())
            .query("comment", &flags.message)
            .query("author", &flags.author);
        for change in &flags.change {
            call = call.query("changes", change);
        }
        if !flags.pause {
            call = call.query("pause", "0");
        }
        let made = call.json::<CommitResponse>().await?;
        cx.print(&format!("{}\n", made.id))?;
        Ok(0)
    })
}
