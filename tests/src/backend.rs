//! An HTTP/1.1 backend that answers as the request asks and remembers what it saw.
//!
//! `x-answer: on=a; status=503; every-other=503; body=text; size=1000; chunked; header=name:value; delay-ms=50; close; reset; garbage; head-only`

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request as it arrived, names in lower case, fields sorted by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub backend: String,
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

pub struct Backend {
    pub port: u16,
}

/// Of answers that asked for `every-other`.
static COUNT: AtomicU32 = AtomicU32::new(0);

pub type Log = Arc<Mutex<Vec<Seen>>>;

impl Backend {
    /// Listens on a port of its own; every request goes to `log`.
    pub fn start(name: &str, log: &Log) -> Backend {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let (name, log) = (name.to_string(), log.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (name, log) = (name.clone(), log.clone());
                std::thread::spawn(move || serve(stream, &name, &log));
            }
        });
        Backend { port }
    }

    /// The same over HTTP/2.
    pub fn start_h2(name: &str, log: &Log) -> Backend {
        Backend { port: crate::backend_h2::start(name, log) }
    }
}

fn serve(mut stream: TcpStream, name: &str, log: &Log) {
    let _ = stream.set_nodelay(true);
    while let Some(seen) = read(&mut stream, name) {
        let command = header(&seen, "x-answer").unwrap_or_default().to_string();
        let head = seen.line.starts_with("HEAD");
        let upgrade = header(&seen, "upgrade").is_some();
        log.lock().expect("no panic").push(seen);
        if upgrade && !command.contains("status") {
            tunnel(stream);
            return;
        }
        if !answer(&mut stream, &command, name, head) {
            return;
        }
    }
}

fn header<'s>(seen: &'s Seen, name: &str) -> Option<&'s str> {
    seen.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
}

/// Accepts the upgrade and echoes until the end.
fn tunnel(mut stream: TcpStream) {
    let _ = stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\r\n");
    let mut space = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut space) {
        if stream.write_all(&space[..count]).is_err() {
            return;
        }
    }
}

/// What a request asks for in `x-answer`.
pub(crate) struct Wish {
    pub(crate) status: u16,
    pub(crate) body: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) delay: Duration,
    pub(crate) chunked: bool,
    pub(crate) close: bool,
    pub(crate) reset: bool,
    pub(crate) garbage: bool,
    pub(crate) cut: bool,
    pub(crate) interim: bool,
}

impl Wish {
    pub(crate) fn read(command: &str, name: &str) -> Wish {
        let mut wish = Wish {
            status: 200,
            body: name.to_string(),
            headers: Vec::new(),
            delay: Duration::ZERO,
            chunked: false,
            close: false,
            reset: false,
            garbage: false,
            cut: false,
            interim: false,
        };
        let mut meant = true;
        for part in command.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            match key {
                // What follows is meant for the backend of that name only.
                "on" => meant = value == name,
                _ if !meant => {}
                "status" => wish.status = value.parse().unwrap_or(500),
                "every-other" if COUNT.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) => {
                    wish.status = value.parse().unwrap_or(500);
                }
                "body" => wish.body = value.to_string(),
                "size" => wish.body = "x".repeat(value.parse().unwrap_or(0)),
                "chunked" => wish.chunked = true,
                "close" => wish.close = true,
                "header" => {
                    let (name, value) = value.split_once(':').unwrap_or((value, ""));
                    wish.headers.push((name.into(), value.into()));
                }
                "delay-ms" => wish.delay = Duration::from_millis(value.parse().unwrap_or(0)),
                "reset" => wish.reset = true,
                "garbage" => wish.garbage = true,
                "cut" => wish.cut = true,
                "interim" => wish.interim = true,
                _ => {}
            }
        }
        wish
    }
}

/// False when the connection is over.
fn answer(stream: &mut TcpStream, command: &str, name: &str, head: bool) -> bool {
    let wish = Wish::read(command, name);
    let Wish { status, body, headers, chunked, close, delay, .. } = &wish;
    std::thread::sleep(*delay);
    if wish.reset {
        return false;
    }
    if wish.garbage {
        let _ = stream.write_all(b"this is not http\r\n\r\n");
        return false;
    }
    if wish.cut {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart");
        return false;
    }
    if wish.interim {
        let _ = stream.write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
    }
    let bodiless = head || *status == 204 || *status == 304;
    let extra: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let mut text = format!("HTTP/1.1 {status} Reason\r\nx-backend: {name}\r\n{extra}");
    match (*status, chunked, close) {
        (204, ..) => {}
        (_, true, _) => text.push_str("transfer-encoding: chunked\r\n"),
        (_, _, true) => {}
        _ => text.push_str(&format!("content-length: {}\r\n", body.len())),
    }
    text.push_str("\r\n");
    if !bodiless {
        match chunked {
            true if body.is_empty() => text.push_str("0\r\n\r\n"),
            true => text.push_str(&format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())),
            false => text.push_str(body),
        }
    }
    stream.write_all(text.as_bytes()).is_ok() && !close
}

fn read(stream: &mut TcpStream, name: &str) -> Option<Seen> {
    let mut raw = Vec::new();
    while !raw.ends_with(b"\r\n\r\n") {
        raw.push(byte(stream)?);
    }
    let text = String::from_utf8_lossy(&raw).into_owned();
    let mut lines = text.trim_end().split("\r\n");
    let line = lines.next()?.to_string();
    let mut headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_string()))
        .collect();
    headers.sort_by(|a, b| a.0.cmp(&b.0));
    let mut seen = Seen { backend: name.into(), line, headers, body: Vec::new() };
    if let Some(length) = header(&seen, "content-length").and_then(|text| text.parse::<usize>().ok()) {
        let mut body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
        seen.body = body;
    } else if header(&seen, "transfer-encoding").is_some() {
        seen.body = chunks(stream)?;
    }
    Some(seen)
}

fn byte(stream: &mut TcpStream) -> Option<u8> {
    let mut byte = [0];
    (stream.read(&mut byte).ok()? == 1).then_some(byte[0])
}

fn line(stream: &mut TcpStream) -> Option<String> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.push(byte(stream)?);
    }
    Some(String::from_utf8_lossy(&line).trim_end().to_string())
}

fn chunks(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = usize::from_str_radix(line(stream)?.split(';').next()?, 16).ok()?;
        let mut chunk = vec![0; size];
        stream.read_exact(&mut chunk).ok()?;
        body.extend(chunk);
        let end = line(stream)?;
        if size == 0 {
            if end.is_empty() {
                return Some(body);
            }
            while !line(stream)?.is_empty() {}
            return Some(body);
        }
    }
}
