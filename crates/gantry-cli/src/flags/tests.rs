use super::*;

flags! {
    struct Sample {
        /// Keep STDIN open
        interactive: bool = "interactive" short "i";
        /// Allocate a pseudo-TTY
        tty: bool = "tty" short "t";
        /// Set environment variables
        env: Vec<String> = "env" short "e";
        /// Proxy received signals to the process
        sig_proxy: bool = "sig-proxy" default "true";
        /// Tune container pids limit
        /// (set -1 for unlimited)
        pids_limit: Option<i64> = "pids-limit";
        /// Pull image before running ("always", "missing", "never")
        pull: String = "pull" default "missing";
        dns_option: Vec<String> = "dns-option" old "dns-opt";
        tune: Option<i64> = "tune" old "old-tune";
    }
}

fn read(line: &str, mixed: bool) -> Result<(Sample, Vec<String>), Stop> {
    let mut flags = Sample::default();
    let words = line.split_whitespace().map(str::to_owned).collect();
    let rest = parse(words, &mut [&mut flags], mixed)?;
    Ok((flags, rest))
}

fn wrong(line: &str) -> String {
    match read(line, false) {
        Err(Stop::Wrong(text)) => text,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn short_flags_cluster_and_take_values_in_three_spellings() {
    let (flags, rest) = read("-it -eA=1 -e B=2 -e=C=3 --env D --env=E=5 image -t", false).unwrap();
    assert!(flags.interactive && flags.tty);
    assert_eq!(flags.env, ["A=1", "B=2", "C=3", "D", "E=5"]);
    assert_eq!(rest, ["image", "-t"]);
}

#[test]
fn other_words_end_the_flags_only_where_asked() {
    let (flags, rest) = read("name -t", true).unwrap();
    assert!(flags.tty);
    assert_eq!(rest, ["name"]);
    let (flags, rest) = read("-i -- -t --tty", true).unwrap();
    assert!(flags.interactive && !flags.tty);
    assert_eq!(rest, ["-t", "--tty"]);
    assert_eq!(read("-", true).unwrap().1, ["-"]);
}

#[test]
fn switches_take_a_value_only_after_an_equals_sign() {
    let (flags, rest) = read("--sig-proxy=false --tty=0 -i=1 false", false).unwrap();
    assert!(!flags.sig_proxy && !flags.tty && flags.interactive);
    assert_eq!(rest, ["false"]);
    assert!(read("", false).unwrap().0.sig_proxy);
    assert_eq!(read("", false).unwrap().0.pull, "missing");
}

#[test]
fn wrong_lines_are_told_in_dockers_words() {
    assert_eq!(wrong("--foo"), "unknown flag: --foo");
    assert_eq!(wrong("--foo=1"), "unknown flag: --foo");
    assert_eq!(wrong("-iZ"), "unknown shorthand flag: 'Z' in -iZ");
    assert_eq!(wrong("-e"), "flag needs an argument: 'e' in -e");
    assert_eq!(wrong("--env"), "flag needs an argument: --env");
    assert_eq!(wrong("--=x"), "bad flag syntax: --=x");
    assert_eq!(
        wrong("--tty=x a"),
        "invalid argument \"x\" for \"-t, --tty\" flag: strconv.ParseBool: parsing \"x\": invalid syntax"
    );
    assert_eq!(
        wrong("--pids-limit x"),
        "invalid argument \"x\" for \"--pids-limit\" flag: strconv.ParseInt: parsing \"x\": invalid syntax"
    );
    assert_eq!(read("--help", false).unwrap_err(), Stop::Help(false));
}

#[test]
fn help_is_laid_out_as_pflag_does() {
    let text = options_text(Sample::default().specs(), 60);
    let expected = [
        "  -e, --env list         Set environment variables",
        "  -i, --interactive      Keep STDIN open",
        "      --pids-limit int   Tune container pids limit",
        "                         (set -1 for unlimited)",
        "      --pull string      Pull image before running",
        "                         (\"always\", \"missing\",",
        "                         \"never\") (default \"missing\")",
        "      --sig-proxy        Proxy received signals to the",
        "                         process (default true)",
        "  -t, --tty              Allocate a pseudo-TTY",
        "",
    ];
    assert_eq!(text.split('\n').collect::<Vec<_>>(), expected);
}

#[test]
fn an_old_name_is_the_same_flag() {
    let (flags, _) = read("--dns-opt a --dns-option b --dns-opt=c", false).unwrap();
    assert_eq!(flags.dns_option, ["a", "b", "c"]);
    assert_eq!(
        wrong("--old-tune x"),
        "invalid argument \"x\" for \"--old-tune\" flag: strconv.ParseInt: parsing \"x\": invalid syntax"
    );
    assert_eq!(wrong("--old"), "unknown flag: --old");
    assert_eq!(wrong("--="), "bad flag syntax: --=");
}
