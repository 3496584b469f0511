//! Bootstraps, YAML or JSON: whatever they say, the answer is a configuration or an error with its place.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::{Arc, LazyLock};
use wire::compile::bootstrap::{Overrides, load};
use wire::schema::{Schema, schema, whole};

/// Held, so that it is not built again for each input.
static SCHEMA: LazyLock<[Arc<Schema>; 2]> = LazyLock::new(|| [schema(), whole()]);

fuzz_target!(|text: &str| {
    LazyLock::force(&SCHEMA);
    if let Err(error) = load(Some(("fuzz", text)), &Overrides::default()) {
        assert!(error.to_string().starts_with("fuzz"), "{error}");
    }
});
