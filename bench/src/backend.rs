//! The backend behind the proxies: it answers at once, on one thread.

use crate::load::Protocol;
use crate::load::grpc::message;
use crate::load::http2::{drain, send};
use crate::measure;
use anyhow::Context;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

const BUFFER: usize = 64 * 1024;
const HEADERS: usize = 64;
const BACKLOG: u32 = 4096;
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// A running backend; it ends when dropped.
pub struct Backend {
    pub address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

/// What a backend answers with.
struct Answer {
    protocol: Protocol,
    body: Bytes,
    /// Head and body of the answer in HTTP/1.1.
    http1: Bytes,
}

impl Backend {
    /// Answers every request with `length` bytes; gRPC streams and TCP get their own bytes back. Listens at one port of
    /// so many loopback addresses, from 127.0.0.1 on. Runs on CPU `on`.
    pub fn start(protocol: Protocol, length: usize, hosts: u8, on: usize) -> anyhow::Result<Backend> {
        let body: Bytes = if protocol == Protocol::GrpcUnary { message(length) } else { vec![b'x'; length].into() };
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n", body.len());
        let http1 = [head.as_bytes(), &body].concat().into();
        let answer = Answer { protocol, body, http1 };
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::Builder::new().name("backend".into()).spawn(move || {
            let outcome = serve(answer, hosts, on, &tell, stopped);
            if let Err(error) = outcome {
                let _ = tell.send(Err(error));
            }
        })?;
        Ok(Backend { address: told.recv().context("the backend ended")??, _stop: stop })
    }
}

fn serve(
    answer: Answer,
    hosts: u8,
    on: usize,
    tell: &std::sync::mpsc::Sender<anyhow::Result<SocketAddr>>,
    stopped: oneshot::Receiver<()>,
) -> anyhow::Result<()> {
    measure::pin(on)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let answer = Rc::new(answer);
        let first = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = first.local_addr()?;
        for host in 2..=hosts {
            let listener = listen(SocketAddr::from(([127, 0, 0, host], address.port())))?;
            let answer = answer.clone();
            tokio::task::spawn_local(async move { accept(&listener, answer).await });
        }
        tell.send(Ok(address)).context("nobody waits for the backend")?;
        tokio::select! {
            outcome = accept(&first, answer) => outcome,
            _ = stopped => Ok(()),
        }
    })
}

fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind(address)?;
    Ok(socket.listen(BACKLOG)?)
}

async fn accept(listener: &TcpListener, answer: Rc<Answer>) -> anyhow::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        // A connection's error is its client's end of the run.
        tokio::task::spawn_local(connection(stream, answer.clone()));
    }
}

async fn connection(stream: TcpStream, answer: Rc<Answer>) -> anyhow::Result<()> {
    match answer.protocol {
        Protocol::Tcp => tcp(stream).await,
        Protocol::Http1 | Protocol::Http1Close => http1(stream, &answer).await,
        Protocol::Http2 | Protocol::GrpcUnary | Protocol::GrpcStream => http2(stream, answer).await,
    }
}

async fn tcp(mut stream: TcpStream) -> anyhow::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..count]).await?;
    }
}

async fn http1(mut stream: TcpStream, answer: &Answer) -> anyhow::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut filled = 0;
    loop {
        let count = stream.read(&mut buffer[filled..]).await?;
        if count == 0 {
            return Ok(());
        }
        filled += count;
        let Some(request) = request(&buffer[..filled])? else { continue };
        let mut missing = (request.head + request.body).saturating_sub(filled);
        while missing > 0 {
            let most = missing.min(buffer.len());
            let count = stream.read(&mut buffer[..most]).await?;
            anyhow::ensure!(count > 0, "closed inside a request");
            missing -= count;
        }
        // No proxy pipelines: what was read belongs to this request.
        filled = 0;
        stream.write_all(&answer.http1).await?;
        if request.last {
            return Ok(());
        }
    }
}

/// What of a request's head matters here.
struct Request {
    /// Lengths.
    head: usize,
    body: usize,
    /// `Connection: close`
    last: bool,
}

/// The request, once its head is complete.
fn request(bytes: &[u8]) -> anyhow::Result<Option<Request>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head) = request.parse(bytes)? else { return Ok(None) };
    let (mut body, mut last) = (0, false);
    for header in request.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            body = std::str::from_utf8(header.value)?.parse()?;
        } else if header.name.eq_ignore_ascii_case("connection") {
            last = header.value.eq_ignore_ascii_case(b"close");
        }
    }
    Ok(Some(Request { head, body, last }))
}

async fn http2(stream: TcpStream, answer: Rc<Answer>) -> anyhow::Result<()> {
    let mut builder = h2::server::Builder::new();
    builder.initial_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
    let mut connection = builder.max_concurrent_streams(10_000).handshake(stream).await?;
    while let Some(call) = connection.accept().await {
        let (request, respond) = call?;
        tokio::task::spawn_local(call_http2(request.into_body(), respond, answer.clone()));
    }
    Ok(())
}

async fn call_http2(
    mut request: h2::RecvStream,
    mut respond: h2::server::SendResponse<Bytes>,
    answer: Rc<Answer>,
) -> anyhow::Result<()> {
    let grpc = answer.protocol != Protocol::Http2;
    let kind = if grpc { "application/grpc" } else { "text/plain" };
    if answer.protocol != Protocol::GrpcStream {
        drain(&mut request).await?;
    }
    let head = Response::builder().header("content-type", kind).body(())?;
    let mut stream = respond.send_response(head, false)?;
    if answer.protocol == Protocol::GrpcStream {
        while let Some(part) = request.data().await {
            let part = part?;
            request.flow_control().release_capacity(part.len())?;
            send(&mut stream, part, false).await?;
        }
    } else {
        send(&mut stream, answer.body.clone(), !grpc).await?;
    }
    if grpc {
        stream.send_trailers(HeaderMap::from_iter([(
            http::HeaderName::from_static("grpc-status"),
            HeaderValue::from_static("0"),
        )]))?;
    }
    Ok(())
}
