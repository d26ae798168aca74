//! `cargo xtask demo`: the first five minutes, from a clone to a container.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{binary, debian};

/// A folder of the machine's for the demo to work in, by way of a container.
const PLACE: &str = "/var/tmp/gantry-demo";

/// Builds Gantry and shows it. Can be run again and again; leaves a daemon, as a first command does.
/// `--binary FILE` shows that one instead of building.
pub(crate) fn run(args: &[String]) -> Result<()> {
    debian::require_root("the demo")?;
    let built = match args {
        [] => None,
        [option, file] if option == "--binary" => Some(PathBuf::from(file)),
        _ => bail!("unknown arguments {args:?}: --binary FILE is the only one"),
    };
    say("Building Gantry: one static binary (the first time this takes some minutes).");
    let gantry = match built {
        Some(file) => file,
        None => binary::build()?,
    };
    let size = gantry.metadata()?.len();
    println!("    {} ({:.1} MB)", gantry.display(), size as f64 / 1e6);
    let demo = Demo { gantry: &gantry };

    say(
        "A first container. Nothing is set up: the client starts a daemon, and hello-world comes out of the binary.",
    );
    demo.show(&["run", "hello-world"])?;
    let first = demo.answer(&["ps", "-lq"])?;

    say("The same again, now that the daemon is there.");
    demo.show(&["run", "--rm", "hello-world"])?;

    say(
        "A shell over this machine's own files, without any image. The container sees / as it is; what it writes goes \
         with it.",
    );
    // Nothing is touched but a folder made for this, were the copy ever not on write.
    std::fs::create_dir_all(PLACE)?;
    std::fs::write(format!("{PLACE}/kept"), "as it was\n")?;
    let script = format!(
        "echo \"I am PID $$ on $(hostname)\"; cd {PLACE}; rm kept; echo hello > written; ls"
    );
    demo.show(&["run", "--rm", "--rootfs", "/:O", "sh", "-c", &script])?;
    let left: Vec<String> = std::fs::read_dir(PLACE)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    println!("    $ ls {PLACE}\n{}", left.join("\n"));
    std::fs::remove_dir_all(PLACE)?;
    if left != ["kept"] {
        bail!("the container wrote to the machine's own files");
    }

    say("What has run here:");
    demo.show(&["ps", "-a"])?;
    demo.answer(&["rm", &first])?;

    let called = gantry.display();
    say("Where to go next:");
    println!(
        "    install -m 755 {called} /usr/local/bin/gantry     keep it
    gantry run -it --rootfs /:O bash        your own shell, copy-on-write
    gantry pull alpine && gantry run -it alpine sh    images from a registry
    gantry --help                           all commands
    gantry system stop-daemon               end the daemon (containers go on)
    README.md                               more; packaging/ has service files"
    );
    Ok(())
}

fn say(text: &str) {
    println!("\n==> {text}");
}

struct Demo<'a> {
    gantry: &'a Path,
}

impl Demo<'_> {
    /// Runs a command before the reader's eyes, with the time it took.
    fn show(&self, args: &[&str]) -> Result<()> {
        let words: Vec<String> = args.iter().map(|word| quoted(word)).collect();
        println!("    $ gantry {}", words.join(" "));
        let start = Instant::now();
        let mut command = Command::new(self.gantry);
        debian::run(command.args(args).stdin(Stdio::null()))?;
        println!("    ({:.0} ms)", start.elapsed().as_secs_f64() * 1e3);
        Ok(())
    }

    /// Runs a command quietly, for what it prints.
    fn answer(&self, args: &[&str]) -> Result<String> {
        let output = Command::new(self.gantry)
            .args(args)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("cannot run {}", self.gantry.display()))?;
        if !output.status.success() {
            bail!("gantry {} failed: {}", args.join(" "), output.status);
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

/// A word as one would type it.
fn quoted(word: &str) -> String {
    if word.contains([' ', '$', ';', '"']) {
        format!("'{word}'")
    } else {
        word.to_owned()
    }
}
