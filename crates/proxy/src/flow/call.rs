//! Serves one request: admit, route, act, answer, record.

use super::filters::{self, Leftovers};
use super::forward;
use super::load;
use super::respond::{self, Responder};
use super::watch::Watch;
use crate::clock;
use crate::http::body::Replay;
use crate::http::h1::Framing;
use crate::state::{HttpService, Worker};
use engine::format::Context;
use engine::head::{Head, Known};
use engine::info::{ConnectionFacts, Protocol, StreamInfo};
use engine::path::{Normalized, normalize};
use engine::request::{self, Arrival};
use engine::route;
use model::Refusal;
use model::http::UnderscoresAction;
use model::refusal::BadRequest;
use model::route::{Action, RequireTls};
use std::rc::Rc;
use std::time::Instant;

/// One request being served.
pub struct Call<'c> {
    pub worker: &'c Rc<Worker>,
    pub service: &'c HttpService,
    pub connection: &'c ConnectionFacts,
    pub request: &'c mut Head,
    pub response: &'c mut Head,
    pub body: Replay<'c>,
    pub framing: Framing,
    pub expects_continue: bool,
    /// The client asked to switch protocols.
    pub upgrade: bool,
    pub responder: Responder<'c>,
    pub watch: &'c mut Watch,
    /// A trusted caller: its `x-envoy-` headers count.
    pub internal: bool,
    pub leftovers: Leftovers,
    pub info: StreamInfo,
    pub started: Instant,
}

/// What becomes of the downstream connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Another request may follow.
    Reusable,
    Close,
}

/// From request head to access log line.
pub async fn serve(mut call: Call<'_>) -> Ended {
    let stats = &*call.service.stats;
    stats.downstream_rq_total.inc();
    stats.rq_total.inc();
    stats.downstream_rq_active.inc();
    let active = Active(stats);
    let outcome = run(&mut call).await;
    let ended = match outcome {
        Ok(ended) => ended,
        Err(refusal) => respond::refuse(&mut call, refusal, None).await,
    };
    drop(active);
    finish(&mut call);
    ended
}

/// Counts a request while it lives, also when its future is dropped.
struct Active<'s>(&'s crate::telemetry::HttpStats);

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.downstream_rq_active.dec();
    }
}

async fn run(call: &mut Call<'_>) -> Result<Ended, Refusal> {
    if call.service.sheds && call.worker.sheds(|shed| shed.requests) {
        call.service.stats.downstream_rq_overload_close.inc();
        return Err(Refusal::Overloaded);
    }
    admit(call)?;
    load::note_question(call);
    if let Some(location) = normalize_path(call)? {
        return respond::redirect(call, 307, location, None).await;
    }
    let table = call.service.routes.current();
    let choice = route::choose(&table, call.request, call.worker.random()).ok_or(Refusal::RouteNotFound)?;
    let mut levels = respond::Levels { table: &table, choice, weighted: None };
    let picked = match &choice.route.action {
        Action::Forward(forward) => route::pick_cluster(forward, call.request, forward::point(call, forward)),
        _ => None,
    };
    levels.weighted = picked.as_ref().and_then(|(_, weighted)| *weighted);
    if !call.service.manager.filters.is_empty() {
        let cluster = picked.as_ref().map_or("", |(name, _)| &**name);
        match filters::run(call, &levels, cluster).await {
            Ok(None) => {}
            Ok(Some(ended)) => return Ok(ended),
            Err(refusal) => return Ok(respond::refuse(call, refusal, Some(&levels)).await),
        }
    }
    if tls_required(call, choice.host.require_tls) {
        let location = [b"https://", call.request.authority(), call.request.path()].concat();
        return respond::redirect(call, 301, location, None).await;
    }
    if !choice.route.name.is_empty() {
        call.info.route_name.clone_from(&choice.route.name);
    }
    match &choice.route.action {
        Action::Forward(forward) => {
            match forward::forward(call, &levels, forward, picked.map(|(name, _)| name)).await {
                Ok(ended) => Ok(ended),
                // What the router answers itself carries the route's header edits too.
                Err(refusal) => Ok(respond::refuse(call, refusal, Some(&levels)).await),
            }
        }
        Action::Redirect(redirect) => {
            call.service.stats.rq_redirect.inc();
            let location = route::redirect::location(redirect, &choice.route.matches, call.request);
            respond::redirect(call, redirect.status, location, Some(&levels)).await
        }
        Action::Respond(direct) => {
            call.service.stats.rq_direct_response.inc();
            respond::direct(call, direct, &levels).await
        }
        Action::NonForwarding => Err(Refusal::RouteNotFound),
    }
}

/// Checks what routing relies on and applies the connection manager's own header rules.
fn admit(call: &mut Call<'_>) -> Result<(), Refusal> {
    let manager = &call.service.manager;
    let head = &mut *call.request;
    call.watch.set_idle(manager.timeouts.stream_idle, call.started);
    call.watch.set_duration(call.started, manager.timeouts.max_stream_duration);
    if call.info.protocol == Protocol::Http10 && !manager.http1.accept_http_10 {
        return Err(Refusal::UpgradeRequired);
    }
    if head.authority().is_empty() {
        if call.info.protocol == Protocol::Http10 && !manager.http1.default_host_for_http_10.is_empty() {
            head.set_authority(manager.http1.default_host_for_http_10.as_bytes());
        } else {
            return Err(Refusal::BadRequest(BadRequest::MissingHost));
        }
    }
    check_head(head, manager.underscores)?;
    host_port(call);
    let head = &mut *call.request;
    if call.framing == Framing::None {
        head.remove_known(Known::Expect);
    }
    let client_cert = call.connection.tls.as_ref().and_then(client_cert_element);
    let worker = call.worker;
    let arrival = Arrival {
        direct_remote: call.connection.direct_remote,
        secure: call.connection.tls.is_some(),
        client_cert: client_cert.as_deref(),
        request_id: &|| worker.uuid(),
    };
    let client = request::arrive(manager, head, &arrival);
    call.info.remote = client.address;
    call.internal = client.internal;
    if call.upgrade && !upgrade_allowed(call) {
        return Err(Refusal::UpgradeDenied);
    }
    Ok(())
}

/// The bytes that a host with port may consist of.
const IN_HOST: [bool; 256] = {
    let mut allowed = [false; 256];
    let mut byte = b'!' as usize;
    while byte < 256 {
        allowed[byte] = byte != 0x7f;
        byte += 1;
    }
    let refused = b"/?#@\\\"<>^`{|}";
    let mut at = 0;
    while at < refused.len() {
        allowed[refused[at] as usize] = false;
        at += 1;
    }
    allowed
};

fn check_head(head: &mut Head, underscores: UnderscoresAction) -> Result<(), Refusal> {
    const BAD_PATH: Refusal = Refusal::BadRequest(BadRequest::BadPath);
    let path = head.path();
    if memchr::memchr(b'#', path).is_some() {
        return Err(Refusal::BadRequest(BadRequest::Fragment));
    }
    if path.iter().any(|&byte| byte <= b' ' || byte == 0x7f) {
        return Err(BAD_PATH);
    }
    if !path.is_empty() && path[0] != b'/' && path != b"*" {
        return Err(BAD_PATH);
    }
    if !head.authority().iter().all(|&byte| IN_HOST[usize::from(byte)]) {
        return Err(Refusal::BadRequest(BadRequest::BadHost));
    }
    if underscores != UnderscoresAction::Allow {
        let mut found = false;
        let drop = underscores == UnderscoresAction::Drop;
        head.remove_if(|name, _| {
            let has = name.contains(&b'_');
            found |= has;
            has && drop
        });
        if found && !drop {
            return Err(Refusal::BadRequest(BadRequest::Underscores));
        }
    }
    Ok(())
}

/// `strip_matching_host_port`, `strip_any_host_port`, `strip_trailing_host_dot`.
fn host_port(call: &mut Call<'_>) {
    let manager = &call.service.manager;
    if !(manager.strip_any_host_port || manager.strip_matching_host_port || manager.strip_trailing_host_dot) {
        return;
    }
    let authority = call.request.authority();
    let host = route::choose::without_port(authority);
    let port = authority.get(host.len() + 1..).unwrap_or_default();
    let matching = call.connection.local.is_some_and(|local| local.port().to_string().as_bytes() == port);
    let strip = !port.is_empty() && (manager.strip_any_host_port || (manager.strip_matching_host_port && matching));
    let dot = manager.strip_trailing_host_dot && host.ends_with(b".");
    let mut new = host[..host.len() - usize::from(dot)].to_vec();
    if !strip && authority.len() > host.len() {
        new.push(b':');
        new.extend_from_slice(port);
    }
    call.request.set_authority(&new);
}

fn client_cert_element(tls: &engine::info::TlsFacts) -> Option<String> {
    if tls.peer_hash.is_empty() {
        return None;
    }
    let mut element = format!("Hash={}", tls.peer_hash);
    for uri in &tls.peer_uris {
        element.push_str(";URI=");
        element.push_str(uri);
    }
    Some(element)
}

fn upgrade_allowed(call: &Call<'_>) -> bool {
    let wanted = call.request.get_known(Known::Upgrade).unwrap_or_default().to_ascii_lowercase();
    call.service.manager.upgrades.iter().any(|name| name.as_bytes() == wanted)
}

/// A location to redirect to, when escaped slashes ask for one.
fn normalize_path(call: &mut Call<'_>) -> Result<Option<Vec<u8>>, Refusal> {
    let path = call.request.path();
    if path.is_empty() || path == b"*" {
        return Ok(None);
    }
    match normalize(path, &call.service.manager.path) {
        Normalized::Unchanged => Ok(None),
        Normalized::Changed(new) => {
            call.request.set_path(&new);
            Ok(None)
        }
        Normalized::Redirect(new) => Ok(Some(new)),
        Normalized::Reject => Err(Refusal::BadRequest(BadRequest::EscapedSlash)),
    }
}

fn tls_required(call: &Call<'_>, require: RequireTls) -> bool {
    match require {
        RequireTls::None => false,
        _ if call.request.scheme() == b"https" => false,
        RequireTls::All => true,
        RequireTls::ExternalOnly => call.request.get(b"x-envoy-internal").is_none(),
    }
}

/// Counts and logs what happened.
fn finish(call: &mut Call<'_>) {
    let duration = clock::since(call.started);
    let stats = &call.service.stats;
    stats.downstream_rq_time.record(duration);
    stats.responses.note(call.info.status);
    stats.downstream_cx_rx_bytes_total.add(call.info.bytes_received);
    stats.downstream_cx_tx_bytes_total.add(call.info.bytes_sent);
    call.info.duration = Some(duration);
    if call.service.logs.is_empty() {
        return;
    }
    let context = context(call);
    for log in &call.service.logs {
        log.log(&context);
    }
}

fn context<'a>(call: &'a Call<'_>) -> Context<'a> {
    Context {
        request: call.request,
        response: Some(call.response),
        trailers: None,
        info: &call.info,
        connection: call.connection,
    }
}

/// Answers a request of which not even the head could be understood.
pub async fn refuse_unread(call: &mut Call<'_>, refusal: Refusal) {
    call.service.stats.downstream_rq_total.inc();
    respond::refuse(call, refusal, None).await;
    finish(call);
}
