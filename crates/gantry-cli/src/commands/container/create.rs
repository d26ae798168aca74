//! `gantry create`, and the making of a container that `run` shares.

use std::io::Write;

use gantry_api::container::CreateBody;
use gantry_oci::Reference;
use gantry_oci::manifest::Platform;
use serde::Deserialize;

use crate::client::{ApiError, Client, talk};
use crate::commands::image::pull::{Progress, pull};
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::Flags;
use crate::request::{CreateFlags, create_body};

pub(crate) const COMMAND: Command = Command {
    names: &["container create", "create"],
    about: "Create a new container",
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    args: Count::AtLeast(1),
    mixed: false,
    run,
};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Created {
    id: String,
    #[serde(default, deserialize_with = "crate::format::or_default")]
    warnings: Vec<String>,
}

fn run(cx: &Cx) -> Outcome {
    let mut flags = CreateFlags::default();
    let args = read(cx, &COMMAND, &mut flags, &mut [])?;
    let body = body(cx, &flags, &args)?;
    talk(cx, async |client| {
        let made = create(cx, &client, &flags, &body).await;
        let id = made.map_err(|error| Failure::new(error.text).with_code(1))?;
        cx.print(&format!("{id}\n"))?;
        Ok(0)
    })
}

/// Reads the words of `run` or `create`.
pub(super) fn read(
    cx: &Cx,
    command: &Command,
    flags: &mut CreateFlags,
    more: &mut [&mut dyn Flags],
) -> Result<Vec<String>, Failure> {
    let mut sets: Vec<&mut dyn Flags> = vec![flags];
    for set in more {
        sets.push(&mut **set);
    }
    cx.read(command, &mut sets)
}

/// The body for the flags, with what the client's configuration adds to every container.
pub(super) fn body(cx: &Cx, flags: &CreateFlags, args: &[String]) -> Result<CreateBody, Failure> {
    let wrong = |text: String| Failure::new(cx.with_help(&text, &cx.called)).with_code(125);
    if !matches!(flags.pull.as_str(), "always" | "missing" | "never" | "") {
        return Err(wrong(format!(
            "invalid pull option: '{}': must be one of \"always\", \"missing\" or \"never\"",
            flags.pull
        )));
    }
    let mut body = create_body(flags, args).map_err(wrong)?;
    let image = &body.config.image;
    let is_id = image.len() == 64 && image.bytes().all(|byte| byte.is_ascii_hexdigit());
    if flags.rootfs.is_none() && !is_id {
        Reference::parse(image).map_err(|error| wrong(error.to_string()))?;
    }
    let host = cx.globals.host.last().map_or("default", String::as_str);
    let proxies = cx.config().proxy_environment(host);
    if !proxies.is_empty() {
        let env = body.config.env.get_or_insert_default();
        for (name, value) in proxies {
            let set = |line: &String| line.split('=').next() == Some(&name);
            if !env.iter().any(set) {
                env.push(format!("{name}={value}"));
            }
        }
    }
    Ok(body)
}

/// Makes the container, pulling the image where `--pull` says so; gives its id. The failure's text has no
/// prefix yet.
pub(super) async fn create(
    cx: &Cx,
    client: &Client,
    flags: &CreateFlags,
    body: &CreateBody,
) -> Result<String, Failure> {
    let cidfile = match flags.cidfile.as_str() {
        "" => None,
        path => Some(reserve_cidfile(path)?),
    };
    let made = create_or_pull(cx, client, flags, body).await;
    if let Some(mut file) = cidfile {
        match &made {
            Ok(created) => file.write_all(created.id.as_bytes())?,
            Err(_) => std::fs::remove_file(&flags.cidfile)?,
        }
    }
    let created = made?;
    for warning in &created.warnings {
        eprintln!("WARNING: {warning}");
    }
    Ok(created.id)
}

fn reserve_cidfile(path: &str) -> Result<std::fs::File, Failure> {
    std::fs::File::create_new(path).map_err(|error| {
        Failure::new(match error.kind() {
            std::io::ErrorKind::AlreadyExists => format!(
                "container ID file found, make sure the other container isn't running or delete {path}"
            ),
            _ => format!("failed to create the container ID file: {error}"),
        })
    })
}

async fn create_or_pull(
    cx: &Cx,
    client: &Client,
    flags: &CreateFlags,
    body: &CreateBody,
) -> Result<Created, Failure> {
    let image = &body.config.image;
    if let Some(text) = flags.platform.as_deref().filter(|text| !text.is_empty()) {
        Platform::parse(text)
            .map_err(|error| Failure::new(format!("error parsing specified platform: {error}")))?;
    }
    let progress = Progress::for_stderr(flags.quiet);
    if flags.pull == "always" && flags.rootfs.is_none() {
        pull(cx, client, image, flags.platform.as_deref(), progress).await?;
    }
    match post(client, flags, body).await {
        Err(error) if error.is_not_found() && flags.pull != "never" && !image.is_empty() => {
            if flags.pull == "missing" && !flags.quiet {
                let full = Reference::parse(image).map(|name| name.or_latest().familiar());
                eprintln!(
                    "Unable to find image '{}' locally",
                    full.unwrap_or_else(|_| image.clone())
                );
            }
            pull(cx, client, image, flags.platform.as_deref(), progress).await?;
            Ok(post(client, flags, body).await?)
        }
        made => Ok(made?),
    }
}

async fn post(
    client: &Client,
    flags: &CreateFlags,
    body: &CreateBody,
) -> Result<Created, ApiError> {
    let name = (!flags.name.is_empty()).then_some(flags.name.as_str());
    let call = client.post("/containers/create").query_if("name", name);
    let call = call.query_if("platform", flags.platform.as_deref());
    call.body(body)?.json().await
}
