//! Strictness as tables, and `httparse` as a second reader of random heads.

use super::*;
use proptest::prelude::*;

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

fn read(raw: &[u8]) -> Result<Fields, Broken> {
    let line = request_line(raw)?;
    let mut head = Head::default();
    let section = fields(raw, line.length, 100, &mut head)?;
    assert_eq!(section, Section::Ends(raw.len()));
    head.load(raw);
    Ok(head.fields().map(|field| (head.slice(field.name).to_vec(), head.slice(field.value).to_vec())).collect())
}

#[test]
fn what_lines_may_be() {
    let one = |name: &str, value: &str| Ok(vec![(name.as_bytes().to_vec(), value.as_bytes().to_vec())]);
    for (raw, wanted) in [
        ("GET / HTTP/1.1\r\nA:b\r\n\r\n", one("A", "b")),
        ("GET / HTTP/1.1\r\nA: \t b c\t \r\n\r\n", one("A", "b c")),
        ("GET / HTTP/1.1\r\nA:\r\n\r\n", one("A", "")),
        ("GET / HTTP/1.1\r\nA: \u{e9}\r\n\r\n", one("A", "\u{e9}")),
        ("GET / HTTP/1.1\r\n\r\n", Ok(vec![])),
        ("GET / HTTP/1.1\nA: b\r\n\r\n", Err(Broken::BareLineFeed)),
        ("GET / HTTP/1.1\r\nA: b\n\r\n\r\n", Err(Broken::BareLineFeed)),
        ("GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", Err(Broken::Fold)),
        ("GET / HTTP/1.1\r\nA: b\r\n\tc: d\r\n\r\n", Err(Broken::Fold)),
        ("GET / HTTP/1.1\r\nA : b\r\n\r\n", Err(Broken::Syntax)),
        ("GET / HTTP/1.1\r\n: b\r\n\r\n", Err(Broken::Syntax)),
        ("GET / HTTP/1.1\r\nA\r\n\r\n", Err(Broken::Syntax)),
        ("GET / HTTP/1.1\r\nA: b\u{7f}\r\n\r\n", Err(Broken::Syntax)),
        ("GET / HTTP/1.1\r\nA: b\rc\r\n\r\n", Err(Broken::Syntax)),
        ("GET  / HTTP/1.1\r\n\r\n", Err(Broken::Syntax)),
        ("GET /  HTTP/1.1\r\n\r\n", Err(Broken::Syntax)),
        ("GET / HTTP/1.1 \r\n\r\n", Err(Broken::Syntax)),
        (" GET / HTTP/1.1\r\n\r\n", Err(Broken::Syntax)),
        ("GET /a\tb HTTP/1.1\r\n\r\n", Err(Broken::Syntax)),
        ("GET / HTTP/1.2\r\n\r\n", Err(Broken::OtherVersion)),
        ("GET / http/1.1\r\n\r\n", Err(Broken::Syntax)),
        ("GET /\r\n\r\n", Err(Broken::Syntax)),
    ] {
        assert_eq!(read(raw.as_bytes()), wanted, "{raw:?}");
    }
}

#[test]
fn status_lines() {
    let status = |raw: &str| status_line(raw.as_bytes()).map(|line| line.status);
    for (raw, wanted) in [
        ("HTTP/1.1 200 OK\r\n", Ok(200)),
        ("HTTP/1.0 404 \r\n", Ok(404)),
        ("HTTP/1.1 999\r\n", Ok(999)),
        ("HTTP/1.1 099 x\r\n", Err(Broken::Syntax)),
        ("HTTP/1.1 2000 x\r\n", Err(Broken::Syntax)),
        ("HTTP/1.1  200 x\r\n", Err(Broken::Syntax)),
        ("HTTP/1.1 20\r\n", Err(Broken::Syntax)),
        ("HTTP/2.0 200 OK\r\n", Err(Broken::OtherVersion)),
        ("HTTP/1.1 200 \u{1}\r\n", Err(Broken::Syntax)),
        ("hello\r\n", Err(Broken::Syntax)),
        ("HTTP/1.1 200 OK\n", Err(Broken::BareLineFeed)),
    ] {
        assert_eq!(status(raw), wanted, "{raw:?}");
    }
}

#[test]
fn too_many() {
    let raw = b"GET / HTTP/1.1\r\na: 1\r\nb: 2\r\n\r\n";
    let mut head = Head::default();
    assert_eq!(fields(raw, 16, 2, &mut head), Ok(Section::Ends(raw.len())));
    assert_eq!(fields(raw, 16, 1, &mut head), Ok(Section::TooMany));
    assert_eq!(fields(&raw[..20], 16, 1, &mut head), Err(Broken::Incomplete));
}

/// Heads that are mostly right, with what may go wrong strewn in.
fn heads() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "GET",
        "/",
        "/a?b",
        " ",
        " ",
        "HTTP/1.1",
        "\r\n",
        "\r\n",
        "\r\n",
        "\n",
        "\r",
        "a",
        "Host",
        ":",
        ": ",
        "x",
        "\t",
        "\0",
        "\u{7f}",
        "\u{e9}",
        "content-length",
        "5",
        "(",
        "_",
        "~",
    ]);
    (any::<bool>(), prop::collection::vec(piece, 0..24)).prop_map(|(begun, pieces)| {
        let start = if begun { "GET / HTTP/1.1\r\n" } else { "" };
        [start, &pieces.concat(), "\r\n\r\n"].concat().into_bytes()
    })
}

proptest! {
    /// Whatever is accepted here, `httparse` accepts too and reads the same.
    #[test]
    fn never_more_lenient_than_another_reader(raw in heads()) {
        let end = memchr::memmem::find(&raw, b"\r\n\r\n").unwrap() + 4;
        let raw = &raw[..end];
        if let Ok(found) = read(raw) {
            let mut space = [httparse::EMPTY_HEADER; 64];
            let mut other = httparse::Request::new(&mut space);
            prop_assert_eq!(other.parse(raw), Ok(httparse::Status::Complete(raw.len())));
            let theirs: Vec<_> = other.headers.iter().map(|field| (field.name.as_bytes().to_vec(), field.value.to_vec())).collect();
            prop_assert_eq!(found, theirs);
        }
    }
}
