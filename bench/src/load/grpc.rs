//! gRPC: unary calls, and messages on calls that last.

use super::Work;
use super::http2::{drain, multiplex, ok, request, send, streams, went_well};
use anyhow::Context;
use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use std::rc::Rc;

/// Flag and length before each message.
pub(crate) const PREFIX: usize = 5;

pub(super) async fn run_unary(work: Work) -> anyhow::Result<()> {
    multiplex(work, |work, sender| async move {
        let message = message(work.plan().send);
        unary(&work, sender.clone(), message.clone()).await?;
        work.ready();
        streams(&work, move |work| {
            let (sender, message) = (sender.clone(), message.clone());
            async move {
                loop {
                    let intended = work.turn().await;
                    unary(&work, sender.clone(), message.clone()).await?;
                    work.answered(intended);
                }
            }
        })
        .await
    })
    .await
}

pub(super) async fn run_streaming(work: Work) -> anyhow::Result<()> {
    multiplex(work, |work, sender| async move {
        work.ready();
        streams(&work, move |work| stream(work, sender.clone())).await
    })
    .await
}

/// A message of this many bytes, prefix included.
pub(crate) fn message(length: usize) -> Bytes {
    let mut bytes = BytesMut::with_capacity(PREFIX + length);
    bytes.put_u8(0);
    bytes.put_u32(length as u32);
    bytes.put_bytes(b'x', length);
    bytes.freeze()
}

async fn unary(work: &Work, sender: SendRequest<Bytes>, message: Bytes) -> anyhow::Result<()> {
    let (response, mut upload) = sender.ready().await?.send_request(call(work)?, false)?;
    send(&mut upload, message, true).await?;
    let mut response = ok(response.await?)?;
    let length = drain(response.body_mut()).await?;
    anyhow::ensure!(length == PREFIX + work.plan().expect, "an answer of {length} bytes");
    went_well(response.body_mut().trailers().await?)
}

fn call(work: &Work) -> anyhow::Result<http::Request<()>> {
    let request = request(work, "POST").header("content-type", "application/grpc").header("te", "trailers");
    Ok(request.body(())?)
}

/// One call for the whole run: a message goes out when the last one's echo is complete.
async fn stream(work: Rc<Work>, sender: SendRequest<Bytes>) -> anyhow::Result<()> {
    let (response, mut upload) = sender.ready().await?.send_request(call(&work)?, false)?;
    let message = message(work.plan().send);
    let mut body = None;
    let mut response = Some(response);
    loop {
        let intended = work.turn().await;
        send(&mut upload, message.clone(), false).await?;
        if let Some(response) = response.take() {
            body = Some(ok(response.await?)?.into_body());
        }
        let body = body.as_mut().context("no body")?;
        let mut missing = message.len();
        while missing > 0 {
            let part = body.data().await.context("the call was ended")??;
            body.flow_control().release_capacity(part.len())?;
            missing = missing.checked_sub(part.len()).context("more than the echo")?;
        }
        work.answered(intended);
    }
}
