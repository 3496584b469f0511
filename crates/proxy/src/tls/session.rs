//! A TLS session after its handshake, without I/O: records in, records out.
//!
//! `rustls` keeps the secrets, protects records and stores tickets ([`rustls::kernel`]). What it leaves to its user
//! is here: alerts and the few handshake messages that may still come (RFC 8446 sections 4.6 and 6, RFC 5246 sections 7.2
//! and 7.4.1.1). So a record is opened where it was read, and nothing stays of the handshake.

use super::keys::{Opener, PLAINTEXT, Sealer};
use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{
    AlertDescription, ConnectionTrafficSecrets, ContentType, Error, ExtractedSecrets, HandshakeType, InvalidMessage,
    PeerMisbehaved, ProtocolVersion, SupportedCipherSuite,
};

/// Records of data that leave together.
const FLIGHT: usize = 4;

/// Records to send, in this order; what has to go before the data is the first.
pub(super) type Flight = [Vec<u8>; 1 + FLIGHT];

/// What a peer may send without need: more is an attack. The numbers are those of BoringSSL and `rustls`.
const EMPTY_RECORDS: u8 = 32;
const KEY_UPDATES: u8 = 32;
const WARNINGS: u8 = 4;
const RENEGOTIATIONS: u8 = 1;
/// Bytes of a handshake message.
const MESSAGE: usize = 0xffff;

pub(super) enum Kernel {
    Server(KernelConnection<ServerConnectionData>),
    Client(KernelConnection<ClientConnectionData>),
}

/// What was in a record.
pub(super) enum Opened<'r> {
    Data(&'r [u8]),
    /// Nothing for the reader.
    Other,
    /// The peer's `close_notify`.
    End,
}

pub(super) struct Session {
    kernel: Kernel,
    sealer: Sealer,
    opener: Opener,
    /// The beginning of a handshake message.
    partial: Vec<u8>,
    /// Records that go out before any other.
    urgent: Vec<u8>,
    /// The answer to a key update is among them.
    updated: bool,
    /// `close_notify` or a fatal alert was the last word.
    closed: bool,
    seen: Seen,
}

/// How often the peer did what it need not.
#[derive(Default)]
struct Seen {
    empty_records: u8,
    key_updates: u8,
    warnings: u8,
    renegotiations: u8,
}

impl Session {
    pub(super) fn new(kernel: Kernel, secrets: ExtractedSecrets) -> Result<Self, Error> {
        let suite = kernel.suite();
        Ok(Session {
            sealer: Sealer::new(suite, secrets.tx)?,
            opener: Opener::new(suite, secrets.rx)?,
            kernel,
            partial: Vec::new(),
            urgent: Vec::new(),
            updated: false,
            closed: false,
            seen: Seen::default(),
        })
    }

    /// Opens a whole record. An error is the session's end; [`Session::fail`] tells the peer.
    pub(super) fn open<'r>(&mut self, record: &'r mut [u8]) -> Result<Opened<'r>, Error> {
        let outer = ContentType::from(record[0]);
        if self.kernel.is_tls13() && outer != ContentType::ApplicationData {
            return Err(unexpected(outer));
        }
        let plain = self.opener.open(record)?;
        if !self.partial.is_empty() && plain.typ != ContentType::Handshake {
            return Err(PeerMisbehaved::MessageInterleavedWithHandshakeMessage.into());
        }
        if !plain.payload.is_empty() {
            self.seen.empty_records = 0;
        } else {
            count(&mut self.seen.empty_records, EMPTY_RECORDS, PeerMisbehaved::TooManyEmptyFragments)?;
        }
        match plain.typ {
            ContentType::ApplicationData => {
                self.seen.key_updates = 0;
                Ok(Opened::Data(plain.payload))
            }
            ContentType::Alert => self.alert(plain.payload),
            ContentType::Handshake => self.handshake(plain.payload).map(|()| Opened::Other),
            other => Err(unexpected(other)),
        }
    }

    /// Seals the beginning of `bytes`; how much is returned.
    pub(super) fn seal(&mut self, bytes: &[u8], flight: &mut Flight) -> Result<usize, Error> {
        if self.sealer.is_worn(FLIGHT) {
            self.renew()?;
        }
        flight[0] = self.take_urgent();
        let mut sealed = 0;
        for (record, chunk) in flight[1..].iter_mut().zip(bytes.chunks(PLAINTEXT)) {
            *record = self.sealer.seal(ContentType::ApplicationData, chunk)?;
            sealed += chunk.len();
        }
        Ok(sealed)
    }

    /// Records to send before anything else, also where nothing else is to be sent.
    pub(super) fn take_urgent(&mut self) -> Vec<u8> {
        self.updated = false;
        std::mem::take(&mut self.urgent)
    }

    /// Nothing may be sent any more.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Says `close_notify`.
    pub(super) fn close(&mut self) {
        self.last_word([1, AlertDescription::CloseNotify.into()]);
    }

    /// Says why the session ends, where the peer is to know.
    pub(super) fn fail(&mut self, error: &Error) {
        let alert = match error {
            Error::AlertReceived(_) => return self.closed = true,
            Error::DecryptError => AlertDescription::BadRecordMac,
            Error::PeerSentOversizedRecord => AlertDescription::RecordOverflow,
            Error::InvalidMessage(_) => AlertDescription::DecodeError,
            Error::EncryptError | Error::General(_) => AlertDescription::InternalError,
            _ => AlertDescription::UnexpectedMessage,
        };
        self.last_word([2, alert.into()]);
    }

    fn last_word(&mut self, alert: [u8; 2]) {
        // A key that cannot seal has nothing to say either.
        if !self.closed && self.urge(ContentType::Alert, &alert).is_ok() {
            self.closed = true;
        }
    }

    pub(super) fn urge(&mut self, typ: ContentType, message: &[u8]) -> Result<(), Error> {
        let record = self.sealer.seal(typ, message)?;
        self.urgent.extend_from_slice(&record);
        Ok(())
    }

    fn alert(&mut self, alert: &[u8]) -> Result<Opened<'static>, Error> {
        let &[level, description] = alert else { return Err(InvalidMessage::MissingData("Alert").into()) };
        match (level, AlertDescription::from(description)) {
            (1 | 2, AlertDescription::CloseNotify) => Ok(Opened::End),
            (1, description) if !self.kernel.is_tls13() || description == AlertDescription::UserCanceled => {
                count(&mut self.seen.warnings, WARNINGS, PeerMisbehaved::TooManyWarningAlertsReceived)?;
                Ok(Opened::Other)
            }
            (_, description) => Err(Error::AlertReceived(description)),
        }
    }

    /// Handshake messages, which records may join and split.
    fn handshake(&mut self, payload: &[u8]) -> Result<(), Error> {
        let joined;
        let mut bytes = payload;
        if !self.partial.is_empty() {
            self.partial.extend_from_slice(payload);
            if split(&self.partial)?.is_none() {
                return Ok(());
            }
            joined = std::mem::take(&mut self.partial);
            bytes = &joined;
        }
        while let Some((typ, body, rest)) = split(bytes)? {
            self.message(typ, body, rest.is_empty())?;
            bytes = rest;
        }
        self.partial = bytes.to_vec();
        Ok(())
    }

    /// `last`: its record ends with it.
    fn message(&mut self, typ: HandshakeType, body: &[u8], last: bool) -> Result<(), Error> {
        match (typ, self.kernel.is_tls13(), &mut self.kernel) {
            (HandshakeType::KeyUpdate, true, _) if !last => Err(PeerMisbehaved::KeyEpochWithPendingFragment.into()),
            (HandshakeType::KeyUpdate, true, _) => self.key_update(body),
            (HandshakeType::NewSessionTicket, true, Kernel::Client(client)) => client.handle_new_session_ticket(body),
            (HandshakeType::HelloRequest, false, Kernel::Client(_))
            | (HandshakeType::ClientHello, false, Kernel::Server(_)) => {
                let too_many = PeerMisbehaved::TooManyRenegotiationRequests;
                count(&mut self.seen.renegotiations, RENEGOTIATIONS, too_many)?;
                self.urge(ContentType::Alert, &[1, AlertDescription::NoRenegotiation.into()])
            }
            (got_type, ..) => Err(Error::InappropriateHandshakeMessage { expect_types: Vec::new(), got_type }),
        }
    }

    fn key_update(&mut self, body: &[u8]) -> Result<(), Error> {
        let asks = match body {
            [0] => false,
            [1] => true,
            _ => return Err(InvalidMessage::InvalidKeyUpdate.into()),
        };
        count(&mut self.seen.key_updates, KEY_UPDATES, PeerMisbehaved::TooManyKeyUpdateRequests)?;
        // One answer is enough for all requests before it.
        if asks && !self.updated && !self.closed {
            self.update_key(0)?;
            self.updated = true;
        }
        self.opener = Opener::new(self.kernel.suite(), self.kernel.update(Way::In)?)?;
        Ok(())
    }

    /// A new key before the old one has protected too much; TLS 1.2 has none.
    fn renew(&mut self) -> Result<(), Error> {
        match self.kernel.is_tls13() {
            true => self.update_key(1),
            false => Err(Error::EncryptError),
        }
    }

    /// `request` 1 asks the peer for the same.
    fn update_key(&mut self, request: u8) -> Result<(), Error> {
        self.urge(ContentType::Handshake, &[HandshakeType::KeyUpdate.into(), 0, 0, 1, request])?;
        self.sealer = Sealer::new(self.kernel.suite(), self.kernel.update(Way::Out)?)?;
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn wear_out(&mut self) {
        self.sealer.limit_to(0);
    }
}

enum Way {
    In,
    Out,
}

impl Kernel {
    fn suite(&self) -> SupportedCipherSuite {
        match self {
            Kernel::Server(kernel) => kernel.negotiated_cipher_suite(),
            Kernel::Client(kernel) => kernel.negotiated_cipher_suite(),
        }
    }

    fn is_tls13(&self) -> bool {
        let version = match self {
            Kernel::Server(kernel) => kernel.protocol_version(),
            Kernel::Client(kernel) => kernel.protocol_version(),
        };
        version == ProtocolVersion::TLSv1_3
    }

    fn update(&mut self, way: Way) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        match (self, way) {
            (Kernel::Server(kernel), Way::In) => kernel.update_rx_secret(),
            (Kernel::Server(kernel), Way::Out) => kernel.update_tx_secret(),
            (Kernel::Client(kernel), Way::In) => kernel.update_rx_secret(),
            (Kernel::Client(kernel), Way::Out) => kernel.update_tx_secret(),
        }
    }
}

/// A handshake message's type and body, and what follows it.
type Message<'m> = (HandshakeType, &'m [u8], &'m [u8]);

/// The first message; `None` while it is not whole.
fn split(bytes: &[u8]) -> Result<Option<Message<'_>>, Error> {
    let &[typ, a, b, c, ref rest @ ..] = bytes else { return Ok(None) };
    let length = u32::from_be_bytes([0, a, b, c]) as usize;
    if length > MESSAGE {
        return Err(InvalidMessage::HandshakePayloadTooLarge.into());
    }
    Ok(rest.split_at_checked(length).map(|(body, rest)| (HandshakeType::from(typ), body, rest)))
}

fn count(seen: &mut u8, limit: u8, too_many: PeerMisbehaved) -> Result<(), Error> {
    if *seen == limit {
        return Err(too_many.into());
    }
    *seen += 1;
    Ok(())
}

fn unexpected(got_type: ContentType) -> Error {
    Error::InappropriateMessage { expect_types: Vec::new(), got_type }
}
