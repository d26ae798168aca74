use super::*;
use gantry_api::system::AuthConfig;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

/// A folder of one test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let name = format!("gantry-cli-config-{}-{name}", std::process::id());
        Folder(std::env::temp_dir().join(name))
    }

    fn file(&self) -> PathBuf {
        self.0.join("config.json")
    }

    fn config(&self) -> ConfigFile {
        ConfigFile::load(&self.file())
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.file()).unwrap()
    }

    fn write(&self, text: &str) {
        std::fs::create_dir_all(&self.0).unwrap();
        std::fs::write(self.file(), text).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn user(server: &str, username: &str, password: &str) -> AuthConfig {
    AuthConfig {
        username: username.to_owned(),
        password: password.to_owned(),
        serveraddress: server.to_owned(),
        ..AuthConfig::default()
    }
}

#[test]
fn what_is_stored_is_found_again_and_can_be_forgotten() {
    let folder = Folder::new("store");
    // A credsStore that is named empty keeps the machine's own helpers out of the test.
    folder.write(r#"{"auths": {"other": {}}}"#);
    let (hub, own) = (user(HUB, "me", "a:b"), user("r.example:5", "you", "ü"));
    folder.config().store(&hub).unwrap();
    folder.config().store(&own).unwrap();
    let config = folder.config();
    assert_eq!(config.credentials(HUB), Ok(hub.clone()));
    assert_eq!(config.credentials("r.example:5"), Ok(own));
    assert_eq!(config.credentials("x"), Ok(AuthConfig::default()));
    assert_eq!(config.registry_auth("docker.io"), Ok(header(&hub)));
    assert_eq!(config.registry_auth("x"), Ok("e30=".to_owned()));
    let text = folder.text();
    assert!(
        text.starts_with("{\n\t\"auths\": {\n\t\t\"https://index.docker.io/v1/\": {\n\t\t\t\"auth\": \"bWU6YTpi\"\n\t\t},\n"),
        "{text}"
    );
    folder.config().erase(HUB).unwrap();
    assert_eq!(folder.config().credentials(HUB), Ok(AuthConfig::default()));
    assert!(!folder.text().contains("bWU6YTpi"));
    assert!(folder.text().contains("\"other\": {}"));
}

#[test]
fn identity_tokens_stand_beside_the_users_name() {
    let folder = Folder::new("token");
    folder.write(r#"{"auths":{"a":{"email":"me@example","auth":"eDp5","registrytoken":"old"}}}"#);
    let auth = AuthConfig {
        identitytoken: "tok".to_owned(),
        ..user("a", "me", "")
    };
    folder.config().store(&auth).unwrap();
    assert_eq!(folder.config().credentials("a"), Ok(auth));
    // What we do not know stays.
    let entry = "{\"email\":\"me@example\",\"auth\":\"bWU6\",\"identitytoken\":\"tok\"}";
    let text: String = folder.text().split_whitespace().collect();
    assert_eq!(text, format!("{{\"auths\":{{\"a\":{entry}}}}}"));
}

#[test]
fn all_else_of_the_file_stays() {
    let folder = Folder::new("keep");
    folder.write(
        "{\"zz\": [1, {\"deep\": null}], \"auths\": {\"z\": {}, \"a\": {}}, \"HttpHeaders\": {\"A\": \"b\"}}",
    );
    std::fs::set_permissions(folder.file(), Permissions::from_mode(0o640)).unwrap();
    folder.config().store(&user("m", "a", "b")).unwrap();
    let text: String = folder.text().split_whitespace().collect();
    assert_eq!(
        text,
        "{\"zz\":[1,{\"deep\":null}],\"auths\":{\"a\":{},\"m\":{\"auth\":\"YTpi\"},\"z\":{}},\"HttpHeaders\":{\"A\":\"b\"}}"
    );
    assert_eq!(mode(&folder.file()), 0o640);
    let left: Vec<_> = std::fs::read_dir(&folder.0).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn a_new_file_is_for_its_owner_alone() {
    let folder = Folder::new("mode");
    let config = ConfigFile {
        cred_helpers: [("x".to_owned(), "y".to_owned())].into(),
        ..folder.config()
    };
    config.store(&user("a", "b", "c")).unwrap();
    assert_eq!((mode(&folder.0), mode(&folder.file())), (0o700, 0o600));
    // Nothing changes: nothing is written.
    std::fs::set_permissions(folder.file(), Permissions::from_mode(0o400)).unwrap();
    let before = std::fs::metadata(folder.file()).unwrap();
    folder.config().store(&user("a", "b", "c")).unwrap();
    folder.config().erase("other").unwrap();
    let after = std::fs::metadata(folder.file()).unwrap();
    assert_eq!(before.modified().unwrap(), after.modified().unwrap());
}

#[test]
fn links_are_followed_even_where_they_lead_to_nothing_yet() {
    let folder = Folder::new("link");
    let (there, link) = (folder.0.join("there"), folder.file());
    std::fs::create_dir_all(&there).unwrap();
    std::os::unix::fs::symlink("there/real.json", &link).unwrap();
    let config = ConfigFile {
        cred_helpers: [("x".to_owned(), "y".to_owned())].into(),
        ..folder.config()
    };
    config.store(&user("a", "b", "c")).unwrap();
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(there.join("real.json").is_file());
    folder.config().erase("a").unwrap();
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(!folder.text().contains("\"a\""));
}

#[test]
fn a_file_that_cannot_be_read_is_not_written_over() {
    let folder = Folder::new("broken");
    folder.write("{\"auths\": {,}}");
    let config = ConfigFile {
        cred_helpers: [("x".to_owned(), "y".to_owned())].into(),
        ..folder.config()
    };
    let why = config.store(&user("a", "b", "c")).unwrap_err();
    assert!(
        why.starts_with("mend or remove the configuration file"),
        "{why}"
    );
    assert_eq!(folder.text(), "{\"auths\": {,}}");
}

#[test]
fn logins_at_once_all_count() {
    let folder = Folder::new("many");
    folder.write(r#"{"auths":{"x":{}}}"#);
    std::thread::scope(|scope| {
        for number in 0..16 {
            let folder = &folder;
            scope.spawn(move || {
                let server = format!("r{number}.example");
                folder.config().store(&user(&server, "a", "b")).unwrap();
            });
        }
    });
    assert_eq!(folder.config().auths.len(), 17);
}

#[test]
fn entries_of_older_clients() {
    let folder = Folder::new("old");
    folder.write(r#"{"auths":{"https://r.example/v1/":{"auth":"eDp5AA=="},"b":{"auth":"%"}}}"#);
    let config = folder.config();
    let found = user("https://r.example/v1/", "x", "y");
    assert_eq!(config.credentials("r.example"), Ok(found));
    assert_eq!(config.credentials("b"), Ok(user("b", "", "")));
}

#[test]
fn names_of_registries() {
    for (address, name) in [
        ("r.example", "r.example"),
        ("r.example/v1/", "r.example"),
        ("http://r.example:5000/v2/", "r.example:5000"),
        ("https://[::1]:5000", "[::1]:5000"),
    ] {
        assert_eq!(hostname(address), name);
    }
    assert_eq!(key_of("docker.io"), HUB);
    assert_eq!(key_of("index.docker.io"), HUB);
    assert_eq!(key_of("r:1"), "r:1");
}

#[test]
fn credentials_of_the_environment() {
    let parse = store::parse_environment;
    let found = parse(r#"{"auths":{"r":{"auth":"eDp5"}}}"#).unwrap();
    assert_eq!(found["r"], user("r", "x", "y"));
    assert_eq!(parse("{}").unwrap().len(), 0);
    for wrong in [
        "",
        r#"{"auths":{"r":{}}}"#,
        r#"{"auths":{"r":{"auth":"%"}}}"#,
        r#"{"auths":{"r":{"auth":"eDp5","username":"x"}}}"#,
        r#"{"credsStore":"x"}"#,
        "{} {}",
    ] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}
