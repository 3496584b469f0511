//! PROXY protocol headers, versions 1 and 2. What is read can be written, and reads the same again.
#![no_main]

use engine::proxy_protocol::{Found, parse, write};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(Found::Header(header)) = parse(data) else { return };
    assert!(header.length <= data.len());
    let Some(origin) = header.origin else { return };
    let mut out = Vec::new();
    write(header.version, Some(origin), &mut out);
    match parse(&out) {
        Ok(Found::Header(again)) => {
            assert_eq!(again.length, out.len());
            assert_eq!(again.version, header.version);
            // Two address families may be mixed on the wire only as one of them.
            if origin.source.is_ipv4() == origin.destination.is_ipv4() {
                assert_eq!(again.origin, Some(origin));
            }
        }
        other => panic!("{other:?} of {out:?}"),
    }
});
