//! Records and the keys that protect them. The cryptography is `rustls`'s; what is counted here are records, whose
//! number is part of the nonce (RFC 8446 section 5.3).

use rustls::crypto::cipher::{
    AeadKey, InboundOpaqueMessage, InboundPlainMessage, Iv, MessageDecrypter, MessageEncrypter, OutboundPlainMessage,
};
use rustls::{ConnectionTrafficSecrets, ContentType, Error, InvalidMessage, ProtocolVersion, SupportedCipherSuite};

/// Bytes of a record's header: type, version, length.
const HEADER: usize = 5;
/// Most plaintext in a record.
pub(super) const PLAINTEXT: usize = 16 * 1024;
/// Most bytes of a record, header included (TLS 1.2 allows the longer ones).
pub(super) const RECORD: usize = HEADER + PLAINTEXT + 2048;

/// The length of the record that `bytes` begin with, header included; `None` while the header is not there. Records that
/// `rustls` would refuse are refused.
pub(super) fn record_length(bytes: &[u8]) -> Result<Option<usize>, Error> {
    let invalid = |what| Err(Error::InvalidMessage(what));
    match *bytes {
        [typ, ..] if !(20..=23).contains(&typ) => invalid(InvalidMessage::InvalidContentType),
        [_, major, _, _, _, ..] if major != 3 => invalid(InvalidMessage::UnknownProtocolVersion),
        [typ, _, _, 0, 0, ..] if typ != 23 => invalid(InvalidMessage::InvalidEmptyPayload),
        [_, _, _, high, low, ..] => match HEADER + usize::from(u16::from_be_bytes([high, low])) {
            RECORD.. => invalid(InvalidMessage::MessageTooLarge),
            length => Ok(Some(length)),
        },
        _ => Ok(None),
    }
}

/// The key and number for what is sent.
pub(super) struct Sealer {
    key: Box<dyn MessageEncrypter>,
    next: u64,
    /// Records that one key may protect.
    limit: u64,
}

impl Sealer {
    /// `next` is the number of the next record.
    pub(super) fn new(
        suite: SupportedCipherSuite,
        (next, secrets): (u64, ConnectionTrafficSecrets),
    ) -> Result<Self, Error> {
        let (key, iv) = parts(secrets)?;
        let (mut key, limit) = match suite {
            SupportedCipherSuite::Tls13(suite) => {
                (suite.aead_alg.encrypter(key, iv), suite.common.confidentiality_limit)
            }
            SupportedCipherSuite::Tls12(suite) => {
                let (fixed, explicit) = iv.as_ref().split_at(suite.aead_alg.key_block_shape().fixed_iv_len);
                (suite.aead_alg.encrypter(key, fixed, explicit), suite.common.confidentiality_limit)
            }
        };
        if next > 0 {
            // An AES-GCM key refuses numbers that do not grow, and takes the first it sees for zero: so it sees zero
            // first, for a record that nobody gets.
            key.encrypt(message(ContentType::ApplicationData, &[]), 0)?;
        }
        Ok(Sealer { key, next, limit })
    }

    /// One record; at most [`PLAINTEXT`] bytes.
    pub(super) fn seal(&mut self, typ: ContentType, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        let record = self.key.encrypt(message(typ, bytes), self.next)?.encode();
        self.next += 1;
        Ok(record)
    }

    /// Whether `count` records more would come near the key's limit.
    pub(super) fn is_worn(&self, count: usize) -> bool {
        self.next.saturating_add(count as u64) >= self.limit
    }

    #[cfg(test)]
    pub(super) fn limit_to(&mut self, records: u64) {
        self.limit = records;
    }
}

/// The key and number for what is received.
pub(super) struct Opener {
    key: Box<dyn MessageDecrypter>,
    next: u64,
}

impl Opener {
    /// `next` is the number of the next record.
    pub(super) fn new(
        suite: SupportedCipherSuite,
        (next, secrets): (u64, ConnectionTrafficSecrets),
    ) -> Result<Self, Error> {
        let (key, iv) = parts(secrets)?;
        let key = match suite {
            SupportedCipherSuite::Tls13(suite) => suite.aead_alg.decrypter(key, iv),
            SupportedCipherSuite::Tls12(suite) => {
                let fixed = suite.aead_alg.key_block_shape().fixed_iv_len;
                suite.aead_alg.decrypter(key, &iv.as_ref()[..fixed])
            }
        };
        Ok(Opener { key, next })
    }

    /// Decrypts a whole record in place.
    pub(super) fn open<'r>(&mut self, record: &'r mut [u8]) -> Result<InboundPlainMessage<'r>, Error> {
        let (header, payload) = record.split_at_mut(HEADER);
        let version = ProtocolVersion::from(u16::from_be_bytes([header[1], header[2]]));
        let message = InboundOpaqueMessage::new(ContentType::from(header[0]), version, payload);
        let plain = self.key.decrypt(message, self.next)?;
        self.next += 1;
        Ok(plain)
    }
}

fn message(typ: ContentType, bytes: &[u8]) -> OutboundPlainMessage<'_> {
    OutboundPlainMessage { typ, version: ProtocolVersion::TLSv1_2, payload: bytes.into() }
}

fn parts(secrets: ConnectionTrafficSecrets) -> Result<(AeadKey, Iv), Error> {
    match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => Ok((key, iv)),
        _ => Err(Error::General("the cipher suite is not known here".into())),
    }
}
