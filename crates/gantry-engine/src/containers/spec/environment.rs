//! The program's environment, in Docker's order: `PATH`, `HOSTNAME`, `TERM`, the links', the image's and the request's, `HOME`.

use gantry_api::container::ContainerConfig;

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// All variables of a process with or without a terminal; `links` are those of other containers, `own` those of an exec.
pub(super) fn of(
    config: &ContainerConfig,
    tty: bool,
    links: &[String],
    own: &[String],
    home: &str,
) -> Vec<String> {
    let mut defaults = vec![DEFAULT_PATH.to_owned()];
    if !config.hostname.is_empty() {
        defaults.push(format!("HOSTNAME={}", config.hostname));
    }
    if tty {
        defaults.push("TERM=xterm".to_owned());
    }
    defaults.extend_from_slice(links);
    let mut all = replace_or_append(defaults, config.env.as_deref().unwrap_or_default());
    all = replace_or_append(all, own);
    let at = all.iter().position(|entry| name(entry) == "HOME");
    match at {
        // As runc: an empty HOME is no HOME.
        Some(at) if all[at] == "HOME=" => all[at] = format!("HOME={home}"),
        Some(_) => {}
        None => all.push(format!("HOME={home}")),
    }
    all
}

fn name(entry: &str) -> &str {
    entry.split('=').next().unwrap_or_default()
}

/// A later value stands at the place of the earlier one; a name without a value takes the variable away.
fn replace_or_append(mut all: Vec<String>, own: &[String]) -> Vec<String> {
    for entry in own {
        let at = all.iter().position(|other| name(other) == name(entry));
        match (at, entry.contains('=')) {
            (Some(at), true) => all[at].clone_from(entry),
            (Some(at), false) => {
                all.remove(at);
            }
            (None, true) => all.push(entry.clone()),
            (None, false) => {}
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overridden_in_place_or_taken_away() {
        let list = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let all = replace_or_append(
            list(&["PATH=a", "HOSTNAME=h", "TERM=xterm"]),
            &list(&["X=1", "PATH=b", "TERM", "Y", "X=2"]),
        );
        assert_eq!(all, list(&["PATH=b", "HOSTNAME=h", "X=2"]));
    }
}
