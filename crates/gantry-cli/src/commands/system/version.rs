//! `gantry version`

use serde_json::{Value as Json, json};

use crate::client::{API_VERSION, ApiError, talk};
use crate::commands::formats::{TemplateFormat, bad_template};
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::format::Template;
use crate::format::shape::VERSION;

pub(crate) const COMMAND: Command = Command {
    names: &["version"],
    about: "Show the version information of client and daemon",
    usage: "[OPTIONS]",
    args: Count::None,
    mixed: true,
    run,
};

fn run(cx: &Cx) -> Outcome {
    let mut flags = TemplateFormat::default();
    cx.read(&COMMAND, &mut [&mut flags])?;
    let format = flags.format.as_deref().filter(|format| !format.is_empty());
    let template = match format {
        None | Some("json") => None,
        Some(source) => Some(Template::named("version", source).map_err(|why| bad_template(&why))?),
    };
    talk(cx, async |client| {
        let server: Result<Json, ApiError> = client.get("/version").json().await;
        let (server, failed) = match server {
            Ok(server) => (server, None),
            Err(error) => (Json::Null, Some(error)),
        };
        let mine = json!({
            "Platform": {"Name": "Gantry"},
            "Version": env!("CARGO_PKG_VERSION"),
            "ApiVersion": client.api_version(),
            "DefaultAPIVersion": API_VERSION,
            "GitCommit": "",
            "GoVersion": "",
            "Os": std::env::consts::OS,
            "Arch": go_architecture(),
            "BuildTime": "",
            "Context": "default",
        });
        let mut server = server;
        if let Some(members) = server.as_object_mut() {
            // The client's type leaves it out where it is empty.
            members.retain(|name, value| name != "BuildTime" || value != "");
        }
        let all = json!({"Client": mine, "Server": server});
        match (format, &template) {
            (Some(_), Some(template)) => {
                let text = template.render_typed(&all, &VERSION);
                cx.print(&format!("{}\n", text.as_deref().unwrap_or_default()))?;
                text.map_err(Failure::new)?;
            }
            (Some(_), None) => cx.print(&format!("{all}\n"))?,
            (None, _) => cx.print(&pretty(&mine, &server))?,
        }
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(0),
        }
    })
}

/// This machine's architecture in Go's words.
pub(super) fn go_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn pretty(client: &Json, server: &Json) -> String {
    let text = |of: &Json, key: &str| of[key].as_str().unwrap_or_default().to_owned();
    let mut out = String::from("Client:\n");
    let row = |out: &mut String, name: &str, value: String| {
        if !value.is_empty() {
            out.push_str(&format!(" {:<19}{value}\n", format!("{name}:")));
        }
    };
    row(&mut out, "Version", text(client, "Version"));
    let (api, default) = (
        text(client, "ApiVersion"),
        text(client, "DefaultAPIVersion"),
    );
    let downgraded = match api == default {
        true => api,
        false => format!("{api} (downgraded from {default})"),
    };
    row(&mut out, "API version", downgraded);
    row(
        &mut out,
        "OS/Arch",
        format!("{}/{}", text(client, "Os"), text(client, "Arch")),
    );
    row(&mut out, "Context", text(client, "Context"));
    if server.is_null() {
        return out;
    }
    let platform = server["Platform"]["Name"].as_str().unwrap_or_default();
    out.push_str(format!("\nServer: {platform}").trim_end());
    out.push('\n');
    for component in server["Components"].as_array().into_iter().flatten() {
        out.push_str(&format!(" {}:\n", text(component, "Name")));
        let details = &component["Details"];
        let mut row = |name: &str, value: String| {
            if !value.is_empty() {
                out.push_str(&format!("  {:<18}{value}\n", format!("{name}:")));
            }
        };
        row("Version", text(component, "Version"));
        let (api, least) = (text(details, "ApiVersion"), text(details, "MinAPIVersion"));
        if !api.is_empty() {
            row("API version", format!("{api} (minimum version {least})"));
        }
        row("Go version", text(details, "GoVersion"));
        let commit = text(details, "GitCommit");
        row(
            if api.is_empty() {
                "GitCommit"
            } else {
                "Git commit"
            },
            commit,
        );
        row("Built", text(details, "BuildTime"));
        if !text(details, "Os").is_empty() {
            row(
                "OS/Arch",
                format!("{}/{}", text(details, "Os"), text(details, "Arch")),
            );
        }
        if let Some(experimental) = details["Experimental"].as_str() {
            row("Experimental", experimental.to_owned());
        }
    }
    out
}
