//! HTTP/2 on either side of the proxy, with bodies, trailers and resets.

mod support;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Request, Response};
use model::cluster::UpstreamProtocol;
use std::net::SocketAddr;
use support::*;

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

async fn connect(address: SocketAddr) -> SendRequest<Bytes> {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (send, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    send.ready().await.unwrap()
}

/// Sends a request with a body and trailers; returns head, body and trailers of the answer.
async fn exchange(
    send: &mut SendRequest<Bytes>,
    request: Request<()>,
    body: &[u8],
) -> Result<(Response<()>, Vec<u8>, Option<HeaderMap>), h2::Error> {
    let (response, mut stream) = send.send_request(request, body.is_empty())?;
    if !body.is_empty() {
        stream.send_data(Bytes::copy_from_slice(body), false)?;
        let mut trailers = HeaderMap::new();
        trailers.insert("x-trailer", "from-client".parse().unwrap());
        stream.send_trailers(trailers)?;
    }
    let (parts, mut body) = response.await?.into_parts();
    let mut data = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        data.extend_from_slice(&chunk);
    }
    let trailers = body.trailers().await?;
    Ok((Response::from_parts(parts, ()), data, trailers))
}

/// An HTTP/2 backend thread that echoes bodies and trailers; `/refused` is refused, `/reset` breaks off.
fn h2_echo() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        run(async move {
            listener.set_nonblocking(true).unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut connection = h2::server::handshake(stream).await.unwrap();
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        tokio::spawn(answer(request, respond));
                    }
                });
            }
        });
    });
    address
}

async fn answer(request: Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Bytes>) {
    let path = request.uri().path().to_string();
    if path == "/refused" {
        respond.send_reset(h2::Reason::REFUSED_STREAM);
        return;
    }
    let mut body = request.into_body();
    let response = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    let mut stream = respond.send_response(response, false).unwrap();
    if path == "/reset" {
        stream.send_data(Bytes::from_static(b"part"), false).unwrap();
        // The client ends its body when it has seen the head, so the head is out by now.
        while body.data().await.is_some() {}
        stream.send_reset(h2::Reason::INTERNAL_ERROR);
        return;
    }
    while let Some(Ok(chunk)) = body.data().await {
        body.flow_control().release_capacity(chunk.len()).unwrap();
        stream.send_data(chunk, false).unwrap();
    }
    let mut trailers = body.trailers().await.unwrap_or_default().unwrap_or_default();
    trailers.insert("grpc-status", "0".parse().unwrap());
    stream.send_trailers(trailers).unwrap();
}

fn post(path: &str) -> Request<()> {
    Request::post(format!("http://shop{path}")).header("te", "trailers").body(()).unwrap()
}

#[test]
fn bodies_and_trailers_pass_through() {
    let proxy = Proxy::http_with(h2_echo(), UpstreamProtocol::Http2, |_| {}, |_| {});
    run(async {
        let mut send = connect(proxy.address).await;
        for size in [1, 1000, 300_000] {
            let sent = vec![b'x'; size];
            let (head, body, trailers) = exchange(&mut send, post("/echo"), &sent).await.unwrap();
            assert_eq!(head.status(), 200);
            assert_eq!(head.headers()["content-type"], "application/grpc");
            assert_eq!(body, sent);
            let trailers = trailers.unwrap();
            assert_eq!(
                (&trailers["grpc-status"], &trailers["x-trailer"]),
                (&"0".parse().unwrap(), &"from-client".parse().unwrap())
            );
        }
    });
}

#[test]
fn http2_to_http1_and_back() {
    let proxy = Proxy::http(echo());
    run(async {
        let mut send = connect(proxy.address).await;
        let (head, body, _) = exchange(&mut send, post("/a?b"), b"hello").await.unwrap();
        let seen = String::from_utf8(body).unwrap();
        assert_eq!(head.status(), 200);
        assert!(seen.starts_with("POST /a?b HTTP/1.1\r\nhost: shop\r\n"), "{seen}");
        assert!(seen.contains("transfer-encoding: chunked") && seen.contains("5\r\nhello\r\n"), "{seen}");
    });
    let proxy = Proxy::http_with(h2_echo(), UpstreamProtocol::Http2, |_| {}, |_| {});
    let answer = proxy.exchange(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("5\r\nhello\r\n0\r\n\r\n"), "{answer}");
}

#[test]
fn many_streams_at_once() {
    let proxy = Proxy::http_with(h2_echo(), UpstreamProtocol::Downstream, |_| {}, |_| {});
    run(async {
        let send = connect(proxy.address).await;
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..100u32 {
            let mut send = send.clone();
            tasks.spawn(async move {
                let sent = number.to_string().repeat(5000);
                let (_, body, _) = exchange(&mut send, post("/n"), sent.as_bytes()).await.unwrap();
                assert_eq!(body, sent.as_bytes());
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
    });
}

#[test]
fn refusals_are_explained_and_resets_passed_on() {
    let proxy = Proxy::http_with(h2_echo(), UpstreamProtocol::Http2, |_| {}, |_| {});
    run(async {
        let mut send = connect(proxy.address).await;
        let (head, body, _) = exchange(&mut send, post("/refused"), b"x").await.unwrap();
        assert_eq!(head.status(), 503);
        assert!(String::from_utf8(body).unwrap().contains("remote refused stream reset"));
        let (response, mut upload) = send.send_request(post("/reset"), false).unwrap();
        let mut body = response.await.unwrap().into_body();
        upload.send_data(Bytes::from_static(b"x"), true).unwrap();
        let error = loop {
            match body.data().await {
                Some(Ok(chunk)) => assert_eq!(chunk, "part"),
                Some(Err(error)) => break error,
                None => panic!("a cut response looked complete"),
            }
        };
        assert!(error.is_reset(), "{error}");
        let (head, ..) = exchange(&mut send, post("/after"), b"x").await.unwrap();
        assert_eq!(head.status(), 200, "the connection goes on");
    });
}
