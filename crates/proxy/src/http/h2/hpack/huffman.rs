//! Decodes Huffman-coded strings (RFC 7541 section 5.2).
//!
//! The code of appendix B is canonical: codes of one length follow each other in the order of their symbols, and longer
//! ones continue where shorter ones end. So the lengths say it all.

use super::Malformed;

/// Bits of each symbol's code; the last symbol is the end of string.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

const END: u16 = 256;
const LONGEST: usize = 30;

/// The code, made ready for decoding.
struct Code {
    /// By length: the first code, how many there are, and where their symbols begin in `symbols`.
    first: [u32; LONGEST + 1],
    count: [u32; LONGEST + 1],
    start: [u16; LONGEST + 1],
    /// In the order of their codes.
    symbols: [u16; 257],
    /// By the next eight bits: symbol and length of codes that are not longer.
    short: [(u8, u8); 256],
}

const CODE: Code = build();

const fn build() -> Code {
    let mut code = Code {
        first: [0; LONGEST + 1],
        count: [0; LONGEST + 1],
        start: [0; LONGEST + 1],
        symbols: [0; 257],
        short: [(0, 0); 256],
    };
    let (mut next, mut placed, mut length) = (0u32, 0usize, 1usize);
    while length <= LONGEST {
        next <<= 1;
        code.first[length] = next;
        code.start[length] = placed as u16;
        let mut symbol = 0;
        while symbol < 257 {
            if LENGTHS[symbol] as usize == length {
                code.symbols[placed] = symbol as u16;
                if length <= 8 {
                    let from = (next << (8 - length)) as usize;
                    let mut more = 0;
                    while more < 1 << (8 - length) {
                        code.short[from + more] = (symbol as u8, length as u8);
                        more += 1;
                    }
                }
                placed += 1;
                next += 1;
            }
            symbol += 1;
        }
        code.count[length] = next - code.first[length];
        length += 1;
    }
    code
}

/// Appends what `text` stands for.
pub(super) fn decode(text: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    static CODE: Code = self::CODE;
    // The next bits, from the top; `count` of them are valid.
    let (mut bits, mut count) = (0u64, 0u32);
    let mut rest = text.iter();
    out.reserve(text.len() * 8 / 5);
    loop {
        while count <= 56 {
            let Some(&byte) = rest.next() else { break };
            bits |= u64::from(byte) << (56 - count);
            count += 8;
        }
        let (symbol, length) = CODE.short[(bits >> 56) as usize];
        let (symbol, length) = if length > 0 { (u16::from(symbol), u32::from(length)) } else { long(&CODE, bits) };
        if length > count {
            // What is left must be the beginning of the end of string, shorter than a byte.
            let padding = count < 8 && bits.leading_ones() >= count;
            return if padding { Ok(()) } else { Err(Malformed) };
        }
        if symbol == END {
            return Err(Malformed);
        }
        out.push(symbol as u8);
        bits <<= length;
        count -= length;
    }
}

/// A code of more than eight bits.
fn long(code: &Code, bits: u64) -> (u16, u32) {
    for length in 9..=LONGEST {
        let offset = ((bits >> (64 - length)) as u32).wrapping_sub(code.first[length]);
        if offset < code.count[length] {
            return (code.symbols[usize::from(code.start[length]) + offset as usize], length as u32);
        }
    }
    // Not reached: the code is complete.
    (END, LONGEST as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(text: &[u8]) -> Vec<u8> {
        let (mut out, mut bits, mut count) = (Vec::new(), 0u64, 0);
        for &byte in text {
            let length = usize::from(LENGTHS[usize::from(byte)]);
            let place = (0..257).position(|at| CODE.symbols[at] == u16::from(byte)).unwrap();
            let code = CODE.first[length] + (place - usize::from(CODE.start[length])) as u32;
            bits = bits << length | u64::from(code);
            count += length;
            while count >= 8 {
                out.push((bits >> (count - 8)) as u8);
                count -= 8;
            }
        }
        if count > 0 {
            out.push((bits << (8 - count)) as u8 | 0xff >> count);
        }
        out
    }

    fn decoded(text: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut out = Vec::new();
        decode(text, &mut out).map(|()| out)
    }

    /// RFC 7541 appendix C.4 and C.6.
    #[test]
    fn examples() {
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len() / 2).map(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).unwrap()).collect()
        };
        for (coded, text) in [
            ("f1e3c2e5f23a6ba0ab90f4ff", "www.example.com"),
            ("a8eb10649cbf", "no-cache"),
            ("25a849e95ba97d7f", "custom-key"),
            ("25a849e95bb8e8b4bf", "custom-value"),
            ("6402", "302"),
            ("d07abe941054d444a8200595040b8166e082a62d1bff", "Mon, 21 Oct 2013 20:13:21 GMT"),
            ("9d29ad171863c78f0b97c8e9ae82ae43d3", "https://www.example.com"),
        ] {
            assert_eq!(decoded(&hex(coded)).unwrap(), text.as_bytes());
        }
    }

    #[test]
    fn wrong_endings() {
        assert_eq!(decoded(&[0xff; 4]), Err(Malformed), "the end of string itself");
        assert_eq!(decoded(&[0b0000_0111, 0xff]), Err(Malformed), "more than seven bits of padding");
        assert_eq!(decoded(&[0b0000_0000]), Err(Malformed), "padding of zeros");
        assert_eq!(decoded(&[]), Ok(Vec::new()));
    }

    proptest! {
        #[test]
        fn comes_back(text: Vec<u8>) {
            prop_assert_eq!(decoded(&encode(&text)), Ok(text));
        }
    }
}
