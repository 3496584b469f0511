//! Makes route tables and requests aimed at them: hits, near misses and odd escapes, from small alphabets so that they
//! meet often.

use fastrand::Rng;
use serde_json::{Value, json};
use tests::ask::Ask;

const SEGMENTS: [&str; 10] = ["a", "b", "ab", "A", "c1", "7", "42", "x.y", "a%20b", "~"];
const ODD: [&str; 14] = ["%2F", "%61", "..", ".", "", "a;v=1", "a=b", "%", "%zz", "a%2Fb", "a:b", "a@b", "a,b", "a+b"];
const REGEXES: [&str; 10] = [
    "/a+",
    "/(a|b)/.*",
    "/[a-c]+[0-9]?",
    "/a/[0-9]+",
    "/.*",
    "/a/b|/b/a",
    "(?i)/AB.*",
    "/[^/]+/[^/]+",
    "/a(/.*)?",
    "/\\w+",
];
const VALUES: [&str; 9] = ["one", "two", "ONE", "1", "5", "-3", "one,two", "", "on"];
const HEADERS: [&str; 4] = ["x-a", "x-b", "x-n", "content-type"];
const PARAMETERS: [&str; 3] = ["p", "q", "r"];
const HOSTS: [&str; 12] = [
    "test",
    "TEST",
    "a.example",
    "b.a.example",
    "example",
    "a.com",
    "a.example:80",
    "test:80",
    "other",
    ".example",
    "a.",
    "x-a.example",
];
const DOMAINS: [&str; 10] =
    ["test", "*.example", "a.*", "*", "a.example:80", "*-a.example", "example", "test:*", "*.a.example", "a.c*"];

pub(crate) struct Generator(pub(crate) Rng);

impl Generator {
    fn pick<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.0.usize(..all.len())]
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.0.u32(..100) < percent
    }

    fn path(&mut self) -> String {
        let mut path = String::new();
        for _ in 0..self.0.usize(1..4) {
            path.push('/');
            path.push_str(self.pick(&SEGMENTS));
        }
        path
    }

    /// A table without anything random at run time.
    pub(crate) fn table(&mut self) -> Value {
        let mut domains: Vec<&str> = DOMAINS.to_vec();
        self.0.shuffle(&mut domains);
        let count = self.0.usize(1..4);
        let hosts = (0..count).map(|number| {
            let mut own = vec![domains.pop().expect("enough")];
            if self.chance(50) {
                own.push(domains.pop().expect("enough"));
            }
            let routes: Vec<Value> = (0..self.0.usize(1..9)).map(|_| self.route()).collect();
            let mut host = json!({"name": format!("host{number}"), "domains": own, "routes": routes});
            self.edits(&mut host, 25);
            if self.chance(15) {
                host["include_request_attempt_count"] = true.into();
            }
            host
        });
        let hosts: Vec<Value> = hosts.collect();
        let mut table = json!({"name": "table", "virtual_hosts": hosts});
        self.edits(&mut table, 25);
        for option in [
            "most_specific_header_mutations_wins",
            "ignore_port_in_host_matching",
            "ignore_path_parameters_in_path_matching",
        ] {
            if self.chance(25) {
                table[option] = true.into();
            }
        }
        table
    }

    fn route(&mut self) -> Value {
        let mut matched = json!({});
        let path = self.path();
        match self.0.u32(..10) {
            0..4 => matched["prefix"] = self.prefix(path).into(),
            4..6 => matched["path"] = path.into(),
            6..8 => matched["path_separated_prefix"] = path.into(),
            _ => matched["safe_regex"] = json!({"regex": self.pick(&REGEXES)}),
        }
        if matched.get("safe_regex").is_none() && self.chance(20) {
            matched["case_sensitive"] = false.into();
        }
        if self.chance(30) {
            matched["headers"] = (0..self.0.usize(1..3)).map(|_| self.header()).collect();
        }
        if self.chance(20) {
            matched["query_parameters"] = json!([self.parameter()]);
        }
        if self.chance(10) {
            let (wanted, invert) = (self.text(), self.chance(30));
            matched["cookies"] = json!([{"name": "s", "string_match": wanted, "invert_match": invert}]);
        }
        let mut route = json!({"match": matched});
        match self.0.u32(..10) {
            0..7 => route["route"] = self.forward(),
            7..9 => route["redirect"] = self.redirect(),
            _ => {
                let status = [200, 201, 204, 404, 503][self.0.usize(..5)];
                route["direct_response"] = json!({"status": status, "body": {"inline_string": self.pick(&VALUES)}});
            }
        }
        self.edits(&mut route, 30);
        route
    }

    /// Sometimes ends in the middle of a segment, or at the root.
    fn prefix(&mut self, path: String) -> String {
        match self.0.u32(..4) {
            0 => "/".into(),
            1 => format!("{path}/"),
            _ => path,
        }
    }

    fn text(&mut self) -> Value {
        let value = self.pick(&VALUES);
        let start = if value.is_empty() { "o" } else { &value[..1] };
        let ignore = self.chance(25);
        match self.0.u32(..5) {
            0 => json!({"exact": value, "ignore_case": ignore}),
            1 => json!({"prefix": start, "ignore_case": ignore}),
            2 => json!({"suffix": "e", "ignore_case": ignore}),
            3 => json!({"contains": "n", "ignore_case": ignore}),
            _ => json!({"safe_regex": {"regex": "[a-z]+|[0-9]"}}),
        }
    }

    fn header(&mut self) -> Value {
        let mut header = match self.0.u32(..4) {
            0 => json!({"name": self.pick(&HEADERS), "present_match": self.chance(70)}),
            1 => json!({"name": self.pick(&HEADERS), "range_match": {"start": -5, "end": 6}}),
            2 => json!({"name": ":method", "string_match": {"exact": self.pick(&["GET", "POST"])}}),
            _ => json!({"name": self.pick(&HEADERS), "string_match": self.text()}),
        };
        if self.chance(20) {
            header["invert_match"] = true.into();
        }
        if self.chance(15) {
            header["treat_missing_header_as_empty"] = true.into();
        }
        header
    }

    fn parameter(&mut self) -> Value {
        match self.chance(40) {
            true => json!({"name": self.pick(&PARAMETERS), "present_match": true}),
            false => json!({"name": self.pick(&PARAMETERS), "string_match": self.text()}),
        }
    }

    fn forward(&mut self) -> Value {
        let mut forward = json!({});
        if self.chance(15) {
            let mut weights = [0, 0, 0];
            weights[self.0.usize(..3)] = 7;
            let clusters: Vec<Value> = ["a", "b", "c"]
                .iter()
                .zip(weights)
                .map(|(name, weight)| json!({"name": name, "weight": weight}))
                .collect();
            forward["weighted_clusters"] = json!({"clusters": clusters});
        } else {
            forward["cluster"] = self.pick(&["a", "b", "c"]).into();
        }
        match self.0.u32(..10) {
            0 | 1 => forward["prefix_rewrite"] = self.path().into(),
            2 => forward["regex_rewrite"] = substitution(self),
            3 => forward["path_rewrite"] = "/to%REQ(x-a)%".into(),
            _ => {}
        }
        match self.0.u32(..10) {
            0 => forward["host_rewrite_literal"] = "rewritten.test".into(),
            1 => forward["host_rewrite_header"] = "x-a".into(),
            2 => forward["host_rewrite_path_regex"] = substitution(self),
            _ => {}
        }
        if self.chance(10) {
            forward["append_x_forwarded_host"] = true.into();
        }
        forward
    }

    fn redirect(&mut self) -> Value {
        let mut redirect = json!({});
        if self.chance(40) {
            redirect["host_redirect"] = "elsewhere.test".into();
        }
        if self.chance(30) {
            redirect["port_redirect"] = 8443.into();
        }
        match self.0.u32(..4) {
            0 => redirect["https_redirect"] = true.into(),
            1 => redirect["scheme_redirect"] = self.pick(&["ftp", "https", "http"]).into(),
            _ => {}
        }
        match self.0.u32(..6) {
            0 => redirect["path_redirect"] = self.pick(&["/new", "/new?fixed=1", "/"]).into(),
            1 => redirect["prefix_rewrite"] = self.path().into(),
            2 => redirect["regex_rewrite"] = substitution(self),
            3 => redirect["path_rewrite"] = "/to%REQ(x-a)%".into(),
            _ => {}
        }
        if self.chance(30) {
            redirect["strip_query"] = true.into();
        }
        redirect["response_code"] =
            self.pick(&["MOVED_PERMANENTLY", "FOUND", "SEE_OTHER", "PERMANENT_REDIRECT"]).into();
        redirect
    }

    fn edits(&mut self, level: &mut Value, percent: u32) {
        let names = ["x-one", "x-two", "x-a"];
        for side in ["request", "response"] {
            if self.chance(percent) {
                let added = (0..self.0.usize(1..3)).map(|_| {
                    let action = self.pick(&[
                        "APPEND_IF_EXISTS_OR_ADD",
                        "ADD_IF_ABSENT",
                        "OVERWRITE_IF_EXISTS_OR_ADD",
                        "OVERWRITE_IF_EXISTS",
                    ]);
                    let value = self.pick(&["lit", "%REQ(x-b)%", "%REQ(:path)%", "[%PROTOCOL%]", ""]);
                    json!({"header": {"key": self.pick(&names), "value": value}, "append_action": action})
                });
                level[format!("{side}_headers_to_add")] = added.collect();
            }
            if self.chance(percent / 2) {
                level[format!("{side}_headers_to_remove")] = json!([self.pick(&names)]);
            }
        }
    }

    /// Aimed at `table`: mostly a path that some route names, whole or nearly.
    pub(crate) fn ask(&mut self, table: &Value) -> Ask {
        let mut path = match self.chance(65) {
            true => self.aimed(table).unwrap_or_else(|| self.path()),
            false => self.path(),
        };
        match self.0.u32(..8) {
            0 => path.push_str(self.pick(&SEGMENTS)),
            1 => path.push_str(&format!("/{}", self.pick(&ODD))),
            2 => path = format!("/{}{path}", self.pick(&ODD)),
            3 if path.len() > 2 => _ = path.pop(),
            4 => path = path.to_uppercase(),
            _ => {}
        }
        if self.chance(40) {
            let pairs: Vec<String> = (0..self.0.usize(1..4))
                .map(|_| match self.chance(80) {
                    true => format!("{}={}", self.pick(&PARAMETERS), self.pick(&VALUES)),
                    false => self.pick(&PARAMETERS).to_string(),
                })
                .collect();
            path = format!("{path}?{}", pairs.join("&"));
        }
        let mut headers: Vec<(String, String)> = Vec::new();
        for _ in 0..self.0.usize(..4) {
            let (name, value) = (self.pick(&HEADERS).to_string(), self.pick(&VALUES).to_string());
            // Envoy joins several fields of this name, which must not be (RFC 9110 section 5.2).
            if name != "content-type" || headers.iter().all(|(other, _)| *other != name) {
                headers.push((name, value));
            }
        }
        if self.chance(20) {
            let value = self.pick(&VALUES);
            let line = self.pick(&["s=V", "t=1; s=V", "s=\"V\"", "s=V; s=one", "S=V", "s"]).replace('V', value);
            headers.push(("cookie".into(), line));
        }
        if self.chance(20) {
            headers.push(("x-answer".into(), "header=x-one:theirs;header=x-two:theirs".into()));
        }
        let method = self.pick(&["GET", "GET", "GET", "POST", "HEAD", "DELETE"]).to_string();
        let body = if method == "POST" { b"body".to_vec() } else { Vec::new() };
        Ask { method, path, authority: self.pick(&HOSTS).into(), headers, body }
    }

    fn aimed(&mut self, table: &Value) -> Option<String> {
        let routes: Vec<&Value> = table["virtual_hosts"]
            .as_array()?
            .iter()
            .flat_map(|host| host["routes"].as_array().into_iter().flatten())
            .collect();
        let matched = &routes.get(self.0.usize(..routes.len().max(1)))?["match"];
        let named = ["prefix", "path", "path_separated_prefix"].iter().find_map(|kind| matched[*kind].as_str());
        Some(named?.to_string())
    }
}

fn substitution(generator: &mut Generator) -> Value {
    match generator.0.u32(..4) {
        0 => json!({"pattern": {"regex": "^/([^/]+)(.*)$"}, "substitution": "/s\\2/\\1"}),
        1 => json!({"pattern": {"regex": "a"}, "substitution": "o"}),
        2 => json!({"pattern": {"regex": "/[0-9]+"}, "substitution": "/n"}),
        _ => json!({"pattern": {"regex": "^/a(b?)"}, "substitution": "/\\1$1"}),
    }
}
