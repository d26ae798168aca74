//! `gantry info`

use serde_json::{Value as Json, json};

use crate::client::{ApiError, talk};
use crate::commands::formats::{TemplateFormat, bad_template};
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::format::shape::INFO;
use crate::format::{Template, binary_size};

pub(crate) const COMMAND: Command = Command {
    names: &["system info", "info"],
    about: "Display system-wide information",
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
        Some(source) => Some(Template::parse(source).map_err(|why| bad_template(&why))?),
    };
    talk(cx, async |client| {
        let info: Result<Json, ApiError> = client.get("/info").json().await;
        let mine = json!({
            "Debug": cx.globals.debug,
            "Version": env!("CARGO_PKG_VERSION"),
            "DefaultAPIVersion": crate::client::API_VERSION,
            "GitCommit": "",
            "GoVersion": "",
            "Os": std::env::consts::OS,
            "Arch": super::version::go_architecture(),
            "BuildTime": "",
            "Context": "default",
            "Plugins": [],
            "Warnings": null,
        });
        if format.is_some() {
            let mut info = info?;
            info["ClientInfo"] = mine;
            let text = match &template {
                None => Ok(info.to_string()),
                Some(template) => template.render_typed(&info, &INFO),
            };
            cx.print(&format!("{}\n", text.as_deref().unwrap_or_default()))?;
            return text.map(|_| 0).map_err(Failure::new);
        }
        let mut text = format!(
            "Client:\n Version:    {}\n Context:    default\n Debug Mode: {}\n\nServer:\n",
            env!("CARGO_PKG_VERSION"),
            cx.globals.debug
        );
        match info {
            Ok(info) => {
                server(&mut text, &info);
                text.push('\n');
                cx.print(&text)?;
                for warning in info["Warnings"].as_array().into_iter().flatten() {
                    eprintln!("{}", warning.as_str().unwrap_or_default());
                }
                Ok(0)
            }
            Err(error) => {
                cx.print(&text)?;
                Err(Failure::new(format!(
                    "{error}\nerrors pretty printing info"
                )))
            }
        }
    })
}

/// A value as it is shown in a line.
fn plain(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        Json::Null => String::new(),
        other => other.to_string(),
    }
}

fn words(value: &Json) -> String {
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().map(plain).collect::<Vec<_>>().join(" ")
}

fn line(text: &mut String, indent: usize, name: &str, value: &str) {
    text.push_str(&format!("{}{name}: {value}", " ".repeat(indent)));
    text.push('\n');
}

fn line_if(text: &mut String, name: &str, value: &Json) {
    let value = plain(value);
    if !value.is_empty() {
        line(text, 1, name, &value);
    }
}

fn list(text: &mut String, name: &str, value: &Json) {
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    if items.is_empty() {
        return;
    }
    text.push_str(&format!(" {name}:\n"));
    for item in items {
        text.push_str(&format!("  {}\n", plain(item)));
    }
}

fn server(text: &mut String, info: &Json) {
    line(text, 1, "Containers", &plain(&info["Containers"]));
    for (name, key) in [
        ("Running", "ContainersRunning"),
        ("Paused", "ContainersPaused"),
        ("Stopped", "ContainersStopped"),
    ] {
        line(text, 2, name, &plain(&info[key]));
    }
    line(text, 1, "Images", &plain(&info["Images"]));
    line_if(text, "Server Version", &info["ServerVersion"]);
    line_if(text, "Storage Driver", &info["Driver"]);
    for pair in info["DriverStatus"].as_array().into_iter().flatten() {
        line(text, 2, &plain(&pair[0]), &plain(&pair[1]));
    }
    for (name, key) in [
        ("Logging Driver", "LoggingDriver"),
        ("Cgroup Driver", "CgroupDriver"),
        ("Cgroup Version", "CgroupVersion"),
    ] {
        line_if(text, name, &info[key]);
    }
    text.push_str(" Plugins:\n");
    for key in ["Volume", "Network", "Authorization", "Log"] {
        let names = words(&info["Plugins"][key]);
        if !names.is_empty() || matches!(key, "Volume" | "Network") {
            line(text, 2, key, &names);
        }
    }
    list(text, "CDI spec directories", &info["CDISpecDirs"]);
    line_if(text, "Swarm", &info["Swarm"]["LocalNodeState"]);
    if let Some(runtimes) = info["Runtimes"].as_object() {
        let names: Vec<&str> = runtimes.keys().map(String::as_str).collect();
        line(text, 1, "Runtimes", &names.join(" "));
    }
    line_if(text, "Default Runtime", &info["DefaultRuntime"]);
    line_if(text, "Init Binary", &info["InitBinary"]);
    for (name, key) in [
        ("containerd version", "ContainerdCommit"),
        ("runc version", "RuncCommit"),
        ("init version", "InitCommit"),
    ] {
        if info[key].is_object() {
            line(text, 1, name, &plain(&info[key]["ID"]));
        }
    }
    security(text, &info["SecurityOptions"]);
    for (name, key) in [
        ("Kernel Version", "KernelVersion"),
        ("Operating System", "OperatingSystem"),
        ("OSType", "OSType"),
        ("Architecture", "Architecture"),
        ("CPUs", "NCPU"),
    ] {
        line_if(text, name, &info[key]);
    }
    let memory = info["MemTotal"].as_f64().unwrap_or_default();
    line(text, 1, "Total Memory", &binary_size(memory));
    for (name, key) in [
        ("Name", "Name"),
        ("ID", "ID"),
        ("Docker Root Dir", "DockerRootDir"),
        ("Debug Mode", "Debug"),
        ("HTTP Proxy", "HttpProxy"),
        ("HTTPS Proxy", "HttpsProxy"),
        ("No Proxy", "NoProxy"),
    ] {
        line_if(text, name, &info[key]);
    }
    list(text, "Labels", &info["Labels"]);
    line_if(text, "Experimental", &info["ExperimentalBuild"]);
    list(
        text,
        "Insecure Registries",
        &info["RegistryConfig"]["InsecureRegistryCIDRs"],
    );
    list(text, "Registry Mirrors", &info["RegistryConfig"]["Mirrors"]);
    line_if(text, "Live Restore Enabled", &info["LiveRestoreEnabled"]);
}

/// `name=seccomp,profile=builtin` is a line and its details.
fn security(text: &mut String, options: &Json) {
    let options = options.as_array().map(Vec::as_slice).unwrap_or_default();
    if options.is_empty() {
        return;
    }
    text.push_str(" Security Options:\n");
    for option in options {
        for part in plain(option).split(',') {
            match part.split_once('=') {
                Some(("name", name)) => text.push_str(&format!("  {name}\n")),
                Some(("profile", profile)) => text.push_str(&format!("   Profile: {profile}\n")),
                Some((key, value)) => text.push_str(&format!("   {key}: {value}\n")),
                None => text.push_str(&format!("  {part}\n")),
            }
        }
    }
}
