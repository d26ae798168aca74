//! `gantry login`

use std::io::{IsTerminal, Read};

use gantry_api::system::{AuthConfig, AuthResponse};
use gantry_registry::{Credentials, Registry, RegistryOptions};
use http::StatusCode;

use super::{prompt, warn_of_environment};
use crate::client::{Answered, ApiError, Client, talk};
use crate::commands::{Command, Count};
use crate::config::{HUB, hostname};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::flags;
use crate::format::{Note, note};

pub(crate) const COMMAND: Command = Command {
    names: &["login"],
    about: "Authenticate to a registry.\nDefaults to Docker Hub if no server is specified.",
    usage: "[OPTIONS] [SERVER]",
    args: Count::AtMost(1),
    mixed: true,
    run,
};

flags! {
    struct LoginFlags {
        /// Password or Personal Access Token (PAT)
        password: Option<String> = "password" short "p";
        /// Take the Password or Personal Access Token (PAT) from stdin
        password_stdin: Option<bool> = "password-stdin";
        /// Username
        username: Option<String> = "username" short "u";
    }
}

/// Docker Hub by its short name.
const HUB_NAME: &str = "docker.io";

fn run(cx: &Cx) -> Outcome {
    let mut flags = LoginFlags::default();
    let args = cx.read(&COMMAND, &mut [&mut flags])?;
    let (username, password) = given(&flags)?;
    warn_of_environment();
    let server = match args.first().map(String::as_str) {
        None | Some("" | HUB_NAME | HUB) => HUB.to_owned(),
        Some(other) => hostname(other),
    };
    talk(cx, async |client| {
        let mut before = String::new();
        if username.is_empty() && password.is_empty() {
            let stored = cx.config().credentials(&server).unwrap_or_default();
            let whole = !stored.username.is_empty() && !stored.password.is_empty();
            if whole && let Some(status) = with_stored(cx, &client, &server, &stored).await? {
                cx.print(&format!("{status}\n"))?;
                return Ok(0);
            }
            before = stored.username;
        }
        let asked = username.is_empty() || password.is_empty();
        if asked && !std::io::stdin().is_terminal() {
            return Err(Failure::new(
                "Error: Cannot perform an interactive login from a non TTY device",
            ));
        }
        // COMPAT: Docker's client opens a web page of Docker Hub here; that way in is registered for it alone.
        let username = match username.trim() {
            "" => prompt::username(cx, &before, &server).await?,
            given => given.to_owned(),
        };
        let password = match password.trim() {
            "" => prompt::password(cx, &server).await?,
            given => given.to_owned(),
        };
        let mut auth = AuthConfig {
            username,
            password,
            serveraddress: server.clone(),
            ..AuthConfig::default()
        };
        let answer = ask_anyhow(&client, &auth).await?;
        keep(cx, &mut auth, &answer)?;
        cx.print(&format!("{}\n", answer.status))?;
        Ok(0)
    })
}

/// The user name and the password of the command line, empty where they are to be asked for.
fn given(flags: &LoginFlags) -> Result<(String, String), Failure> {
    let (username, password) = (flags.username.as_deref(), flags.password.as_deref());
    if flags.password_stdin.is_some() {
        if password.is_some() {
            return Err(Failure::new(
                "conflicting options: cannot specify both --password and --password-stdin",
            ));
        }
        if username.is_none() {
            return Err(Failure::new(
                "the --password-stdin option requires --username to be set",
            ));
        }
    }
    if username == Some("") {
        return Err(Failure::new("username is empty"));
    }
    if password == Some("") {
        return Err(Failure::new("password is empty"));
    }
    if password.is_some() {
        eprintln!("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
    }
    let mut password = password.unwrap_or_default().to_owned();
    if flags.password_stdin == Some(true) {
        std::io::stdin().read_to_string(&mut password)?;
        let line = password.strip_suffix('\n').unwrap_or(&password);
        password = line.strip_suffix('\r').unwrap_or(line).to_owned();
    }
    Ok((username.unwrap_or_default().to_owned(), password))
}

/// Tries what is stored; the daemon's word where that is still good.
async fn with_stored(
    cx: &Cx,
    client: &Client,
    server: &str,
    stored: &AuthConfig,
) -> Result<Option<String>, Failure> {
    let program = &cx.program;
    eprintln!(
        "Authenticating with existing credentials... [Username: {}]",
        stored.username
    );
    let hint = format!(
        "To login with a different account, run '{program} logout' followed by '{program} login'"
    );
    let terminal = std::io::stderr().is_terminal();
    eprint!("{}\n\n", note(Note::Info, &hint, terminal));
    let mut auth = AuthConfig {
        serveraddress: server.to_owned(),
        identitytoken: String::new(),
        ..stored.clone()
    };
    match ask(client, &auth).await {
        Ok(answer) => {
            keep(cx, &mut auth, &answer)?;
            return Ok(Some(answer.status));
        }
        Err(ApiError::Daemon { status, .. }) if status == StatusCode::UNAUTHORIZED => {
            eprintln!("Stored credentials invalid or expired");
        }
        Err(error) => eprintln!("Login did not succeed, error: {error}"),
    }
    Ok(None)
}

/// Lets the daemon ask the registry.
async fn ask(client: &Client, auth: &AuthConfig) -> Answered<AuthResponse> {
    client.post("/auth").body(auth)?.json().await
}

/// Asks the registry, without the daemon where there is none.
async fn ask_anyhow(client: &Client, auth: &AuthConfig) -> Result<AuthResponse, Failure> {
    match ask(client, auth).await {
        Err(ApiError::Connection(_)) => {}
        answered => return Ok(answered?),
    }
    let credentials = Credentials {
        username: auth.username.clone(),
        password: auth.password.clone(),
        ..Credentials::default()
    };
    let registry = Registry::new(RegistryOptions::default());
    let token = registry.login(&auth.serveraddress, &credentials).await;
    Ok(AuthResponse {
        identity_token: token
            .map_err(|error| Failure::new(error.to_string()))?
            .unwrap_or_default(),
        status: "Login Succeeded".to_owned(),
    })
}

/// Stores what is good: a token instead of the password, where the registry gives one.
fn keep(cx: &Cx, auth: &mut AuthConfig, answer: &AuthResponse) -> Result<(), Failure> {
    if !answer.identity_token.is_empty() {
        auth.password.clear();
        auth.identitytoken.clone_from(&answer.identity_token);
    }
    let stored = cx.config().store(auth);
    stored.map_err(|why| Failure::new(format!("Error saving credentials: {why}")))
}
