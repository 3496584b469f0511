//! Project chores: `cargo xtask test`, `peers`, `tidy`, `bench`.
fn main() {}
