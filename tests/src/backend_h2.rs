//! The backend's words over HTTP/2 without TLS (prior knowledge). See `backend`.
//!
//! `reset` and `garbage` reset the stream, `cut` does so after a part of the answer.

use crate::ask::fields;
use crate::backend::{Log, Seen, Wish};
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Request, Response};
use std::net::{Ipv4Addr, SocketAddr};
use tokio::net::TcpListener;

/// Listens on a port of its own; every request goes to `log`.
pub(crate) fn start(name: &str, log: &Log) -> u16 {
    let listener = std::net::TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a port");
    listener.set_nonblocking(true).expect("nonblocking");
    let port = listener.local_addr().expect("bound").port();
    let (name, log) = (name.to_string(), log.clone());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                tokio::spawn(serve(stream, name.clone(), log.clone()));
            }
        });
    });
    port
}

async fn serve(stream: tokio::net::TcpStream, name: String, log: Log) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let (name, log) = (name.clone(), log.clone());
        tokio::spawn(async move {
            // The client may have gone away; it knows.
            let _ = answer(request, respond, &name, &log).await;
        });
    }
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    name: &str,
    log: &Log,
) -> Result<(), h2::Error> {
    let (parts, mut incoming) = request.into_parts();
    let mut body = Vec::new();
    while let Some(chunk) = incoming.data().await {
        let chunk = chunk?;
        let _ = incoming.flow_control().release_capacity(chunk.len());
        body.extend_from_slice(&chunk);
    }
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
    let mut headers = fields(&parts.headers);
    headers.push((":authority".into(), parts.uri.authority().map_or("", |host| host.as_str()).into()));
    headers.push((":scheme".into(), parts.uri.scheme_str().unwrap_or_default().into()));
    headers.sort_by(|a, b| a.0.cmp(&b.0));
    let command = headers.iter().find(|(name, _)| name == "x-answer").map_or("", |(_, value)| value).to_string();
    let line = format!("{} {path} HTTP/2", parts.method);
    log.lock().expect("no panic").push(Seen { backend: name.into(), line, headers, body });
    let wish = Wish::read(&command, name);
    tokio::time::sleep(wish.delay).await;
    if wish.reset || wish.garbage {
        respond.send_reset(Reason::INTERNAL_ERROR);
        return Ok(());
    }
    let bodiless = parts.method == "HEAD" || matches!(wish.status, 204 | 304);
    let mut head = Response::builder().status(wish.status).header("x-backend", name);
    for (name, value) in &wish.headers {
        head = head.header(name, value);
    }
    if !bodiless && !wish.chunked {
        head = head.header("content-length", if wish.cut { 100 } else { wish.body.len() });
    }
    let head = head.body(()).expect("a head");
    let mut stream = respond.send_response(head, bodiless)?;
    if bodiless {
        return Ok(());
    }
    let mut left = Bytes::from(wish.body.into_bytes());
    while !left.is_empty() && !wish.cut {
        stream.reserve_capacity(left.len());
        let granted = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
        let count = granted.unwrap_or(Err(Reason::CANCEL.into()))?;
        stream.send_data(left.split_to(count.min(left.len())), false)?;
    }
    if wish.cut {
        stream.send_data(Bytes::from_static(b"part"), false)?;
        // What was sent must leave before the reset discards it.
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
        stream.send_reset(Reason::INTERNAL_ERROR);
        return Ok(());
    }
    stream.send_data(Bytes::new(), true)
}
