//! Certificate fingerprints.

/// Lower-case hex SHA-256 of a DER certificate, as `x-forwarded-client-cert` carries it.
pub fn fingerprint(certificate: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
