//! From a request head to a route and what the route makes of the request.

pub mod choose;
pub mod follow;
pub mod hash;
pub mod matching;
pub mod redirect;
pub mod rewrite;
pub mod scope;

pub use choose::{Choice, choose, host_name, pick_cluster, virtual_cluster, virtual_host};
pub use matching::Asked;
