//! Join tokens: a JWT with which one workload gets its first certificate.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use identity::SpiffeId;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use super::{StateError, read_or_create};

const FILE: &str = "token.key";
const AUDIENCE: &str = "ripstop-ca";

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    /// The SPIFFE ID that the certificate will have.
    sub: String,
    aud: String,
    iat: u64,
    exp: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("the join token is refused: {0}")]
    Refused(#[from] jsonwebtoken::errors::Error),
    #[error("the join token is refused: {0}")]
    Subject(#[from] identity::SpiffeIdError),
}

/// Makes and checks the tokens of one state directory.
pub struct Tokens {
    secret: Vec<u8>,
}

impl Tokens {
    pub fn load(state: &Path) -> Result<Self, StateError> {
        let path = state.join(FILE);
        let secret = read_or_create(&path, || {
            let mut secret = vec![0; 32];
            let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
            let fault = |_| StateError::Bad { path: path.clone(), reason: "the system has no random numbers".into() };
            random.fill(&mut secret).map_err(fault)?;
            Ok(secret)
        })?;
        if secret.len() < 32 {
            return Err(StateError::Bad { path, reason: "must hold at least 32 random bytes; remove it".into() });
        }
        Ok(Self { secret })
    }

    pub fn make(&self, id: &SpiffeId, ttl: Duration, now: SystemTime) -> Result<String, TokenError> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let claims =
            Claims { sub: id.to_string(), aud: AUDIENCE.into(), iat: now.as_secs(), exp: (now + ttl).as_secs() };
        let key = EncodingKey::from_secret(&self.secret);
        Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)?)
    }

    /// Whose token it is.
    pub fn check(&self, token: &str) -> Result<SpiffeId, TokenError> {
        // The algorithm is ours to say, never the token's.
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["sub", "aud", "exp"]);
        validation.leeway = 0;
        let key = DecodingKey::from_secret(&self.secret);
        let claims = jsonwebtoken::decode::<Claims>(token, &key, &validation)?.claims;
        Ok(SpiffeId::parse(&claims.sub)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_unexpired_tokens_count() {
        let (one, two) = (crate::testing::Directory::new(), crate::testing::Directory::new());
        let (ours, theirs) = (Tokens::load(one.path()).unwrap(), Tokens::load(two.path()).unwrap());
        let id = SpiffeId::workload("cluster.local", "shop", "web").unwrap();
        let (now, hour) = (SystemTime::now(), Duration::from_secs(3600));
        let token = ours.make(&id, hour, now).unwrap();
        assert_eq!(ours.check(&token).unwrap(), id);
        assert_eq!(Tokens::load(one.path()).unwrap().check(&token).unwrap(), id, "the secret is kept");
        let old = ours.make(&id, hour, now - 2 * hour).unwrap();
        let unsigned = jsonwebtoken::encode(
            &Header::new(Algorithm::HS384),
            &serde_json::json!({"sub": id.to_string(), "aud": AUDIENCE, "exp": 4_000_000_000_u64}),
            &EncodingKey::from_secret(&ours.secret),
        )
        .unwrap();
        for (what, token) in [
            ("another state's", theirs.make(&id, hour, now).unwrap()),
            ("expired", old),
            ("another algorithm", unsigned),
            ("nonsense", "a.b.c".into()),
            ("empty", String::new()),
        ] {
            assert!(ours.check(&token).is_err(), "{what}");
        }
    }
}
