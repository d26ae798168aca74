//! `gantry tag`

use gantry_oci::Reference;

use crate::client::{encode, talk};
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::NoFlags;

pub(crate) const COMMAND: Command = Command {
    names: &["image tag", "tag"],
    about: "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    usage: "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    args: Count::Exactly(2),
    mixed: true,
    run,
};

fn run(cx: &Cx) -> Outcome {
    let args = cx.read(&COMMAND, &mut [&mut NoFlags::default()])?;
    let target = &args[1];
    let name = Reference::parse(target).map_err(|error| {
        Failure::new(format!(
            "Error parsing reference: \"{target}\" is not a valid repository/tag: {error}"
        ))
    })?;
    if name.digest.is_some() {
        return Err(Failure::new(
            "refusing to create a tag with a digest reference",
        ));
    }
    let name = name.or_latest();
    talk(cx, async |client| {
        let call = client.post(format!("/images/{}/tag", encode(&args[0])));
        let call = call.query("repo", &name.name());
        call.query_if("tag", name.tag.as_deref()).done().await?;
        Ok(0)
    })
}
