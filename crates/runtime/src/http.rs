//! A small HTTP/1.1 server for administration: few requests, small bodies, never the data path.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

pub use http::{Method, StatusCode};

/// Longest request body taken, in bytes.
const BODY_LIMIT: usize = 1 << 20;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections served at once; more wait.
const CONNECTIONS: usize = 128;

/// A request with its body read.
#[derive(Debug)]
pub struct Request {
    pub method: Method,
    pub path: String,
    /// Without `?`; empty if none.
    pub query: String,
    pub body: Bytes,
}

impl Request {
    /// The value of a query parameter; empty when it is given without one. `%xx` and `+` are decoded.
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.query.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key == name).then(|| decode(value))
        })
    }
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (bytes[at], hex) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (b'+', _) => {
                out.push(b' ');
                at += 1;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// An answer with its whole body.
#[derive(Debug)]
pub struct Response {
    pub status: StatusCode,
    pub content_type: &'static str,
    pub body: Vec<u8>,
}

impl Response {
    pub fn text(body: impl Into<String>) -> Self {
        Response { status: StatusCode::OK, content_type: "text/plain; charset=UTF-8", body: body.into().into_bytes() }
    }

    pub fn json(body: impl Into<Vec<u8>>) -> Self {
        Response { status: StatusCode::OK, content_type: "application/json", body: body.into() }
    }

    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }
}

/// Serves until the returned future is dropped.
pub async fn serve<H, F>(listener: TcpListener, handler: H)
where
    H: Fn(Request, SocketAddr) -> F + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    let handler = Arc::new(handler);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "admin: accept failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let handler = handler.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(handler.clone(), request, peer));
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            // A client that breaks off is nobody's concern.
            let _ = connection.await;
            drop(place);
        });
    }
}

async fn answer<H, F>(
    handler: Arc<H>,
    request: hyper::Request<Incoming>,
    peer: SocketAddr,
) -> Result<hyper::Response<Full<Bytes>>, Infallible>
where
    H: Fn(Request, SocketAddr) -> F,
    F: Future<Output = Response>,
{
    let (parts, body) = request.into_parts();
    let answer = match Limited::new(body, BODY_LIMIT).collect().await {
        Ok(body) => {
            let request = Request {
                method: parts.method,
                path: parts.uri.path().to_string(),
                query: parts.uri.query().unwrap_or_default().to_string(),
                body: body.to_bytes(),
            };
            handler(request, peer).await
        }
        Err(_) => {
            Response::text("the body could not be read or is too large\n").with_status(StatusCode::PAYLOAD_TOO_LARGE)
        }
    };
    let response = hyper::Response::builder()
        .status(answer.status)
        .header("content-type", answer.content_type)
        .header("cache-control", "no-cache, max-age=0")
        .header("x-content-type-options", "nosniff")
        .body(Full::new(Bytes::from(answer.body)));
    // Status and header values are all known to be valid.
    Ok(response.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn parameters() {
        let request = Request {
            method: Method::GET,
            path: "/stats".into(),
            query: "filter=a%2Eb+c&usedonly".into(),
            body: Bytes::new(),
        };
        assert_eq!(request.parameter("filter").as_deref(), Some("a.b c"));
        assert_eq!(request.parameter("usedonly").as_deref(), Some(""));
        assert_eq!(request.parameter("absent"), None);
    }

    #[tokio::test]
    async fn serves() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let echo = |request: Request, _| async move { Response::text(format!("{} {}", request.method, request.path)) };
        let server = tokio::spawn(serve(listener, echo));
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /x?y HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("GET /x"), "{answer}");
        server.abort();
    }
}
