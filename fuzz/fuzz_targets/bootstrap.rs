//! Bootstraps, YAML or JSON: whatever they say, the answer is a configuration or an error with its place.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::compile::bootstrap::{Overrides, load};

fuzz_target!(|text: &str| {
    if let Err(error) = load(Some(("fuzz", text)), &Overrides::default()) {
        assert!(error.to_string().starts_with("fuzz"), "{error}");
    }
});
