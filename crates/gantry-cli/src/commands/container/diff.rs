//! `gantry diff`

use gantry_api::files::{Comparison, FilesystemChange, SettingChange};

use crate::client::talk;
use crate::commands::each::container;
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::Outcome;
use crate::flags::NoFlags;

pub(crate) const COMMAND: Command = Command {
    names: &["container diff", "diff"],
    about: "Inspect changes to files or directories on a container's filesystem",
    // COMPAT: Docker takes one container and tells its changes of its image; with a second name it is held against that.
    usage: "CONTAINER [CONTAINER|IMAGE]",
    args: Count::Between(1, 2),
    mixed: true,
    run,
};

fn run(cx: &Cx) -> Outcome {
    let names = cx.read(&COMMAND, &mut [&mut NoFlags::default()])?;
    talk(cx, async |client| {
        let call = client.get(container(&names[0], "/changes")?);
        if let Some(against) = names.get(1) {
            let compared = call.query("against", against).json::<Comparison>().await?;
            let settings: String = compared.settings.iter().map(setting).collect();
            cx.print(&format!("{}{settings}", lines(&compared.files)))?;
            return Ok(0);
        }
        let changes = call.json::<Option<Vec<FilesystemChange>>>().await?;
        cx.print(&lines(&changes.unwrap_or_default()))?;
        Ok(0)
    })
}

/// A line each, as `C /etc`.
fn lines(changes: &[FilesystemChange]) -> String {
    let line = |change: &FilesystemChange| format!("{} {}\n", change.letter(), change.path);
    changes.iter().map(line).collect()
}

/// `S Env.A: "1" -> "2"`: the other one's, then the container's own.
fn setting(change: &SettingChange) -> String {
    let text = |value: &serde_json::Value| match value.is_null() {
        true => "none".to_owned(),
        false => value.to_string(),
    };
    let (old, new) = (text(&change.other), text(&change.value));
    format!("S {}: {old} -> {new}\n", change.name)
}
