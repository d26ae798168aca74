//! `top`: the processes of a container as the host's `ps` shows them.
//!
//! The usual options are answered from `/proc` ([`columns`]), without starting a program. For others the host's own `ps`
//! is asked, off everybody's way, as Docker always does.

mod columns;
mod process;

use super::Containers;
use super::transition::Operation;
use crate::error::{Error, Result};
use columns::Column;
use gantry_api::stats::TopResponse;
use process::{Machine, Process};
use std::sync::Arc;

impl Containers {
    /// Lists the processes of a running container; `ps_args` are options of `ps`, `-ef` where they are empty.
    ///
    /// # Errors
    /// `Conflict` when it is not running; `System` for options that `ps` refuses, or that leave the PID out.
    pub async fn top(self: &Arc<Self>, name: &str, ps_args: &str) -> Result<TopResponse> {
        let ps_args = if ps_args.is_empty() { "-ef" } else { ps_args }.to_owned();
        check(&ps_args)?;
        let container = self.find(name)?;
        let asked = container
            .record()
            .state
            .ask(Operation::Top, &container.id, name);
        asked?;
        let cgroup = self.cgroup(&container);
        let listed = crate::blocking(move || {
            let pids = cgroup
                .pids()
                .map_err(|e| Error::caused("cannot list the container's processes", e))?;
            match columns::parse(&ps_args) {
                Some(columns) => from_proc(&columns, &pids),
                None => from_ps(&ps_args, &pids),
            }
        })
        .await??;
        self.context.tell(&container.snapshot(), "top", &[]);
        Ok(listed)
    }
}

/// Docker lets no other column be called PID: the lines are told apart by it.
fn check(ps_args: &str) -> Result<()> {
    let mut rest = ps_args;
    while let Some(at) = rest.find('=') {
        let (before, after) = (&rest[..at], rest[at + 1..].trim_start());
        let name_at = before.rfind(|c: char| c.is_ascii_whitespace());
        let title: String = after
            .chars()
            .take_while(|c| !c.is_ascii_whitespace())
            .collect();
        if let Some(name_at) = name_at
            && title.starts_with("PID")
            && &before[name_at + 1..] != "pid"
        {
            return Err(Error::system(format!(
                "specifying \"{}={title}\" is not allowed",
                &before[name_at + 1..]
            )));
        }
        rest = &rest[at + 1..];
    }
    Ok(())
}

fn from_proc(columns: &[Column], pids: &[u32]) -> Result<TopResponse> {
    let titles: Vec<String> = columns.iter().map(|c| c.title().to_owned()).collect();
    if !titles.iter().any(|title| title == "PID") {
        return Err(no_pid());
    }
    let machine = Machine::read();
    let processes = pids.iter().filter_map(|pid| Process::read(*pid));
    let row = |process: Process| -> Vec<String> {
        let value = |column: &Column| {
            let text = columns::value(*column, &process, &machine);
            // As if it had been a word between spaces.
            text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
        };
        columns.iter().map(value).collect()
    };
    let rows: Vec<Vec<String>> = processes.map(row).collect();
    Ok(TopResponse {
        titles,
        processes: (!rows.is_empty()).then_some(rows),
    })
}

fn no_pid() -> Error {
    Error::system("Couldn't find PID field in ps output")
}

/// Runs the host's `ps`, with the container's PIDs where its options allow that.
fn from_ps(ps_args: &str, pids: &[u32]) -> Result<TopResponse> {
    let list: Vec<String> = pids.iter().map(u32::to_string).collect();
    let words: Vec<&str> = ps_args.split(' ').collect();
    let run = |more: Option<String>| {
        let mut ps = std::process::Command::new("ps");
        ps.args(&words).args(more);
        ps.stdin(std::process::Stdio::null()).output()
    };
    let refuse = |why: &str| Error::system(format!("ps: {why}"));
    let missing = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => refuse("exec: \"ps\": executable file not found in $PATH"),
        _ => refuse(&e.to_string()),
    };
    let mut output = run(Some(format!("-q{}", list.join(",")))).map_err(missing)?;
    if !output.status.success() {
        output = run(None).map_err(missing)?;
    }
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(match said.lines().next() {
            Some(line) if !line.is_empty() => refuse(line),
            _ => refuse(&output.status.to_string()),
        });
    }
    read_ps(&String::from_utf8_lossy(&output.stdout), pids)
}

/// Docker's reading of what `ps` writes: words between spaces, what is too much belongs to the last column.
fn read_ps(text: &str, pids: &[u32]) -> Result<TopResponse> {
    let mut lines = text.lines();
    let words =
        |line: &str| -> Vec<String> { line.split_ascii_whitespace().map(str::to_owned).collect() };
    let titles = words(lines.next().unwrap_or_default());
    let at = titles.iter().position(|title| title == "PID");
    let at = at.ok_or_else(no_pid)?;
    let mut rows = Vec::new();
    // Lines of threads have `-` and belong to the process before.
    let mut ours = false;
    for line in lines.filter(|line| !line.is_empty()) {
        let mut fields = words(line);
        let pid = fields.get(at).map_or("", String::as_str);
        if pid != "-" {
            let number: u32 = pid.parse().map_err(|_| {
                Error::system(format!(
                    "Unexpected pid '{pid}': strconv.Atoi: parsing \"{pid}\": invalid syntax"
                ))
            })?;
            ours = pids.contains(&number);
        }
        if !ours {
            continue;
        }
        if fields.len() > titles.len() {
            let last = fields.split_off(titles.len() - 1).join(" ");
            fields.push(last);
        }
        fields.resize(titles.len(), String::new());
        rows.push(fields);
    }
    Ok(TopResponse {
        titles,
        processes: (!rows.is_empty()).then_some(rows),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pid_is_called_pid() {
        assert!(check("-o pid=PID,comm").is_ok());
        assert!(check("-o pid=PIDX").is_ok());
        assert_eq!(
            check("-o ppid=PID").unwrap_err().message,
            "specifying \"ppid=PID\" is not allowed"
        );
        assert!(check("-o comm=X").is_ok());
    }

    #[test]
    fn what_ps_writes() {
        let text = "  PID COMMAND\n    7 sh -c x\n    - -\n    8 other\n    - -\n";
        let top = read_ps(text, &[7]).unwrap();
        assert_eq!(top.titles, ["PID", "COMMAND"]);
        assert_eq!(
            top.processes.unwrap(),
            [vec!["7", "sh -c x"], vec!["-", "-"]]
        );
        assert!(read_ps("COMMAND\nsh\n", &[7]).is_err());
        assert!(read_ps("PID\nx\n", &[7]).is_err());
    }

    #[test]
    fn this_process_as_the_hosts_ps_shows_it() {
        let pid = std::process::id();
        for args in [
            "-ef",
            "aux",
            "-o pid,ppid,user,comm",
            "-eo pid,tty,nlwp,args",
            "ax",
        ] {
            let mine = from_proc(&columns::parse(args).unwrap(), &[pid]).unwrap();
            let theirs = from_ps(args, &[pid]).unwrap();
            assert_eq!(mine.titles, theirs.titles, "{args}");
            let (mine, theirs) = (mine.processes.unwrap(), theirs.processes.unwrap());
            // What changes from one moment to the next is not compared.
            let moving = ["C", "%CPU", "%MEM", "VSZ", "RSS", "STAT", "TIME", "NLWP"];
            let titles = from_ps(args, &[pid]).unwrap().titles;
            for (at, title) in titles.iter().enumerate() {
                if !moving.contains(&title.as_str()) {
                    assert_eq!(mine[0][at], theirs[0][at], "{args}: {title}");
                }
            }
        }
    }
}
