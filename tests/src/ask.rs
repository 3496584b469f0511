//! A request apart from the protocol that carries it, and an HTTP/2 client that sends it.

use crate::client::Answer;
use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Method, Request, Uri};
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::net::TcpStream;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(6);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    pub method: String,
    pub path: String,
    pub authority: String,
    /// In order; names as written.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Ask {
    /// Reads a single HTTP/1.1 request; `None` when HTTP/2 has no way to say the same.
    pub fn parse(raw: &[u8]) -> Option<Ask> {
        let text = std::str::from_utf8(raw).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let mut line = lines.next()?.split(' ');
        let (method, path, version) = (line.next()?, line.next()?, line.next()?);
        if version != "HTTP/1.1" || line.next().is_some() || !(path.starts_with('/') || path == "*") {
            return None;
        }
        let (mut authority, mut headers, mut length) = (None, Vec::new(), 0);
        for line in lines {
            let (name, value) = line.split_once(':')?;
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "host" if authority.is_none() => authority = Some(value.to_string()),
                "content-length" => length = value.parse().ok()?,
                "host" | "transfer-encoding" | "connection" | "upgrade" | "keep-alive" | "proxy-connection" | "te"
                | "expect" => return None,
                _ if value.contains('\r') || name.contains(' ') => return None,
                _ => headers.push((name.to_string(), value.to_string())),
            }
        }
        let ask = Ask { method: method.into(), path: path.into(), authority: authority?, headers, body: body.into() };
        (ask.body.len() == length && ask.request().is_some()).then_some(ask)
    }

    pub fn http1(&self) -> Vec<u8> {
        let mut raw = format!("{} {} HTTP/1.1\r\nHost: {}\r\n", self.method, self.path, self.authority);
        for (name, value) in &self.headers {
            raw.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.body.is_empty() {
            raw.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        let mut raw = (raw + "\r\n").into_bytes();
        raw.extend_from_slice(&self.body);
        raw
    }

    fn request(&self) -> Option<Request<()>> {
        let uri = Uri::builder().scheme("http").authority(self.authority.as_str());
        let uri = uri.path_and_query(self.path.as_str()).build().ok()?;
        let method = Method::from_bytes(self.method.as_bytes()).ok()?;
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if !self.body.is_empty() {
            request = request.header("content-length", self.body.len());
        }
        request.body(()).ok()
    }
}

/// Sends `ask` on an HTTP/2 connection of its own.
pub fn exchange(port: u16, ask: &Ask) -> Answer {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let answer = runtime.block_on(async { tokio::time::timeout(PATIENCE, one(port, ask)).await });
    answer.unwrap_or(Err(None)).unwrap_or_else(none)
}

/// No response head: the reason of a reset, if there was one, is told as the body.
fn none(reason: Option<h2::Reason>) -> Answer {
    let body = reason.map_or(String::new(), |reason| format!("{reason:?}")).into_bytes();
    Answer { status: 0, headers: vec![], body, cut: false, closed: false }
}

async fn one(port: u16, ask: &Ask) -> Result<Answer, Option<h2::Reason>> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.map_err(|_| None)?;
    let _ = stream.set_nodelay(true);
    let (send, connection) = h2::client::handshake(stream).await.map_err(|error| error.reason())?;
    let driver = tokio::spawn(async move { drop(connection.await) });
    let answer = on_stream(send, ask).await.map_err(|error| error.reason());
    driver.abort();
    answer
}

async fn on_stream(send: SendRequest<Bytes>, ask: &Ask) -> Result<Answer, h2::Error> {
    let mut send = send.ready().await?;
    let request = ask.request().expect("it was checked");
    let (response, mut stream) = send.send_request(request, ask.body.is_empty())?;
    if !ask.body.is_empty() {
        stream.send_data(Bytes::copy_from_slice(&ask.body), true)?;
    }
    let response = response.await?;
    let (parts, mut body) = response.into_parts();
    let mut answer = Answer {
        status: parts.status.as_u16(),
        headers: fields(&parts.headers),
        body: Vec::new(),
        cut: false,
        closed: false,
    };
    while let Some(chunk) = body.data().await {
        let Ok(chunk) = chunk else {
            answer.cut = true;
            return Ok(answer);
        };
        let _ = body.flow_control().release_capacity(chunk.len());
        answer.body.extend_from_slice(&chunk);
    }
    match body.trailers().await {
        Ok(trailers) => {
            let trailers = trailers.as_ref().map(fields).unwrap_or_default();
            answer.headers.extend(trailers.into_iter().map(|(name, value)| (format!("trailer {name}"), value)));
        }
        Err(_) => answer.cut = true,
    }
    Ok(answer)
}

pub(crate) fn fields(map: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    map.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let raw = b"POST /a?b HTTP/1.1\r\nHost: test\r\nX-One: 1\r\nContent-Length: 2\r\n\r\nhi";
        let ask = Ask::parse(raw).expect("it can be said");
        assert_eq!(ask.http1(), raw);
        for odd in ["GET / HTTP/1.0\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\n\r\n"] {
            assert_eq!(Ask::parse(odd.as_bytes()), None);
        }
    }
}
