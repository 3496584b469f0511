//! Deadlines, retries and ejection: decisions about failures.

pub mod budget;
pub mod deadline;
pub mod outlier;
pub mod retry;
