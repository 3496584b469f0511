//! A client that sends exact bytes and says exactly what came back.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(6);
/// After a complete answer: how long a close may take to show.
const AFTER: Duration = Duration::from_millis(20);

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// 0 when the connection ended without one.
    pub status: u16,
    /// Names in lower case, in order of arrival.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The body ended before it was complete.
    pub cut: bool,
    /// The server closed the connection after it.
    pub closed: bool,
}

struct Wire {
    stream: TcpStream,
    data: Vec<u8>,
    ended: bool,
}

impl Wire {
    /// False when nothing more comes.
    fn more(&mut self, wait: Duration) -> bool {
        if self.ended {
            return false;
        }
        let _ = self.stream.set_read_timeout(Some(wait));
        let mut space = [0; 65536];
        match self.stream.read(&mut space) {
            Ok(count @ 1..) => {
                self.data.extend_from_slice(&space[..count]);
                true
            }
            Ok(_) => {
                self.ended = true;
                false
            }
            Err(error) => {
                let quiet = matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
                self.ended = !quiet;
                false
            }
        }
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        self.data.drain(..count).collect()
    }

    /// Bytes up to and with `end`.
    fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.data.windows(end.len()).position(|window| window == end) {
                return Some(self.take(at + end.len()));
            }
            if !self.more(PATIENCE) {
                return None;
            }
        }
    }

    fn exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.data.len() < count {
            if !self.more(PATIENCE) {
                return None;
            }
        }
        Some(self.take(count))
    }
}

/// Sends `raw` on a connection of its own and reads the answers to `count` requests, the last one's close included.
pub fn exchange(port: u16, raw: &[u8], count: usize) -> Vec<Answer> {
    exchange_within(port, raw, count, AFTER)
}

/// The answer to one request, status 0 when nobody listens; a close counts only if it is announced.
pub fn quick(port: u16, raw: &[u8]) -> Answer {
    if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        return Answer { status: 0, headers: vec![], body: vec![], cut: false, closed: true };
    }
    exchange_within(port, raw, 1, Duration::ZERO).remove(0)
}

fn exchange_within(port: u16, raw: &[u8], count: usize, after: Duration) -> Vec<Answer> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the proxy listens");
    let _ = stream.set_nodelay(true);
    let mut writer = stream.try_clone().expect("a second handle");
    let bytes = raw.to_vec();
    // A large body is written while the answer is read; the server may stop reading, which is no fault here.
    let sender = std::thread::spawn(move || drop(writer.write_all(&bytes)));
    let mut wire = Wire { stream, data: Vec::new(), ended: false };
    let to_head = raw.starts_with(b"HEAD ");
    let mut answers: Vec<Answer> = Vec::new();
    while answers.len() < count {
        match answer(&mut wire, to_head) {
            Some(answer) if (100..200).contains(&answer.status) && answer.status != 101 => {}
            Some(answer) => {
                let over = answer.cut;
                answers.push(answer);
                if over {
                    break;
                }
            }
            None => break,
        }
    }
    if answers.is_empty() {
        answers.push(Answer { status: 0, headers: vec![], body: wire.data.clone(), cut: false, closed: false });
    }
    if !after.is_zero() {
        wire.more(after);
    }
    if let Some(last) = answers.last_mut() {
        // A server that announces the close may take its time, so that the answer is not lost.
        let announced = last.headers.iter().any(|(name, value)| name == "connection" && value == "close");
        last.closed = (wire.ended && !after.is_zero()) || announced;
    }
    let _ = wire.stream.shutdown(std::net::Shutdown::Both);
    let _ = sender.join();
    answers
}

fn answer(wire: &mut Wire, to_head: bool) -> Option<Answer> {
    let head = String::from_utf8_lossy(&wire.until(b"\r\n\r\n")?).into_owned();
    let mut lines = head.trim_end().split("\r\n");
    let status: u16 = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_string()))
        .collect();
    let get = |name: &str| headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone());
    let bodiless = to_head || status < 200 || status == 204 || status == 304;
    let (body, cut) = if bodiless {
        (Vec::new(), false)
    } else if get("transfer-encoding").is_some() {
        chunks(wire)
    } else if let Some(length) = get("content-length").and_then(|text| text.parse().ok()) {
        match wire.exactly(length) {
            Some(body) => (body, false),
            None => (std::mem::take(&mut wire.data), true),
        }
    } else {
        while wire.more(PATIENCE) {}
        (std::mem::take(&mut wire.data), false)
    };
    Some(Answer { status, headers, body, cut, closed: false })
}

fn chunks(wire: &mut Wire) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let Some(line) = wire.until(b"\r\n") else { return (body, true) };
        let text = String::from_utf8_lossy(&line).into_owned();
        let Ok(size) = usize::from_str_radix(text.trim().split(';').next().unwrap_or_default(), 16) else {
            return (body, true);
        };
        if size == 0 {
            return (body, wire.until(b"\r\n").is_none());
        }
        let Some(data) = wire.exactly(size) else { return (body, true) };
        body.extend(data);
        if wire.until(b"\r\n").is_none() {
            return (body, true);
        }
    }
}
