//! A wire between a client and a server that counts what goes through, notes the requests, and can be cut.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The methods whose requests are noted.
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

/// A wire; its threads end with the process.
#[derive(Debug)]
pub struct Wire {
    address: String,
    ends: Arc<Ends>,
}

#[derive(Debug)]
struct Ends {
    target: String,
    up: AtomicU64,
    down: AtomicU64,
    /// Bytes that may still go; below 0: any number.
    up_left: AtomicI64,
    down_left: AtomicI64,
    requests: Mutex<Vec<String>>,
}

impl Wire {
    /// To `target` (`127.0.0.1:PORT`).
    pub fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("a socket has an address");
        let ends = Arc::new(Ends {
            target: target.to_owned(),
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
            up_left: AtomicI64::new(-1),
            down_left: AtomicI64::new(-1),
            requests: Mutex::default(),
        });
        let shared = ends.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let ends = shared.clone();
                std::thread::spawn(move || ends.connect(client));
            }
        });
        Self {
            address: address.to_string(),
            ends,
        }
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Bytes that went to the server since the last [`Wire::forget`].
    pub fn up(&self) -> u64 {
        self.ends.up.load(Ordering::SeqCst)
    }

    /// Bytes that came from the server since the last [`Wire::forget`].
    pub fn down(&self) -> u64 {
        self.ends.down.load(Ordering::SeqCst)
    }

    /// The requests (`PATCH /v2/...`) since the last [`Wire::forget`].
    pub fn requests(&self) -> Vec<String> {
        self.ends.lock().clone()
    }

    /// How many requests of a method there were since the last [`Wire::forget`].
    pub fn count(&self, method: &str) -> usize {
        let begin = format!("{method} ");
        let requests = self.requests();
        requests.iter().filter(|r| r.starts_with(&begin)).count()
    }

    /// Begins to count anew.
    pub fn forget(&self) {
        self.ends.up.store(0, Ordering::SeqCst);
        self.ends.down.store(0, Ordering::SeqCst);
        self.ends.lock().clear();
    }

    /// Cuts the connection that carries the `bytes`th byte to the server, once.
    pub fn cut_up_after(&self, bytes: u64) {
        self.ends.up_left.store(bytes as i64, Ordering::SeqCst);
    }

    /// Holds back what the server sends after so many bytes, until [`Wire::let_go`].
    pub fn stop_down_after(&self, bytes: u64) {
        self.ends.down_left.store(bytes as i64, Ordering::SeqCst);
    }

    /// Lets everything through again.
    pub fn let_go(&self) {
        self.ends.up_left.store(-1, Ordering::SeqCst);
        self.ends.down_left.store(-1, Ordering::SeqCst);
    }
}

impl Ends {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(self: Arc<Self>, client: TcpStream) {
        let Ok(server) = TcpStream::connect(&self.target) else {
            return;
        };
        let (Ok(from), Ok(to)) = (client.try_clone(), server.try_clone()) else {
            return;
        };
        let ends = self.clone();
        std::thread::spawn(move || ends.carry_up(from, to));
        self.carry_down(server, client);
    }

    fn carry_up(&self, mut client: TcpStream, mut server: TcpStream) {
        let mut block = vec![0; 64 << 10];
        while let Ok(count @ 1..) = client.read(&mut block) {
            let mut count = count;
            let left = self.up_left.load(Ordering::SeqCst);
            let cut = left >= 0 && left <= count as i64;
            if cut {
                count = left as usize;
                self.up_left.store(-1, Ordering::SeqCst);
            } else if left > 0 {
                self.up_left.store(left - count as i64, Ordering::SeqCst);
            }
            self.note(&block[..count]);
            self.up.fetch_add(count as u64, Ordering::SeqCst);
            if server.write_all(&block[..count]).is_err() || cut {
                let _ = client.shutdown(Shutdown::Both);
                break;
            }
        }
        let _ = server.shutdown(match client.peer_addr() {
            Ok(_) => Shutdown::Write,
            Err(_) => Shutdown::Both,
        });
    }

    fn carry_down(&self, mut server: TcpStream, mut client: TcpStream) {
        let mut block = vec![0; 64 << 10];
        while let Ok(count @ 1..) = server.read(&mut block) {
            let mut sent = 0;
            while sent < count {
                let left = self.down_left.load(Ordering::SeqCst);
                if left == 0 {
                    std::thread::sleep(Duration::from_millis(20));
                    continue;
                }
                let part = match left {
                    1.. => (count - sent).min(left as usize),
                    _ => count - sent,
                };
                if client.write_all(&block[sent..sent + part]).is_err() {
                    let _ = server.shutdown(Shutdown::Both);
                    return;
                }
                sent += part;
                self.down.fetch_add(part as u64, Ordering::SeqCst);
                if left > 0 {
                    self.down_left.fetch_sub(part as i64, Ordering::SeqCst);
                }
            }
        }
        let _ = client.shutdown(Shutdown::Write);
    }

    /// Notes the requests that begin in a block.
    fn note(&self, block: &[u8]) {
        let marker = b" /v2/";
        for at in 0..block.len().saturating_sub(marker.len()) {
            if &block[at..at + marker.len()] != marker {
                continue;
            }
            let line = block[at..].split(|byte| *byte == b'\r').next();
            let line = String::from_utf8_lossy(line.unwrap_or_default()).into_owned();
            let before = &block[..at];
            let method = METHODS.iter().find(|m| before.ends_with(m.as_bytes()));
            if let Some(method) = method {
                let path = line.trim().split(' ').next().unwrap_or_default();
                self.lock().push(format!("{method} {path}"));
            }
        }
    }
}
