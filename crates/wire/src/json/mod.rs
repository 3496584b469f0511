//! The protobuf JSON mapping, both ways: YAML or JSON text to messages with errors that say where, and messages
//! to JSON for `/config_dump`.

mod node;
mod read;
mod view;

use crate::problem::{At, FileError, Position, Problems};
use crate::schema::find;
use node::{Node, Value};
use prost::{Message, Name};
use prost_reflect::{DynamicMessage, MessageDescriptor};

pub use view::{view, view_any};

/// A parsed file that can still say where each field stands.
pub struct Document {
    file: String,
    root: Node,
}

impl Document {
    /// Parses YAML or JSON; `file` is named in errors.
    pub fn parse(file: &str, text: &str) -> Result<Self, FileError> {
        Ok(Document { file: file.to_string(), root: node::parse(file, text)? })
    }

    pub fn file(&self) -> &str {
        &self.file
    }

    /// Reads the document as a message of type `M`.
    pub fn read<M: Message + Name + Default>(&self) -> Result<M, FileError> {
        let name = M::full_name();
        let descriptor = find(&name).unwrap_or_else(|| panic!("the schema lacks {name}"));
        let message = self.read_dynamic(&descriptor)?;
        let decoded = M::decode(message.encode_to_vec().as_slice());
        decoded.map_err(|error| self.explain(At::ROOT.problem(format!("is not a {name}: {error}")).into()))
    }

    /// Reads the document as a message that is known by its descriptor only.
    pub fn read_dynamic(&self, descriptor: &MessageDescriptor) -> Result<DynamicMessage, FileError> {
        let mut reader = read::Reader::default();
        let message = reader.message(descriptor, &self.root, &At::ROOT);
        if reader.problems.is_empty() {
            return Ok(message);
        }
        Err(FileError { file: self.file.clone(), problems: reader.problems })
    }

    /// Adds positions to problems that were found in the message read from this document.
    pub fn explain(&self, problems: Problems) -> FileError {
        let mut problems = problems.0;
        for problem in &mut problems {
            problem.position = problem.position.or_else(|| Some(self.locate(&problem.path)));
        }
        FileError { file: self.file.clone(), problems }
    }

    /// Where the field stands, or the nearest thing around it that was written.
    fn locate(&self, path: &str) -> Position {
        let mut node = &self.root;
        let mut position = node.position;
        for step in steps(path) {
            let found = match (&node.value, &step) {
                (Value::List(items), Step::Index(index)) => items.get(*index).map(|item| (item.position, item)),
                // A value alone for a list of one.
                (_, Step::Index(0)) => Some((position, node)),
                (Value::Object(entries), Step::Name(name)) => entries
                    .iter()
                    .find(|(key, _)| key.text == *name || snake_case(&key.text) == *name)
                    .map(|(key, value)| (key.position, value)),
                _ => None,
            };
            let Some((place, next)) = found else { break };
            (position, node) = (place, next);
        }
        position
    }
}

enum Step<'a> {
    Name(&'a str),
    Index(usize),
}

/// `a.b[0].c["x.y"]` taken apart.
fn steps(path: &str) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix("[\"") {
            let (key, after) = quoted.split_once("\"]").unwrap_or((quoted, ""));
            steps.push(Step::Name(key));
            rest = after;
        } else if let Some(index) = rest.strip_prefix('[') {
            let (number, after) = index.split_once(']').unwrap_or((index, ""));
            steps.extend(number.parse().ok().map(Step::Index));
            rest = after;
        } else {
            rest = rest.strip_prefix('.').unwrap_or(rest);
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            steps.push(Step::Name(&rest[..end]));
            rest = &rest[end..];
        }
    }
    steps
}

fn snake_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::envoy::config::bootstrap::v3::Bootstrap;
    use crate::pb::envoy::config::cluster::v3::Cluster;
    use crate::schema::schema;

    fn errors<M: Message + Name + Default>(text: &str) -> Vec<String> {
        let document = Document::parse("f.yaml", text).expect("well-formed");
        let error = document.read::<M>().map(|_| ()).expect_err("wrong");
        error.to_string().lines().map(str::to_string).collect()
    }

    #[test]
    fn reads_every_kind_of_field() {
        let text = r#"
static_resources:
  clusters:
  - name: a
    connectTimeout: 0.25s
    type: strict_dns
    lb_policy: 1
    per_connection_buffer_limit_bytes: "32768"
    common_lb_config: {healthy_panic_threshold: {value: 12.5}}
    metadata: {filter_metadata: {x: {a: [1, true, null, text], b: {}}}}
    typed_extension_protocol_options:
      o:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
  secrets:
    {name: s, generic_secret: {secret: {inline_bytes: aGk=}}}
"#;
        let bootstrap: Bootstrap = Document::parse("f", text).unwrap().read().unwrap();
        let cluster = &bootstrap.static_resources.as_ref().unwrap().clusters[0];
        assert_eq!(cluster.connect_timeout.unwrap().nanos, 250_000_000);
        assert_eq!(cluster.lb_policy, 1);
        assert_eq!(cluster.per_connection_buffer_limit_bytes.unwrap().value, 32768);
        let any = &cluster.typed_extension_protocol_options["o"];
        assert!(any.type_url.ends_with("HttpProtocolOptions") && !any.value.is_empty());
        assert_eq!(bootstrap.static_resources.as_ref().unwrap().secrets.len(), 1, "a value alone is a list of one");
        let again = view(&schema(), "envoy.config.cluster.v3.Cluster", &cluster.encode_to_vec());
        assert_eq!(again["connect_timeout"], "0.250s");
        assert_eq!(again["metadata"]["filter_metadata"]["x"]["a"][3], "text");
        let document = Document::parse("f", &again.to_string()).unwrap();
        assert_eq!(&document.read::<Cluster>().unwrap(), cluster, "JSON round trip");
    }

    #[test]
    fn errors_name_place_and_remedy() {
        let table = [
            (
                "static_resources:\n  clusters:\n  - name: a\n    conect_timeout: 1s\n",
                "f.yaml:4:5: static_resources.clusters[0].conect_timeout: unknown field; did you mean connect_timeout?",
            ),
            (
                "static_resources: {clusters: [{connect_timeout: 5}]}",
                "f.yaml:1:49: static_resources.clusters[0].connect_timeout: is an integer; it must be a duration in seconds such as 0.25s",
            ),
            (
                "admin:\n  address:\n    socket_address: {port_value: x}\n",
                "f.yaml:3:34: admin.address.socket_address.port_value: is a string; it must be an integer from 0 to 4294967295",
            ),
            (
                "static_resources: {clusters: [{lb_policy: ROUND_ROBBIN}]}",
                "f.yaml:1:43: static_resources.clusters[0].lb_policy: is not a value of LbPolicy; did you mean ROUND_ROBIN?",
            ),
            (
                "static_resources: {clusters: [{type: EDS, cluster_type: {name: x}}]}",
                "f.yaml:1:43: static_resources.clusters[0].cluster_type: cannot be set together with type; choose one",
            ),
            (
                "stats_sinks: [{typed_config: {\"@type\": type.googleapis.com/no.Such}}]",
                "f.yaml:1:40: stats_sinks[0].typed_config.@type: unknown type `no.Such`",
            ),
        ];
        for (text, wanted) in table {
            assert_eq!(errors::<Bootstrap>(text), [wanted], "{text}");
        }
        assert_eq!(errors::<Bootstrap>("nod: {}\nadmin: [1]\n").len(), 2, "all problems are reported");
    }

    #[test]
    fn locates_later_problems() {
        let document = Document::parse("f", "staticResources:\n  clusters:\n  - name: a\n    type: EDS\n").unwrap();
        let root = At::ROOT;
        let (resources, name) = (root.field("static_resources"), "x".to_string());
        let problem = resources.item("clusters", 0).field("eds_cluster_config").problem(name);
        assert_eq!(
            document.explain(problem.into()).to_string(),
            "f:3:5: static_resources.clusters[0].eds_cluster_config: x"
        );
    }
}
