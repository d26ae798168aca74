//! `gantry manifest push`

use gantry_oci::Reference;

use super::list::List;
use super::remote::Remote;
use super::store::{Stored, no_such};
use super::{named, store};
use crate::client::alone;
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::flags;

pub(crate) const COMMAND: Command = Command {
    names: &["manifest push"],
    about: "Push a manifest list to a repository",
    usage: "[OPTIONS] MANIFEST_LIST",
    args: Count::Exactly(1),
    mixed: true,
    run,
};

flags! {
    struct PushFlags {
        /// Allow push to an insecure registry
        insecure: bool = "insecure";
        /// Remove the local manifest list after push
        purge: bool = "purge" short "p";
    }
}

fn run(cx: &Cx) -> Outcome {
    let mut flags = PushFlags::default();
    let args = cx.read(&COMMAND, &mut [&mut flags])?;
    let target = named(&args[0])?;
    let store = store(cx);
    let manifests = store.list(&target)?.ok_or_else(|| no_such(&target))?;
    if manifests.is_empty() {
        return Err(Failure::new(format!("{target} not found")));
    }
    for stored in &manifests {
        let platform = stored.descriptor.platform.clone().unwrap_or_default();
        if platform.os.is_empty() || platform.architecture.is_empty() {
            return Err(Failure::new(format!(
                "manifest {} must have an OS and Architecture to be pushed to a registry",
                stored.name
            )));
        }
    }
    let list = List::of(&target, &manifests)?;
    alone(async {
        let remote = Remote::of(cx, &target, flags.insecure)?;
        let mut others = Vec::new();
        for stored in &manifests {
            if stored.reference()?.path != target.path {
                take_over(&remote, &target, stored).await?;
                others.push(stored);
            }
        }
        for stored in others {
            let name = Reference {
                tag: None,
                digest: Some(stored.descriptor.digest.clone()),
                ..target.clone()
            };
            let media_type = &stored.descriptor.media_type;
            let digest = remote.put(&name, media_type, stored.bytes()?).await?;
            cx.print(&format!("Pushed ref {name} with digest: {digest}\n"))?;
        }
        let text = list.text().into_bytes();
        let digest = remote.put(&target, list.media_type, text).await?;
        cx.print(&format!("{digest}\n"))?;
        if flags.purge {
            store.remove(&target)?;
        }
        Ok(0)
    })
}

/// Lets the registry take over the blobs of a manifest of another repository.
async fn take_over(remote: &Remote, target: &Reference, stored: &Stored) -> Result<(), Failure> {
    let from = stored.reference()?.path;
    let manifest = stored.manifest()?;
    let push = remote.push(target).await?;
    let windows = stored
        .descriptor
        .platform
        .as_ref()
        .is_some_and(|platform| platform.os == "windows");
    for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
        let digest = &blob.digest;
        let mounted = push.mount(digest, &from).await.map_err(|error| {
            let source = format!("{from}@{digest}");
            Failure::new(format!(
                "failed to mount blob {source} to {target}: {error}"
            ))
        })?;
        // COMPAT: base layers of Windows may be nowhere but at Microsoft's.
        if !mounted && !windows {
            return Err(Failure::new(format!(
                "error mounting {from}@{digest} to {target}"
            )));
        }
    }
    Ok(())
}
