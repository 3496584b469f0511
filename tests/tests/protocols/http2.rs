//! HTTP/2 clients, by prior knowledge and by ALPN, before HTTP/1 and HTTP/2 backends.

use crate::h2_backend::{H2Backend, fields, read, run, send};
use crate::support::{BOTH, HTTP2, Kind, Proxy, assert_same, cluster, http};
use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;
use tests::backend::{Backend, Log};
use tests::compare::{shown, steady};
use tests::process::{ports, scratch};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(10);
const ROUTES: &str = "\
- { match: { prefix: /h1 }, route: { cluster: h1 } }
- { match: { prefix: /h2 }, route: { cluster: h2 } }
- { match: { prefix: /gone }, route: { cluster: gone } }
- { match: { prefix: /direct }, direct_response: { status: 200, body: { inline_string: direct } } }
- { match: { prefix: /moved }, redirect: { path_redirect: /h1 } }
";

/// Listens with TLS for `h2` and `http/1.1`, with the certificate in the proxy's folder.
const TLS: &str = "    - transport_socket:
        name: tls
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [h2, http/1.1]
            tls_certificates:
            - { certificate_chain: { filename: \"{FOLDER}/cert\" }, private_key: { filename: \"{FOLDER}/key\" } }
      filters:
";

/// Name, method and path, `x-answer`, length of the body and how it ends.
const QUESTIONS: [(&str, &str, &str, &str, usize, End); 21] = [
    ("get", "GET", "/h1/a?b=c", "", 0, End::Plain),
    ("get", "GET", "/h2/a?b=c", "", 0, End::Plain),
    ("head", "HEAD", "/h1", "size=100", 0, End::Plain),
    ("head", "HEAD", "/h2", "size=100", 0, End::Plain),
    ("no content", "GET", "/h1", "status=204", 0, End::Plain),
    ("no content", "GET", "/h2", "status=204", 0, End::Plain),
    ("not modified", "GET", "/h2", "status=304", 0, End::Plain),
    ("error", "GET", "/h2", "status=500;size=10", 0, End::Plain),
    ("large answer", "GET", "/h1", "size=3000000", 0, End::Plain),
    ("large answer, chunked", "GET", "/h1", "size=3000000;chunked", 0, End::Plain),
    ("large answer", "GET", "/h2", "size=3000000", 0, End::Plain),
    ("large request", "POST", "/h1", "", 3_000_000, End::Plain),
    ("large both ways", "POST", "/h2", "", 3_000_000, End::Plain),
    ("trailers", "POST", "/h1", "", 10, End::Trailers),
    ("trailers", "POST", "/h2", "trailers", 10, End::Trailers),
    ("trailers without body", "GET", "/h2", "status=204;trailers", 0, End::Plain),
    ("answer before the body's end", "POST", "/h2", "early;size=5", 300_000, End::AfterHead),
    ("nobody there", "GET", "/gone", "", 0, End::Plain),
    ("direct", "GET", "/direct", "", 0, End::Plain),
    ("redirect", "GET", "/moved", "", 0, End::Plain),
    ("no route", "GET", "/none", "", 0, End::Plain),
];

/// Endings that are not answers; the backend resets or leaves.
const BROKEN: [(&str, &str, &str, End); 6] = [
    ("closed without an answer", "/h1", "reset", End::Plain),
    ("closed in the body", "/h1", "cut", End::Plain),
    ("not HTTP", "/h1", "garbage", End::Plain),
    ("reset without an answer", "/h2", "reset", End::Plain),
    ("reset in the body", "/h2", "cut", End::AfterHead),
    ("refused", "/h2", "refuse", End::Plain),
];

/// How a request's body ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Plain,
    Trailers,
    /// Only once the answer has begun.
    AfterHead,
}

type Client = SendRequest<Bytes>;

async fn speak<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(io: T) -> Client {
    let (client, connection) = h2::client::handshake(io).await.expect("HTTP/2");
    tokio::spawn(connection);
    client.ready().await.expect("an open connection")
}

async fn connect(port: u16) -> Client {
    speak(TcpStream::connect(("127.0.0.1", port)).await.expect("the proxy listens")).await
}

async fn connect_tls(port: u16, trusted: &CertificateDer<'static>) -> Client {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.clone()).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder.expect("versions").with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("the proxy listens");
    let stream = connector.connect(ServerName::try_from("a.test").expect("a name"), stream).await.expect("TLS");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    speak(stream).await
}

fn request(method: &str, path: &str, answer: &str) -> Request<()> {
    request_by("http", method, path, answer)
}

fn request_by(scheme: &str, method: &str, path: &str, answer: &str) -> Request<()> {
    let request = Request::builder().method(method).uri(format!("{scheme}://a.test{path}"));
    let request = request.header("cookie", "a=1").header("cookie", "b=2").header("x-long", "y".repeat(20_000));
    request.header("te", "trailers").header("x-answer", answer).body(()).expect("a request")
}

/// What came back, whole or not.
async fn ask(client: &Client, request: Request<()>, body: &[u8], end: End) -> Value {
    let answered = timeout(PATIENCE, try_ask(client, request, body, end)).await;
    match answered.expect("an answer in time") {
        Ok(answer) => answer,
        Err(error) => json!({"reset": format!("{:?}", error.reason())}),
    }
}

async fn try_ask(client: &Client, request: Request<()>, body: &[u8], end: End) -> Result<Value, h2::Error> {
    let mut client = client.clone().ready().await?;
    let (response, mut stream) = client.send_request(request, body.is_empty())?;
    let begun = tokio::sync::Notify::new();
    let upload = async {
        if body.is_empty() || send(&mut stream, body).await.is_err() {
            return;
        }
        if end == End::AfterHead {
            begun.notified().await;
        }
        let mut map = HeaderMap::new();
        map.insert("x-trailer", "from the client".parse().expect("a value"));
        let trailers = end == End::Trailers;
        let _ = if trailers { stream.send_trailers(map) } else { stream.send_data(Bytes::new(), true) };
    };
    let download = async {
        let (head, mut body) = response.await?.into_parts();
        begun.notify_one();
        let answer = json!({"status": head.status.as_u16(), "headers": fields(&head.headers)});
        Ok(match read(&mut body, false).await {
            Ok((data, trailers)) => {
                let more = json!({"body": shown(&data), "trailers": fields(&trailers)});
                json!([answer, more])
            }
            Err(error) => json!([answer, format!("{:?}", error.reason())]),
        })
    };
    // A server may answer before it has read everything.
    tokio::select! {
        biased;
        answer = download => answer,
        () = async { upload.await; std::future::pending().await } => unreachable!("pending"),
    }
}

/// Everything a client and the backends see.
struct Setup {
    proxy: Proxy,
    h1: Log,
    h2: H2Backend,
    certificate: CertificateDer<'static>,
}

impl Setup {
    fn start(name: &str, kind: Kind, tls: bool) -> Self {
        let h1 = Log::default();
        let (backend, h2) = (Backend::start("h1", &h1), H2Backend::start());
        let [nobody] = ports();
        let clusters = cluster("h1", backend.port, "") + &cluster("h2", h2.port, HTTP2) + &cluster("gone", nobody, "");
        let mut config = http("", ROUTES, &clusters);
        if tls {
            config = config.replace("    - filters:\n", TLS);
        }
        let folder = scratch(&format!("http2-{name}-{kind:?}-{tls}"));
        let issued = rcgen::generate_simple_self_signed(vec!["a.test".into()]).expect("a certificate");
        std::fs::write(folder.join("cert"), issued.cert.pem()).expect("written");
        std::fs::write(folder.join("key"), issued.signing_key.serialize_pem()).expect("written");
        Setup { proxy: Proxy::start_in(kind, &folder, &config, &[]), h1, h2, certificate: issued.cert.der().clone() }
    }

    /// What the backends have seen since the last time.
    fn seen(&self) -> Value {
        let h1: Vec<Value> = std::mem::take(&mut *self.h1.lock().expect("no panic"))
            .into_iter()
            .map(|seen| {
                let headers = seen.headers.iter().map(|(name, value)| format!("{name}: {}", steady(name, value, &[])));
                json!([seen.line, headers.collect::<Vec<_>>(), shown(&seen.body)])
            })
            .collect();
        json!({"h1": h1, "h2": std::mem::take(&mut *self.h2.seen.lock().expect("no panic"))})
    }
}

async fn ask_everything(setup: &Setup, client: &Client, scheme: &str) -> Map<String, Value> {
    let mut results = Map::new();
    for (name, method, path, answer, length, end) in QUESTIONS {
        let body: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
        let answer = ask(client, request_by(scheme, method, path, answer), &body, end).await;
        results.insert(format!("{name} {path}"), json!([answer, setup.seen()]));
    }
    for (name, path, answer, end) in BROKEN {
        // A POST is not tried again on another connection.
        let answer = ask(client, request_by(scheme, "POST", path, answer), b"body", end).await;
        results.insert(format!("{name} {path}"), json!([answer, setup.seen()]));
    }
    results
}

#[test]
fn answers_are_those_of_envoy() {
    for tls in [false, true] {
        let [envoy, ours] = BOTH.map(|kind| {
            let setup = Setup::start("answers", kind, tls);
            run(async {
                let (client, scheme) = match tls {
                    false => (connect(setup.proxy.port).await, "http"),
                    true => (connect_tls(setup.proxy.port, &setup.certificate).await, "https"),
                };
                Value::Object(ask_everything(&setup, &client, scheme).await)
            })
        });
        assert_same(["Envoy", "Ripstop"], &envoy, &ours);
        assert_eq!(ours.as_object().map(Map::len), Some(QUESTIONS.len() + BROKEN.len()));
    }
}

/// Many streams at a time on one connection, each with its own answer.
#[test]
fn many_streams() {
    for path in ["/h1", "/h2"] {
        let setup = Setup::start("many", Kind::Ripstop, false);
        run(async {
            let client = connect(setup.proxy.port).await;
            let mut streams = tokio::task::JoinSet::new();
            for number in 0..300usize {
                let (client, length) = (client.clone(), 1 + number * 97);
                streams.spawn(async move {
                    let request = request("POST", path, &format!("size={length}"));
                    let answer = ask(&client, request, &vec![b'a'; length], End::Plain).await;
                    assert_eq!(answer[1]["body"], shown(&vec![b'x'; length]), "{answer}");
                });
            }
            while let Some(joined) = streams.join_next().await {
                joined.expect("every stream is answered");
            }
        });
    }
}

/// Repeats `probe` until it holds.
async fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let wait = async {
        loop {
            match probe() {
                Some(value) => return value,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("not reached: {what}"))
}

/// Value of a gauge or counter, by its Envoy name.
fn stat(proxy: &Proxy, name: &str) -> u64 {
    let answer = tests::process::get(proxy.admin, &format!("/stats?filter={name}")).expect("the admin address answers");
    let line = answer.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
    line.map_or(0, |value| value.trim().parse().expect("a number"))
}

#[test]
fn a_reset_by_the_client_reaches_the_backend() {
    for kind in BOTH {
        let setup = Setup::start("reset", kind, false);
        run(async {
            let mut client = connect(setup.proxy.port).await;
            let (response, mut stream) = client.send_request(request("GET", "/h2", "hold"), false).expect("open");
            let begun = || (stat(&setup.proxy, "cluster.h2.upstream_rq_active") == 1).then_some(());
            eventually("the request is under way", begun).await;
            stream.send_reset(h2::Reason::CANCEL);
            assert!(response.await.is_err());
            let seen = &setup.h2.seen;
            let entry = eventually("the backend sees the reset", || seen.lock().expect("no panic").pop()).await;
            // Envoy says INTERNAL_ERROR whatever the reason; CANCEL is the word for it (RFC 9113 section 7).
            let wanted = if kind == Kind::Envoy { "Ok(INTERNAL_ERROR)" } else { "Ok(CANCEL)" };
            assert_eq!(entry["end"], wanted, "{kind:?}");
            let answer = ask(&client, request("GET", "/h2", ""), b"", End::Plain).await;
            assert_eq!(answer[0]["status"], 200, "the connection serves others: {answer}");
        });
    }
}

/// A backend that says GOAWAY now and then loses no request.
#[test]
fn backends_may_go_away() {
    for kind in BOTH {
        let setup = Setup::start("goaway", kind, false);
        run(async {
            let client = connect(setup.proxy.port).await;
            for round in 0..20 {
                let mut streams = tokio::task::JoinSet::new();
                for number in 0..10 {
                    let (client, wish) = (client.clone(), if number == 3 { "goaway;size=9" } else { "size=9" });
                    streams.spawn(async move { ask(&client, request("GET", "/h2", wish), b"", End::Plain).await });
                }
                while let Some(answer) = streams.join_next().await {
                    let answer = answer.expect("no panic");
                    assert_eq!(answer[1]["body"], "xxxxxxxxx", "{kind:?}, round {round}: {answer}");
                }
            }
        });
    }
}

/// SIGTERM: GOAWAY at once, the stream under way is finished, new ones are not taken, the process ends with 0.
#[test]
fn a_drain_says_goaway() {
    let mut setup = Setup::start("drain", Kind::Ripstop, false);
    run(async {
        let mut client = connect(setup.proxy.port).await;
        let idle = connect(setup.proxy.port).await;
        let slow = request("POST", "/h2", "size=100000");
        let (response, mut stream) = client.send_request(slow, false).expect("open");
        let begun = || (stat(&setup.proxy, "cluster.h2.upstream_rq_active") == 1).then_some(());
        eventually("the request is under way", begun).await;
        setup.proxy.process.terminate();
        let refused = timeout(PATIENCE, refusal(client)).await.expect("GOAWAY in time");
        assert!(refused.is_go_away() && refused.reason() == Some(h2::Reason::NO_ERROR), "{refused:?}");
        timeout(PATIENCE, refusal(idle)).await.expect("idle connections are told too");
        // Only now does the request end.
        stream.send_data(Bytes::from_static(b"last"), true).expect("the stream is still open");
        let (head, mut body) = response.await.expect("an answer").into_parts();
        let (data, _) = read(&mut body, false).await.expect("a whole body");
        assert_eq!((head.status.as_u16(), data.len()), (200, 100_000));
    });
    assert_eq!(setup.proxy.process.wait(PATIENCE), Some(0));
}

/// Waits until the connection takes no more requests, and says why.
async fn refusal(mut client: Client) -> h2::Error {
    loop {
        match client.ready().await {
            Ok(ready) => client = ready,
            Err(error) => return error,
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
