//! `gantry inspect`: whatever has the name.

use crate::client::talk;
use crate::commands::formats::TemplateFormat;
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
        /// Display total file sizes if the type is container
        size: bool = "size" short "s";
        /// Only inspect objects of the given type
        kind: String = "type";
    }
}

fn run(cx: &Cx) -> Outcome {
    let mut shown = TemplateFormat::default();
    let mut flags = InspectFlags::default();
    let names = cx.read(&COMMAND, &mut [&mut shown, &mut flags])?;
    let of_kind = Kind::ALL.iter().find(|kind| kind.word() == flags.kind);
    let kinds = match (flags.kind.as_str(), of_kind) {
        ("", _) => &Kind::ALL[..],
        (_, Some(kind)) => std::slice::from_ref(kind),
        (other, None) => {
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
                let size = flags.size && *kind == Kind::Container;
                let size = ("size", size.then_some("1"));
                match fetch(&client, *kind, name, size).await {
                    Ok(one) => {
                        if flags.size && *kind != Kind::Container {
                            eprintln!("WARNING: --size ignored for {}", kind.word());
                        }
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
        show(cx, &shown, &found, wrong)
    })
}
