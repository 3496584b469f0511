//! HAProxy: one thread, idle connections reused by everybody, nothing logged unless asked.

use super::{Job, Security, Side, Start, Wire, service};
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

pub(super) fn command(program: &Path, job: &Job) -> anyhow::Result<Start> {
    let path = job.folder.join("haproxy.cfg");
    std::fs::write(&path, configuration(job)?)?;
    let mut command = Command::new(program);
    command.arg("-f").arg(path).arg("-db");
    Ok(Start::Run(command))
}

fn configuration(job: &Job) -> anyhow::Result<String> {
    let mode = if job.to_clients.wire == Wire::Tcp { "tcp" } else { "http" };
    let mut text = format!(
        "global\n  nbthread 1\n  maxconn 9900\n  ssl-default-bind-options ssl-min-ver TLSv1.3\n  \
         ssl-default-server-options ssl-min-ver TLSv1.3\n  \
         ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384\n  \
         ssl-default-server-ciphersuites TLS_AES_256_GCM_SHA384\n\
         defaults\n  mode {mode}\n  timeout client 600s\n  timeout server 600s\n  timeout connect 5s\n"
    );
    if mode == "http" {
        text += "  http-reuse always\n";
    }
    write!(text, "frontend in\n  bind {}{}\n", job.listen, bind(job))?;
    if job.log {
        text += LOG;
    }
    let server = server(job);
    if job.services > 0 {
        text += "  use_backend %[req.hdr(host)]\n";
        for name in (0..job.services).map(service) {
            writeln!(text, "backend {name}\n  server s {}{server}", job.upstream)?;
        }
        return Ok(text);
    }
    text += &if job.routes > 0 { routes(job)? } else { "  default_backend b\n".into() };
    writeln!(text, "backend b\n  server s {}{server}", job.upstream)?;
    Ok(text)
}

/// Lines go to standard output, which is a file.
const LOG: &str = "  log stdout format raw daemon\n  log-format '{\"time\":\"%Ts.%ms\",\"method\":\"%HM\",\"path\":\"%HP\",\
    \"host\":\"%[var(txn.host)]\",\"status\":%ST,\"bytes\":%B,\"duration\":%Ta,\"client\":\"%ci:%cp\"}'\n  \
    http-request set-var(txn.host) req.hdr(host)\n";

fn bind(job: &Job) -> String {
    let mut text = match alpn(job.to_clients) {
        _ if job.to_clients.security == Security::Plain && job.to_clients.wire == Wire::Http2 => {
            " proto h2".to_string()
        }
        _ if job.to_clients.security == Security::Plain => return String::new(),
        alpn => format!(" ssl crt {} {alpn}", job.tls.both.display()),
    };
    if job.to_clients.security == Security::Mutual {
        text += &format!(" ca-file {} verify required", job.tls.authority.display());
    }
    text
}

fn server(job: &Job) -> String {
    let Side { wire, security } = job.to_upstream;
    let proto = if wire == Wire::Http2 { " proto h2" } else { "" };
    if security == Security::Plain {
        return proto.to_string();
    }
    let verify = match security {
        Security::Mutual => format!("ca-file {} verify required", job.tls.authority.display()),
        _ => "verify none".to_string(),
    };
    format!(
        " ssl crt {} {verify} sni str({}) {}{proto}",
        job.tls.both.display(),
        crate::tls::SERVER_NAME,
        alpn(job.to_upstream)
    )
}

fn alpn(side: Side) -> &'static str {
    if side.wire == Wire::Http2 { "alpn h2" } else { "alpn http/1.1" }
}

/// Path prefixes in a map, which HAProxy searches as a tree.
fn routes(job: &Job) -> anyhow::Result<String> {
    let path = job.folder.join("routes.map");
    let lines: String = (0..job.routes).map(|number| format!("/route-{number}/ b\n")).collect();
    std::fs::write(&path, lines)?;
    Ok(format!("  use_backend %[path,map_beg({})]\n", path.display()))
}
