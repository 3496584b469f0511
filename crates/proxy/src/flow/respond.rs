//! Answers: the upstream's response head made ready for the client, and the proxy's own replies.

use super::call::{Call, Ended};
use super::filters;
use crate::http::body::Sink;
use crate::http::h1::encode::{self, ResponseOptions};
use crate::http::h1::{Framing, Writer};
use crate::http::h2::{H2Sink, Handle, Reason};
use crate::http::heads;
use engine::edits;
use engine::format::{self, Context};
use engine::head::{Head, Known};
use engine::info::Protocol;
use engine::route::Choice;
use engine::{log_filter, request};
use model::Refusal;
use model::header::{AddHeader, Edits};
use model::refusal::grpc_of_http;
use model::route::{DirectResponse, RouteTable, WeightedCluster};
use std::borrow::Cow;
use std::task::{self, Poll};

/// The configuration levels whose header edits apply, most specific last to be found.
#[derive(Clone, Copy)]
pub struct Levels<'t> {
    pub table: &'t RouteTable,
    pub choice: Choice<'t>,
    pub weighted: Option<&'t WeightedCluster>,
}

impl<'t> Levels<'t> {
    /// In the order in which Envoy applies them.
    pub fn each(&self, pick: impl Fn(&'t model::header::HeaderEdits) -> &'t Edits, mut apply: impl FnMut(&'t Edits)) {
        let levels = [
            self.weighted.and_then(|cluster| cluster.edits.as_deref()),
            self.choice.route.edits.as_deref(),
            self.choice.host.edits.as_deref(),
            self.table.edits.as_deref(),
        ];
        let levels = levels.into_iter().flatten().map(pick).filter(|edits| !edits.is_empty());
        if self.table.most_specific_wins {
            let mut ordered: Vec<_> = levels.collect();
            ordered.reverse();
            ordered.into_iter().for_each(apply);
        } else {
            levels.for_each(&mut apply);
        }
    }
}

/// Where the response goes.
pub enum Responder<'c> {
    H1 { writer: &'c mut Writer, keep_alive: bool, started: bool },
    H2 { stream: Handle, sink: Option<H2Sink> },
}

impl Responder<'_> {
    /// The response head was sent: nothing else can be answered any more.
    pub fn started(&self) -> bool {
        match self {
            Responder::H1 { started, .. } => *started,
            Responder::H2 { sink, .. } => sink.is_some(),
        }
    }

    /// Where the response body goes, once the head was sent.
    pub fn sink(&mut self) -> Sink<'_> {
        match self {
            Responder::H1 { writer, .. } => Sink::H1(writer),
            Responder::H2 { sink, .. } => sink.as_mut().map_or(Sink::Discard, Sink::H2),
        }
    }

    /// The client has gone: its stream was reset. (HTTP/1 clients are watched by their reader.)
    pub fn poll_reset(&mut self, cx: &mut task::Context<'_>) -> Poll<()> {
        match self {
            Responder::H1 { .. } => Poll::Pending,
            Responder::H2 { stream, .. } => stream.poll_reset(cx),
        }
    }

    /// `100 Continue`: the client may send its body.
    pub async fn send_continue(&mut self) {
        if let Responder::H1 { writer, .. } = self {
            writer.out().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            // If the client is gone, reading its body will tell.
            let _ = std::future::poll_fn(|cx| writer.poll_flush(cx)).await;
        }
    }
}

/// Sends the response head. `framing` is how the body is delimited for an HTTP/1 client; for HTTP/2 `None` ends the
/// stream.
pub fn send_head(call: &mut Call<'_>, framing: Framing, keep_length: bool) -> Result<(), Refusal> {
    let draining = call.service.drain.started();
    let upgraded = call.upgrade && request::switches(request::is_connect(call.request), call.response.status);
    call.info.status = call.response.status;
    match &mut call.responder {
        Responder::H1 { writer, keep_alive, started } => {
            *keep_alive &= framing != Framing::Close && !draining;
            if draining {
                call.service.stats.downstream_cx_drain_close.inc();
            } else if *keep_alive && call.service.sheds && call.worker.sheds(|shed| shed.keep_alive) {
                call.service.stats.downstream_cx_overload_disable_keepalive.inc();
                *keep_alive = false;
            }
            let to_head = call.request.method() == b"HEAD";
            let options = ResponseOptions {
                framing,
                unknown_length: to_head && !keep_length && call.info.protocol != Protocol::Http10,
                close: !*keep_alive && !upgraded,
                say_keep_alive: call.info.protocol == Protocol::Http10,
                upgraded,
                keep_length,
            };
            encode::response(call.response, &options, writer.out());
            writer.start_body(framing);
            *started = true;
        }
        Responder::H2 { stream, sink } => {
            let end = framing == Framing::None && !upgraded;
            stream.answer(call.response, end).map_err(|_| Refusal::DownstreamGone)?;
            *sink = Some(H2Sink::new(stream.clone(), end));
        }
    }
    Ok(())
}

/// Applies what the routes, the filters and the connection manager say about response heads. `edits`: the levels whose
/// header edits are still to be made.
pub fn finish_head(call: &mut Call<'_>, levels: Option<&Levels<'_>>, edits: Option<&Levels<'_>>) {
    call.info.status = call.response.status;
    let upgraded = call.response.status == 101;
    if let Some(levels) = edits {
        edit(call, levels);
    }
    if let Some(levels) = levels.filter(|_| !call.service.manager.filters.is_empty()) {
        filters::mutate_response(call, levels);
    }
    request::depart(&call.service.manager, call.response, upgraded);
    if call.response.get_known(Known::Date).is_none() {
        call.worker.with_date(|date| call.response.push(b"date", date));
    }
    if call.service.manager.always_set_request_id_in_response
        && let Some(id) = call.request.get(b"x-request-id")
    {
        call.response.set(b"x-request-id", id);
    }
    for (name, value) in &call.leftovers.cors {
        call.response.set(name, value);
    }
}

fn edit(call: &mut Call<'_>, levels: &Levels<'_>) {
    let Call { request, response, info, connection, .. } = call;
    let mut scratch = Vec::new();
    levels.each(
        |edits| &edits.response,
        |edits| {
            apply_response(edits, request, response, info, connection, &mut scratch);
        },
    );
}

/// Headers that a mapper of local replies adds.
fn apply_response_list(
    add: &[AddHeader],
    request: &Head,
    response: &mut Head,
    info: &engine::StreamInfo,
    connection: &engine::info::ConnectionFacts,
) {
    edits::add_all(add, response, |response, format, out| {
        format::render(format, &Context::new(request, info, connection).with(response), "", out);
    });
}

fn apply_response(
    edits: &Edits,
    request: &Head,
    response: &mut Head,
    info: &engine::StreamInfo,
    connection: &engine::info::ConnectionFacts,
    scratch: &mut Vec<u8>,
) {
    edits::apply(
        edits,
        response,
        |response, add, out| {
            format::render(add, &Context::new(request, info, connection).with(response), "", out);
        },
        scratch,
    );
}

/// Empties a head, with room for a reply.
pub(super) fn blank(response: &mut Head) {
    heads::lend(response);
    response.clear();
}

/// A redirect to `location`.
pub async fn redirect(
    call: &mut Call<'_>,
    status: u16,
    location: Vec<u8>,
    levels: Option<&Levels<'_>>,
) -> Result<Ended, Refusal> {
    call.info.details = "direct_response";
    blank(call.response);
    call.response.push(b"location", &location);
    let body = local(call, levels, Local { status, grpc: None, body: b"" });
    finish_head(call, levels, None);
    reply(call, &body).await
}

/// An answer of the proxy's own, before it gets its form.
struct Local<'b> {
    status: u16,
    /// For gRPC clients; else what the status means.
    grpc: Option<u8>,
    body: &'b [u8],
}

/// Gives an answer the form that the connection manager and the client want; the body is what is sent.
fn local<'b>(call: &mut Call<'_>, levels: Option<&Levels<'_>>, local: Local<'b>) -> Cow<'b, [u8]> {
    let manager = call.service.manager.clone();
    let config = &manager.local_reply;
    let Local { mut status, mut grpc, body } = local;
    let mut body = Cow::Borrowed(body);
    call.response.status = status;
    // The routes' edits come first, when there is no response yet that they could tell of.
    call.info.status = 0;
    if let Some(levels) = levels {
        edit(call, levels);
    }
    call.info.status = status;
    let mapper = config.mappers.iter().find(|mapper| {
        let context = Context::new(call.request, &call.info, call.connection).with(call.response);
        log_filter::passes(&mapper.filter, &context, call.worker.random())
    });
    if let Some(mapper) = mapper {
        if let Some(new) = &mapper.body {
            body = new.to_vec().into();
        }
        let Call { request, response, info, connection, .. } = call;
        apply_response_list(&mapper.headers, request, response, info, connection);
        if let Some(new) = mapper.status.filter(|new| *new != status) {
            (status, grpc) = (new, None);
        }
    }
    call.response.status = status;
    call.info.status = status;
    let form = mapper.and_then(|mapper| mapper.format.as_ref()).or(config.body.as_ref());
    if let Some(form) = form {
        let Call { request, response, info, connection, .. } = call;
        let context = Context { local_reply: &body, ..Context::new(request, info, connection).with(response) };
        let mut rendered = Vec::new();
        engine::line::render(&form.line, &context, &mut rendered);
        body = rendered.into();
    }
    dress(call, status, grpc, body, form.map_or("text/plain", |form| &form.content_type))
}

/// gRPC-Web clients are told the message in a head with the status. gRPC clients are told status and message in a head that ends the stream (`Trailers-Only`), others get the body.
fn dress<'b>(
    call: &mut Call<'_>,
    status: u16,
    grpc: Option<u8>,
    body: Cow<'b, [u8]>,
    content_type: &str,
) -> Cow<'b, [u8]> {
    let response = &mut *call.response;
    if let Some(web) = call.leftovers.web {
        match body.is_empty() {
            true => web.answer(response),
            false => web.explain(response, &body),
        }
        return Cow::Borrowed(b"");
    }
    if !call.request.is_grpc() {
        // What a mapper has set gives way to a form that is not plain text.
        let own = response.get(b"content-type").is_some();
        if !body.is_empty() && (!own || content_type != "text/plain") {
            response.set(b"content-type", content_type.as_bytes());
        }
        return body;
    }
    response.status = 200;
    call.info.status = 200;
    response.set(b"content-type", b"application/grpc");
    response.set(b"grpc-status", itoa::Buffer::new().format(grpc.unwrap_or(grpc_of_http(status))).as_bytes());
    if !body.is_empty() {
        // A line of JSON ends, a message does not.
        let message = if content_type == "application/json" { body.trim_ascii_end() } else { &body };
        response.set(b"grpc-message", &engine::grpc::message(message));
    }
    Cow::Borrowed(b"")
}

/// The body the route gives.
pub async fn direct(call: &mut Call<'_>, direct: &DirectResponse, levels: &Levels<'_>) -> Result<Ended, Refusal> {
    call.info.details = "direct_response";
    blank(call.response);
    if direct.status == 201 || (300..400).contains(&direct.status) {
        // Envoy names what was asked for as the place of what was made.
        let location = [call.request.scheme(), b"://", call.request.authority(), call.request.path()].concat();
        call.response.push(b"location", &location);
    }
    call.response.status = direct.status;
    call.info.status = direct.status;
    // The configured body is not copied: many slow readers may wait for it.
    let mut rendered = Vec::new();
    let mut body: &[u8] = &direct.body;
    if let Some(format) = &direct.format {
        let Call { request, response, info, connection, .. } = call;
        let context = Context::new(request, info, connection).with(response);
        engine::line::render(&format.line, &context, &mut rendered);
        body = &rendered;
    }
    let body = local(call, Some(levels), Local { status: direct.status, grpc: None, body });
    finish_head(call, Some(levels), None);
    reply(call, &body).await
}

/// An answer of a filter that has nothing to say but its status. What it has put into `call.response` stays.
pub async fn plain(call: &mut Call<'_>, status: u16, levels: &Levels<'_>) -> Result<Ended, Refusal> {
    let body = local(call, Some(levels), Local { status, grpc: None, body: b"" });
    finish_head(call, Some(levels), None);
    reply(call, &body).await
}

/// The proxy's own answer to a request it cannot or will not forward.
pub async fn refuse(call: &mut Call<'_>, refusal: Refusal, levels: Option<&Levels<'_>>) -> Ended {
    call.info.refusal = Some(refusal);
    let stats = &call.service.stats;
    match refusal {
        Refusal::RouteNotFound => stats.no_route.inc(),
        Refusal::ClusterNotFound(_) => stats.no_cluster.inc(),
        Refusal::HeadTooLarge => stats.downstream_rq_too_large.inc(),
        Refusal::RequestTimeout => stats.downstream_rq_timeout.inc(),
        Refusal::StreamIdleTimeout => stats.downstream_rq_idle_timeout.inc(),
        Refusal::DownstreamGone => stats.downstream_rq_rx_reset.inc(),
        _ => {}
    }
    if call.responder.started() || refusal == Refusal::DownstreamGone {
        return cut(call).await;
    }
    let explained = refusal.explain();
    blank(call.response);
    let text = match call.info.attempts {
        0 | 1 => explained.body.to_string(),
        _ => explained.body.replace("reset reason:", "retried and the latest reset reason:"),
    };
    if refusal == Refusal::UpstreamOverflow && !call.service.manager.suppress_envoy_headers {
        call.response.set(b"x-envoy-overloaded", b"true");
    }
    if refusal == Refusal::Overloaded && call.service.manager.append_local_overload {
        call.response.set(b"x-envoy-local-overloaded", b"true");
    }
    for (add, value) in std::mem::take(&mut call.leftovers.own_answer) {
        edits::add_value(&add, call.response, &value);
    }
    if let Some(wait) = call.leftovers.retry_after
        && call.response.get(b"retry-after").is_none()
    {
        let seconds = wait.as_secs_f64().ceil() as u64;
        call.response.set(b"retry-after", itoa::Buffer::new().format(seconds).as_bytes());
    }
    let own = Local { status: explained.http, grpc: Some(explained.grpc), body: text.as_bytes() };
    let body = local(call, levels, own);
    proxy_status(call, refusal);
    finish_head(call, levels, None);
    if let (true, Responder::H1 { keep_alive, .. }) = (refusal.closes_connection(), &mut call.responder) {
        *keep_alive = false;
    }
    match reply(call, &body).await {
        Ok(ended) => ended,
        Err(_) => cut(call).await,
    }
}

/// `Proxy-Status` (RFC 9209), when the connection manager asks for it.
fn proxy_status(call: &mut Call<'_>, refusal: Refusal) {
    let Some(config) = &call.service.manager.proxy_status else { return };
    let explained = refusal.explain();
    let mut value = format!("{}; error={}", config.proxy_name, explained.proxy_status);
    if !config.remove_details {
        value.push_str("; details=\"");
        value.push_str(explained.details);
        if !config.remove_response_flags {
            value.push_str("; ");
            value.push_str(explained.flag);
        }
        value.push('"');
    }
    call.response.set(b"proxy-status", value.as_bytes());
}

/// The response cannot be completed: the client must notice.
async fn cut(call: &mut Call<'_>) -> Ended {
    if let Responder::H2 { stream, .. } = &call.responder {
        stream.reset(Reason::INTERNAL_ERROR);
    }
    call.service.stats.downstream_rq_tx_reset.inc();
    Ended::Close
}

/// Sends `call.response` with a complete body.
pub(super) async fn reply(call: &mut Call<'_>, body: &[u8]) -> Result<Ended, Refusal> {
    let to_head = call.request.method() == b"HEAD";
    let clean = call.body.is_read() && !request::is_connect(call.request);
    if let (false, Responder::H1 { keep_alive, .. }) = (clean, &mut call.responder) {
        // A request body that nobody read makes the connection useless for another request, as does a tunnel that the
        // client may have begun already.
        *keep_alive = false;
    }
    let framing = if to_head || body.is_empty() { Framing::None } else { Framing::Length(body.len() as u64) };
    let keep_length = to_head && !body.is_empty();
    let is_h2 = matches!(call.responder, Responder::H2 { .. });
    if keep_length || (is_h2 && !body.is_empty()) {
        call.response.set(b"content-length", body.len().to_string().as_bytes());
    }
    send_head(call, framing, keep_length)?;
    let Call { responder, info, body: request_body, .. } = call;
    let mut sink = responder.sink();
    let mut left = if framing == Framing::None { &[][..] } else { body };
    info.bytes_sent += left.len() as u64;
    while !left.is_empty() {
        let write = std::future::poll_fn(|cx| sink.poll_write(cx, left)).await;
        left = &left[write.map_err(|_| Refusal::DownstreamGone)?..];
    }
    sink.finish(None).map_err(|_| Refusal::DownstreamGone)?;
    std::future::poll_fn(|cx| sink.poll_flush(cx)).await.map_err(|_| Refusal::DownstreamGone)?;
    let reusable = request_body.is_read() && matches!(responder, Responder::H1 { keep_alive: true, .. });
    Ok(if reusable { Ended::Reusable } else { Ended::Close })
}
