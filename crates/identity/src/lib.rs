//! SPIFFE, CSR, CA, trust bundles, rotation, rustls configuration.
