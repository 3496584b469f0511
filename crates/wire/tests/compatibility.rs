//! `docs/envoy-compatibility.md` is written from the support table; `UPDATE_DOCS=1 cargo test -p wire` writes it anew.

#[test]
fn the_documentation_says_what_the_table_says() {
    let path: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/envoy-compatibility.md");
    let wanted = wire::support::markdown();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &wanted).expect("the page can be written");
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(found == wanted, "docs/envoy-compatibility.md is out of date; run UPDATE_DOCS=1 cargo test -p wire");
}
