//! Decodes header blocks (RFC 7541 section 6).

use super::table::{STATIC, Table};
use super::{Malformed, TABLE_SIZE, huffman};

/// The receiving direction's state.
pub struct Decoder {
    table: Table,
    /// Strings that are not in the block as they are.
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder { table: Table::new(TABLE_SIZE), name: Vec::new(), value: Vec::new() }
    }
}

impl Decoder {
    /// Gives each field of a complete block to `field`.
    pub fn decode(&mut self, block: &[u8], mut field: impl FnMut(&[u8], &[u8])) -> Result<(), Malformed> {
        let mut rest = block;
        let mut may_resize = true;
        while let Some(&first) = rest.first() {
            match first {
                0x80.. => {
                    let (name, value) = self.entry(integer(&mut rest, 7)?)?;
                    field(name, value);
                }
                0x40.. => self.literal(&mut rest, 6, true, &mut field)?,
                0x20.. => {
                    let size = integer(&mut rest, 5)?;
                    if size > TABLE_SIZE || !may_resize {
                        return Err(Malformed);
                    }
                    self.table.resize(size);
                    continue;
                }
                _ => self.literal(&mut rest, 4, false, &mut field)?,
            }
            // Table sizes change only at the start of a block (section 4.2).
            may_resize = false;
        }
        Ok(())
    }

    fn entry(&self, index: usize) -> Result<(&[u8], &[u8]), Malformed> {
        if let Some((name, value)) = index.checked_sub(1).and_then(|at| STATIC.get(at)) {
            return Ok((name.as_bytes(), value.as_bytes()));
        }
        index.checked_sub(STATIC.len() + 1).and_then(|at| self.table.get(at)).ok_or(Malformed)
    }

    fn literal(
        &mut self,
        rest: &mut &[u8],
        prefix: u32,
        keep: bool,
        field: &mut impl FnMut(&[u8], &[u8]),
    ) -> Result<(), Malformed> {
        let index = integer(rest, prefix)?;
        let (mut name_space, mut value_space) = (std::mem::take(&mut self.name), std::mem::take(&mut self.value));
        let named = if index == 0 { string(rest, &mut name_space)? } else { Some(self.entry(index)?.0) };
        let name = named.unwrap_or(&name_space);
        let value = string(rest, &mut value_space)?.unwrap_or(&value_space);
        field(name, value);
        if keep {
            // An entry's name may be that of one which has to make room.
            let name = name.to_vec();
            self.table.add(&name, value);
        }
        (self.name, self.value) = (name_space, value_space);
        Ok(())
    }
}

/// An integer with a prefix of `bits` (section 5.1); none in a header block needs more than three bytes to follow.
fn integer(rest: &mut &[u8], bits: u32) -> Result<usize, Malformed> {
    let mask = (1usize << bits) - 1;
    let (&first, mut bytes) = rest.split_first().ok_or(Malformed)?;
    let mut value = usize::from(first) & mask;
    if value == mask {
        let mut shift = 0;
        loop {
            let (&byte, more) = bytes.split_first().ok_or(Malformed)?;
            bytes = more;
            value += usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
            if shift > 21 {
                return Err(Malformed);
            }
        }
    }
    *rest = bytes;
    Ok(value)
}

/// A string (section 5.2) as it stands in the block; `None`: it was coded, and is in `space` now.
fn string<'b>(rest: &mut &'b [u8], space: &mut Vec<u8>) -> Result<Option<&'b [u8]>, Malformed> {
    let coded = rest.first().ok_or(Malformed)? & 0x80 != 0;
    let length = integer(rest, 7)?;
    let (text, after) = rest.split_at_checked(length).ok_or(Malformed)?;
    *rest = after;
    if !coded {
        return Ok(Some(text));
    }
    space.clear();
    huffman::decode(text, space)?;
    Ok(None)
}
