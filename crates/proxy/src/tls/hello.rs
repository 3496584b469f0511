//! What a TLS client says first.

use rustls::server::Acceptor;

/// A ClientHello with post-quantum keys fits; more is not a handshake.
const LIMIT: usize = 64 * 1024;

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Hello {
    pub tls: bool,
    /// Lower case; empty if none.
    pub server_name: String,
    pub alpn: Vec<Vec<u8>>,
}

/// Reads a ClientHello as its bytes come in.
#[derive(Default)]
pub struct HelloReader {
    acceptor: Acceptor,
    fed: usize,
}

impl HelloReader {
    /// `bytes` are all so far, beginning with the connection's first. `None`: more are needed. Damaged TLS counts as
    /// TLS: the handshake will say so to the client.
    pub fn read(&mut self, bytes: &[u8]) -> Option<Hello> {
        if bytes.is_empty() {
            return None;
        }
        if !may_be_tls(bytes) || bytes.len() > LIMIT {
            return Some(Hello::default());
        }
        let mut fresh = &bytes[self.fed..];
        self.fed = bytes.len();
        while !fresh.is_empty() {
            if self.acceptor.read_tls(&mut fresh).is_err() {
                return Some(Hello { tls: true, ..Hello::default() });
            }
        }
        match self.acceptor.accept() {
            Ok(None) => None,
            Ok(Some(accepted)) => {
                let hello = accepted.client_hello();
                Some(Hello {
                    tls: true,
                    server_name: hello.server_name().unwrap_or_default().to_ascii_lowercase(),
                    alpn: hello.alpn().map(|names| names.map(<[u8]>::to_vec).collect()).unwrap_or_default(),
                })
            }
            Err(_) => Some(Hello { tls: true, ..Hello::default() }),
        }
    }
}

/// Begins as a TLS record of type handshake (22), version 3.x.
fn may_be_tls(bytes: &[u8]) -> bool {
    bytes.first() == Some(&22) && bytes.get(1).is_none_or(|&major| major == 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ClientHello for `orders.test` that offers h2.
    fn client_hello() -> Vec<u8> {
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let roots = rustls::RootCertStore::empty();
        let mut config = builder.unwrap().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let name = rustls_pki_types::ServerName::try_from("Orders.test").unwrap();
        let mut connection = rustls::ClientConnection::new(config.into(), name).unwrap();
        let mut bytes = Vec::new();
        connection.write_tls(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_client_hello_in_pieces() {
        let bytes = client_hello();
        let wanted = Hello { tls: true, server_name: "orders.test".into(), alpn: vec![b"h2".to_vec()] };
        let mut reader = HelloReader::default();
        for end in 0..bytes.len() {
            assert_eq!(reader.read(&bytes[..end]), None, "{end}");
        }
        assert_eq!(reader.read(&bytes), Some(wanted));
    }

    #[test]
    fn what_is_no_client_hello() {
        let read = |bytes: &[u8]| HelloReader::default().read(bytes);
        assert_eq!(read(b"GET / HTTP/1.1"), Some(Hello::default()));
        assert_eq!(read(b"\x16\x02"), Some(Hello::default()));
        assert_eq!(read(b"\x16"), None);
        assert_eq!(read(b"\x16\x03\x01\0\x05hello"), Some(Hello { tls: true, ..Hello::default() }));
    }
}
