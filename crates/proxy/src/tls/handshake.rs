//! TLS handshakes: `rustls` says what to send, this sends it.

use super::keys::record_length;
use super::session::{Kernel, Session};
use super::stream::TlsStream;
use crate::socket::Socket;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedConnectionCommon, UnbufferedStatus};
use rustls::{CommonState, Error, InvalidMessage};
use std::io;
use std::ops::Deref;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Bytes read at once: mostly all that a peer sends in one go.
const ROOM: usize = 4 * 1024;
/// Bytes that wait for the rest of a handshake message.
const MOST: usize = 80 * 1024;

/// A client's or server's side of a handshake.
pub(super) trait Side: Sized + Deref<Target = UnbufferedConnectionCommon<Self::Data>> {
    type Data;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;

    /// What goes on when the handshake is over.
    fn into_session(self) -> Result<Session, Error>;
}

impl Side for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn into_session(self) -> Result<Session, Error> {
        let (secrets, kernel) = self.dangerous_into_kernel_connection()?;
        Session::new(Kernel::Server(kernel), secrets)
    }
}

impl Side for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn into_session(self) -> Result<Session, Error> {
        let (secrets, kernel) = self.dangerous_into_kernel_connection()?;
        Session::new(Kernel::Client(kernel), secrets)
    }
}

pub(super) struct Handshake<S> {
    socket: Socket,
    side: S,
    incoming: Vec<u8>,
    /// How much of `incoming` `rustls` was given: whole records, none beyond the handshake's last, since what follows is
    /// the session's.
    given: usize,
    outgoing: Vec<u8>,
}

impl<S: Side> Handshake<S> {
    /// `incoming` was read from the socket already.
    pub(super) fn new(socket: Socket, side: S, incoming: Vec<u8>) -> Self {
        Handshake { socket, side, incoming, given: 0, outgoing: Vec::new() }
    }

    /// What has been agreed so far.
    pub(super) fn agreed(&self) -> &CommonState {
        &self.side
    }

    /// Runs until both sides are done. When it fails, the peer is told why.
    pub(super) async fn run(&mut self) -> io::Result<()> {
        loop {
            match self.advance() {
                Ok(done) => {
                    self.send().await?;
                    if done {
                        return Ok(());
                    }
                    self.receive().await?;
                }
                Err(error) => {
                    // The alert is a courtesy: what counts is the error.
                    if self.encode_alert().is_ok() {
                        let _ = self.send().await;
                    }
                    return Err(invalid(error));
                }
            }
        }
    }

    /// Makes the connection what it is from then on.
    pub(super) fn into_stream(self) -> io::Result<TlsStream> {
        let alpn = self.agreed().alpn_protocol().unwrap_or_default().into();
        let session = self.side.into_session().map_err(invalid)?;
        Ok(TlsStream::new(self.socket, session, self.incoming, alpn))
    }

    /// Goes on until the handshake is over (true) or the peer is to speak.
    fn advance(&mut self) -> Result<bool, Error> {
        loop {
            let UnbufferedStatus { discard, state } = self.side.process(&mut self.incoming[..self.given]);
            let done = match state? {
                ConnectionState::EncodeTlsData(data) => {
                    encode(data, &mut self.outgoing)?;
                    None
                }
                // Sent before anything else is received.
                ConnectionState::TransmitTlsData(data) => {
                    data.done();
                    None
                }
                ConnectionState::BlockedHandshake => Some(false),
                ConnectionState::WriteTraffic(_) => Some(true),
                state => return Err(Error::General(format!("unexpected in a handshake: {state:?}"))),
            };
            self.incoming.drain(..discard);
            self.given -= discard;
            match done {
                Some(false) if self.give() => {}
                Some(done) => return Ok(done),
                None => {}
            }
        }
    }

    /// Gives `rustls` the next whole record; one that can be none too, for it to refuse.
    fn give(&mut self) -> bool {
        let rest = &self.incoming[self.given..];
        let length = match record_length(rest) {
            Ok(length) => length.filter(|&length| length <= rest.len()),
            Err(_) => Some(rest.len()),
        };
        self.given += length.unwrap_or(0);
        length.is_some()
    }

    fn encode_alert(&mut self) -> Result<(), Error> {
        while self.agreed().wants_write() {
            let status = self.side.process(&mut self.incoming[..self.given]);
            let ConnectionState::EncodeTlsData(data) = status.state? else { break };
            encode(data, &mut self.outgoing)?;
        }
        Ok(())
    }

    async fn send(&mut self) -> io::Result<()> {
        if !self.outgoing.is_empty() {
            self.socket.write_all(&self.outgoing).await?;
            self.outgoing.clear();
        }
        Ok(())
    }

    async fn receive(&mut self) -> io::Result<()> {
        if self.incoming.len() > MOST {
            return Err(invalid(InvalidMessage::HandshakePayloadTooLarge.into()));
        }
        more(&mut self.socket, &mut self.incoming).await
    }
}

/// Reads what a handshake goes on with; its end is an error.
pub(super) async fn more(socket: &mut Socket, bytes: &mut Vec<u8>) -> io::Result<()> {
    bytes.reserve(ROOM);
    match socket.take(ROOM as u64).read_buf(bytes).await? {
        0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "tls handshake eof")),
        _ => Ok(()),
    }
}

fn encode<D>(mut data: EncodeTlsData<'_, D>, outgoing: &mut Vec<u8>) -> Result<(), Error> {
    let start = outgoing.len();
    if let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) {
        outgoing.resize(start + size.required_size, 0);
    }
    data.encode(&mut outgoing[start..]).map(drop).map_err(|error| Error::General(error.to_string()))
}

/// A TLS error as the readers and writers of a stream see it.
pub(super) fn invalid(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
