//! The shop as configuration files, such as a user would write them.

use crate::up::plan::Ports;
use crate::up::run::Mesh;
use anyhow::Context;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Name, service, version, services it calls.
pub(super) const WORKLOADS: [(&str, &str, &str, &str); 8] = [
    ("visitor-1", "visitor", "v1", ""),
    ("web-1", "web", "v1", "orders,ratings"),
    ("orders-1", "orders", "v1", "catalog"),
    ("orders-2", "orders", "v1", "catalog"),
    ("catalog-v1-1", "catalog", "v1", ""),
    ("catalog-v2-1", "catalog", "v2", ""),
    ("ratings-1", "ratings", "v1", ""),
    ("ratings-2", "ratings", "v1", ""),
];

/// Share of catalog v2 at the start, in percent.
pub(super) const CANARY: u32 = 20;
const ROUTE: &str = "catalog-route.yaml";

pub(super) struct ShopConfig {
    dir: PathBuf,
}

impl ShopConfig {
    pub(super) fn create() -> anyhow::Result<ShopConfig> {
        let dir = std::env::temp_dir().join(format!("ripstop-demo-{}", std::process::id()));
        std::fs::create_dir_all(&dir).with_context(|| format!("{} cannot be created", dir.display()))?;
        std::fs::write(dir.join("services.yaml"), services())?;
        std::fs::write(dir.join("workloads.yaml"), workloads()?)?;
        let config = ShopConfig { dir };
        config.set_canary(CANARY)?;
        Ok(config)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn route_file(&self) -> PathBuf {
        self.dir.join(ROUTE)
    }

    /// Sends `percent` of the calls to catalog to v2.
    pub(super) fn set_canary(&self, percent: u32) -> anyhow::Result<()> {
        self.write_route(&route(percent))
    }

    pub(super) fn write_route(&self, text: &str) -> anyhow::Result<()> {
        let new = self.dir.join(".route.new");
        std::fs::write(&new, text)?;
        std::fs::rename(new, self.route_file())?;
        Ok(())
    }

    pub(super) fn remove(&self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn services() -> String {
    let mut out = String::new();
    let mut one = |name: &str, selector: &str| {
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  selector: {{{selector}}}\n  ports: [{{name: http, port: 80, targetPort: http}}]\n---\n"
        );
    };
    for name in ["web", "orders", "catalog", "ratings"] {
        one(name, &format!("app: {name}"));
    }
    for version in ["v1", "v2"] {
        one(&format!("catalog-{version}"), &format!("app: catalog, version: {version}"));
    }
    out
}

fn workloads() -> anyhow::Result<String> {
    let mut ports = Ports;
    let mut out = String::new();
    for (name, service, version, calls) in WORKLOADS {
        let port = ports.take()?;
        let command = if service == "visitor" {
            String::new()
        } else {
            let calls = if calls.is_empty() { String::new() } else { format!(" --calls {calls}") };
            format!(
                "\n  annotations:\n    ripstop.dev/command: $RIPSTOP shop --service {service} --version {version} --instance {name} --listen 127.0.0.1:$PORT{calls}"
            )
        };
        let _ = write!(
            out,
            "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata:\n  name: {name}{command}\nspec:\n  address: 127.0.0.1\n  serviceAccount: {service}\n  labels: {{app: {service}, version: {version}}}\n  ports: {{http: {port}}}\n---\n"
        );
    }
    Ok(out)
}

fn route(percent: u32) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: catalog}}
spec:
  parentRefs: [{{kind: Service, group: \"\", name: catalog}}]
  rules:
  - backendRefs:
    - {{name: catalog-v1, port: 80, weight: {}}}
    - {{name: catalog-v2, port: 80, weight: {percent}}}
",
        100 - percent
    )
}

/// Where visitors enter: the visitor's own sidecar, which calls `web` over mTLS.
pub(super) fn front_door(mesh: &Mesh) -> anyhow::Result<u16> {
    let visitor = mesh.placements().get("visitor-1").context("the demo has no visitor")?;
    visitor.outbound.get("web").copied().context("the demo has no front door")
}

/// What to look at and try.
pub(super) fn hints(mesh: &Mesh, config: &ShopConfig) -> String {
    let Ok(door) = front_door(mesh) else { return String::new() };
    let admin = mesh.placements().get("web-1").map_or(0, |placement| placement.admin);
    format!(
        "\nThe shop is open: every call below is HTTP over mutual TLS between sidecars.\n\
         \x20 shop            http://127.0.0.1:{door}/\n\
         \x20 control plane   http://{}/api/v1/proxies\n\
         \x20 web's sidecar   http://127.0.0.1:{admin}/clusters\n\n\
         Try in another terminal:\n\
         \x20 curl -s http://127.0.0.1:{door}/\n\
         \x20 sed -i 's/weight: {CANARY}/weight: 50/' {}      # move the canary and watch the shares\n\
         \x20 curl -s http://127.0.0.1:{admin}/stats/prometheus | grep upstream_rq_total\n\n",
        mesh.control_admin(),
        config.route_file().display()
    )
}
