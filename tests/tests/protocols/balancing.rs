//! Which hosts requests go to, in Envoy and in Ripstop: exactly the same where keys are hashed, as many elsewhere.

use crate::support::{BOTH, Kind, Proxy, http};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tests::backend::{Backend, Log};
use tests::client::{Answer, exchange};
use tests::process::get;

/// Hosts, in the order in which clusters have them.
const HOSTS: [&str; 6] = ["h0", "h1", "h2", "h3", "h4", "h5"];

struct Setting {
    _backends: Vec<Backend>,
    log: Log,
    proxies: Vec<Proxy>,
}

/// A cluster: its name, fields, and localities. A locality is its fields and the fields of its hosts; hosts are taken in
/// order.
type Group = (&'static str, &'static [&'static str]);
type Described = (&'static str, &'static str, &'static [Group]);

const PLAIN: &[Group] = &[("", &["", "", "", "", "", ""])];
const HEAVY: &[Group] = &[(
    "",
    &["load_balancing_weight: 1", "load_balancing_weight: 2", "load_balancing_weight: 3", "load_balancing_weight: 9"],
)];
const KEYED: &[Group] = &[("", &[KEY0, KEY1, KEY2])];
const KEY0: &str = "metadata: { filter_metadata: { envoy.lb: { hash_key: zero } } }";
const KEY1: &str = "metadata: { filter_metadata: { envoy.lb: { hash_key: one } } }";
const KEY2: &str = "metadata: { filter_metadata: { envoy.lb: { hash_key: two } } }";
const ZONES: &[Group] = &[
    ("locality: { zone: a }, load_balancing_weight: 1", &["", ""]),
    ("locality: { zone: b }, load_balancing_weight: 3", &["", ""]),
];
const UNWEIGHTED: &[Group] = &[("locality: { zone: a }", &["", ""]), ("locality: { zone: b }", &[""])];
const DOWN: &str = "health_status: UNHEALTHY";
const WEAK: &str = "health_status: DEGRADED";
const PROD: &str = "metadata: { filter_metadata: { envoy.lb: { stage: prod, version: 1, id: 7 } } }";
const PROD2: &str = "metadata: { filter_metadata: { envoy.lb: { stage: prod, version: 2 } } }";
const DEV: &str = "metadata: { filter_metadata: { envoy.lb: { stage: dev, version: [2, 3], id: 7 } } }";
const STAGES: &[Group] = &[("", &[PROD, PROD2, DEV, ""])];
const SUBSETS: &str = "lb_subset_config: { fallback_policy: DEFAULT_SUBSET, default_subset: { stage: dev }, list_as_any: \
    true, subset_selectors: [{ keys: [stage], fallback_policy: NO_FALLBACK }, { keys: [stage, version], fallback_policy: \
    KEYS_SUBSET, fallback_keys_subset: [stage] }, { keys: [version] }, { keys: [id], single_host_per_subset: true }] }";
const MAGLEV: &str = "lb_policy: MAGLEV";
const RING: &str = "lb_policy: RING_HASH";
const WEIGHTED: &str = "common_lb_config: { locality_weighted_lb_config: {} }";
const EXTENSION: &str = "load_balancing_policy: { policies: [{ typed_extension_config: { name: x, typed_config: { \"@type\": \
    type.googleapis.com/envoy.extensions.load_balancing_policies.";

/// Keys decide alone: the same hosts in both.
const HASHED: &[Described] = &[
    ("ring", RING, PLAIN),
    ("ring-murmur", "lb_policy: RING_HASH, ring_hash_lb_config: { hash_function: MURMUR_HASH_2 }", PLAIN),
    ("ring-small", "lb_policy: RING_HASH, ring_hash_lb_config: { minimum_ring_size: 3, maximum_ring_size: 7 }", PLAIN),
    (
        "ring-heavy",
        "lb_policy: RING_HASH, ring_hash_lb_config: { minimum_ring_size: 37, maximum_ring_size: 50 }",
        HEAVY,
    ),
    ("ring-keyed", RING, KEYED),
    ("ring-zones", "lb_policy: RING_HASH, WEIGHTED", ZONES),
    ("ring-priorities", RING, &[("", &["", DOWN]), ("priority: 1", &["", ""])]),
    ("ring-panic", RING, &[("", &["", DOWN, DOWN, DOWN])]),
    ("ring-new", "EXTENSIONring_hash.v3.RingHash, minimum_ring_size: 100 } } }] }", PLAIN),
    ("maglev", MAGLEV, PLAIN),
    ("maglev-small", "lb_policy: MAGLEV, maglev_lb_config: { table_size: 251 }", PLAIN),
    ("maglev-heavy", "lb_policy: MAGLEV, maglev_lb_config: { table_size: 1009 }", HEAVY),
    ("maglev-keyed", MAGLEV, KEYED),
    ("maglev-zones", "lb_policy: MAGLEV, WEIGHTED", ZONES),
    ("maglev-priorities", MAGLEV, &[("", &["", "", DOWN]), ("priority: 1", &["", ""])]),
    ("maglev-new", "EXTENSIONmaglev.v3.Maglev, table_size: 503 } } }] }", PLAIN),
    ("maglev-stages", "lb_policy: MAGLEV, SUBSETS", STAGES),
];

/// Each host gets as much in both.
const SHARED: &[Described] = &[
    ("turns", "lb_policy: ROUND_ROBIN", HEAVY),
    ("least", "lb_policy: LEAST_REQUEST", HEAVY),
    ("random", "lb_policy: RANDOM", PLAIN),
    ("priorities", "lb_policy: ROUND_ROBIN", &[("", &["", DOWN]), ("priority: 1", &["", ""])]),
    ("three", "lb_policy: RANDOM", &[("", &["", DOWN, DOWN]), ("priority: 1", &["", DOWN]), ("priority: 2", &[""])]),
    ("degraded", "lb_policy: ROUND_ROBIN", &[("", &["", WEAK, WEAK, ""])]),
    ("degraded-first", "lb_policy: ROUND_ROBIN", &[("", &[WEAK, WEAK]), ("priority: 1", &["", DOWN, DOWN])]),
    ("draining", "lb_policy: ROUND_ROBIN", &[("", &["health_status: DRAINING", "", "health_status: TIMEOUT", "", ""])]),
    ("panic", "lb_policy: ROUND_ROBIN", &[("", &["", DOWN, DOWN])]),
    ("panic-both", "lb_policy: RANDOM", &[("", &[DOWN, DOWN, DOWN]), ("priority: 1", &[DOWN])]),
    (
        "no-panic",
        "lb_policy: ROUND_ROBIN, common_lb_config: { healthy_panic_threshold: { value: 0 } }",
        &[("", &["", DOWN, DOWN])],
    ),
    (
        "panic-fails",
        "lb_policy: ROUND_ROBIN, common_lb_config: { zone_aware_lb_config: { fail_traffic_on_panic: true } }",
        &[("", &["", DOWN, DOWN])],
    ),
    ("zones-weighted", "lb_policy: ROUND_ROBIN, WEIGHTED", ZONES),
    (
        "zones-weighted-down",
        "lb_policy: ROUND_ROBIN, WEIGHTED",
        &[
            ("locality: { zone: a }, load_balancing_weight: 1", &["", ""]),
            ("locality: { zone: b }, load_balancing_weight: 3", &["", DOWN]),
        ],
    ),
    (
        "zones-new",
        "EXTENSIONround_robin.v3.RoundRobin, locality_lb_config: { locality_weighted_lb_config: {} } } } }] }",
        ZONES,
    ),
    (
        "zones-aware",
        "lb_policy: ROUND_ROBIN, common_lb_config: { zone_aware_lb_config: { min_cluster_size: 1 } }",
        &[("locality: { zone: b }", &["", "", ""]), ("locality: { zone: a }", &[""])],
    ),
    (
        "zones-direct",
        "lb_policy: ROUND_ROBIN, common_lb_config: { zone_aware_lb_config: { min_cluster_size: 1 } }",
        &[("locality: { zone: b }", &[""]), ("locality: { zone: a }", &["", "", "", ""])],
    ),
    (
        "zones-small",
        "lb_policy: ROUND_ROBIN",
        &[("locality: { zone: b }", &["", ""]), ("locality: { zone: a }", &["", ""])],
    ),
    ("zones-unweighted", "lb_policy: ROUND_ROBIN, WEIGHTED", UNWEIGHTED),
    ("zones-unweighted-ring", "lb_policy: RING_HASH, WEIGHTED", UNWEIGHTED),
    ("stages", "lb_policy: ROUND_ROBIN, SUBSETS", STAGES),
    (
        "stages-any",
        "lb_policy: ROUND_ROBIN, lb_subset_config: { fallback_policy: ANY_ENDPOINT, subset_selectors: [{ keys: [stage] }] }",
        STAGES,
    ),
    ("stages-none", "lb_policy: ROUND_ROBIN, lb_subset_config: { subset_selectors: [{ keys: [stage] }] }", STAGES),
    (
        "stages-panic",
        "lb_policy: ROUND_ROBIN, lb_subset_config: { fallback_policy: DEFAULT_SUBSET, default_subset: { stage: none }, panic_mode_any: true, subset_selectors: [{ keys: [stage] }] }",
        STAGES,
    ),
];

/// What else a route to one of the clusters asks for, below its own path.
const ROUTES: &[(&str, &str, &str)] = &[
    (
        "turned",
        "maglev",
        "hash_policy: [{ header: { header_name: x-key, regex_rewrite: { pattern: { regex: '-.*' }, substitution: '' } } }]",
    ),
    ("two", "maglev", "hash_policy: [{ header: { header_name: x-key } }, { query_parameter: { name: q } }]"),
    (
        "terminal",
        "maglev",
        "hash_policy: [{ header: { header_name: x-key }, terminal: true }, { query_parameter: { name: q } }]",
    ),
    ("query", "ring", "hash_policy: [{ query_parameter: { name: q } }]"),
    ("cookie", "ring", "hash_policy: [{ cookie: { name: sid } }]"),
    (
        "baked",
        "ring",
        "hash_policy: [{ cookie: { name: sid, ttl: 60s, path: /baked, attributes: [{ name: SameSite, value: Strict }, { name: Secure }] } }]",
    ),
    ("session", "ring", "hash_policy: [{ cookie: { name: sid, ttl: 0s } }]"),
    ("source", "ring", "hash_policy: [{ connection_properties: { source_ip: true } }]"),
    ("prod", "stages", "metadata_match: { filter_metadata: { envoy.lb: { stage: prod } } }"),
    ("prod-1", "stages", "metadata_match: { filter_metadata: { envoy.lb: { stage: prod, version: 1 } } }"),
    ("prod-9", "stages", "metadata_match: { filter_metadata: { envoy.lb: { stage: prod, version: 9 } } }"),
    ("none", "stages", "metadata_match: { filter_metadata: { envoy.lb: { stage: none } } }"),
    ("version-2", "stages", "metadata_match: { filter_metadata: { envoy.lb: { version: 2 } } }"),
    ("version-9", "stages", "metadata_match: { filter_metadata: { envoy.lb: { version: 9 } } }"),
    ("unknown", "stages", "metadata_match: { filter_metadata: { envoy.lb: { color: red } } }"),
    ("any-unknown", "stages-any", "metadata_match: { filter_metadata: { envoy.lb: { color: red } } }"),
    ("none-unknown", "stages-none", "metadata_match: { filter_metadata: { envoy.lb: { color: red } } }"),
    (
        "leaving",
        "leaving",
        "retry_policy: { retry_on: 5xx, num_retries: 3, retry_back_off: { base_interval: 0.001s }, retry_priority: { name: envoy.retry_priorities.previous_priorities, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig, update_frequency: 1 } } }",
    ),
    (
        "omitting",
        "omitting",
        "retry_policy: { retry_on: 5xx, num_retries: 2, retry_back_off: { base_interval: 0.001s }, host_selection_retry_max_attempts: 30, retry_host_predicate: [{ name: envoy.retry_host_predicates.omit_host_metadata, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.retry.host.omit_host_metadata.v3.OmitHostMetadataConfig, metadata_match: { filter_metadata: { envoy.lb: { stage: prod } } } } }] }",
    ),
];

const OTHERS: &[Described] = &[
    ("one", "", &[("", &[""])]),
    ("two", "", &[("", &[DOWN, ""])]),
    ("leaving", "lb_policy: ROUND_ROBIN", &[("", &[""]), ("priority: 1", &[""]), ("priority: 2", &[""])]),
    ("omitting", "lb_policy: ROUND_ROBIN", &[("", &[PROD, PROD2, DEV])]),
];

/// The proxies' own cluster: two in zone a, two in zone b.
const LOCAL: Described = ("local", "", &[("locality: { zone: a }", &["", ""]), ("locality: { zone: b }", &["", ""])]);

fn cluster((name, fields, groups): &Described, backends: &[Backend]) -> String {
    let mut next = backends.iter();
    let mut host = |fields: &&str| {
        let backend = next.next().expect("enough backends");
        let socket = format!("socket_address: {{ address: 127.0.0.1, port_value: {} }}", backend.port);
        let fields = if fields.is_empty() { String::new() } else { format!(", {fields}") };
        format!("{{ endpoint: {{ address: {{ {socket} }} }}{fields} }}")
    };
    let mut locality = |(fields, hosts): &Group| {
        let hosts: Vec<String> = hosts.iter().map(&mut host).collect();
        let fields = if fields.is_empty() { String::new() } else { format!(", {fields}") };
        format!("{{ lb_endpoints: [{}]{fields} }}", hosts.join(", "))
    };
    let localities: Vec<String> = groups.iter().map(&mut locality).collect();
    let fields = fields.replace("EXTENSION", EXTENSION).replace("WEIGHTED", WEIGHTED).replace("SUBSETS", SUBSETS);
    let fields = if fields.is_empty() { fields } else { format!(", {fields}") };
    format!(
        "- {{ name: {name}, type: STATIC, connect_timeout: 1s{fields}, load_assignment: {{ cluster_name: {name}, \
         endpoints: [{}] }} }}\n",
        localities.join(", ")
    )
}

fn start() -> Setting {
    let log: Log = Arc::new(Mutex::new(Vec::new()));
    let backends: Vec<Backend> = HOSTS.iter().map(|name| Backend::start(name, &log)).collect();
    let all = || HASHED.iter().chain(SHARED).chain(OTHERS).chain([&LOCAL]);
    let clusters: String = all().map(|described| cluster(described, &backends)).collect();
    let mut routes: String = ROUTES
        .iter()
        .map(|(path, cluster, fields)| {
            format!("- {{ match: {{ path: /as/{path} }}, route: {{ cluster: {cluster}, {fields} }} }}\n")
        })
        .collect();
    let weights = "clusters: [{ name: one, weight: 3 }, { name: two, weight: 1 }], use_hash_policy: true";
    let policy = "hash_policy: [{ header: { header_name: x-key } }]";
    routes.push_str(&format!(
        "- {{ match: {{ path: /as/weighted }}, route: {{ weighted_clusters: {{ {weights} }}, {policy} }} }}\n"
    ));
    for (name, ..) in all() {
        let policy = "hash_policy: [{ header: { header_name: x-key } }]";
        routes.push_str(&format!("- {{ match: {{ path: /{name} }}, route: {{ cluster: {name}, {policy} }} }}\n"));
    }
    let config = http("", &routes, &clusters)
        + "node: { id: test, cluster: test, locality: { zone: a } }\ncluster_manager: { local_cluster_name: local }\n";
    let proxies = BOTH.map(|kind| Proxy::start(kind, "balancing", &config)).into();
    Setting { _backends: backends, log, proxies }
}

/// Requests on one connection, one after the other.
fn send(proxy: &Proxy, requests: &[String]) -> Vec<Answer> {
    exchange(proxy.port, requests.concat().as_bytes(), requests.len())
}

fn request(path: &str, headers: &[&str]) -> String {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    format!("GET {path} HTTP/1.1\r\nHost: test\r\n{headers}\r\n")
}

/// Who answered, or the status without a backend.
fn host(answer: &Answer) -> String {
    let backend = answer.headers.iter().find(|(name, _)| name == "x-backend").map(|(_, value)| value.clone());
    backend.unwrap_or_else(|| answer.status.to_string())
}

fn both(setting: &Setting, requests: &[String]) -> [Vec<Answer>; 2] {
    std::thread::scope(|scope| {
        let envoy = scope.spawn(|| send(&setting.proxies[0], requests));
        let ours = send(&setting.proxies[1], requests);
        [envoy.join().expect("no panic"), ours]
    })
}

#[test]
fn requests_go_where_envoy_sends_them() {
    assert_eq!(BOTH, [Kind::Envoy, Kind::Ripstop]);
    let setting = start();
    let mut wrong = Vec::new();
    same_keys_same_hosts(&setting, &mut wrong);
    same_shares(&setting, &mut wrong);
    cookies(&setting, &mut wrong);
    retries(&setting, &mut wrong);
    statistics(&setting, &mut wrong);
    assert!(wrong.is_empty(), "Envoy on the left, Ripstop on the right\n{}", wrong.join("\n"));
}

fn same_keys_same_hosts(setting: &Setting, wrong: &mut Vec<String>) {
    const KEYS: usize = 64;
    let as_paths = ["turned", "two", "terminal", "query", "cookie", "weighted"].map(|path| format!("as/{path}"));
    let plain = HASHED.iter().map(|(name, ..)| name.to_string()).filter(|name| *name != "maglev-stages");
    for path in plain.chain(as_paths) {
        let each = |key: usize| {
            let key = if path.ends_with("turned") { format!("key{}-{key}", key / 2) } else { format!("key-{key}") };
            let path = format!("/{path}?p=1&q=v{key}&q=w");
            request(&path, &[&format!("x-key: {key}"), &format!("cookie: a=b; sid=\"{key}\"; c=d")])
        };
        let requests: Vec<String> = (0..KEYS).map(each).collect();
        let [envoy, ours] = both(setting, &requests).map(|answers| answers.iter().map(host).collect::<Vec<_>>());
        if envoy != ours {
            wrong.push(format!("{path}: {}\n    | {}", envoy.join(" "), ours.join(" ")));
        }
        assert!(envoy.len() == KEYS && envoy.iter().any(|host| *host != envoy[0]), "{path}: {envoy:?}");
    }
    // Several values of a header, and what is the same for all requests.
    let requests = [
        request("/maglev", &["x-key: b", "x-key: a"]),
        request("/maglev", &["x-key: a", "x-key: b"]),
        request("/as/source", &[]),
        request("/as/source", &["x-forwarded-for: 192.0.2.9"]),
    ];
    let [envoy, ours] = both(setting, &requests).map(|answers| answers.iter().map(host).collect::<Vec<_>>());
    if envoy != ours {
        wrong.push(format!("values: {envoy:?} | {ours:?}"));
    }
}

/// Percent of the requests by who answered.
fn shares(answers: &[Answer]) -> BTreeMap<String, i64> {
    let mut counts = BTreeMap::new();
    answers.iter().for_each(|answer| *counts.entry(host(answer)).or_default() += 1);
    counts.values_mut().for_each(|count: &mut i64| *count = *count * 100 / answers.len() as i64);
    counts
}

fn same_shares(setting: &Setting, wrong: &mut Vec<String>) {
    const REQUESTS: usize = 1000;
    // Five times what chance moves a share of a half by.
    const TOLERANCE: i64 = 9;
    let by_subset = ROUTES.iter().filter(|(_, cluster, _)| cluster.starts_with("stages"));
    let by_subset = by_subset.map(|(path, ..)| format!("as/{path}"));
    for path in SHARED.iter().map(|(name, ..)| name.to_string()).chain(by_subset) {
        let one = request(&format!("/{path}"), &[]);
        let first = both(setting, std::slice::from_ref(&one));
        // Where there is no host, one answer is like another.
        let hopeless = first.iter().all(|answers| host(&answers[0]) == "503");
        let answers = if hopeless { first } else { both(setting, &vec![one; REQUESTS]) };
        let [envoy, ours] = answers.map(|answers| shares(&answers));
        let share = |shares: &BTreeMap<String, i64>, host: &str| shares.get(host).copied().unwrap_or(0);
        let near = |host: &&String| (share(&envoy, host) - share(&ours, host)).abs() <= TOLERANCE;
        if !envoy.keys().chain(ours.keys()).all(|host| near(&host)) || !envoy.keys().eq(ours.keys()) {
            wrong.push(format!("{path}: {envoy:?} | {ours:?}"));
        }
    }
}

/// A client without a cookie gets one, and stays with its host.
fn cookies(setting: &Setting, wrong: &mut Vec<String>) {
    let mut forms = Vec::new();
    for proxy in &setting.proxies {
        let mut seen = Vec::new();
        for path in ["/as/baked", "/as/session", "/as/cookie"] {
            let first = &send(proxy, &[request(path, &[])])[0];
            let set = first.headers.iter().find(|(name, _)| name == "set-cookie").map(|(_, value)| value.clone());
            let Some(set) = set else {
                seen.push(format!("{path}: no cookie"));
                continue;
            };
            let value = set.split('"').nth(1).unwrap_or_default().to_string();
            seen.push(format!("{path}: {} of {}", set.replace(&value, "VALUE"), value.len()));
            let again = send(proxy, &vec![request(path, &[&format!("cookie: sid={value}")]); 5]);
            assert!(again.iter().all(|answer| host(answer) == host(first)), "{path}");
            assert!(again.iter().all(|answer| answer.headers.iter().all(|(name, _)| name != "set-cookie")), "{path}");
        }
        forms.push(seen);
    }
    if forms[0] != forms[1] {
        wrong.push(format!("cookies: {:?}\n    | {:?}", forms[0], forms[1]));
    }
}

/// Which hosts the attempts of one request went to.
fn retries(setting: &Setting, wrong: &mut Vec<String>) {
    let attempts = |proxy: &Proxy, path: &str| {
        setting.log.lock().expect("no panic").clear();
        send(proxy, &[request(path, &["x-answer: status=503"])]);
        let seen = std::mem::take(&mut *setting.log.lock().expect("no panic"));
        seen.into_iter().map(|seen| seen.backend).collect::<Vec<_>>()
    };
    let [envoy, ours] = [0, 1].map(|proxy| attempts(&setting.proxies[proxy], "/as/leaving"));
    if envoy != ours {
        wrong.push(format!("leaving priorities: {envoy:?} | {ours:?}"));
    }
    for proxy in &setting.proxies {
        for _ in 0..6 {
            let hosts = attempts(proxy, "/as/omitting");
            assert!(hosts.len() == 3 && hosts[1..].iter().all(|host| host == "h2"), "omitting: {hosts:?}");
        }
    }
}

/// The counters of balancing are the same after the same requests, where chance does not move them.
fn statistics(setting: &Setting, wrong: &mut Vec<String>) {
    // Envoy's main thread balances too, so what is counted at every change of hosts is not compared.
    const NAMES: [&str; 9] = [
        "panic.lb_healthy_panic",
        "panic.membership_total",
        "panic.membership_healthy",
        "degraded.membership_degraded",
        "stages.lb_subsets_selected",
        "stages.lb_subsets_fallback",
        "stages-panic.lb_subsets_fallback_panic",
        "zones-direct.lb_zone_routing_all_directly",
        "none.none",
    ];
    let read = |proxy: &Proxy| {
        let text = get(proxy.admin, "/stats").expect("statistics");
        let find = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(&format!("cluster.{name}:")));
            line.map_or("none", |line| line.rsplit(' ').next().unwrap_or_default()).to_string()
        };
        NAMES.map(find)
    };
    let [envoy, ours] = [0, 1].map(|proxy| read(&setting.proxies[proxy]));
    for ((name, envoy), ours) in NAMES.iter().zip(&envoy).zip(&ours) {
        if envoy != ours {
            wrong.push(format!("{name}: {envoy} | {ours}"));
        }
    }
}

/// All connections of a client reach one host, the same in both.
#[test]
fn connections_by_source_address() {
    let log: Log = Arc::new(Mutex::new(Vec::new()));
    let backends: Vec<Backend> = HOSTS.iter().map(|name| Backend::start(name, &log)).collect();
    let config = format!(
        "admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {{ADMIN}} }} }} }}\nstatic_resources:\n  \
         listeners:\n  - {{ name: tcp, address: {{ socket_address: {{ address: 127.0.0.1, port_value: {{PORT}} }} }}, \
         filter_chains: [{{ filters: [{{ name: tcp, typed_config: {{ \"@type\": \
         type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: tcp, cluster: hashed, \
         hash_policy: [{{ source_ip: {{}} }}] }} }}] }}] }}\n  clusters:\n  {}",
        cluster(&("hashed", MAGLEV, PLAIN), &backends)
    );
    let reached = BOTH.map(|kind| {
        let proxy = Proxy::start(kind, "by-source", &config);
        let each = (0..6).map(|_| host(&exchange(proxy.port, request("/", &[]).as_bytes(), 1)[0]));
        each.collect::<Vec<String>>()
    });
    assert_eq!(reached[0], reached[1]);
    assert!(reached[1].iter().all(|host| *host == reached[1][0] && host.starts_with('h')), "{reached:?}");
}
