//! Heads and chunked bodies as a peer may send them. What is accepted as a request, another reader accepts and reads the
//! same way.
#![no_main]

use engine::Head;
use libfuzzer_sys::fuzz_target;
use proxy::http::h1::chunked::{Chunked, Step};
use proxy::http::h1::{AnswerTo, Limits, parse};

const LIMITS: Limits = Limits { head: 60 * 1024, fields: 100 };

fuzz_target!(|data: &[u8]| {
    request(data);
    for to in [AnswerTo::Other, AnswerTo::Head, AnswerTo::Connect] {
        let mut head = Head::default();
        if let Ok(Some((_, length))) = parse::response(data, &mut head, &LIMITS, to) {
            assert!(data[..length].ends_with(b"\r\n\r\n"));
            walk(&head);
        }
    }
    chunks(data);
});

fn request(data: &[u8]) {
    let mut head = Head::default();
    let Ok(Some((_, length))) = parse::request(data, &mut head, &LIMITS) else { return };
    walk(&head);
    let mut space = [httparse::EMPTY_HEADER; 128];
    let mut other = httparse::Request::new(&mut space);
    assert_eq!(other.parse(&data[..length]), Ok(httparse::Status::Complete(length)));
    assert_eq!(other.method.map(str::as_bytes), Some(head.method()));
    let theirs: Vec<_> = other.headers.iter().map(|field| (field.name.as_bytes(), field.value)).collect();
    let ours: Vec<_> = head.fields().map(|field| (head.slice(field.name), head.slice(field.value))).collect();
    assert_eq!(ours, theirs);
    // More bytes change nothing, fewer make it incomplete or wrong.
    let mut again = Head::default();
    let more = [&data[..length], b"GET / HTTP/1.1\r\n"].concat();
    assert_eq!(parse::request(&more, &mut again, &LIMITS).ok().flatten().map(|(_, length)| length), Some(length));
    assert_eq!(parse::request(&data[..length - 1], &mut again, &LIMITS), Ok(None));
}

fn walk(head: &Head) {
    let _ = (head.path_only(), head.query(), head.authority(), head.is_grpc());
    assert_eq!(head.fields().count(), head.len());
}

/// The decoder never announces more than there is, and comes to an end.
fn chunks(data: &[u8]) {
    let mut decoder = Chunked::Size;
    let mut at = 0;
    loop {
        match decoder.step(&data[at..]) {
            Ok(Step::Data(count)) => {
                assert!(count > 0 && at + count <= data.len());
                decoder.took(count);
                at += count;
            }
            Ok(Step::Skip(count)) => {
                assert!(count > 0 && at + count <= data.len());
                at += count;
            }
            Ok(Step::End { trailers }) => {
                assert!(at + trailers + 2 <= data.len());
                return;
            }
            Ok(Step::More) | Err(_) => return,
        }
    }
}
