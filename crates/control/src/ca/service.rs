//! Istio's certificate service: a request for a public key in, a certificate chain out.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use identity::{Authority, SpiffeId};
use tonic::{Request, Response, Status};

use super::SVID_LIFETIME;
use super::token::Tokens;
use crate::peer::Peer;

pub const SERVICE: &str = "istio.v1.auth.IstioCertificateService";
pub const METHOD: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";
const SHORTEST: Duration = Duration::from_secs(10);

/// `istio.v1.auth.IstioCertificateRequest`; its metadata are of no use here.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CertificateRequest {
    #[prost(string, tag = "1")]
    pub csr: String,
    #[prost(int64, tag = "3")]
    pub validity_duration: i64,
}

/// `istio.v1.auth.IstioCertificateResponse`: PEM, leaf first, root last.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CertificateResponse {
    #[prost(string, repeated, tag = "1")]
    pub cert_chain: Vec<String>,
}

#[derive(Clone)]
pub struct CertificateService {
    pub authority: Arc<Authority>,
    pub tokens: Arc<Tokens>,
}

impl CertificateService {
    pub fn create(&self, request: &Request<CertificateRequest>) -> Result<Response<CertificateResponse>, Status> {
        let id = self.authenticate(request)?;
        let asked = u64::try_from(request.get_ref().validity_duration).ok().filter(|seconds| *seconds > 0);
        let ttl = asked.map_or(SVID_LIFETIME, Duration::from_secs).clamp(SHORTEST, SVID_LIFETIME);
        let svid = self
            .authority
            .issue(&request.get_ref().csr, &id, ttl, SystemTime::now())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        tracing::info!(%id, seconds = ttl.as_secs(), "issued a certificate");
        Ok(Response::new(CertificateResponse { cert_chain: vec![svid.leaf_pem, svid.root_pem] }))
    }

    /// A certificate renews itself; without one, a join token says who it is.
    fn authenticate(&self, request: &Request<CertificateRequest>) -> Result<SpiffeId, Status> {
        if let Some(id) = request.extensions().get::<Peer>().and_then(|peer| peer.identity.clone()) {
            return Ok(id);
        }
        let bearer = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let Some(token) = bearer.and_then(|value| value.strip_prefix("Bearer ")) else {
            return Err(Status::unauthenticated(
                "show a client certificate of this mesh or a join token (`ripstop token`)",
            ));
        };
        self.tokens.check(token.trim()).map_err(|error| Status::unauthenticated(error.to_string()))
    }
}
