//! nginx: one worker, which is the process itself.

use super::{Job, Security, Start, Wire, service};
use crate::tls::SERVER_NAME;
use std::path::Path;
use std::process::Command;

pub(super) fn command(program: &Path, job: &Job) -> anyhow::Result<Start> {
    if job.to_clients.wire == Wire::Tcp {
        return Ok(Start::Cannot("stream module is not installed"));
    }
    if job.to_upstream.wire == Wire::Http2 {
        return Ok(Start::Cannot("speaks no HTTP/2 to backends"));
    }
    let path = job.folder.join("nginx.conf");
    std::fs::write(&path, configuration(job)?)?;
    let mut command = Command::new(program);
    command.arg("-p").arg(&job.folder).arg("-c").arg(path);
    Ok(Start::Run(command))
}

fn configuration(job: &Job) -> anyhow::Result<String> {
    let folder = job.folder.display();
    let mut text = format!(
        "daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;\n\
         worker_rlimit_nofile 20000;\nevents {{ worker_connections 19000; }}\nhttp {{\n\
         keepalive_requests 1000000000; keepalive_timeout 600s; client_body_buffer_size 2m; proxy_buffers 16 64k;\n\
         client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;\n\
         scgi_temp_path {folder}/scgi; uwsgi_temp_path {folder}/uwsgi;\n\
         server_names_hash_max_size 65536; server_names_hash_bucket_size 128;\n\
         proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host;\n"
    );
    text += if job.log { LOG } else { "access_log off;\n" };
    let services: Vec<String> = (0..job.services).map(service).collect();
    if services.is_empty() {
        text += &server(job, "_");
    }
    for name in services {
        text += &server(job, &name);
    }
    text += "}\n";
    Ok(text)
}

/// A virtual server and the upstream of the same name.
fn server(job: &Job, name: &str) -> String {
    let http2 = if job.to_clients.wire == Wire::Http2 { " http2" } else { "" };
    let ssl = if job.to_clients.security == Security::Plain { "" } else { " ssl" };
    let scheme = if job.to_upstream.security == Security::Plain { "http" } else { "https" };
    let location = |prefix: &str| format!("location {prefix} {{ proxy_pass {scheme}://up_{name}; }}\n");
    let locations: String = match job.routes {
        0 => location("/"),
        count => (0..count).map(|number| location(&format!("/route-{number}/"))).collect(),
    };
    // Room for idle connections is reserved for each upstream.
    let keep = if job.services > 0 { 16 } else { 1024 };
    // Options of the socket are given once.
    let backlog = if name == "_" { " backlog=4096" } else { "" };
    format!(
        "upstream up_{name} {{ server {}; keepalive {keep}; keepalive_requests 1000000000; keepalive_timeout 600s; }}\n\
         server {{ listen {}{ssl}{http2}{backlog}; server_name {name};\n{}{locations}}}\n",
        job.upstream,
        job.listen,
        tls(job)
    )
}

/// Written in blocks of 64 KB, as Envoy does.
const LOG: &str = "log_format j escape=json '{\"time\":\"$msec\",\"method\":\"$request_method\",\"path\":\"$uri\",\
    \"host\":\"$host\",\"status\":$status,\"bytes\":$body_bytes_sent,\"duration\":$request_time,\
    \"client\":\"$remote_addr:$remote_port\"}';\naccess_log access.log j buffer=64k flush=1s;\n";

fn tls(job: &Job) -> String {
    let [authority, certificate, key] = [&job.tls.authority, &job.tls.certificate, &job.tls.key].map(|p| p.display());
    let mut text = String::new();
    if job.to_clients.security != Security::Plain {
        text += &format!(
            "ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_protocols TLSv1.3; \
             ssl_session_cache builtin; ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384;\n"
        );
    }
    if job.to_clients.security == Security::Mutual {
        text += &format!("ssl_client_certificate {authority}; ssl_verify_client on;\n");
    }
    if job.to_upstream.security != Security::Plain {
        text += &format!(
            "proxy_ssl_certificate {certificate}; proxy_ssl_certificate_key {key}; proxy_ssl_protocols TLSv1.3; \
             proxy_ssl_trusted_certificate {authority}; proxy_ssl_verify on; proxy_ssl_server_name on; \
             proxy_ssl_name {SERVER_NAME}; proxy_ssl_conf_command Ciphersuites TLS_AES_256_GCM_SHA384;\n"
        );
    }
    text
}
