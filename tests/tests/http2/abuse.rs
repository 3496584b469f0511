//! Clients that abuse HTTP/2 or dawdle: memory stays bounded and other clients are served. All volumes are bounded.

use crate::support::Proxy;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use tests::client::exchange;

/// What one misbehaving client may cost, in KiB.
const BOUND: u64 = 24 * 1024;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A frame (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let mut out = vec![length[1], length[2], length[3], kind, flags];
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// `GET path` with authority `a`, as indexed and literal fields (RFC 7541 section 6).
fn get(path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x01, 1, b'a', 0x04, u8::try_from(path.len()).expect("short")];
    block.extend_from_slice(path.as_bytes());
    block
}

/// A connection past the preface.
fn open(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the proxy listens");
    stream.set_write_timeout(Some(Duration::from_secs(2))).expect("a timeout");
    stream.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout");
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("open");
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).expect("open");
    stream
}

/// Writes until all is out or the proxy refuses more, reading nothing.
fn pour(stream: &mut TcpStream, pieces: impl Iterator<Item = Vec<u8>>) {
    let mut batch = Vec::new();
    for piece in pieces {
        batch.extend_from_slice(&piece);
        if batch.len() > 64 * 1024 {
            if stream.write_all(&batch).is_err() {
                return;
            }
            batch.clear();
        }
    }
    // The proxy may have ended the connection, which is its right.
    let _ = stream.write_all(&batch);
}

/// The proxy still serves others promptly, and has not grown beyond the bound.
fn unharmed(proxy: &Proxy, before: u64, what: &str) {
    let start = Instant::now();
    let answer = &exchange(proxy.plain, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1)[0];
    assert_eq!(answer.status, 200, "{what}");
    assert!(start.elapsed() < Duration::from_secs(2), "{what}: another client waited {:?}", start.elapsed());
    let grown = proxy.memory().saturating_sub(before);
    assert!(grown < BOUND, "{what}: memory grew by {grown} KiB");
}

fn check(what: &str, misbehave: impl FnOnce(&Proxy) -> Vec<TcpStream>) {
    let proxy = Proxy::start(&format!("abuse-{}", what.replace(' ', "-")));
    exchange(proxy.plain, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1);
    let before = proxy.memory();
    let held = misbehave(&proxy);
    unharmed(&proxy, before, what);
    drop(held);
    unharmed(&proxy, before, what);
}

#[test]
fn rapid_reset() {
    check("rapid reset", |proxy| {
        let mut stream = open(proxy.plain);
        let streams = (0..50_000u32).map(|number| {
            let id = number * 2 + 1;
            let mut pair = frame(HEADERS, END_HEADERS | END_STREAM, id, &get("/"));
            pair.extend(frame(RST_STREAM, 0, id, &8u32.to_be_bytes()));
            pair
        });
        pour(&mut stream, streams);
        vec![stream]
    });
}

#[test]
fn continuation_flood() {
    check("continuation flood", |proxy| {
        let mut stream = open(proxy.plain);
        pour(&mut stream, std::iter::once(frame(HEADERS, END_STREAM, 1, &get("/"))));
        // A literal field again and again: 64 MB of header block that never ends.
        let mut field = vec![0x00, 4, b'x', b'-', b'a', b'b', 100];
        field.extend(std::iter::repeat_n(b'v', 100));
        let block = field.repeat(150);
        pour(&mut stream, (0..4000).map(|_| frame(CONTINUATION, 0, 1, &block)));
        vec![stream]
    });
}

#[test]
fn settings_and_ping_floods() {
    check("settings flood", |proxy| {
        let mut stream = open(proxy.plain);
        pour(&mut stream, (0..300_000).map(|_| frame(SETTINGS, 0, 0, &[])));
        vec![stream]
    });
    check("ping flood", |proxy| {
        let mut stream = open(proxy.plain);
        pour(&mut stream, (0..300_000).map(|_| frame(PING, 0, 0, &[7; 8])));
        vec![stream]
    });
}

#[test]
fn empty_data_frames() {
    check("empty data", |proxy| {
        let mut stream = open(proxy.plain);
        pour(&mut stream, std::iter::once(frame(HEADERS, END_HEADERS, 1, &get("/"))));
        pour(&mut stream, (0..300_000).map(|_| frame(DATA, 0, 1, &[])));
        vec![stream]
    });
}

#[test]
fn header_table_bomb() {
    check("header table bomb", |proxy| {
        let mut stream = open(proxy.plain);
        // 4,000 bytes go into the dynamic table once; then each byte refers to all of them.
        let mut first = get("/");
        first.extend([0x40, 1, b'x', 0x7f, 0xa1, 0x1e]);
        first.extend(std::iter::repeat_n(b'v', 4000));
        pour(&mut stream, std::iter::once(frame(HEADERS, END_HEADERS | END_STREAM, 1, &first)));
        let mut bomb = get("/");
        bomb.extend(std::iter::repeat_n(0xbe, 16_000));
        let streams = (1..50u32).map(|number| frame(HEADERS, END_HEADERS | END_STREAM, number * 2 + 1, &bomb));
        pour(&mut stream, streams);
        vec![stream]
    });
}

#[test]
fn slow_readers() {
    check("slow http2 reader", |proxy| {
        // 100 answers of 100 kB are asked for on each of 20 connections, and none is read.
        let connections = (0..20).map(|_| {
            let mut stream = open(proxy.plain);
            pour(&mut stream, (0..100u32).map(|n| frame(HEADERS, END_HEADERS | END_STREAM, n * 2 + 1, &get("/big"))));
            stream
        });
        connections.collect()
    });
    check("slow http1 reader", |proxy| {
        let connections = (0..100).map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", proxy.plain)).expect("the proxy listens");
            let requests = "GET /big HTTP/1.1\r\nHost: a\r\n\r\n".repeat(50);
            stream.write_all(requests.as_bytes()).expect("taken");
            stream
        });
        connections.collect()
    });
}

#[test]
fn slow_senders() {
    check("slow senders", |proxy| {
        let mut connections = Vec::new();
        for number in 0..500 {
            let mut stream = TcpStream::connect(("127.0.0.1", proxy.plain)).expect("the proxy listens");
            let start: &[u8] = match number % 3 {
                0 => b"GET / HTTP/1.1\r\nHost: a\r\nx-slow: ",
                1 => b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\npart",
                _ => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            };
            stream.write_all(start).expect("taken");
            connections.push(stream);
        }
        connections
    });
}

/// A head that keeps growing is refused before it is complete.
#[test]
fn an_endless_head_is_cut_off() {
    let proxy = Proxy::start("abuse-head");
    let mut stream = TcpStream::connect(("127.0.0.1", proxy.plain)).expect("the proxy listens");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n");
    let line = format!("x-line: {}\r\n", "v".repeat(1000));
    for _ in 0..1000 {
        if stream.write_all(line.as_bytes()).is_err() {
            break;
        }
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert!(proxy.memory() > 0);
}
