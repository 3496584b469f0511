//! Measures Ripstop beside its peers: the same job, interleaved rounds, CPU time per request.

pub mod backend;
pub mod histogram;
pub mod instructions;
pub mod load;
pub mod measure;
pub mod null;
pub mod peers;
pub mod tls;
pub mod cases;
pub mod discovery;
pub mod generators;
pub mod run;
pub mod plot;
pub mod report;
