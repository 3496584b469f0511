//! Small HTTP requests to administration addresses on this machine.

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::net::TcpStream;

const TIMEOUT: Duration = Duration::from_secs(2);

/// Status and body of `GET path` at a loopback port.
pub(crate) async fn get(port: u16, path: &str) -> anyhow::Result<(u16, String)> {
    tokio::time::timeout(TIMEOUT, request(port, path, "127.0.0.1")).await.context("no answer in time")?
}

async fn request(port: u16, path: &str, host: &str) -> anyhow::Result<(u16, String)> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request = hyper::Request::get(path).header("host", host).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    driver.abort();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

/// Waits until `/ready` says 200.
pub(crate) async fn ready(port: u16, what: &str, limit: Duration) -> anyhow::Result<()> {
    let wait = async {
        let mut last;
        loop {
            match get(port, "/ready").await {
                Ok((200, _)) => return,
                Ok((_, body)) => last = body.trim().to_string(),
                Err(error) => last = format!("{error:#}"),
            }
            tracing::debug!(what, last, "not ready yet");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(limit, wait).await.with_context(|| {
        format!("{what} was not ready within {} s; see its messages above, or run with -l debug", limit.as_secs())
    })
}
