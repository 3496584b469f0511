//! End-to-end suites against real peers; run by `cargo xtask test`.
