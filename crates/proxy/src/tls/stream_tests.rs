//! Our stream against the buffered connections of `rustls`, in both versions and both roles.

use super::TlsStream;
use crate::socket::Socket;
use crate::tls::keys::{PLAINTEXT, RECORD};
use crate::tls::session::Flight;
use crate::tls::{ClientTransport, ServerTls, prepare};
use identity::tls::{self as id, CertKey, ClientAuth, ClientTrust, Verify};
use identity::{Authority, SpiffeId, csr};
use model::tls::TlsVersion;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ContentType, Error, HandshakeKind, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

const VERSIONS: [TlsVersion; 2] = [TlsVersion::V1_2, TlsVersion::V1_3];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ours {
    Server,
    Client,
}

fn ways() -> impl Iterator<Item = (Ours, TlsVersion)> {
    VERSIONS.into_iter().flat_map(|version| [(Ours::Server, version), (Ours::Client, version)])
}

static AUTHORITY: LazyLock<Authority> =
    LazyLock::new(|| Authority::create("cluster.local", Duration::from_secs(86_400), SystemTime::now()).unwrap());

fn certificate() -> CertKey {
    let id = SpiffeId::workload("cluster.local", "shop", "orders").unwrap();
    let request = csr::generate(&id).unwrap();
    let svid = AUTHORITY
        .issue_with_hosts(&request.csr_pem, &id, &["localhost"], Duration::from_secs(3600), SystemTime::now())
        .unwrap();
    CertKey { chain_pem: svid.chain_pem(), key_pem: request.key_pem }
}

fn server(version: TlsVersion, client: ClientAuth) -> Arc<rustls::ServerConfig> {
    let (min_version, max_version) = (version, version);
    let (certs, alpn) = (vec![certificate()], vec![b"h2".to_vec()]);
    id::server_config(&id::ServerTls { certs, client, alpn, min_version, max_version, resumption: true }).unwrap()
}

fn client(version: TlsVersion, alpn: &[u8], cert: Option<CertKey>) -> id::ClientTls {
    let verify = Verify::Ca { ca_pem: AUTHORITY.root_pem().into(), names: Vec::new(), server_name: false };
    let (min_version, max_version, alpn) = (version, version, vec![alpn.to_vec()]);
    id::ClientTls { cert, verify, alpn, min_version, max_version, send_sni: false }
}

/// A connection of `rustls`'s own.
struct Peer {
    socket: UnixStream,
    tls: rustls::Connection,
    /// Data that came in.
    data: Vec<u8>,
    /// The other side's last word.
    ended: bool,
}

impl Peer {
    fn new(socket: UnixStream, tls: impl Into<rustls::Connection>) -> Self {
        Peer { socket, tls: tls.into(), data: Vec::new(), ended: false }
    }

    fn records(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    fn seal(&mut self, data: &[u8]) -> Vec<u8> {
        self.tls.writer().write_all(data).unwrap();
        self.records()
    }

    async fn send(&mut self, data: &[u8]) {
        let records = self.seal(data);
        self.socket.write_all(&records).await.unwrap();
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            self.tls.read_tls(&mut bytes).unwrap();
            self.ended |= self.tls.process_new_packets()?.peer_has_closed();
            // Its own end of file is not ours to test.
            let _ = self.tls.reader().read_to_end(&mut self.data);
        }
        Ok(())
    }

    async fn receive(&mut self) -> Result<usize, Error> {
        let mut bytes = [0; 4096];
        let count = self.socket.read(&mut bytes).await.unwrap_or(0);
        self.take(&bytes[..count])?;
        Ok(count)
    }

    async fn expect(&mut self, data: &[u8]) {
        while self.data.len() < data.len() {
            assert_ne!(self.receive().await.unwrap(), 0, "the stream ended");
        }
        assert_eq!(std::mem::take(&mut self.data), data);
    }

    /// Its side of a handshake, `step` bytes at a time.
    async fn shake(&mut self, step: usize) -> Result<(), Error> {
        loop {
            for piece in self.records().chunks(step) {
                if self.socket.write_all(piece).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            if !self.tls.is_handshaking() {
                return Ok(());
            }
            if self.receive().await? == 0 {
                return Err(Error::HandshakeNotComplete);
            }
        }
    }
}

/// Configurations that last for several connections, so that sessions can be resumed.
struct Pairs {
    ours: Ours,
    accepts: ServerTls,
    connects: ClientTransport,
    servers: Arc<rustls::ServerConfig>,
    clients: Arc<rustls::ClientConfig>,
}

impl Pairs {
    fn new(ours: Ours, version: TlsVersion) -> Self {
        Pairs::with(ours, server(version, ClientAuth::None), &client(version, b"h2", None))
    }

    fn with(ours: Ours, servers: Arc<rustls::ServerConfig>, clients: &id::ClientTls) -> Self {
        let accepts = ServerTls::new((*servers).clone(), true);
        let connects = prepare::client_transport(clients).unwrap();
        Pairs { ours, accepts, connects, servers, clients: id::client_config(clients).unwrap() }
    }

    async fn accept(&self, socket: UnixStream) -> std::io::Result<TlsStream> {
        Ok(self.accepts.accept(Socket::unix(socket)).await?.0)
    }

    async fn connect(&self, socket: UnixStream) -> std::io::Result<TlsStream> {
        let ClientTransport::Tls(tls) = &self.connects else { panic!("no transport") };
        tls.connect(Socket::unix(socket), &[], "").await
    }

    fn client(&self, socket: UnixStream) -> Peer {
        let name = "localhost".try_into().unwrap();
        Peer::new(socket, rustls::ClientConnection::new(self.clients.clone(), name).unwrap())
    }

    async fn shake(&self, step: usize) -> (std::io::Result<TlsStream>, Result<(), Error>, Peer) {
        let (near, far) = UnixStream::pair().unwrap();
        let (stream, met, peer) = match self.ours {
            Ours::Server => {
                let mut peer = self.client(far);
                let (stream, met) = tokio::join!(self.accept(near), peer.shake(step));
                (stream, met, peer)
            }
            Ours::Client => {
                let mut peer = Peer::new(far, rustls::ServerConnection::new(self.servers.clone()).unwrap());
                let (stream, met) = tokio::join!(self.connect(near), peer.shake(step));
                (stream, met, peer)
            }
        };
        (stream, met, peer)
    }

    async fn pair(&self) -> (TlsStream, Peer) {
        let (stream, met, peer) = self.shake(usize::MAX).await;
        met.unwrap();
        (stream.unwrap(), peer)
    }
}

async fn expect(stream: &mut TlsStream, data: &[u8]) {
    let mut bytes = vec![0; data.len()];
    stream.read_exact(&mut bytes).await.unwrap();
    assert_eq!(bytes, data);
}

async fn read_error(stream: &mut TlsStream) -> std::io::Error {
    let mut bytes = [0; 100];
    loop {
        match stream.read(&mut bytes).await {
            Ok(0) => panic!("an orderly end"),
            Ok(_) => {}
            Err(error) => return error,
        }
    }
}

#[tokio::test]
async fn bytes_come_split_anywhere() {
    for (ours, version) in ways() {
        let pairs = Pairs::new(ours, version);
        let (stream, met, mut peer) = pairs.shake(1).await;
        met.unwrap();
        let mut stream = stream.unwrap();
        assert_eq!(stream.alpn(), Some(b"h2".as_slice()));
        let mut length = 1;
        let mut at = 0;
        while at < length {
            let mut records = peer.seal(b"split");
            records.extend(peer.seal(b"anywhere"));
            length = records.len();
            let (first, second) = records.split_at(at);
            peer.socket.write_all(first).await.unwrap();
            let (sent, ()) = tokio::join!(
                async {
                    tokio::task::yield_now().await;
                    peer.socket.write_all(second).await
                },
                expect(&mut stream, b"splitanywhere")
            );
            sent.unwrap();
            at += 1;
        }
        stream.write_all(b"thank you").await.unwrap();
        peer.expect(b"thank you").await;
    }
}

/// Bytes that do not repeat soon.
fn noise(length: usize) -> Vec<u8> {
    (0..length as u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes()).take(length).collect()
}

#[tokio::test]
async fn much_goes_both_ways_past_slow_readers() {
    const MUCH: usize = 3 * 1024 * 1024;
    let data = noise(MUCH);
    for (ours, version) in ways() {
        let (stream, mut peer) = Pairs::new(ours, version).pair().await;
        let (mut reader, mut writer) = tokio::io::split(stream);
        let read = async {
            let mut bytes = vec![0; 64 * 1024];
            let (mut got, mut sizes) = (Vec::new(), [5, 300, 16 * 1024, 20_000, 64 * 1024].into_iter().cycle());
            while got.len() < MUCH {
                let count = reader.read(&mut bytes[..sizes.next().unwrap()]).await.unwrap();
                got.extend_from_slice(&bytes[..count]);
                tokio::task::yield_now().await;
            }
            assert!(got == data, "what came in");
        };
        let write = async {
            for piece in data.chunks(100_000) {
                writer.write_all(piece).await.unwrap();
            }
            writer.flush().await.unwrap();
        };
        let (tls, (mut from, mut to)) = (RefCell::new(&mut peer.tls), peer.socket.split());
        let peer_reads = async {
            let mut bytes = [0; 3000];
            let mut got = Vec::new();
            while got.len() < MUCH {
                let count = from.read(&mut bytes).await.unwrap();
                let mut rest = &bytes[..count];
                while !rest.is_empty() {
                    let mut tls = tls.borrow_mut();
                    tls.read_tls(&mut rest).unwrap();
                    tls.process_new_packets().unwrap();
                    let _ = tls.reader().read_to_end(&mut got);
                }
                tokio::task::yield_now().await;
            }
            assert!(got == data, "what went out");
        };
        let peer_writes = async {
            for piece in data.chunks(40_000) {
                let mut records = Vec::new();
                {
                    let mut tls = tls.borrow_mut();
                    tls.writer().write_all(piece).unwrap();
                    while tls.wants_write() {
                        tls.write_tls(&mut records).unwrap();
                    }
                }
                to.write_all(&records).await.unwrap();
            }
        };
        tokio::join!(read, write, peer_reads, peer_writes);
    }
}

#[tokio::test]
async fn a_half_close_leaves_the_other_half() {
    for (ours, version) in ways() {
        let (mut stream, mut peer) = Pairs::new(ours, version).pair().await;
        peer.tls.send_close_notify();
        peer.send(b"").await;
        assert_eq!(stream.read(&mut [0; 10]).await.unwrap(), 0);
        assert_eq!(stream.read(&mut [0; 10]).await.unwrap(), 0);
        stream.write_all(b"still here").await.unwrap();
        peer.expect(b"still here").await;
        stream.shutdown().await.unwrap();
        while peer.receive().await.unwrap() > 0 {}
        assert!(peer.ended, "{ours:?} {version:?}");
        assert_eq!(stream.write(b"more").await.unwrap_err().kind(), ErrorKind::BrokenPipe);

        let (mut stream, mut peer) = Pairs::new(ours, version).pair().await;
        stream.shutdown().await.unwrap();
        peer.send(b"an answer").await;
        expect(&mut stream, b"an answer").await;
    }
}

#[tokio::test]
async fn an_end_without_close_notify_is_an_error() {
    for (ours, version) in ways() {
        for cut in [0, 3, 20] {
            let (mut stream, mut peer) = Pairs::new(ours, version).pair().await;
            peer.send(b"whole").await;
            let record = peer.seal(b"cut off");
            peer.socket.write_all(&record[..cut]).await.unwrap();
            peer.socket.shutdown().await.unwrap();
            expect(&mut stream, b"whole").await;
            assert_eq!(read_error(&mut stream).await.kind(), ErrorKind::UnexpectedEof);
        }
    }
}

#[tokio::test]
async fn both_sides_tell_why_they_fail() {
    for (ours, version) in ways() {
        let (mut stream, mut peer) = Pairs::new(ours, version).pair().await;
        peer.send(b"good").await;
        let mut record = peer.seal(b"bad");
        *record.last_mut().unwrap() ^= 1;
        peer.socket.write_all(&record).await.unwrap();
        expect(&mut stream, b"good").await;
        let first = read_error(&mut stream).await;
        assert_eq!(first.to_string(), "cannot decrypt peer's message");
        assert_eq!(read_error(&mut stream).await.to_string(), first.to_string());
        assert!(stream.write(b"more").await.is_err());
        let told = loop {
            if let Err(error) = peer.receive().await {
                break error;
            }
        };
        assert_eq!(told.to_string(), "received fatal alert: BadRecordMac", "{ours:?} {version:?}");

        let (mut stream, mut peer) = Pairs::new(ours, version).pair().await;
        let mut flight = Flight::default();
        stream.session.seal(b"bad", &mut flight).unwrap();
        *flight[1].last_mut().unwrap() ^= 1;
        stream.socket.write_all(&flight[1]).await.unwrap();
        while peer.receive().await.is_ok() {}
        peer.send_alert().await;
        let told = read_error(&mut stream).await.to_string();
        assert_eq!(told, "received fatal alert: BadRecordMac", "{ours:?} {version:?}");
    }
}

impl Peer {
    async fn send_alert(&mut self) {
        let records = self.records();
        self.socket.write_all(&records).await.unwrap();
    }
}

#[tokio::test]
async fn keys_change_in_mid_stream() {
    for ours in [Ours::Server, Ours::Client] {
        let (mut stream, mut peer) = Pairs::new(ours, TlsVersion::V1_3).pair().await;
        for round in 0..5 {
            // The peer asks for new keys both ways: several times without hearing from us.
            for _ in 0..=round {
                peer.tls.refresh_traffic_keys().unwrap();
                peer.send(b"ping").await;
            }
            expect(&mut stream, &b"ping".repeat(round + 1)).await;
            stream.write_all(b"pong").await.unwrap();
            peer.expect(b"pong").await;
            // Now we do.
            stream.session.wear_out();
            stream.write_all(b"worn").await.unwrap();
            stream.write_all(b"new").await.unwrap();
            peer.expect(b"wornnew").await;
            peer.send(b"seen").await;
            expect(&mut stream, b"seen").await;
        }
        for _ in 0..33 {
            peer.tls.refresh_traffic_keys().unwrap();
        }
        peer.send(b"").await;
        assert!(read_error(&mut stream).await.to_string().contains("TooManyKeyUpdateRequests"));
    }
    let (mut stream, _peer) = Pairs::new(Ours::Server, TlsVersion::V1_2).pair().await;
    stream.session.wear_out();
    assert!(stream.write(b"worn").await.is_err());
}

#[tokio::test]
async fn sessions_are_resumed() {
    for (ours, version) in ways() {
        let pairs = Pairs::new(ours, version);
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
            let (mut stream, mut peer) = pairs.pair().await;
            assert_eq!(peer.tls.handshake_kind(), Some(kind), "{ours:?} {version:?}");
            // Tickets come before the first data. Many records, so that their numbers matter.
            for number in 0..50_u8 {
                peer.send(&[number]).await;
                expect(&mut stream, &[number]).await;
                stream.write_all(&[number]).await.unwrap();
                peer.expect(&[number]).await;
            }
        }
    }
}

#[tokio::test]
async fn every_cipher_suite_works() {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(AUTHORITY.root_pem().as_bytes()).unwrap()).unwrap();
    let servers = server(TlsVersion::Auto, ClientAuth::None);
    let mut pairs = Pairs::with(Ours::Server, servers, &client(TlsVersion::Auto, b"h2", None));
    for suite in aws_lc_rs::ALL_CIPHER_SUITES {
        let provider = CryptoProvider { cipher_suites: vec![*suite], ..aws_lc_rs::default_provider() };
        let builder = rustls::ClientConfig::builder_with_provider(provider.into());
        let builder = builder.with_protocol_versions(&[suite.version()]).unwrap();
        pairs.clients = Arc::new(builder.with_root_certificates(roots.clone()).with_no_client_auth());
        let (stream, met, mut peer) = pairs.shake(usize::MAX).await;
        if suite.suite().as_str().unwrap().contains("_RSA_") {
            // There is no such key here.
            assert!(met.is_err());
            continue;
        }
        assert_eq!(peer.tls.negotiated_cipher_suite(), Some(*suite));
        let mut stream = stream.unwrap();
        for number in 0..20_u8 {
            peer.send(&[number; 1000]).await;
            expect(&mut stream, &[number; 1000]).await;
            stream.write_all(&[number; 1000]).await.unwrap();
            peer.expect(&[number; 1000]).await;
        }
    }
}

#[tokio::test]
async fn a_client_without_certificate_is_refused() {
    for version in VERSIONS {
        let trust = ClientTrust { ca_pem: Some(AUTHORITY.root_pem().into()), ..ClientTrust::default() };
        let servers = server(version, ClientAuth::Required(trust));
        let pairs = Pairs::with(Ours::Server, servers.clone(), &client(version, b"h2", None));
        let (stream, met, mut peer) = pairs.shake(usize::MAX).await;
        assert_eq!(stream.err().unwrap().to_string(), "peer sent no certificates");
        let told = match met {
            Err(error) => error,
            // A client of TLS 1.3 is done before the server has judged.
            Ok(()) => peer.receive().await.unwrap_err(),
        };
        assert!(matches!(told, Error::AlertReceived(_)), "{told}");

        let pairs = Pairs::with(Ours::Server, servers, &client(version, b"h2", Some(certificate())));
        let (near, far) = UnixStream::pair().unwrap();
        let mut peer = pairs.client(far);
        let (accepted, met) = tokio::join!(pairs.accepts.accept(Socket::unix(near)), peer.shake(usize::MAX));
        met.unwrap();
        let (_, facts) = accepted.unwrap();
        assert_eq!(&*facts.peer_uris[0], "spiffe://cluster.local/ns/shop/sa/orders");
        assert!(facts.peer_validated && facts.peer_hash.len() == 64);
        assert_eq!(facts.version, if version == TlsVersion::V1_3 { "TLSv1.3" } else { "TLSv1.2" });
    }
}

#[tokio::test]
async fn what_a_client_offers_need_not_be_ours() {
    for (offer, agreed) in [(b"h2".as_slice(), Some(b"h2".as_slice())), (b"istio-peer-exchange", None)] {
        let version = TlsVersion::V1_3;
        let pairs = Pairs::with(Ours::Server, server(version, ClientAuth::None), &client(version, offer, None));
        let (stream, peer) = pairs.pair().await;
        assert_eq!((stream.alpn(), peer.tls.alpn_protocol()), (agreed, agreed));
    }
}

#[tokio::test]
async fn what_is_no_handshake_is_refused_at_once() {
    let pairs = Pairs::new(Ours::Server, TlsVersion::V1_3);
    for bytes in
        [b"GET / HTTP/1.1\r\n\r\n".as_slice(), b"G", b"\x16\x03\x01\0\0", b"\x16\x02\x01\0\x01", b"\x17\x03\x03\0\x01x"]
    {
        let (near, mut far) = UnixStream::pair().unwrap();
        far.write_all(bytes).await.unwrap();
        let error = pairs.accept(near).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
        let mut alert = Vec::new();
        far.read_to_end(&mut alert).await.unwrap();
        assert_eq!(alert[..5], [21, 3, 3, 0, 2], "{alert:?}");
    }
    let (near, far) = UnixStream::pair().unwrap();
    drop(far);
    assert_eq!(pairs.accept(near).await.err().unwrap().to_string(), "tls handshake eof");
}

/// One of our streams says to another what `rustls` would not.
#[tokio::test]
async fn what_may_come_after_the_handshake() {
    const HANDSHAKE: ContentType = ContentType::Handshake;
    const ALERT: ContentType = ContentType::Alert;
    const DATA: ContentType = ContentType::ApplicationData;
    type Case<'c> = (&'c str, &'c [TlsVersion], Ours, Vec<(ContentType, &'c [u8])>, Option<&'c str>);
    let (old, new) = (&VERSIONS[..1], &VERSIONS[1..]);
    let ask: (ContentType, &[u8]) = (HANDSHAKE, &[24, 0, 0, 1, 1]);
    let cases: [Case<'_>; 17] = [
        ("a key update in pieces", new, Ours::Server, vec![(HANDSHAKE, &[24, 0]), (HANDSHAKE, &[0, 1])], None),
        ("data between the pieces", new, Ours::Server, vec![(HANDSHAKE, &[24, 0]), (DATA, b"x")], Some("Interleaved")),
        ("more behind a key update", new, Ours::Server, vec![(HANDSHAKE, &[24, 0, 0, 1, 0, 24])], Some("Pending")),
        ("no key update", new, Ours::Server, vec![(HANDSHAKE, &[24, 0, 0, 1, 2])], Some("InvalidKeyUpdate")),
        ("a key update of old", old, Ours::Server, vec![ask], Some("unexpected handshake")),
        ("a long message", new, Ours::Client, vec![(HANDSHAKE, &[4, 1, 0, 0])], Some("TooLarge")),
        ("a ticket for a server", new, Ours::Server, vec![(HANDSHAKE, &[4, 0, 0, 0])], Some("unexpected handshake")),
        ("no ticket", new, Ours::Client, vec![(HANDSHAKE, &[4, 0, 0, 0])], Some("MissingData")),
        ("a second ClientHello", new, Ours::Server, vec![(HANDSHAKE, &[1, 0, 0, 0])], Some("unexpected handshake")),
        ("a renegotiation", old, Ours::Server, vec![(HANDSHAKE, &[1, 0, 0, 0])], None),
        ("a HelloRequest", old, Ours::Client, vec![(HANDSHAKE, &[0, 0, 0, 0])], None),
        ("two of them", old, Ours::Client, vec![(HANDSHAKE, &[0, 0, 0, 0, 0, 0, 0, 0])], Some("Renegotiation")),
        ("empty records", &VERSIONS, Ours::Server, vec![(DATA, b""); 32], None),
        ("more of them", &VERSIONS, Ours::Server, vec![(DATA, b""); 33], Some("TooManyEmpty")),
        ("warnings", old, Ours::Server, vec![(ALERT, &[1, 90]); 4], None),
        ("more of them", old, Ours::Server, vec![(ALERT, &[1, 90]); 5], Some("TooManyWarning")),
        ("half an alert", &VERSIONS, Ours::Server, vec![(ALERT, &[1])], Some("Alert")),
    ];
    for (what, versions, ours, records, fault) in cases {
        for &version in versions {
            let pairs = Pairs::new(ours, version);
            let (near, far) = UnixStream::pair().unwrap();
            let (accepted, connected) = tokio::join!(pairs.accept(near), pairs.connect(far));
            let (mut stream, mut other) = match ours {
                Ours::Server => (accepted.unwrap(), connected.unwrap()),
                Ours::Client => (connected.unwrap(), accepted.unwrap()),
            };
            for &(typ, bytes) in &records {
                other.session.urge(typ, bytes).unwrap();
            }
            other.flush().await.unwrap();
            other.socket.shutdown().await.unwrap();
            let error = read_error(&mut stream).await;
            match fault {
                None => assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{what}: {error}"),
                Some(fault) => assert!(error.to_string().contains(fault), "{what}: {error}"),
            }
        }
    }
}

#[tokio::test]
async fn what_waits_is_bounded_and_what_is_idle_holds_nothing() {
    for (ours, version) in ways() {
        let (mut stream, mut peer) = Pairs::new(ours, version).pair().await;
        let records = peer.seal(&noise(64 * 1024));
        peer.socket.write_all(&records).await.unwrap();
        let mut bytes = [0; 10];
        stream.read_exact(&mut bytes).await.unwrap();
        assert!(stream.incoming.len() <= RECORD, "{}", stream.incoming.len());
        assert!(stream.opened.bytes.len() <= PLAINTEXT, "{}", stream.opened.bytes.len());
        stream.read_exact(&mut vec![0; 64 * 1024 - 10]).await.unwrap();
        stream.write_all(b"thank you").await.unwrap();
        let held = [&stream.incoming, &stream.opened.bytes, &stream.sealed.bytes].map(Vec::capacity);
        assert_eq!(held, [0; 3]);
    }
    assert!(size_of::<TlsStream>() <= 896, "{}", size_of::<TlsStream>());
}
