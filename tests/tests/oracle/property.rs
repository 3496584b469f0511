//! Generated route tables and requests: no difference between Envoy and Ripstop. The tables come as files by RDS, so that
//! both proxies run on; a difference is made smaller before it is shown.
//!
//! `PROPERTY_SEED` repeats a run, `PROPERTY_TABLES` makes it longer or shorter.

use crate::generate::Generator;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tests::ask::Ask;
use tests::backend::{Backend, Log};
use tests::client;
use tests::compare::{Outcome, describe, differences};
use tests::peers;
use tests::process::{Process, ports, scratch};

const TABLES: usize = 60;
const REQUESTS: usize = 50;
/// Reductions tried for one difference.
const PATIENCE: usize = 150;

/// A proxy that reads its route table from a file.
struct Side {
    _process: Process,
    port: u16,
    file: PathBuf,
    log: Log,
    backends: BTreeMap<&'static str, u16>,
    version: u32,
}

impl Side {
    fn start(name: &str, folder: &Path, envoy: bool) -> Side {
        let log: Log = Arc::new(Mutex::new(Vec::new()));
        let backends: BTreeMap<&'static str, u16> =
            ["a", "b", "c"].into_iter().map(|name| (name, Backend::start(name, &log).port)).collect();
        let [port, admin] = ports();
        let inner = folder.join(name);
        std::fs::create_dir_all(&inner).expect("a folder");
        let file = inner.join("routes.json");
        let bootstrap = inner.join("bootstrap.json");
        std::fs::write(&bootstrap, bootstrap_of(port, admin, &file, &backends).to_string()).expect("a bootstrap");
        std::fs::write(&file, resource(&json!({"name": "table"}), 0)).expect("a table");
        let config = bootstrap.display().to_string();
        let mut process = if envoy {
            let arguments = ["-c", &config, "--concurrency", "1", "-l", "error", "--use-dynamic-base-id"];
            Process::start(name, folder, &peers::envoy(), &arguments)
        } else {
            let arguments = ["proxy", "-c", &config, "--concurrency", "1", "-l", "error"];
            Process::start(name, folder, &peers::ripstop(), &arguments)
        };
        process.ready(admin);
        Side { _process: process, port, file, log, backends, version: 0 }
    }

    /// Puts `table` in force; false when it is refused.
    fn load(&mut self, table: &Value, patience: Duration) -> bool {
        self.version += 1;
        let next = self.file.with_extension("next");
        std::fs::write(&next, resource(table, self.version)).expect("a table");
        std::fs::rename(&next, &self.file).expect("the same folder");
        let start = Instant::now();
        let wanted = self.version.to_string();
        while start.elapsed() < patience {
            let raw = b"GET / HTTP/1.1\r\nHost: marker.test\r\n\r\n";
            if client::quick(self.port, raw).body == wanted.as_bytes() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        false
    }

    fn ask(&self, ask: &Ask) -> Vec<String> {
        self.log.lock().expect("no panic").clear();
        let answer = client::quick(self.port, &ask.http1());
        let seen = std::mem::take(&mut *self.log.lock().expect("no panic"));
        let mut labels: Vec<(String, &str)> = vec![(self.port.to_string(), "PORT")];
        labels.extend(self.backends.iter().map(|(name, port)| (port.to_string(), *name)));
        describe(&Outcome { answers: vec![answer], seen }, &labels)
    }
}

/// What a file of `path_config_source` holds. A host of its own tells which version is in force.
fn resource(table: &Value, version: u32) -> String {
    let mut table = table.clone();
    table["@type"] = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration".into();
    let marker = json!({
        "name": "marker",
        "domains": ["marker.test"],
        "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": version.to_string()}}}],
    });
    match table["virtual_hosts"].as_array_mut() {
        Some(hosts) => hosts.push(marker),
        None => table["virtual_hosts"] = json!([marker]),
    }
    json!({"version_info": version.to_string(), "resources": [table]}).to_string()
}

fn bootstrap_of(port: u16, admin: u16, routes: &Path, backends: &BTreeMap<&'static str, u16>) -> Value {
    let address = |port: u16| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let clusters: Vec<Value> = backends
        .iter()
        .map(|(name, port)| {
            let endpoint = json!({"endpoint": {"address": address(*port)}});
            json!({"name": name, "type": "STATIC", "connect_timeout": "1s",
                "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}})
        })
        .collect();
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "test",
        "rds": {"route_config_name": "table", "config_source": {"path_config_source": {"path": routes}}},
        "http_filters": [{"name": "router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
    });
    json!({
        "node": {"id": "test", "cluster": "test"},
        "admin": {"address": address(admin)},
        "static_resources": {
            "listeners": [{"name": "test", "address": address(port),
                "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}]}],
            "clusters": clusters,
        },
    })
}

struct Pair {
    envoy: Side,
    ours: Side,
}

impl Pair {
    /// False when either refuses the table; both must.
    fn load(&mut self, table: &Value, patience: Duration) -> [bool; 2] {
        std::thread::scope(|scope| {
            let theirs = scope.spawn(|| self.envoy.load(table, patience));
            let mine = self.ours.load(table, patience);
            [theirs.join().expect("no panic"), mine]
        })
    }

    fn differences(&self, ask: &Ask) -> Vec<String> {
        std::thread::scope(|scope| {
            let theirs = scope.spawn(|| self.envoy.ask(ask));
            let mine = self.ours.ask(ask);
            differences(&theirs.join().expect("no panic"), &mine)
        })
    }

    /// The smallest table found that still shows a difference for `ask`.
    fn shrink(&mut self, table: Value, ask: &Ask) -> (Value, Vec<String>) {
        let mut best = (table, Vec::new());
        let mut tries = 0;
        loop {
            let smaller = reductions(&best.0).into_iter().find_map(|candidate| {
                tries += 1;
                if tries > PATIENCE || self.load(&candidate, Duration::from_millis(400)) != [true, true] {
                    return None;
                }
                let lines = self.differences(ask);
                (!lines.is_empty()).then_some((candidate, lines))
            });
            match smaller {
                Some(found) => best = found,
                None => return best,
            }
        }
    }
}

/// The value without one of its parts, larger parts first.
fn reductions(value: &Value) -> Vec<Value> {
    let mut out = Vec::new();
    match value {
        Value::Array(items) => {
            for index in 0..items.len() {
                let mut rest = items.clone();
                rest.remove(index);
                out.push(Value::Array(rest));
            }
            for (index, item) in items.iter().enumerate() {
                for smaller in reductions(item) {
                    let mut changed = items.clone();
                    changed[index] = smaller;
                    out.push(Value::Array(changed));
                }
            }
        }
        Value::Object(fields) => {
            // What a message cannot do without only costs a try.
            for name in fields.keys().filter(|name| !matches!(name.as_str(), "name" | "domains" | "match")) {
                let mut rest = fields.clone();
                rest.remove(name);
                out.push(Value::Object(rest));
            }
            for (name, field) in fields {
                for smaller in reductions(field) {
                    let mut changed = fields.clone();
                    changed[name] = smaller;
                    out.push(Value::Object(changed));
                }
            }
        }
        _ => {}
    }
    out
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn generated_tables_route_alike() {
    let seed = number("PROPERTY_SEED").unwrap_or_else(|| fastrand::u64(..));
    let tables = number("PROPERTY_TABLES").map_or(TABLES, |count| count as usize);
    println!("PROPERTY_SEED={seed}");
    let folder = scratch("property");
    let mut pair = Pair { envoy: Side::start("envoy", &folder, true), ours: Side::start("ripstop", &folder, false) };
    let mut generator = Generator(fastrand::Rng::with_seed(seed));
    let mut compared = 0;
    for number in 0..tables {
        let table = generator.table();
        let loaded = pair.load(&table, Duration::from_secs(5));
        assert_eq!(loaded, [true, true], "table {number} of seed {seed}: Envoy and Ripstop take it?\n{table:#}");
        let asks: Vec<Ask> = (0..REQUESTS).map(|_| generator.ask(&table)).collect();
        for ask in &asks {
            compared += 1;
            let lines = pair.differences(ask);
            if lines.is_empty() {
                continue;
            }
            let (table, fewer) = pair.shrink(table, ask);
            let lines = if fewer.is_empty() { lines } else { fewer };
            let request = String::from_utf8_lossy(&ask.http1()).into_owned();
            panic!("table {number} of seed {seed}:\n{table:#}\n{request}\n{}", lines.join("\n"));
        }
    }
    println!("{tables} tables, {compared} requests, no difference");
    drop(pair);
    let _ = std::fs::remove_dir_all(&folder);
}
