//! HTTP/2 requests, several streams on each connection.

use super::Work;
use anyhow::Context;
use bytes::Bytes;
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response, StatusCode};
use std::future::Future;
use std::rc::Rc;
use tokio::task::JoinSet;

const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

pub(super) async fn run(work: Work) -> anyhow::Result<()> {
    multiplex(work, |work, sender| async move {
        exchange(&work, sender.clone()).await?;
        work.ready();
        streams(&work, move |work| {
            let sender = sender.clone();
            async move {
                loop {
                    let intended = work.turn().await;
                    exchange(&work, sender.clone()).await?;
                    work.answered(intended);
                }
            }
        })
        .await
    })
    .await
}

/// Opens the connection, keeps it going, and runs what uses it; both end only with an error.
pub(super) async fn multiplex<F>(work: Work, user: impl FnOnce(Rc<Work>, SendRequest<Bytes>) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let stream = work.connect().await?;
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW).enable_push(false);
    let (sender, connection) = builder.handshake(stream).await?;
    let connection = tokio::task::spawn_local(connection);
    let outcome = user(Rc::new(work), sender.ready().await?).await;
    connection.abort();
    outcome
}

/// As many loops as the plan has streams per connection; gives the first error.
pub(super) async fn streams<F>(work: &Rc<Work>, one: impl Fn(Rc<Work>) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>> + 'static,
{
    let mut tasks = JoinSet::new();
    for _ in 0..work.plan().streams {
        tasks.spawn_local(one(work.clone()));
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

async fn exchange(work: &Work, sender: SendRequest<Bytes>) -> anyhow::Result<()> {
    let plan = work.plan();
    let method = if plan.send == 0 { "GET" } else { "POST" };
    let request = request(work, method).header("user-agent", "bench").body(())?;
    let (response, mut upload) = sender.ready().await?.send_request(request, plan.send == 0)?;
    if plan.send > 0 {
        send(&mut upload, vec![b'x'; plan.send].into(), true).await?;
    }
    let length = drain(ok(response.await?)?.body_mut()).await?;
    anyhow::ensure!(length == plan.expect, "an answer of {length} bytes, not {}", plan.expect);
    Ok(())
}

pub(super) fn request(work: &Work, method: &str) -> http::request::Builder {
    Request::builder().method(method).uri(format!("http://{}{}", work.host(), work.plan().path))
}

pub(super) fn ok(response: Response<RecvStream>) -> anyhow::Result<Response<RecvStream>> {
    anyhow::ensure!(response.status() == StatusCode::OK, "answered {:?}", response);
    Ok(response)
}

/// Sends all bytes within the peer's window.
pub(crate) async fn send(stream: &mut SendStream<Bytes>, mut bytes: Bytes, end: bool) -> anyhow::Result<()> {
    stream.reserve_capacity(bytes.len());
    loop {
        let free = stream.capacity().min(bytes.len());
        if free == bytes.len() {
            return Ok(stream.send_data(bytes, end)?);
        }
        if free > 0 {
            stream.send_data(bytes.split_to(free), false)?;
            continue;
        }
        std::future::poll_fn(|context| stream.poll_capacity(context)).await.context("the stream was closed")??;
    }
}

/// Reads a body to its end and gives its length.
pub(crate) async fn drain(body: &mut RecvStream) -> anyhow::Result<usize> {
    let mut length = 0;
    while let Some(part) = body.data().await {
        let part = part?;
        length += part.len();
        body.flow_control().release_capacity(part.len())?;
    }
    Ok(length)
}

/// Fails unless the trailers of a gRPC call say that it went well.
pub(super) fn went_well(trailers: Option<HeaderMap>) -> anyhow::Result<()> {
    let trailers = trailers.context("no trailers")?;
    anyhow::ensure!(trailers.get("grpc-status").is_some_and(|status| status == "0"), "trailers: {trailers:?}");
    Ok(())
}
