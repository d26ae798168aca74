//! `gantry inspect`: whatever has the name.

use crate::client::talk;
use crate::commands::inspection::{Kind, fetch, show};
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::flags;

pub(crate) const COMMAND: Command = Command {
    names: &["inspect"],
    about: "Return low-level information on Gantry's objects",
    usage: "[OPTIONS] NAME|ID [NAME|ID...]",
    args: Count::AtLeast(1),
    mixed: true,
    run,
};

flags! {
    struct InspectFlags {
        /// Format output using a custom template:
        ///
        /// 'json':             Print in JSON format
        ///
        /// 'TEMPLATE':         Print output using the given Go template.
        format: Option<String> = "format" short "f";
        /// Display total file sizes if the type is container
        size: bool = "size" short "s";
        /// Only inspect objects of the given type
        kind: String = "type";
    }
}

fn run(cx: &Cx) -> Outcome {
    let mut flags = InspectFlags::default();
    let names = cx.read(&COMMAND, &mut [&mut flags])?;
    let kinds: &[Kind] = match flags.kind.as_str() {
        "" => &[Kind::Container, Kind::Image, Kind::Network, Kind::Volume],
        "container" => &[Kind::Container],
        "image" => &[Kind::Image],
        "network" => &[Kind::Network],
        "volume" => &[Kind::Volume],
        other => {
            return Err(Failure::new(format!(
                "unknown type: \"{other}\": must be one of \"config\", \"container\", \"image\", \"network\", \
                 \"node\", \"plugin\", \"secret\", \"service\", \"task\", \"volume\""
            )));
        }
    };
    talk(cx, async |client| {
        let (mut found, mut wrong) = (Vec::new(), Vec::new());
        'names: for name in &names {
            for kind in kinds {
                match fetch(&client, *kind, name, flags.size).await {
                    Ok(one) => {
                        found.push((*kind, one));
                        continue 'names;
                    }
                    Err(error) if error.is_not_found() && kinds.len() > 1 => {}
                    Err(error) => {
                        wrong.push(error.to_string());
                        continue 'names;
                    }
                }
            }
            wrong.push(format!("Error: No such object: {name}"));
        }
        show(cx, flags.format.as_deref(), &found, wrong)
    })
}
