//! The simulated mesh's files: a Service with an EndpointSlice each, and a WorkloadEntry with a Sidecar per proxy.

use super::Size;
use anyhow::Context;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Outbound listeners are numbered from here; nothing listens on them.
const FIRST_PORT: usize = 20_000;

pub(super) struct Mesh {
    dir: PathBuf,
    size: Size,
    /// Services that each proxy calls, by number.
    uses: Vec<Vec<usize>>,
    /// Proxies that call each service.
    users: Vec<Vec<usize>>,
    /// What the changed endpoints of each service are called by.
    generations: Vec<usize>,
}

impl Mesh {
    pub(super) fn write(dir: &Path, size: Size) -> anyhow::Result<Mesh> {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let mut random = fastrand::Rng::with_seed(size.seed);
        let mut users = vec![Vec::new(); size.services];
        let mut uses = Vec::new();
        for proxy in 0..size.proxies {
            let chosen = random.choose_multiple(0..size.services, size.uses);
            chosen.iter().for_each(|&service| users[service].push(proxy));
            uses.push(chosen);
        }
        let mut mesh = Mesh { dir: dir.to_path_buf(), size, uses, users, generations: vec![0; size.services] };
        for service in 0..size.services {
            mesh.put(&format!("service-{service}.yaml"), &mesh.service(service))?;
        }
        for proxy in 0..size.proxies {
            mesh.put(&format!("proxy-{proxy}.yaml"), &mesh.proxy(proxy))?;
        }
        mesh.generations.iter_mut().for_each(|generation| *generation = 1);
        Ok(mesh)
    }

    pub(super) fn uses(&self, proxy: usize) -> &[usize] {
        &self.uses[proxy]
    }

    pub(super) fn users(&self, service: usize) -> &[usize] {
        &self.users[service]
    }

    /// Services that at least one proxy calls.
    pub(super) fn used(&self) -> Vec<usize> {
        (0..self.size.services).filter(|&service| !self.users[service].is_empty()).collect()
    }

    /// Moves one endpoint of a service to another address; returns when the file is in place.
    pub(super) fn change(&mut self, service: usize) -> anyhow::Result<()> {
        let text = self.service(service);
        self.generations[service] += 1;
        self.put(&format!("service-{service}.yaml"), &text)
    }

    /// In one step, as careful editors do.
    fn put(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let new = self.dir.join(".new");
        std::fs::write(&new, text).with_context(|| format!("cannot write {}", new.display()))?;
        std::fs::rename(&new, self.dir.join(name)).with_context(|| format!("cannot write {name}"))
    }

    fn service(&self, service: usize) -> String {
        let name = name(service);
        let mut text = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{name: http, port: 80}}]}}\n---\n\
             apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: {name}-1, labels: {{kubernetes.io/service-name: {name}}}}}\n\
             addressType: IPv4\nports: [{{name: http, port: 8080}}]\nendpoints:\n"
        );
        for endpoint in 0..self.size.endpoints_per_service {
            // The first one moves with each generation.
            let host = if endpoint == 0 { 128 + self.generations[service] % 100 } else { endpoint % 128 };
            let (a, b) = ((service >> 8) & 255, service & 255);
            // Writing to a String cannot fail.
            let _ = writeln!(text, "- {{addresses: [10.{a}.{b}.{host}]}}");
        }
        text
    }

    fn proxy(&self, proxy: usize) -> String {
        let mut text = format!(
            "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: {0}}}\n\
             spec: {{address: 127.0.0.1, labels: {{sim: {0}}}}}\n---\n\
             apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: {0}}}\nspec:\n  \
             workloadSelector: {{labels: {{sim: {0}}}}}\n  egress:\n",
            node(proxy)
        );
        for (number, service) in self.uses[proxy].iter().enumerate() {
            let port = FIRST_PORT + number;
            let _ = writeln!(
                text,
                "  - {{port: {{number: {port}, protocol: HTTP, name: http}}, hosts: [./{}]}}",
                host(*service)
            );
        }
        text
    }
}

pub(super) fn node(proxy: usize) -> String {
    format!("proxy-{proxy}")
}

fn name(service: usize) -> String {
    format!("service-{service}")
}

fn host(service: usize) -> String {
    format!("{}.default.svc.cluster.local", name(service))
}

/// The cluster's name, as the control plane gives it.
pub(super) fn cluster(service: usize) -> String {
    format!("outbound|80||{}", host(service))
}

/// The route table's name.
pub(super) fn table(service: usize) -> String {
    format!("{}:80", host(service))
}
