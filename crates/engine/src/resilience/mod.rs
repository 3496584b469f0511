//! Deadlines, retries and ejection: decisions about failures.

pub mod budget;
pub mod deadline;
pub mod health;
pub mod outlier;
pub mod retry;
