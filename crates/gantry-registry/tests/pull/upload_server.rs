//! A registry that takes blobs, and breaks connections as it is told.

use gantry_oci::{Digest, Reference};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the registry has, and what it was asked.
#[derive(Default)]
pub(crate) struct Content {
    /// By repository and digest.
    pub(crate) blobs: HashMap<(String, String), Vec<u8>>,
    /// By repository and name: media type and bytes.
    pub(crate) manifests: HashMap<(String, String), (String, Vec<u8>)>,
    uploads: HashMap<String, Vec<u8>>,
    /// Method and path of each request, with what counts in a push.
    pub(crate) asked: Vec<String>,
    /// Bytes of bodies of PATCH and PUT that were read.
    pub(crate) received: usize,
    /// After how many bytes the next PATCHes break.
    pub(crate) breaks: Vec<usize>,
    /// Whether an upload that broke is forgotten.
    pub(crate) forgetful: bool,
    /// Whether the answer to the next blob's end gets lost.
    pub(crate) lose_answer: bool,
    /// How many requests a token is good for; none: no token is asked for.
    pub(crate) token_uses: Option<usize>,
    tokens: HashMap<String, (String, usize)>,
    /// The scopes that tokens were asked with.
    pub(crate) scopes: Vec<String>,
}

#[derive(Clone)]
pub(crate) struct UploadServer {
    pub(crate) address: SocketAddr,
    pub(crate) content: Arc<Mutex<Content>>,
}

struct Head {
    method: String,
    path: String,
    query: HashMap<String, String>,
    headers: HashMap<String, String>,
}

/// A status and headers.
type Answer = (&'static str, Vec<(&'static str, String)>, Vec<u8>);

impl UploadServer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Self {
            address,
            content: Arc::default(),
        };
        let serving = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let serving = serving.clone();
                tokio::spawn(async move { serving.serve(stream).await });
            }
        });
        server
    }

    pub(crate) fn reference(&self, name: &str) -> Reference {
        Reference::parse(&format!("{}/{name}", self.address)).unwrap()
    }

    pub(crate) fn asked(&self, text: &str) -> usize {
        let content = self.content.lock().unwrap();
        content.asked.iter().filter(|a| a.contains(text)).count()
    }

    async fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut text = Vec::new();
        while !text.ends_with(b"\r\n\r\n") {
            text.push(stream.read_u8().await?);
            if text[0] == 0x16 {
                return stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n").await;
            }
        }
        let head = Head::read(&String::from_utf8(text).unwrap());
        let length = head.headers.get("content-length");
        let length: usize = length.map_or(0, |text| text.parse().unwrap());
        let (limit, refused) = {
            let mut content = self.content.lock().unwrap();
            let mut line = format!("{} {}", head.method, head.path);
            for name in ["content-range", "content-length"] {
                if let Some(value) = head.headers.get(name) {
                    line.push_str(&format!(" {name}={value}"));
                }
            }
            content.asked.push(line);
            let breaks = head.method == "PATCH" && !content.breaks.is_empty();
            let limit = breaks.then(|| content.breaks.remove(0));
            (limit, content.refuse(&head))
        };
        let mut body = vec![0; limit.unwrap_or(length).min(length)];
        if refused.is_none() {
            stream.read_exact(&mut body).await?;
        }
        let (answer, lost) = {
            let mut content = self.content.lock().unwrap();
            content.received += body.len();
            let lost = head.method == "PUT"
                && head.path.contains("/uploads/")
                && std::mem::take(&mut content.lose_answer);
            let answer = match (refused, limit) {
                (Some(answer), _) => Some(answer),
                (None, Some(_)) => {
                    content.keep_part(&head, &body);
                    None
                }
                (None, None) => Some(content.answer(&head, body)),
            };
            (answer, lost)
        };
        let Some((status, headers, body)) = answer.filter(|_| !lost) else {
            return Ok(());
        };
        let mut text = format!("HTTP/1.1 {status}\r\nconnection: close\r\n");
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if head.method != "HEAD" {
            text.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        stream.write_all(format!("{text}\r\n").as_bytes()).await?;
        if head.method != "HEAD" {
            stream.write_all(&body).await?;
        }
        stream.shutdown().await
    }
}

impl Head {
    fn read(text: &str) -> Self {
        let mut lines = text.lines();
        let mut words = lines.next().unwrap().split(' ').map(str::to_owned);
        let (method, address) = (words.next().unwrap(), words.next().unwrap());
        let url = reqwest::Url::parse(&format!("http://x{address}")).unwrap();
        Self {
            method,
            path: url.path().to_owned(),
            query: url.query_pairs().into_owned().collect(),
            headers: lines
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
                .collect(),
        }
    }

    /// The repository and what comes behind it.
    fn parts(&self) -> (String, String) {
        let path = self.path.strip_prefix("/v2/").unwrap_or_default();
        for part in ["/blobs/", "/manifests/"] {
            if let Some((repository, rest)) = path.split_once(part) {
                return (repository.to_owned(), format!("{part}{rest}"));
            }
        }
        (String::new(), path.to_owned())
    }
}

impl Content {
    /// Asks for a token, or for a better one.
    fn refuse(&mut self, head: &Head) -> Option<Answer> {
        let uses = self.token_uses?;
        if head.path == "/token" {
            let scope = head.query.get("scope").cloned().unwrap_or_default();
            self.scopes.push(scope.clone());
            let token = format!("t{}", self.scopes.len());
            self.tokens.insert(token.clone(), (scope, uses));
            let body = format!(r#"{{"token":"{token}","expires_in":300}}"#);
            return Some(("200 OK", Vec::new(), body.into_bytes()));
        }
        let shown = head.headers.get("authorization");
        let shown = shown.and_then(|text| text.strip_prefix("Bearer "));
        if let Some((_, uses)) = shown.and_then(|token| self.tokens.get_mut(token))
            && *uses > 0
        {
            *uses -= 1;
            return None;
        }
        let host = &head.headers["host"];
        let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"us\"");
        Some((
            "401 Unauthorized",
            vec![("www-authenticate", challenge)],
            Vec::new(),
        ))
    }

    /// What arrived before the connection broke.
    fn keep_part(&mut self, head: &Head, body: &[u8]) {
        let id = head.path.rsplit('/').next().unwrap();
        if self.forgetful {
            self.uploads.remove(id);
        } else if let Some(upload) = self.uploads.get_mut(id) {
            upload.extend_from_slice(body);
        }
    }

    fn answer(&mut self, head: &Head, body: Vec<u8>) -> Answer {
        let (repository, rest) = head.parts();
        let missing = || ("404 Not Found", Vec::new(), Vec::new());
        if let Some(name) = rest.strip_prefix("/manifests/") {
            let kind = head.headers["content-type"].clone();
            let key = (repository, name.to_owned());
            self.manifests.insert(key, (kind, body));
            return ("201 Created", Vec::new(), Vec::new());
        }
        let Some(rest) = rest.strip_prefix("/blobs/") else {
            return ("200 OK", Vec::new(), b"{}".to_vec());
        };
        if let Some(id) = rest.strip_prefix("uploads/") {
            return self.upload(head, &repository, id, body);
        }
        match self.blobs.get(&(repository, rest.to_owned())) {
            Some(blob) => {
                let length = vec![("content-length", blob.len().to_string())];
                ("200 OK", length, Vec::new())
            }
            None => missing(),
        }
    }

    fn upload(&mut self, head: &Head, repository: &str, id: &str, body: Vec<u8>) -> Answer {
        if head.method == "POST" {
            if let (Some(from), Some(digest)) = (head.query.get("from"), head.query.get("mount")) {
                let blob = self.blobs.get(&(from.clone(), digest.clone())).cloned();
                if let Some(blob) = blob {
                    let key = (repository.to_owned(), digest.clone());
                    self.blobs.insert(key, blob);
                    return ("201 Created", Vec::new(), Vec::new());
                }
            }
            let id = format!("u{}", self.asked.len());
            self.uploads.insert(id.clone(), Vec::new());
            return self.where_it_is("202 Accepted", repository, &id);
        }
        let Some(upload) = self.uploads.get_mut(id) else {
            let said = br#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"unknown"}]}"#;
            return ("404 Not Found", Vec::new(), said.to_vec());
        };
        if let Some(range) = head.headers.get("content-range") {
            let from: usize = range.split('-').next().unwrap().parse().unwrap();
            if from != upload.len() {
                return ("416 Range Not Satisfiable", Vec::new(), Vec::new());
            }
        }
        upload.extend_from_slice(&body);
        match head.method.as_str() {
            "PUT" => {
                let blob = self.uploads.remove(id).unwrap();
                let digest = head.query["digest"].clone();
                if Digest::of(&blob).as_str() != digest {
                    let said = br#"{"errors":[{"code":"DIGEST_INVALID","message":"wrong"}]}"#;
                    return ("400 Bad Request", Vec::new(), said.to_vec());
                }
                self.blobs.insert((repository.to_owned(), digest), blob);
                ("201 Created", Vec::new(), Vec::new())
            }
            "DELETE" => {
                self.uploads.remove(id);
                ("204 No Content", Vec::new(), Vec::new())
            }
            "PATCH" => self.where_it_is("202 Accepted", repository, id),
            _ => self.where_it_is("204 No Content", repository, id),
        }
    }

    fn where_it_is(&self, status: &'static str, repository: &str, id: &str) -> Answer {
        let last = self.uploads[id].len().saturating_sub(1);
        let headers = vec![
            ("location", format!("/v2/{repository}/blobs/uploads/{id}")),
            ("range", format!("0-{last}")),
        ];
        (status, headers, Vec::new())
    }

    pub(crate) fn open_uploads(&self) -> usize {
        self.uploads.len()
    }
}
