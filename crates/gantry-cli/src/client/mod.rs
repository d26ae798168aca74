//! The daemon's API over HTTP/1.1: one kept connection for questions, one of its own for each stream.

mod address;
mod autostart;
mod body;
mod tls;

use std::cell::{Cell, RefCell};
use std::fmt;

use bytes::Bytes;
use http::{HeaderName, Method, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};

pub(crate) use address::{Address, DEFAULT_SOCKET};
pub(crate) use body::Payload;
pub(crate) use tls::wanted as wants_tls;

use crate::cx::Cx;
use crate::failure::{Failure, Outcome};

/// The API version spoken unless the daemon knows less.
pub(crate) const API_VERSION: &str = "1.51";

/// Why a call failed.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// The daemon's own refusal.
    Daemon { status: StatusCode, message: String },
    /// No daemon, or the connection broke; the text says which.
    Connection(String),
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ApiError::Daemon { message, .. } => {
                write!(f, "Error response from daemon: {message}")
            }
            ApiError::Connection(text) => f.write_str(text),
        }
    }
}

impl ApiError {
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, ApiError::Daemon { status, .. } if *status == StatusCode::NOT_FOUND)
    }
}

impl From<std::io::Error> for ApiError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            // Whoever read our output has gone; that is not worth a word.
            std::io::ErrorKind::BrokenPipe => ApiError::Connection(String::new()),
            _ => ApiError::Connection(error.to_string()),
        }
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Failure::new(error.to_string())
    }
}

pub(crate) type Answered<T> = Result<T, ApiError>;

/// Whatever carries the bytes.
pub(crate) trait Pipe: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Pipe for T {}

/// A hijacked connection: raw bytes both ways.
pub(crate) type Hijacked = TokioIo<hyper::upgrade::Upgraded>;

/// The daemon, as one command sees it.
pub(crate) struct Client {
    address: Address,
    program: String,
    tls: Option<tls::Tls>,
    headers: Vec<(HeaderName, String)>,
    version: RefCell<String>,
    negotiated: Cell<bool>,
    idle: RefCell<Option<SendRequest<Payload>>>,
}

/// Runs a command's conversation with the daemon on a runtime of one thread.
pub(crate) fn talk<F>(cx: &Cx, conversation: impl FnOnce(Client) -> F) -> Outcome
where
    F: Future<Output = Outcome>,
{
    let client = Client::new(cx)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(conversation(client));
    // A thread may still wait for a terminal; it must not keep the program.
    runtime.shutdown_background();
    outcome
}

/// Runs what goes on without the daemon.
pub(crate) fn alone(work: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_background();
    outcome
}

impl Client {
    fn new(cx: &Cx) -> Result<Client, Failure> {
        let wants_tls = tls::wanted(cx);
        let address = Address::find(cx, wants_tls).map_err(Failure::new)?;
        let tls = match &address {
            Address::Tcp { .. } if wants_tls => Some(tls::Tls::new(cx).map_err(Failure::new)?),
            _ => None,
        };
        let fixed = std::env::var("DOCKER_API_VERSION")
            .ok()
            .filter(|version| !version.is_empty());
        let headers = cx
            .config()
            .http_headers
            .iter()
            .filter_map(|(name, value)| Some((name.parse().ok()?, value.clone())))
            .collect();
        Ok(Client {
            address,
            program: cx.program.clone(),
            tls,
            headers,
            negotiated: Cell::new(fixed.is_some()),
            version: RefCell::new(fixed.unwrap_or_else(|| API_VERSION.to_owned())),
            idle: RefCell::new(None),
        })
    }

    /// The daemon's address as `-H` would name it.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// The API version that this client speaks now.
    pub(crate) fn api_version(&self) -> String {
        self.version.borrow().clone()
    }

    pub(crate) fn get(&self, path: impl Into<String>) -> Call<'_> {
        self.call(Method::GET, path)
    }

    pub(crate) fn post(&self, path: impl Into<String>) -> Call<'_> {
        self.call(Method::POST, path)
    }

    pub(crate) fn head(&self, path: impl Into<String>) -> Call<'_> {
        self.call(Method::HEAD, path)
    }

    pub(crate) fn put(&self, path: impl Into<String>) -> Call<'_> {
        self.call(Method::PUT, path)
    }

    pub(crate) fn delete(&self, path: impl Into<String>) -> Call<'_> {
        self.call(Method::DELETE, path)
    }

    fn call(&self, method: Method, path: impl Into<String>) -> Call<'_> {
        Call {
            client: self,
            method,
            path: path.into(),
            queried: false,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    async fn open(&self) -> Answered<Box<dyn Pipe>> {
        match self.address.connect(self.tls.as_ref()).await {
            Ok(pipe) => Ok(pipe),
            Err(error) if self.address.is_default() && autostart::nobody_listens(&error) => {
                autostart::start(&self.program).map_err(ApiError::Connection)?;
                let again = self.address.connect(self.tls.as_ref()).await;
                again.map_err(|error| self.unreachable(&error))
            }
            Err(error) => Err(self.unreachable(&error)),
        }
    }

    fn unreachable(&self, error: &std::io::Error) -> ApiError {
        let (name, daemon) = match self.program.as_str() {
            "docker" => ("Docker", "docker"),
            _ => ("Gantry", "gantry"),
        };
        let host = self.host();
        ApiError::Connection(match error.kind() {
            std::io::ErrorKind::PermissionDenied => format!(
                "permission denied while trying to connect to the {name} daemon socket at {host}"
            ),
            _ if self.tls.is_some() && !autostart::nobody_listens(error) => {
                format!("error during connect: {host}: {error}")
            }
            _ => format!(
                "Cannot connect to the {name} daemon at {host}. Is the {daemon} daemon running?"
            ),
        })
    }

    async fn sender(&self) -> Answered<SendRequest<Payload>> {
        let idle = self.idle.borrow_mut().take();
        match idle {
            Some(sender) if sender.is_ready() => Ok(sender),
            _ => self.fresh_sender().await,
        }
    }

    async fn fresh_sender(&self) -> Answered<SendRequest<Payload>> {
        let pipe = self.open().await?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(pipe))
            .await
            .map_err(broken)?;
        tokio::spawn(connection.with_upgrades());
        Ok(sender)
    }

    /// Learns from a ping the version that both sides know. Needed only where the daemon has refused
    /// ours, or where a request cannot be sent twice.
    pub(crate) async fn negotiate(&self) -> Answered<()> {
        if self.negotiated.replace(true) {
            return Ok(());
        }
        let answer = self
            .get("/_ping")
            .send_to("/_ping", self.sender().await?)
            .await?;
        let theirs = answer
            .head
            .headers
            .get("api-version")
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        answer.bytes().await?;
        if let Some(theirs) =
            theirs.filter(|theirs| number(theirs) < number(&self.version.borrow()))
        {
            *self.version.borrow_mut() = theirs;
        }
        Ok(())
    }
}

/// `1.51` to something that can be compared.
fn number(version: &str) -> (u32, u32) {
    let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
    (major.parse().unwrap_or(0), minor.parse().unwrap_or(0))
}

fn broken(error: impl std::error::Error) -> ApiError {
    let source = error.source().map(|source| format!(": {source}"));
    ApiError::Connection(format!(
        "error during connect: {error}{}",
        source.unwrap_or_default()
    ))
}

/// Percent-encodes one piece of a path or query.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// A request in the making.
pub(crate) struct Call<'a> {
    client: &'a Client,
    method: Method,
    path: String,
    queried: bool,
    headers: Vec<(HeaderName, String)>,
    body: Vec<u8>,
}

impl<'a> Call<'a> {
    /// `?key=value`
    pub(crate) fn query(mut self, key: &str, value: &str) -> Self {
        self.path.push(if self.queried { '&' } else { '?' });
        self.queried = true;
        self.path.push_str(key);
        self.path.push('=');
        self.path.push_str(&encode(value));
        self
    }

    /// `?key=value` where there is one.
    pub(crate) fn query_if(self, key: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.query(key, value),
            None => self,
        }
    }

    /// `?key=1` where `on`.
    pub(crate) fn switch(self, key: &str, on: bool) -> Self {
        self.query_if(key, on.then_some("1"))
    }

    pub(crate) fn header(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((HeaderName::from_static(name), value));
        self
    }

    pub(crate) fn body(mut self, body: &impl Serialize) -> Answered<Self> {
        self.body = serde_json::to_vec(body).map_err(broken)?;
        self.headers
            .push((http::header::CONTENT_TYPE, "application/json".to_owned()));
        Ok(self)
    }

    fn request(&self, path: &str, body: Payload) -> Answered<http::Request<Payload>> {
        let mut request = http::Request::builder()
            .method(self.method.clone())
            .uri(path)
            .header(http::header::HOST, self.client.address.http_host())
            .header(
                http::header::USER_AGENT,
                concat!("Gantry-Client/", env!("CARGO_PKG_VERSION"), " (linux)"),
            );
        for (name, value) in self.client.headers.iter().chain(&self.headers) {
            request = request.header(name, value);
        }
        request.body(body).map_err(broken)
    }

    async fn send_to(&self, path: &str, sender: SendRequest<Payload>) -> Answered<Answer<'a>> {
        let payload = if self.method == Method::GET || self.method == Method::HEAD {
            Payload::none()
        } else {
            Payload::bytes(self.body.clone())
        };
        self.exchange(path, payload, sender).await
    }

    async fn exchange(
        &self,
        path: &str,
        payload: Payload,
        mut sender: SendRequest<Payload>,
    ) -> Answered<Answer<'a>> {
        let request = self.request(path, payload)?;
        let response = sender.send_request(request).await.map_err(broken)?;
        let (head, body) = response.into_parts();
        Ok(Answer {
            client: self.client,
            head,
            body,
            sender,
        })
    }

    /// Sends it on the kept connection; what is not a success is an error.
    pub(crate) async fn send(self) -> Answered<Answer<'a>> {
        loop {
            let path = self.client.versioned(&self.path);
            let sender = self.client.sender().await?;
            let answer = self.send_to(&path, sender).await?;
            match answer.refused().await {
                Ok(answer) => return Ok(answer),
                Err(error) if self.client.too_new(&error) => self.client.negotiate().await?,
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends it with a body that comes from a reader, on a thread of its own.
    pub(crate) async fn send_reader(
        mut self,
        reader: Box<dyn std::io::Read + Send>,
    ) -> Answered<Answer<'a>> {
        self.client.negotiate().await?;
        self.headers
            .push((http::header::CONTENT_TYPE, "application/x-tar".to_owned()));
        let path = self.client.versioned(&self.path);
        let sender = self.client.sender().await?;
        let answer = self
            .exchange(&path, Payload::reader(reader), sender)
            .await?;
        answer.refused().await
    }

    /// Sends it and decodes the answer.
    pub(crate) async fn json<T: DeserializeOwned>(self) -> Answered<T> {
        self.send().await?.json().await
    }

    /// Sends it; the answer's body is of no interest.
    pub(crate) async fn done(self) -> Answered<()> {
        self.send().await?.bytes().await.map(drop)
    }

    /// Sends it and takes the connection over.
    pub(crate) async fn hijack(mut self) -> Answered<Hijacked> {
        self.headers.extend([
            (http::header::CONNECTION, "Upgrade".to_owned()),
            (http::header::UPGRADE, "tcp".to_owned()),
            (http::header::CONTENT_TYPE, "text/plain".to_owned()),
        ]);
        loop {
            let path = self.client.versioned(&self.path);
            let mut sender = self.client.fresh_sender().await?;
            let request = self.request(&path, Payload::none())?;
            let mut response = sender.send_request(request).await.map_err(broken)?;
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                let upgraded = hyper::upgrade::on(&mut response).await.map_err(broken)?;
                return Ok(TokioIo::new(upgraded));
            }
            let (head, body) = response.into_parts();
            let status = head.status;
            let answer = Answer {
                client: self.client,
                head,
                body,
                sender,
            };
            match answer.refused().await {
                Err(error) if self.client.too_new(&error) => self.client.negotiate().await?,
                Err(error) => return Err(error),
                Ok(_) => {
                    return Err(ApiError::Connection(format!(
                        "unable to upgrade to tcp, received {}",
                        status.as_u16()
                    )));
                }
            }
        }
    }
}

impl Client {
    fn versioned(&self, path: &str) -> String {
        format!("/v{}{path}", self.version.borrow())
    }

    /// The refusal of a version that the daemon does not know yet, the first time.
    fn too_new(&self, error: &ApiError) -> bool {
        !self.negotiated.get()
            && matches!(error, ApiError::Daemon { status, message }
                if *status == StatusCode::BAD_REQUEST && message.contains("too new"))
    }
}

/// An answer whose head is there; the body follows.
pub(crate) struct Answer<'a> {
    client: &'a Client,
    pub(crate) head: http::response::Parts,
    body: Incoming,
    sender: SendRequest<Payload>,
}

impl<'a> Answer<'a> {
    async fn refused(self) -> Answered<Self> {
        let status = self.head.status;
        // Not modified: it was started, or stopped, already.
        if status.is_success() || status == StatusCode::NOT_MODIFIED {
            return Ok(self);
        }
        let bytes = self.bytes().await?;
        Err(ApiError::Daemon {
            status,
            message: message_of(&bytes, status),
        })
    }

    /// The body is a stream with headers, as containers without a terminal have it.
    pub(crate) fn is_multiplexed(&self) -> bool {
        let kind = self.head.headers.get(http::header::CONTENT_TYPE);
        kind.is_some_and(|kind| kind == "application/vnd.docker.multiplexed-stream")
    }

    /// The whole body; the connection is kept for the next call.
    pub(crate) async fn bytes(self) -> Answered<Bytes> {
        let bytes = self.body.collect().await.map_err(broken)?.to_bytes();
        *self.client.idle.borrow_mut() = Some(self.sender);
        Ok(bytes)
    }

    pub(crate) async fn json<T: DeserializeOwned>(self) -> Answered<T> {
        let bytes = self.bytes().await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            ApiError::Connection(format!("the daemon's answer is unreadable: {error}"))
        })
    }

    /// The next piece of a body that comes in pieces.
    pub(crate) async fn chunk(&mut self) -> Answered<Option<Bytes>> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(bytes) = frame.map_err(broken)?.into_data() {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }
}

/// The text of an error body; Docker's are `{"message": ...}`.
fn message_of(bytes: &[u8], status: StatusCode) -> String {
    #[derive(serde::Deserialize)]
    struct Refusal {
        message: String,
    }
    if let Ok(refusal) = serde_json::from_slice::<Refusal>(bytes) {
        return refusal.message.trim().to_owned();
    }
    let text = String::from_utf8_lossy(bytes).trim().to_owned();
    if text.is_empty() {
        return status.to_string();
    }
    text
}

#[cfg(test)]
mod tests;
