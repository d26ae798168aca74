//! What every command is given: the program's name, the global flags, the words that follow.

use std::cell::OnceCell;
use std::io::Write;
use std::path::PathBuf;

use crate::commands::{Command, Count, manifest};
use crate::config::ConfigFile;
use crate::failure::Failure;
use crate::flags::{Checked, Flags, Rule, Stop, flags, options_text, parse};

/// `list` flags that the help calls so, but with a rule of their own.
#[derive(Debug)]
pub(crate) struct Plain;
impl Rule for Plain {
    type Item = String;
    fn read(text: &str) -> Result<String, String> {
        Ok(text.to_owned())
    }
}

flags! {
    /// Flags before the command's name.
    pub(crate) struct GlobalFlags {
        /// Location of client config files
        config: Option<String> = "config";
        /// Name of the context to use to connect to the daemon (only "default" is known)
        context: Option<String> = "context" short "c";
        /// Enable debug mode
        debug: bool = "debug" short "D";
        /// Daemon socket to connect to
        host: Checked<Plain> = "host" short "H";
        /// Set the logging level ("debug", "info", "warn", "error", "fatal")
        log_level: String = "log-level" short "l" default "info";
        /// Use TLS; implied by --tlsverify
        tls: bool = "tls";
        /// Trust certs signed only by this CA
        tls_ca_cert: Option<String> = "tlscacert";
        /// Path to TLS certificate file
        tls_cert: Option<String> = "tlscert";
        /// Path to TLS key file
        tls_key: Option<String> = "tlskey";
        /// Use TLS and verify the remote
        tls_verify: Option<bool> = "tlsverify";
        /// Print version information and quit
        version: bool = "version" short "v";
    }
}

/// The state of one call of the program.
#[derive(Debug)]
pub(crate) struct Cx {
    /// `gantry`, or the name it was called by where that is another engine's.
    pub(crate) program: String,
    pub(crate) globals: GlobalFlags,
    /// The command as it was called: `container run` or `run`.
    pub(crate) called: String,
    words: Vec<String>,
    config: OnceCell<ConfigFile>,
}

impl Cx {
    pub(crate) fn new(
        program: String,
        globals: GlobalFlags,
        called: String,
        words: Vec<String>,
    ) -> Cx {
        Cx {
            program,
            globals,
            called,
            words,
            config: OnceCell::new(),
        }
    }

    /// Reads the command's words into its flags; gives back the arguments, counted.
    pub(crate) fn read(
        &self,
        command: &Command,
        sets: &mut [&mut dyn Flags],
    ) -> Result<Vec<String>, Failure> {
        let full = format!("{} {}", self.program, self.called);
        let args = match parse(self.words.clone(), sets, command.mixed) {
            Ok(args) => args,
            Err(Stop::Help(short)) => {
                if short {
                    eprintln!("Flag shorthand -h has been deprecated, use --help");
                }
                self.print(&self.help(command, sets))?;
                return Err(Failure::quiet(0));
            }
            Err(Stop::Wrong(text)) => {
                return Err(Failure::new(format!(
                    "{text}\n\nUsage:  {full} {}\n\nRun '{full} --help' for more information",
                    command.usage
                ))
                .with_code(125));
            }
        };
        match command.args.check(args.len()) {
            None => Ok(args),
            Some(wrong) => {
                let verb = match command.args {
                    Count::AtLeast(_) => "See",
                    // COMPAT: Docker's client has a letter too many here.
                    Count::AtMost(_) => "SRun",
                    _ => "Run",
                };
                Err(Failure::new(format!(
                    "{}: '{full}' {wrong}\n\nUsage:  {full} {}\n\n{verb} '{full} --help' for more information",
                    self.program, command.usage
                )))
            }
        }
    }

    fn help(&self, command: &Command, sets: &[&mut dyn Flags]) -> String {
        let program = &self.program;
        let mut text = format!("Usage:  {program} {} {}", self.called, command.usage);
        text = format!("{}\n\n{}\n", text.trim_end(), command.about);
        if command.names[0].starts_with("manifest ") {
            let called = format!("{program} {}", self.called);
            text.push_str(&format!("\n{}\n", manifest::experimental(&called)));
        }
        if command.names.len() > 1 {
            let names: Vec<String> = command
                .names
                .iter()
                .map(|name| format!("{program} {name}"))
                .collect();
            text.push_str(&format!("\nAliases:\n  {}\n", names.join(", ")));
        }
        let specs: Vec<_> = sets.iter().flat_map(|set| set.specs()).copied().collect();
        let options = options_text(&specs, help_width());
        if !options.is_empty() {
            text.push_str(&format!("\nOptions:\n{options}"));
        }
        text
    }

    /// Writes to stdout; a reader that has gone ends the command without a word.
    pub(crate) fn print(&self, text: &str) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        Ok(())
    }

    /// `~/.docker`, or what `--config` or `$DOCKER_CONFIG` name.
    pub(crate) fn config_dir(&self) -> PathBuf {
        if let Some(dir) = &self.globals.config {
            return PathBuf::from(dir);
        }
        match std::env::var_os("DOCKER_CONFIG").filter(|dir| !dir.is_empty()) {
            Some(dir) => PathBuf::from(dir),
            None => std::env::home_dir().unwrap_or_default().join(".docker"),
        }
    }

    /// The client's configuration file, read when first asked for.
    pub(crate) fn config(&self) -> &ConfigFile {
        self.config
            .get_or_init(|| ConfigFile::load(&self.config_dir().join("config.json")))
    }

    /// The keys that detach from a terminal: the flag's, else the configuration's, else Docker's.
    pub(crate) fn detach_keys<'a>(&'a self, flag: Option<&'a str>) -> Option<&'a str> {
        flag.or(self.config().detach_keys.as_deref())
    }

    /// The error text of `run` and `create`: whose error it is, and where to read on.
    pub(crate) fn with_help(&self, text: &str, command: &str) -> String {
        let program = &self.program;
        format!("{program}: {text}\n\nRun '{program} {command} --help' for more information")
    }
}

/// Columns that a help text may fill.
pub(crate) fn help_width() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stdin());
    match size.map(|size| usize::from(size.ws_col)) {
        Ok(columns) if columns > 0 => columns - 1,
        _ => 79,
    }
}
