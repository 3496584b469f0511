//! Serves one request: admit, route, act, answer, record.

use super::filters::{self, Leftovers};
use super::forward;
use super::load;
use super::on_demand;
use super::respond::{self, Responder};
use super::watch::Watch;
use crate::clock;
use crate::http::body::Replay;
use crate::http::h1::Framing;
use crate::state::groups::Groups;
use crate::state::{HttpService, Tables, Worker};
use engine::format::Context;
use engine::head::{Head, Known};
use engine::info::{ConnectionFacts, Protocol, StreamInfo};
use engine::path::{Normalized, normalize};
use engine::request::{self, Arrival};
use engine::route::follow::Followed;
use engine::route::{self, Asked};
use model::Refusal;
use model::format::Format;
use model::http::UnderscoresAction;
use model::refusal::BadRequest;
use model::route::{Action, RequireTls, Route, RouteTable};
use std::borrow::Cow;
use std::rc::Rc;
use std::time::Instant;

/// One request being served.
pub struct Call<'c> {
    pub worker: &'c Rc<Worker>,
    pub service: &'c HttpService,
    pub connection: &'c ConnectionFacts,
    pub request: &'c mut Head,
    pub response: &'c mut Head,
    /// Of the response, when it is over.
    pub trailers: Option<Box<Head>>,
    pub body: Replay<'c>,
    pub framing: Framing,
    pub expects_continue: bool,
    /// The client asked to leave HTTP, by an upgrade or with CONNECT.
    pub upgrade: bool,
    pub responder: Responder<'c>,
    pub watch: &'c mut Watch,
    /// A trusted caller: its `x-envoy-` headers count.
    pub internal: bool,
    pub leftovers: Leftovers,
    pub groups: Groups,
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
pub async fn serve(call: &mut Call<'_>) -> Ended {
    let stats = &*call.service.stats;
    stats.downstream_rq_total.inc();
    stats.rq_total.inc();
    stats.downstream_rq_active.inc();
    let active = Active(stats);
    let outcome = run(call).await;
    let ended = match outcome {
        Ok(ended) => ended,
        Err(refusal) => respond::refuse(call, refusal, None).await,
    };
    drop(active);
    finish(call);
    ended
}

/// Counts a request while it lives, also when its future is dropped.
struct Active<'s>(&'s crate::telemetry::HttpStats);

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.downstream_rq_active.dec();
    }
}

/// What came of a pass over the routes.
pub(super) enum Way {
    Ended(Ended),
    /// The upstream's redirect is followed here: the request is now another one.
    Redirected,
    /// No route matches. What is missing may be discovered.
    Unrouted,
}

async fn run(call: &mut Call<'_>) -> Result<Ended, Refusal> {
    if call.service.sheds && call.worker.sheds(|shed| shed.requests) {
        call.service.stats.downstream_rq_overload_close.inc();
        return Err(Refusal::Overloaded);
    }
    let mut table = call.service.routes.current(call.request);
    admit(call, &table)?;
    if matches!(call.service.routes, Tables::Scoped(_)) {
        // The rules on requests may have changed what the scope follows from.
        table = call.service.routes.current(call.request);
    }
    load::note_question(call);
    let mut followed = Followed::default();
    loop {
        if let Some(location) = normalize_path(call)? {
            return respond::redirect(call, 307, location, None).await;
        }
        match pass(call, &table, &mut followed).await? {
            Way::Ended(ended) => return Ok(ended),
            Way::Redirected => {
                start_over(call);
                table = call.service.routes.current(call.request);
            }
            // Boxed: other requests need no room for it.
            Way::Unrouted => match Box::pin(on_demand::table(call, &table)).await? {
                Some(new) => table = new,
                None => return Err(Refusal::RouteNotFound),
            },
        }
    }
}

/// Routes the request and does what the route says.
async fn pass(call: &mut Call<'_>, table: &RouteTable, followed: &mut Followed) -> Result<Way, Refusal> {
    let Some(choice) = choose(call, table) else { return Ok(Way::Unrouted) };
    let mut levels = respond::Levels { table, choice, weighted: None };
    if (call.upgrade || request::is_connect(call.request)) && !upgrade_allowed(call, choice.route) {
        let denied = respond::refuse(call, Refusal::UpgradeDenied, Some(&levels));
        return Ok(Way::Ended(denied.await));
    }
    let picked = match &choice.route.action {
        Action::Forward(forward) => route::pick_cluster(forward, call.request, forward::point(call, forward)),
        _ => None,
    };
    levels.weighted = picked.as_ref().and_then(|(_, weighted)| *weighted);
    if !call.service.manager.filters.is_empty() {
        let cluster = picked.as_ref().map_or("", |(name, _)| &**name);
        match filters::run(call, &levels, cluster).await {
            Ok(None) => {}
            Ok(Some(ended)) => return Ok(Way::Ended(ended)),
            Err(refusal) => return Ok(Way::Ended(respond::refuse(call, refusal, Some(&levels)).await)),
        }
    }
    if tls_required(call, choice.host.require_tls) {
        let location = [b"https://", call.request.authority(), call.request.path()].concat();
        return respond::redirect(call, 301, location, None).await.map(Way::Ended);
    }
    if !choice.route.name.is_empty() {
        call.info.route_name.clone_from(&choice.route.name);
    }
    act(call, &levels, picked.map(|(name, _)| name), followed).await
}

pub(super) fn choose<'t>(call: &Call<'_>, table: &'t RouteTable) -> Option<route::Choice<'t>> {
    let asked = Asked { head: call.request, tls: call.connection.tls.as_deref(), random: call.worker.random() };
    route::choose(table, &asked)
}

async fn act<'t>(
    call: &mut Call<'_>,
    levels: &respond::Levels<'t>,
    cluster: Option<Cow<'t, str>>,
    followed: &mut Followed,
) -> Result<Way, Refusal> {
    let route = levels.choice.route;
    match &route.action {
        Action::Forward(forward) => match forward::forward(call, levels, forward, cluster, followed).await {
            Ok(way) => Ok(way),
            // What the router answers itself carries the route's header edits too.
            Err(refusal) => Ok(Way::Ended(respond::refuse(call, refusal, Some(levels)).await)),
        },
        Action::Redirect(redirect) => {
            call.service.stats.rq_redirect.inc();
            let render = |format: &Format| render(call, format);
            let location = route::redirect::location(redirect, &route.matches, call.request, render);
            if let Some(path) = route::redirect::rewritten(redirect, &route.matches, call.request) {
                call.request.set_path(&path);
            }
            respond::redirect(call, redirect.status, location, Some(levels)).await.map(Way::Ended)
        }
        Action::Respond(direct) => {
            call.service.stats.rq_direct_response.inc();
            respond::direct(call, direct, levels).await.map(Way::Ended)
        }
        Action::NonForwarding => Err(Refusal::RouteNotFound),
    }
}

/// Evaluates a format about the request.
pub(super) fn render(call: &Call<'_>, format: &Format) -> Vec<u8> {
    let mut out = Vec::new();
    engine::format::render(format, &Context { response: None, ..context(call) }, "", &mut out);
    out
}

/// The redirect that is followed is logged, and the request begins anew.
fn start_over(call: &mut Call<'_>) {
    call.info.details = "internal_redirect";
    finish(call);
    call.service.stats.downstream_rq_total.inc();
    call.service.stats.rq_total.inc();
    call.started = clock::now();
    call.info = StreamInfo {
        protocol: call.info.protocol,
        remote: call.info.remote,
        start_unix_micros: clock::unix_micros(),
        ..StreamInfo::default()
    };
    call.response.clear();
    call.trailers = None;
    call.leftovers = Leftovers::default();
    call.groups = Groups::default();
    call.watch.clear();
    watch(call);
}

/// The deadlines that hold before there is a route.
fn watch(call: &mut Call<'_>) {
    let timeouts = &call.service.manager.timeouts;
    call.watch.set_idle(timeouts.stream_idle, call.started);
    call.watch.set_duration(call.started, timeouts.max_stream_duration);
}

/// Checks what routing relies on and applies the connection manager's own header rules.
fn admit(call: &mut Call<'_>, table: &RouteTable) -> Result<(), Refusal> {
    watch(call);
    let manager = &call.service.manager;
    let head = &mut *call.request;
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
    let client_cert = call.connection.tls.as_deref().and_then(client_cert_element);
    let worker = call.worker;
    let arrival = Arrival {
        direct_remote: call.connection.direct_remote,
        local_port: call.connection.local.map(|local| local.port()),
        secure: call.connection.tls.is_some(),
        client_cert: client_cert.as_deref(),
        request_id: &|| worker.uuid(),
        internal_only: &table.internal_only_headers,
    };
    let render = |head: &Head, format: &Format, out: &mut Vec<u8>| {
        engine::format::render(format, &Context::new(head, &call.info, call.connection), "", out);
    };
    engine::edits::mutate(&manager.early_mutations, head, render);
    let client = request::arrive(manager, head, &arrival)?;
    call.info.remote = client.address;
    call.internal = client.internal;
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
    if path.iter().any(|&byte| byte <= b' ' || byte >= 0x7f) {
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
    // The port of a CONNECT is what it is about (RFC 2817 section 5.2).
    let any = manager.strip_any_host_port && !request::is_connect(call.request);
    let port = authority.get(host.len() + 1..).unwrap_or_default();
    let matching = call.connection.local.is_some_and(|local| local.port().to_string().as_bytes() == port);
    let strip = !port.is_empty() && (any || (manager.strip_matching_host_port && matching));
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

/// The route may allow or deny what the connection manager does not.
fn upgrade_allowed(call: &Call<'_>, route: &Route) -> bool {
    let wanted = request::upgrade_type(call.request);
    let of_route = match &route.action {
        Action::Forward(forward) => forward.upgrades.iter().find(|(name, _)| name.as_bytes() == wanted),
        _ => None,
    };
    let of_manager = || call.service.manager.upgrades.iter().any(|name| name.as_bytes() == wanted);
    let allowed = of_route.map_or_else(of_manager, |(_, allowed)| *allowed);
    let stats = &call.service.stats;
    match allowed {
        true => stats.downstream_cx_upgrades_total.inc(),
        false => stats.downstream_rq_ws_on_non_ws_route.inc(),
    }
    allowed
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
    if !call.info.health_check {
        stats.responses.note(call.info.status);
    }
    stats.downstream_cx_rx_bytes_total.add(call.info.bytes_received);
    stats.downstream_cx_tx_bytes_total.add(call.info.bytes_sent);
    call.info.duration = Some(duration);
    let grpc = (call.response.is_grpc()).then(|| grpc_status(call));
    call.leftovers.counted.settle(call.info.status, grpc);
    if call.service.logs.is_empty() {
        return;
    }
    let context = context(call);
    for log in &call.service.logs {
        log.log(&context, call.worker.random());
    }
}

/// UNKNOWN where the response does not say.
fn grpc_status(call: &Call<'_>) -> u8 {
    let told = call.trailers.as_ref().and_then(|trailers| trailers.get(b"grpc-status"));
    let told = told.or_else(|| call.response.get(b"grpc-status"));
    told.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok()).unwrap_or(2)
}

fn context<'a>(call: &'a Call<'_>) -> Context<'a> {
    Context { trailers: call.trailers.as_deref(), ..Context::new(call.request, &call.info, call.connection) }
        .with(call.response)
}

/// Answers a request of which not even the head could be understood.
pub async fn refuse_unread(call: &mut Call<'_>, refusal: Refusal) {
    call.service.stats.downstream_rq_total.inc();
    respond::refuse(call, refusal, None).await;
    finish(call);
}
