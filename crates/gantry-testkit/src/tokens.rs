//! A token server for docker-registry (`auth: token`): a small one, with two users.
//!
//! `me` (password `secret`, or the identity token `identity-of-me`) may pull and push everything, `reader` (`secret`)
//! may pull everything, and whoever gives no name may pull what is below `public/`.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, KeyPair};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// What the registry and the server call each other.
const SERVICE: &str = "registry.test";
const ISSUER: &str = "tokens.test";
/// Seconds that a token is good for.
const LIFETIME: u64 = 300;
const PASSWORD: &str = "secret";
const IDENTITY: &str = "identity-of-me";

/// A token server; its thread ends with the process.
#[derive(Debug)]
pub struct TokenServer {
    address: String,
    certificate: PathBuf,
    asked: Arc<Mutex<Vec<Vec<String>>>>,
}

struct Signer {
    key: EcdsaKeyPair,
    /// The certificate, in base64.
    certificate: String,
}

impl TokenServer {
    /// Starts one that keeps its certificate in `folder`.
    pub fn start(folder: &Path) -> Self {
        std::fs::create_dir_all(folder).expect("a folder can be made");
        let pair = KeyPair::generate().expect("a key can be made");
        let params = CertificateParams::new(vec![ISSUER.to_owned()]).expect("the name is one");
        let own = params.self_signed(&pair).expect("it signs itself");
        let certificate = folder.join("tokens.pem");
        std::fs::write(&certificate, own.pem()).expect("a file can be written");
        let key = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            &pair.serialize_der(),
            &SystemRandom::new(),
        );
        let signer = Arc::new(Signer {
            key: key.expect("the key is on P-256"),
            certificate: STANDARD.encode(own.der()),
        });
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("a socket has an address");
        let asked: Arc<Mutex<Vec<Vec<String>>>> = Arc::default();
        let kept = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (signer, asked) = (signer.clone(), kept.clone());
                std::thread::spawn(move || answer(stream, &signer, &asked));
            }
        });
        Self {
            address: address.to_string(),
            certificate,
            asked,
        }
    }

    /// What a registry's configuration says of it.
    pub fn settings(&self) -> String {
        format!(
            "auth:\n  token:\n    realm: http://{}/token\n    service: {SERVICE}\n    issuer: {ISSUER}\n    rootcertbundle: {}\n",
            self.address,
            self.certificate.display()
        )
    }

    /// The scopes of each request so far.
    pub fn asked(&self) -> Vec<Vec<String>> {
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// A request: its parameters (of the address, or of a form), and the name and password that it shows.
struct Asked {
    parameters: Vec<(String, String)>,
    shown: Option<(String, String)>,
}

fn answer(mut stream: TcpStream, signer: &Signer, asked: &Mutex<Vec<Vec<String>>>) {
    let Some(request) = read(&stream) else { return };
    let scopes: Vec<String> = request
        .all("scope")
        .flat_map(|scope| scope.split(' ').map(str::to_owned))
        .filter(|scope| !scope.is_empty())
        .collect();
    asked
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(scopes.clone());
    let (status, body) = match request.user() {
        Some(user) => {
            let token = signer.token(&user, &scopes);
            let mut body = json!({"token": token, "access_token": token, "expires_in": LIFETIME});
            // What `login` asks for.
            if user == "me" && request.all("offline_token").any(|on| on == "true") {
                body["refresh_token"] = IDENTITY.into();
            }
            ("200 OK", body)
        }
        None => {
            let body = json!({"details": "incorrect username or password"});
            ("401 Unauthorized", body)
        }
    };
    let body = body.to_string();
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(": ") else {
            break;
        };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length");
    let mut body = vec![0; length.map_or(0, |text| text.parse().unwrap_or(0))];
    reader.read_exact(&mut body).ok()?;
    let query = first.split(' ').nth(1)?.split_once('?');
    let query = query.map(|(_, query)| query.to_owned()).unwrap_or_default();
    let shown = headers.get("authorization").and_then(|value| {
        let bytes = STANDARD.decode(value.strip_prefix("Basic ")?).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let (name, password) = text.split_once(':')?;
        Some((name.to_owned(), password.to_owned()))
    });
    let form = String::from_utf8(body).ok()?;
    let parameters = query.split('&').chain(form.split('&'));
    let parameters = parameters.filter_map(|pair| pair.split_once('='));
    Some(Asked {
        parameters: parameters
            .map(|(name, value)| (name.to_owned(), decoded(value)))
            .collect(),
        shown,
    })
}

/// Without `%xx` and `+`.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0')];
                let digits = std::str::from_utf8(&digits).unwrap_or("3f");
                u8::from_str_radix(digits, 16).unwrap_or(b'?')
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Asked {
    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.parameters.iter().filter(move |(key, _)| key == name);
        named.map(|(_, value)| value.as_str())
    }

    /// Who asks; empty for nobody; none where the password is wrong.
    fn user(&self) -> Option<String> {
        if let Some(identity) = self.all("refresh_token").next() {
            return (identity == IDENTITY).then(|| "me".to_owned());
        }
        match &self.shown {
            None => Some(String::new()),
            Some((name, password)) => {
                let known = ["me", "reader"].contains(&name.as_str()) && password == PASSWORD;
                known.then(|| name.clone())
            }
        }
    }
}

impl Signer {
    /// A signed token (RFC 7519) for what the user may do of all that was asked.
    fn token(&self, user: &str, scopes: &[String]) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs());
        let access: Vec<Value> = scopes
            .iter()
            .filter_map(|scope| granted(user, scope))
            .collect();
        let header = json!({"typ": "JWT", "alg": "ES256", "x5c": [self.certificate]});
        let claims = json!({
            "iss": ISSUER, "sub": user, "aud": SERVICE, "jti": now.to_string(),
            "exp": now + LIFETIME, "nbf": now - 10, "iat": now, "access": access,
        });
        let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", encode(header), encode(claims));
        let signature = self.key.sign(&SystemRandom::new(), text.as_bytes());
        let signature = signature.expect("the key signs");
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// What a user gets of `repository:NAME:ACTION,ACTION`.
fn granted(user: &str, scope: &str) -> Option<Value> {
    let (kind, rest) = scope.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    let may = |action: &&str| match (user, *action) {
        ("me", _) | ("reader", "pull") => true,
        (_, "pull") => name.starts_with("public/"),
        _ => false,
    };
    let actions: Vec<&str> = actions.split(',').filter(may).collect();
    Some(json!({"type": kind, "name": name, "actions": actions}))
}
