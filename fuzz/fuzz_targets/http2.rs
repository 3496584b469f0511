//! Frames and header blocks as a peer may send them, to a server and to a client. The first byte says in what pieces they
//! arrive, which must make no difference to what is answered.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy::http::h2::hpack::{Decoder, Encoder};
use proxy::http::h2::{Role, digest};

fuzz_target!(|data: &[u8]| {
    let Some((&piece, bytes)) = data.split_first() else { return };
    for role in [Role::Server, Role::Client] {
        let whole = digest(role, bytes, usize::MAX);
        if role == Role::Client {
            assert_eq!(digest(role, bytes, piece.into()), whole);
        } else {
            // A server hands on requests between the pieces, so what it still answers may differ.
            digest(role, bytes, piece.into());
        }
    }
    block(bytes);
});

/// What could be decoded is encoded and decoded again.
fn block(bytes: &[u8]) {
    let mut fields = Vec::new();
    if Decoder::default().decode(bytes, |name, value| fields.push((name.to_vec(), value.to_vec()))).is_err() {
        return;
    }
    let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
    for _ in 0..3 {
        let mut out = Vec::new();
        encoder.start(&mut out);
        fields.iter().for_each(|(name, value)| encoder.field(name, value, &mut out));
        let mut again = Vec::new();
        decoder.decode(&out, |name, value| again.push((name.to_vec(), value.to_vec()))).expect("our own block");
        fields.iter_mut().for_each(|(name, _)| name.make_ascii_lowercase());
        assert_eq!(again, fields);
    }
}
