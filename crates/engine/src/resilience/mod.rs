//! Retries and ejection: decisions about failures.

pub mod outlier;
pub mod retry;
