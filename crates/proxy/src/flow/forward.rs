//! Forwards a request along its route: which cluster, which edits, how long, and how often it may be tried.

use super::attempt::{self, Attempt};
use super::call::{Call, Way, choose, render};
use super::mirror::{self, Shadow};
use super::relay;
use super::respond::Levels;
use super::switch;
use crate::clock;
use crate::http::h1::Framing;
use crate::upstream::{Cluster, Host, Passage};
use engine::edits;
use engine::format::{self, Context};
use engine::head::Known;
use engine::request::{is_connect, switches};
use engine::resilience::deadline::{self, Deadlines};
use engine::resilience::retry;
use engine::route::follow::{self, Followed};
use engine::route::hash::Hashed;
use engine::route::{self, Choice, rewrite};
use model::Refusal;
use model::balance::Metadata;
use model::route::{Connect, Forward, InternalRedirects, Target};
use smallvec::SmallVec;
use std::borrow::Cow;
use std::cell::Cell;
use std::rc::Rc;

/// Body bytes kept for another attempt on a connection that was alive, when nothing else asks for one.
const REPLAY_LIMIT: usize = 64 * 1024;
/// Body bytes kept for what the route asks for: Envoy's limit per connection.
const BUFFER_LIMIT: usize = 1 << 20;

/// A request on its way to one cluster.
pub(super) struct Journey<'t> {
    pub(super) cluster: Rc<Cluster>,
    pub(super) forward: &'t Forward,
    pub(super) levels: Levels<'t>,
    pub(super) deadlines: Deadlines,
    pub(super) policy: Option<retry::Policy<'t>>,
    pub(super) hedge: bool,
    pub(super) passage: Passage,
    /// The request's tunnel ends here.
    pub(super) tunnel: Option<Connect>,
    pub(super) tried: SmallVec<[Rc<Host>; 2]>,
    /// Priorities that the next attempt leaves, and those that it will leave later (`previous_priorities`).
    pub(super) tried_priorities: Vec<u32>,
    noted_priorities: Vec<u32>,
    /// Key for hashing balancers.
    pub(super) hash: Option<u64>,
    /// `set-cookie` values that keep it.
    pub(super) cookies: Vec<Vec<u8>>,
    pub(super) retries: u32,
    /// The last pooled connection died before answering: take a new one.
    pub(super) fresh: bool,
    /// Attempts that took too long and are still under way (hedging).
    pub(super) late: Vec<Attempt>,
    /// Copies to send when the body is known.
    pub(super) shadows: Vec<Shadow>,
    /// Counts the retry under way.
    pub(super) retrying: Option<Retrying>,
}

impl<'t> Journey<'t> {
    /// The metadata that hosts must have.
    pub(super) fn subset(&self) -> &'t Metadata {
        match self.levels.weighted {
            Some(cluster) => &cluster.subset,
            None => &self.forward.subset,
        }
    }

    /// An attempt went to `priority`; with every so many of them, they are left.
    pub(super) fn leave_priority(&mut self, priority: u32, every: u32) {
        if every == 0 {
            return;
        }
        self.noted_priorities.push(priority);
        if self.tried.len().is_multiple_of(every as usize) {
            self.tried_priorities.append(&mut self.noted_priorities);
        }
    }
}

/// Counts a retry from the decision to its answer.
pub(super) struct Retrying(Rc<Cluster>, usize);

impl Retrying {
    pub(super) fn new(cluster: &Rc<Cluster>, priority: usize) -> Self {
        add(&cluster.active_retries[priority], 1);
        Retrying(cluster.clone(), priority)
    }
}

impl Drop for Retrying {
    fn drop(&mut self) {
        add(&self.0.active_retries[self.1], -1);
    }
}

fn add(cell: &Cell<u32>, change: i32) {
    cell.set(cell.get().saturating_add_signed(change));
}

/// Forwards the request along `forward` to `cluster`, the one that its target names.
pub(super) async fn forward<'t>(
    call: &mut Call<'_>,
    levels: &Levels<'t>,
    forward: &'t Forward,
    cluster: Option<Cow<'t, str>>,
    followed: &mut Followed,
) -> Result<Way, Refusal> {
    let not_found = Refusal::ClusterNotFound(forward.cluster_not_found_status);
    let name = cluster.ok_or(not_found)?;
    let cluster = call.worker.cluster(&name).ok_or(not_found)?;
    call.info.cluster = Some(cluster.name.clone());
    let passage = passage(call, forward);
    join_groups(call, levels);
    let mut journey = plan(call, cluster, levels, forward, passage);
    let longest = journey.deadlines.stream;
    if !longest.is_zero() && clock::since(call.started) >= longest {
        // Nobody waits for the answer any more: the work is not begun.
        return Err(Refusal::StreamDuration);
    }
    if call.expects_continue && call.framing != Framing::None {
        call.request.remove_known(Known::Expect);
        call.responder.send_continue().await;
    }
    let answered = attempt::travel(call, &mut journey).await;
    attempt::give_up_late(&mut journey);
    journey.retrying = None;
    let answered = answered.inspect_err(|refusal| {
        if matches!(refusal, Refusal::UpstreamTimeout | Refusal::PerTryTimeout) {
            call.groups.each(|stats| stats.upstream_rq_timeout.inc());
        }
        call.groups.answered(refusal.explain().http, None);
    })?;
    if call.upgrade && switches(is_connect(call.request), call.response.status) {
        // Boxed: other requests need no room for it.
        return Box::pin(switch::protocols(call, answered, &journey)).await.map(Way::Ended);
    }
    if let Some(policy) = &forward.internal_redirects
        && policy.statuses.contains(&call.response.status)
    {
        if follow(call, levels, policy, followed) {
            journey.cluster.stats.upstream_internal_redirect_succeeded_total.inc();
            answered.leave(&journey.cluster);
            return Ok(Way::Redirected);
        }
        journey.cluster.stats.upstream_internal_redirect_failed_total.inc();
    }
    relay::stream_back(call, answered, &journey).await.map(Way::Ended)
}

/// The virtual cluster and the route that the request is counted with.
fn join_groups(call: &mut Call<'_>, levels: &Levels<'_>) {
    let Choice { host, route } = levels.choice;
    if !host.virtual_clusters.is_empty() {
        let group = route::virtual_cluster(host, call.request).map(|group| group.name.clone());
        call.groups.join(call.worker.group(&host.name, "vcluster", group.as_deref().unwrap_or("other")));
        call.info.virtual_cluster = group;
    }
    if !route.stat_prefix.is_empty() {
        call.groups.join(call.worker.group(&host.name, "route", &route.stat_prefix));
    }
}

/// Makes the request one for where the upstream redirects it to, if the policy and the routes let it go there.
fn follow(call: &mut Call<'_>, levels: &Levels<'_>, policy: &InternalRedirects, followed: &mut Followed) -> bool {
    if !call.body.is_done() || !call.body.can_rewind() {
        return false;
    }
    let secure = call.connection.tls.is_some();
    let Ok(to) = follow::destination(policy, call.request, call.response, secure, followed) else { return false };
    let plain = follow::plainness(call.request, secure, &to);
    let original = follow::original_url(call.request, plain.0);
    let before = call.request.clone();
    follow::redirect(policy, call.request, call.response, &to);
    let from = &levels.choice.route.name;
    let goes_on = choose(call, levels.table)
        .is_some_and(|next| follow::permitted(policy, from, &next.route.name, plain, followed));
    if !goes_on {
        *call.request = before;
        return false;
    }
    if follow::becomes_get(call.request, call.response.status) {
        call.request.set_method(b"GET");
        call.request.remove_known(Known::ContentLength);
        call.framing = Framing::None;
        call.body.discard();
    }
    call.request.set(b"x-envoy-original-url", &original);
    call.body.rewind();
    followed.count += 1;
    true
}

/// Settles everything that does not depend on the host: deadlines, edits, copies.
fn plan<'t>(
    call: &mut Call<'_>,
    cluster: Rc<Cluster>,
    levels: &Levels<'t>,
    forward: &'t Forward,
    (passage, tunnel): (Passage, Option<Connect>),
) -> Journey<'t> {
    let manager = &call.service.manager;
    let mut deadlines = deadline::deadlines(forward, call.request, manager.timeouts.max_stream_duration);
    if call.internal {
        deadlines.take_headers(call.request, manager.respect_expected_rq_timeout);
    }
    let hashed = hash(call, &cluster, forward);
    prepare(call, levels, forward);
    let (policy, hedge) = if call.internal {
        (retry::policy(forward.retry.as_deref(), call.request), hedging(call, forward))
    } else {
        (forward.retry.as_deref().map(retry::Policy::OfRoute), forward.hedge_on_per_try_timeout)
    };
    if let Some(idle) = forward.idle_timeout {
        call.watch.set_idle(idle, call.started);
    }
    call.watch.set_duration(call.started, deadlines.stream);
    let shadows = mirror::shadows(call, levels, forward);
    let again = match levels.choice.route.body_limit {
        Some(limit) => usize::try_from(limit).unwrap_or(usize::MAX),
        None if policy.is_some() || forward.internal_redirects.is_some() => BUFFER_LIMIT,
        None => REPLAY_LIMIT,
    };
    let keep = if shadows.is_empty() { again } else { again.max(cluster.config.buffer_limit) };
    call.body.keep_up_to(keep, again);
    if call.body.is_done() && !call.upgrade {
        call.watch.set_route(clock::now(), deadlines.route);
    }
    cluster.deposit_retry();
    Journey {
        cluster,
        forward,
        levels: *levels,
        deadlines,
        policy,
        hedge,
        passage,
        tunnel,
        tried: SmallVec::new(),
        tried_priorities: Vec::new(),
        noted_priorities: Vec::new(),
        hash: hashed.key,
        cookies: hashed.cookies,
        retries: 0,
        fresh: false,
        late: Vec::new(),
        shadows,
        retrying: None,
    }
}

/// Balancers that hash look at the request as it came.
fn hash(call: &Call<'_>, cluster: &Cluster, forward: &Forward) -> Hashed {
    if forward.hash.is_empty() || !cluster.config.policy.is_hashing() {
        return Hashed::default();
    }
    key(call, forward)
}

fn key(call: &Call<'_>, forward: &Forward) -> Hashed {
    let client = call.info.remote.map(|remote| remote.ip());
    engine::route::hash::key(&forward.hash, call.request, client, call.connection)
}

/// What chooses among weighted clusters: the request's hash where that is wanted, else chance.
pub(super) fn point(call: &Call<'_>, forward: &Forward) -> u64 {
    let hash = match &forward.target {
        Target::Weighted(weighted) if weighted.by_hash => key(call, forward).key,
        _ => None,
    };
    hash.unwrap_or_else(|| call.worker.random())
}

/// `x-envoy-hedge-on-per-try-timeout` overrides the route.
fn hedging(call: &mut Call<'_>, forward: &Forward) -> bool {
    const NAME: &[u8] = b"x-envoy-hedge-on-per-try-timeout";
    let hedge = match call.request.get(NAME) {
        Some(given) => given == b"true",
        None => forward.hedge_on_per_try_timeout,
    };
    call.request.remove(NAME);
    hedge
}

/// What the request makes of the upstream's connection, and the tunnel's rules where one ends here.
fn passage(call: &Call<'_>, forward: &Forward) -> (Passage, Option<Connect>) {
    let ends = |rules: &Connect| match call.request.method() {
        b"CONNECT" => true,
        b"POST" => rules.allow_post,
        _ => false,
    };
    match forward.connect.filter(ends) {
        Some(rules) => (Passage::Raw, Some(rules)),
        None if call.upgrade => (Passage::Switch, None),
        None => (Passage::Messages, None),
    }
}

/// Header edits and rewrites of the route, once per request.
fn prepare(call: &mut Call<'_>, levels: &Levels<'_>, forward: &Forward) {
    let mut scratch = Vec::new();
    let Call { request, info, connection, .. } = call;
    levels.each(
        |edits| &edits.request,
        |edits| {
            let render = |head: &engine::Head, add: &model::format::Format, out: &mut Vec<u8>| {
                format::render(add, &Context::new(head, info, connection), "", out);
            };
            edits::apply(edits, request, render, &mut scratch);
        },
    );
    let suppress = call.service.manager.suppress_envoy_headers;
    // The host may follow from the path as it was asked for.
    let head = &mut *call.request;
    if let Some(host) = rewrite::host(forward, levels.weighted, head, "") {
        let original = head.authority().to_vec();
        if !suppress && original != host {
            head.set(b"x-envoy-original-host", &original);
        }
        if forward.append_x_forwarded_host {
            engine::request::append_list(head, b"x-forwarded-host", &original, b",");
        }
        head.set_authority(&host);
    }
    let path = rewrite::path(forward, &levels.choice.route.matches, call.request, |format| render(call, format));
    let head = &mut *call.request;
    if let Some(path) = path {
        if !suppress {
            let original = head.path().to_vec();
            head.set(b"x-envoy-original-path", &original);
        }
        head.set_path(&path);
    }
}
