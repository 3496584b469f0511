//! An HTTP/2 backend that answers as the request asks and remembers what it saw.
//!
//! `x-answer: status=503; size=1000; trailers; refuse; reset; cut; hold; early; goaway`; without it the request's body
//! and trailers come back. `cut` resets the stream after a part of the answer, once the client's body has ended.

use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tests::compare::{shown, steady};
use tokio::net::{TcpListener, TcpStream};

/// One entry a request, when it is over.
pub(crate) type Seen = Arc<Mutex<Vec<Value>>>;

pub(crate) struct H2Backend {
    pub(crate) port: u16,
    pub(crate) seen: Seen,
}

/// Runs `test` on a thread that has nothing else to do.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(test)
}

impl H2Backend {
    pub(crate) fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("nonblocking");
        let port = listener.local_addr().expect("bound").port();
        let seen = Seen::default();
        let log = seen.clone();
        std::thread::spawn(move || {
            run(async move {
                let listener = TcpListener::from_std(listener).expect("a listener");
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, log.clone()));
                }
            });
        });
        Self { port, seen }
    }
}

async fn serve(stream: TcpStream, log: Seen) {
    let _ = stream.set_nodelay(true);
    let Ok(mut connection): Result<Connection<TcpStream, Bytes>, _> = h2::server::handshake(stream).await else {
        return;
    };
    while let Some(Ok((request, respond))) = connection.accept().await {
        if wish(request.headers()).contains("goaway") {
            connection.graceful_shutdown();
        }
        tokio::spawn(answer(request, respond, log.clone()));
    }
}

fn wish(headers: &HeaderMap) -> String {
    headers.get("x-answer").map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).unwrap_or_default()
}

/// The parameter of `key` in `x-answer`.
fn parameter(wish: &str, key: &str) -> Option<usize> {
    wish.split(';').find_map(|part| part.trim().strip_prefix(key)?.strip_prefix('=')?.parse().ok())
}

async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, log: Seen) {
    let (parts, mut body) = request.into_parts();
    let wish = wish(&parts.headers);
    let has = |word: &str| wish.split(';').any(|part| part.trim() == word);
    let mut entry = json!({
        "request": format!("{} {}", parts.method, parts.uri),
        "headers": fields(&parts.headers),
    });
    let mut record = |end: Value| {
        entry["end"] = end;
        log.lock().expect("no panic").push(entry.clone());
    };
    if has("refuse") {
        record("refused".into());
        return respond.send_reset(Reason::REFUSED_STREAM);
    }
    if has("hold") {
        let reset = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
        return record(format!("{reset:?}").into());
    }
    let (data, trailers) = match read(&mut body, has("early") || has("cut")).await {
        Ok(read) => read,
        Err(error) => return record(format!("{:?}", error.reason()).into()),
    };
    record(json!({"body": shown(&data), "trailers": fields(&trailers)}));
    if has("reset") {
        return respond.send_reset(Reason::INTERNAL_ERROR);
    }
    let status = parameter(&wish, "status").and_then(|status| u16::try_from(status).ok()).unwrap_or(200);
    let data = parameter(&wish, "size").map_or(data, |size| vec![b'x'; size]);
    let bodiless = parts.method == "HEAD" || matches!(status, 204 | 304);
    let head =
        Response::builder().status(status).header("x-backend", "h2").header("x-twice", "1").header("x-twice", "2");
    let end = bodiless && !has("trailers");
    let Ok(mut stream) = respond.send_response(head.body(()).expect("a head"), end) else { return };
    if has("cut") {
        let _ = send(&mut stream, b"part").await;
        let _ = read(&mut body, false).await;
        return stream.send_reset(Reason::INTERNAL_ERROR);
    }
    if !end && send(&mut stream, &data).await.is_ok() {
        finish(&mut stream, has("trailers"), trailers);
    }
}

fn finish(stream: &mut SendStream<Bytes>, with_trailers: bool, mut trailers: HeaderMap) {
    if with_trailers {
        trailers.insert("x-checksum", "abc".parse().expect("a value"));
        let _ = stream.send_trailers(trailers);
    } else {
        let _ = stream.send_data(Bytes::new(), true);
    }
}

/// Body and trailers; `early`: not to the end.
pub(crate) async fn read(body: &mut RecvStream, early: bool) -> Result<(Vec<u8>, HeaderMap), h2::Error> {
    let mut data = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        data.extend_from_slice(&chunk);
        if early {
            return Ok((data, HeaderMap::new()));
        }
    }
    Ok((data, body.trailers().await?.unwrap_or_default()))
}

/// Sends as the windows allow.
pub(crate) async fn send(stream: &mut SendStream<Bytes>, data: &[u8]) -> Result<(), h2::Error> {
    let mut left = Bytes::copy_from_slice(data);
    while !left.is_empty() {
        stream.reserve_capacity(left.len());
        let granted = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
        let count = granted.unwrap_or(Err(Reason::CANCEL.into()))?;
        stream.send_data(left.split_to(count.min(left.len())), false)?;
    }
    Ok(())
}

/// Sorted, the variable ones by their kind.
pub(crate) fn fields(map: &HeaderMap) -> Vec<String> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let all = map.iter().map(|(name, value)| format!("{name}: {}", steady(name.as_str(), &text(value), &[])));
    let mut all: Vec<String> = all.collect();
    all.sort();
    all
}
