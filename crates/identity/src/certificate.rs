//! Facts about one certificate.

use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_parser::prelude::{FromDer, X509Certificate, X509Error};

/// Lower-case hex SHA-256 of a DER certificate, as `x-forwarded-client-cert` carries it.
pub fn fingerprint(certificate: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// From when until when a DER certificate is valid.
pub fn validity(certificate: &[u8]) -> Result<(SystemTime, SystemTime), X509Error> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| X509Error::InvalidCertificate)?;
    let time = |timestamp: i64| UNIX_EPOCH + Duration::from_secs(timestamp.max(0).unsigned_abs());
    let validity = parsed.validity();
    Ok((time(validity.not_before.timestamp()), time(validity.not_after.timestamp())))
}
