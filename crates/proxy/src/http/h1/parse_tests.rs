//! Tables of well-formed and malformed heads.

use super::*;

const LIMITS: Limits = Limits { head: 60 * 1024, fields: 100 };

fn parse(raw: &str) -> Result<(Received, Head), Refusal> {
    let mut head = Head::default();
    let (received, length) = request(raw.as_bytes(), &mut head, &LIMITS)?.expect("a complete head");
    assert!(raw[..length].ends_with("\r\n\r\n"));
    Ok((received, head))
}

#[test]
fn well_formed() {
    let (received, head) = parse("POST /a?b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello").unwrap();
    assert_eq!(received.framing, Framing::Length(5));
    assert!(received.keep_alive);
    assert_eq!((head.method(), head.path(), head.authority()), (&b"POST"[..], &b"/a?b"[..], &b"x"[..]));
    let (received, head) = parse("GET http://y:80/p HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    assert!(!received.keep_alive && received.absolute);
    assert_eq!((head.path(), head.authority()), (&b"/p"[..], &b"y:80"[..]));
    let (_, head) = parse("GET http://y?q HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(head.path(), b"/?q");
    let (received, _) = parse("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n").unwrap();
    assert_eq!(received.framing, Framing::Chunked);
    let (received, _) = parse("GET / HTTP/1.0\r\nHost: x\r\n\r\n").unwrap();
    assert!(!received.keep_alive);
}

#[test]
fn malformed() {
    use BadRequest as B;
    let bad = |kind| Refusal::BadRequest(kind);
    for (raw, refusal) in [
        ("GET / HTTP/1.1\nHost: x\n\n", bad(B::BareLineFeed)),
        ("GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", bad(B::BareLineFeed)),
        ("GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", bad(B::ObsoleteFold)),
        ("GET / HTTP/1.1\r\nHost : x\r\n\r\n", bad(B::Syntax)),
        ("GET / HTTP/1.1\r\nHost: x\r\nA\0: b\r\n\r\n", bad(B::Syntax)),
        ("GET / HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n", bad(B::Syntax)),
        ("GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n", bad(B::Syntax)),
        ("GET / HTTP/2.0\r\nHost: x\r\n\r\n", Refusal::UpgradeRequired),
        ("PRI * HTTP/2.0\r\nHost: x\r\n\r\n", bad(B::BadPreface)),
        ("GET /\r\nHost: x\r\n\r\n", bad(B::Syntax)),
        ("G T / HTTP/1.1\r\nHost: x\r\n\r\n", bad(B::Syntax)),
        ("GET path HTTP/1.1\r\nHost: x\r\n\r\n", bad(B::BadPath)),
        ("CONNECT x HTTP/1.1\r\nHost: x\r\n\r\n", bad(B::ConnectTarget)),
        ("CONNECT x: HTTP/1.1\r\nHost: x\r\n\r\n", bad(B::ConnectTarget)),
        ("CONNECT :1 HTTP/1.1\r\nHost: x\r\n\r\n", bad(B::ConnectTarget)),
        ("CONNECT [::1] HTTP/1.1\r\nHost: x\r\n\r\n", bad(B::ConnectTarget)),
        ("CONNECT http://x:80 HTTP/1.1\r\nHost: x\r\n\r\n", bad(B::ConnectTarget)),
        ("CONNECT x:80 HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n", bad(B::BodyDisallowed)),
        ("CONNECT x:80 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", Refusal::UnsupportedTransferCoding),
        ("GET * HTTP/1.1\r\nHost: x\r\n\r\n", bad(B::BadPath)),
        ("GET ftp://x/ HTTP/1.1\r\nHost: x\r\n\r\n", bad(B::BadPath)),
        ("GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", bad(B::BadHost)),
        (
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            bad(B::LengthAndChunked),
        ),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", bad(B::BadLength)),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 5\r\n\r\n", bad(B::BadLength)),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\n", bad(B::BadLength)),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n", bad(B::BadLength)),
        ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", Refusal::UnsupportedTransferCoding),
        (
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            Refusal::UnsupportedTransferCoding,
        ),
    ] {
        assert_eq!(parse(raw).unwrap_err(), refusal, "{raw:?}");
    }
}

#[test]
fn incomplete_heads_wait() {
    let mut scanned = 0;
    assert_eq!(head_end(b"GET / HTTP/1.1\r\nHost: x\r\n", &mut scanned), Ok(None));
    assert_eq!(scanned, 25);
    assert_eq!(head_end(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", &mut scanned), Ok(Some(27)));
    let whole = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nrest";
    let mut head = Head::default();
    for cut in 0..whole.len() - 4 {
        assert_eq!(request(&whole[..cut], &mut head, &LIMITS), Ok(None), "{cut}");
    }
    let received = request(whole, &mut head, &LIMITS).unwrap().unwrap();
    assert_eq!((received.1, head.path(), head.authority()), (whole.len() - 4, &b"/a"[..], &b"x"[..]));
}

#[test]
fn responses() {
    let parse = |raw: &str, to| {
        let mut head = Head::default();
        let received = response(raw.as_bytes(), &mut head, &LIMITS, to)?.expect("a complete head").0;
        Ok::<_, Refusal>((received.framing, received.keep_alive))
    };
    assert_eq!(parse("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", AnswerTo::Other), Ok((Framing::Length(3), true)));
    assert_eq!(parse("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", AnswerTo::Head), Ok((Framing::None, true)));
    assert_eq!(parse("HTTP/1.1 200 OK\r\n\r\n", AnswerTo::Other), Ok((Framing::Close, false)));
    assert_eq!(
        parse("HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", AnswerTo::Other),
        Ok((Framing::None, true))
    );
    assert!(parse("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", AnswerTo::Other).is_err());
    assert!(
        parse("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", AnswerTo::Other).is_err()
    );
    let long = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(parse(long, AnswerTo::Connect), Ok((Framing::None, true)));
    let declined = "HTTP/1.1 407 No\r\nContent-Length: 3\r\n\r\n";
    assert_eq!(parse(declined, AnswerTo::Connect), Ok((Framing::Length(3), true)));
    assert!(parse("hello\r\n\r\n", AnswerTo::Other).is_err());
}
