//! HTTP/1.1 requests, on a kept connection or on a new one each.

use super::tls::Stream;
use super::{Plan, Work};
use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const BUFFER: usize = 64 * 1024;
const HEADERS: usize = 64;

pub(super) async fn run(work: &Work) -> anyhow::Result<()> {
    let mut stream = work.connect().await?;
    let request = request(work, "");
    let mut buffer = vec![0; BUFFER];
    exchange(&mut stream, &request, work.plan().expect, &mut buffer).await?;
    work.ready();
    loop {
        let intended = work.turn().await;
        exchange(&mut stream, &request, work.plan().expect, &mut buffer).await?;
        work.answered(intended);
    }
}

pub(super) async fn run_closing(work: &Work) -> anyhow::Result<()> {
    let request = request(work, "connection: close\r\n");
    let mut buffer = vec![0; BUFFER];
    work.ready();
    loop {
        let intended = work.turn().await;
        let mut stream = work.connect().await?;
        exchange(&mut stream, &request, work.plan().expect, &mut buffer).await?;
        work.answered(intended);
        // The proxy closes first; some end TLS without close_notify.
        let _ = stream.read(&mut buffer).await;
    }
}

fn request(work: &Work, more: &str) -> Vec<u8> {
    let (Plan { path, send, .. }, host) = (work.plan(), work.host());
    let head = if *send == 0 {
        format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: bench\r\naccept: */*\r\n{more}\r\n")
    } else {
        format!("POST {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: bench\r\ncontent-length: {send}\r\n{more}\r\n")
    };
    let mut bytes = head.into_bytes();
    bytes.resize(bytes.len() + send, b'x');
    bytes
}

async fn exchange(stream: &mut Stream, request: &[u8], expect: usize, buffer: &mut [u8]) -> anyhow::Result<()> {
    stream.write_all(request).await?;
    stream.flush().await?;
    let mut filled = 0;
    let (head, length) = loop {
        let count = stream.read(&mut buffer[filled..]).await?;
        anyhow::ensure!(count > 0, "the connection was closed before an answer");
        filled += count;
        if let Some(found) = answer(&buffer[..filled])? {
            break found;
        }
    };
    anyhow::ensure!(length == expect, "an answer of {length} bytes, not {expect}");
    let mut missing = (head + length).checked_sub(filled).context("more bytes than the answer has")?;
    while missing > 0 {
        let most = missing.min(buffer.len());
        let count = stream.read(&mut buffer[..most]).await?;
        anyhow::ensure!(count > 0, "the connection was closed inside an answer");
        missing -= count;
    }
    Ok(())
}

/// Lengths of head and body, once the head is complete.
fn answer(bytes: &[u8]) -> anyhow::Result<Option<(usize, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(bytes)? else { return Ok(None) };
    anyhow::ensure!(response.code == Some(200), "answered {:?}: {}", response.code, String::from_utf8_lossy(bytes));
    let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.context("an answer without content-length")?;
    Ok(Some((head, std::str::from_utf8(length.value)?.parse()?)))
}
