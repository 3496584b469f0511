//! A stream of gRPC messages as HTTP bodies. By hand: `tonic` keeps a buffer as large as the largest message for as
//! long as a stream lives, and most streams of a control plane are silent nearly all the time.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, header};
use hyper::body::{Body as HttpBody, Frame};
use prost::Message;
use tokio::sync::mpsc;
use tonic::Status;
use tonic::body::Body;

/// Flag and length before a message.
const PREFIX: usize = 5;

/// The message in its envelope; no byte more is allocated.
pub(super) fn envelope(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut out = BytesMut::with_capacity(PREFIX + length);
    // Not compressed.
    out.put_u8(0);
    out.put_u32(u32::try_from(length).expect("a response has less than 4 GB"));
    message.encode(&mut out).expect("there is room");
    out.freeze()
}

/// The response whose body are `messages`; an error ends it.
pub(super) fn response(messages: mpsc::Receiver<Result<Bytes, Status>>) -> Response<Body> {
    let mut response = Response::new(Body::new(Messages(Some(messages))));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// `None` after the trailers.
struct Messages(Option<mpsc::Receiver<Result<Bytes, Status>>>);

impl HttpBody for Messages {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(messages) = &mut self.0 else { return Poll::Ready(None) };
        let Poll::Ready(next) = messages.poll_recv(cx) else { return Poll::Pending };
        let end = match next {
            Some(Ok(message)) => return Poll::Ready(Some(Ok(Frame::data(message)))),
            Some(Err(status)) => status,
            None => Status::ok(""),
        };
        self.0 = None;
        let mut trailers = HeaderMap::new();
        Poll::Ready(Some(end.add_header(&mut trailers).map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn messages_are_followed_by_the_status() {
        let (out, messages) = mpsc::channel(2);
        out.send(Ok(envelope(&"hi".to_owned()))).await.unwrap();
        out.send(Err(Status::permission_denied("no"))).await.unwrap();
        let body = response(messages).into_body().collect().await.unwrap();
        let trailers = body.trailers().cloned().unwrap();
        assert_eq!(*body.to_bytes(), *b"\0\0\0\0\x04\x0a\x02hi");
        assert_eq!(
            (&trailers["grpc-status"], &trailers["grpc-message"]),
            (&"7".parse().unwrap(), &"no".parse().unwrap())
        );
    }

    #[tokio::test]
    async fn an_end_is_well() {
        let (out, messages) = mpsc::channel::<Result<Bytes, Status>>(1);
        drop(out);
        let body = response(messages).into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
    }
}
