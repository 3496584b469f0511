//! The statistics of listeners, connection managers and clusters, under Envoy's names.

use super::metrics::{Counter, Distribution, Gauge, Histogram};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, Weak};

/// Declares a group of metrics and how to visit them by name.
macro_rules! group {
    ($(#[$doc:meta])* $name:ident { counters: $($counter:ident),* ; gauges: $($gauge:ident),* ; $(levels: $($level:ident),* ;)? histograms: $($histogram:ident),* }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub struct $name {
            $(pub $counter: Counter,)*
            $(pub $gauge: Gauge,)*
            $($(pub $level: Gauge,)*)?
            $(pub $histogram: Histogram,)*
            pub responses: Responses,
        }

        impl Group for $name {
            fn visit(&self, each: &mut dyn FnMut(&str, Reading<'_>)) {
                $(each(stringify!($counter), Reading::Counter(self.$counter.get()));)*
                $(each(stringify!($gauge), Reading::Gauge(self.$gauge.get()));)*
                $($(each(stringify!($level), Reading::Level(self.$level.get()));)*)?
                $(each(stringify!($histogram), Reading::Histogram(&self.$histogram));)*
                self.responses.visit(each);
            }
        }
    };
}

/// One metric as a reader sees it.
pub enum Reading<'a> {
    Counter(u64),
    Gauge(u64),
    /// What every worker sees for itself; where they differ the least counts.
    Level(u64),
    Histogram(&'a Histogram),
}

pub trait Group: Send + Sync {
    fn visit(&self, each: &mut dyn FnMut(&str, Reading<'_>));
}

group! {
    /// `http.<stat_prefix>.`
    HttpStats {
        counters: downstream_cx_total, downstream_cx_destroy, downstream_cx_http1_total, downstream_cx_http2_total,
            downstream_cx_ssl_total, downstream_cx_upgrades_total, downstream_rq_ws_on_non_ws_route, downstream_cx_idle_timeout,
            downstream_cx_max_duration_reached, downstream_cx_protocol_error,
            downstream_cx_drain_close, downstream_cx_overload_disable_keepalive, downstream_rq_overload_close,
            downstream_cx_rx_bytes_total, downstream_cx_tx_bytes_total, downstream_rq_total, downstream_rq_http1_total,
            downstream_rq_http2_total, downstream_rq_rx_reset, downstream_rq_tx_reset, downstream_rq_timeout,
            downstream_rq_idle_timeout, downstream_rq_too_large, fault_delays_injected, fault_aborts_injected, fault_response_rl_injected, fault_faults_overflow,
            local_rate_limited, admission_control_rq_rejected, adaptive_concurrency_rq_blocked, no_route, no_cluster, rq_direct_response, rq_redirect, rq_total;
        gauges: downstream_cx_active, downstream_cx_upgrades_active, downstream_rq_active;
        histograms: downstream_rq_time
    }
}

group! {
    /// `listener.<address>.`
    ListenerStats {
        counters: downstream_cx_total, downstream_cx_destroy, no_filter_chain_match, downstream_listener_filter_error,
            downstream_pre_cx_timeout, downstream_cx_overload_reject, downstream_global_cx_overflow, ssl_handshake, ssl_connection_error, ssl_fail_verify_no_cert, ssl_fail_verify_error;
        gauges: downstream_cx_active;
        histograms:
    }
}

group! {
    /// `tcp.<stat_prefix>.`
    TcpStats {
        counters: downstream_cx_total, downstream_cx_no_route, downstream_cx_rx_bytes_total, downstream_cx_tx_bytes_total,
            idle_timeout, max_downstream_connection_duration;
        gauges: downstream_cx_active;
        histograms:
    }
}

group! {
    /// `cluster.<name>.`
    ClusterStats {
        counters: upstream_cx_total, upstream_cx_http1_total, upstream_cx_http2_total, upstream_cx_connect_fail,
            upstream_cx_connect_timeout, upstream_cx_destroy, upstream_cx_overflow, upstream_cx_rx_bytes_total,
            upstream_cx_tx_bytes_total, upstream_cx_none_healthy, upstream_cx_protocol_error, upstream_cx_idle_timeout,
            upstream_rq_total, upstream_rq_completed,
            upstream_rq_timeout, upstream_rq_per_try_timeout, upstream_rq_per_try_idle_timeout,
            upstream_rq_max_duration_reached, upstream_rq_mirror_overflow, upstream_rq_retry_backoff_exponential,
            upstream_rq_retry_backoff_ratelimited, upstream_rq_rx_reset, upstream_rq_tx_reset,
            upstream_rq_retry, upstream_rq_retry_success, upstream_rq_retry_limit_exceeded, upstream_rq_retry_overflow,
            upstream_rq_pending_overflow, upstream_rq_cancelled, upstream_internal_redirect_succeeded_total,
            upstream_internal_redirect_failed_total, ssl_handshake, ssl_connection_error, membership_change, lb_healthy_panic,
            lb_subsets_selected, lb_subsets_fallback, lb_subsets_fallback_panic, lb_zone_routing_all_directly,
            lb_zone_routing_sampled, lb_zone_routing_cross_zone, lb_zone_no_capacity_left, lb_zone_cluster_too_small,
            lb_local_cluster_not_ok, lb_recalculate_zone_structures,
            outlier_detection_ejections_total, outlier_detection_ejections_overflow,
            outlier_detection_ejections_consecutive_5xx, outlier_detection_ejections_success_rate,
            outlier_detection_ejections_enforced_total,
            outlier_detection_ejections_detected_consecutive_5xx, outlier_detection_ejections_enforced_consecutive_5xx,
            outlier_detection_ejections_detected_consecutive_gateway_failure,
            outlier_detection_ejections_enforced_consecutive_gateway_failure,
            outlier_detection_ejections_detected_consecutive_local_origin_failure,
            outlier_detection_ejections_enforced_consecutive_local_origin_failure,
            outlier_detection_ejections_detected_success_rate, outlier_detection_ejections_enforced_success_rate,
            outlier_detection_ejections_detected_local_origin_success_rate,
            outlier_detection_ejections_enforced_local_origin_success_rate,
            outlier_detection_ejections_detected_failure_percentage,
            outlier_detection_ejections_enforced_failure_percentage,
            outlier_detection_ejections_detected_local_origin_failure_percentage,
            outlier_detection_ejections_enforced_local_origin_failure_percentage,
            update_success, original_dst_host_invalid, upstream_cx_max_duration_reached;
        gauges: upstream_cx_active, upstream_rq_active, outlier_detection_ejections_active;
        levels: membership_total, membership_healthy, membership_degraded, lb_subsets_active;
        histograms: upstream_rq_time, upstream_cx_connect_ms
    }
}

group! {
    /// `vhost.<virtual host>.vcluster.<name>.` and `vhost.<virtual host>.route.<stat prefix>.`
    GroupStats {
        counters: upstream_rq_total, upstream_rq_retry, upstream_rq_retry_limit_exceeded, upstream_rq_retry_overflow,
            upstream_rq_retry_success, upstream_rq_timeout;
        gauges:;
        histograms: upstream_rq_time
    }
}

group! {
    /// `cluster.<name>.health_check.`
    HealthStats {
        counters: health_check_attempt, health_check_success, health_check_failure, health_check_passive_failure,
            health_check_network_failure, health_check_verify_cluster;
        gauges: health_check_healthy, health_check_degraded;
        histograms:
    }
}

group! {
    /// `connection_limit.<stat_prefix>.` and `local_rate_limit.<stat_prefix>.`
    GuardStats {
        counters: limited_connections, rate_limited;
        gauges: active_connections;
        histograms:
    }
}

/// `cluster.<name>.grpc-web.<service>.<method>.`
#[derive(Debug, Default)]
pub struct CallStats {
    total: Counter,
    success: Counter,
    failure: Counter,
    /// By gRPC status.
    statuses: [Counter; 17],
}

impl CallStats {
    /// A call ended with `status`.
    pub fn note(&self, status: u8) {
        self.total.inc();
        if status == 0 {
            self.success.inc()
        } else {
            self.failure.inc()
        }
        if let Some(counter) = self.statuses.get(usize::from(status)) {
            counter.inc();
        }
    }
}

impl Group for CallStats {
    fn visit(&self, each: &mut dyn FnMut(&str, Reading<'_>)) {
        let numbers = self.statuses.iter().enumerate().map(|(status, counter)| (status.to_string(), counter));
        let named = [("total", &self.total), ("success", &self.success), ("failure", &self.failure)];
        let all = named.into_iter().map(|(name, counter)| (name.to_string(), counter)).chain(numbers);
        for (name, counter) in all.filter(|(_, counter)| counter.get() > 0) {
            each(&name, Reading::Counter(counter.get()));
        }
    }
}

/// Responses by class and code. The codes of a class take memory with its first response.
#[derive(Debug, Default)]
pub struct Responses {
    classes: [Counter; 5],
    codes: [OnceLock<Box<[Counter; 100]>>; 5],
}

impl Responses {
    pub fn note(&self, status: u16) {
        let (class, code) = (usize::from(status / 100), usize::from(status % 100));
        if !(1..=5).contains(&class) {
            return;
        }
        self.classes[class - 1].inc();
        self.codes[class - 1].get_or_init(|| Box::new(std::array::from_fn(|_| Counter::default())))[code].inc();
    }

    fn visit(&self, each: &mut dyn FnMut(&str, Reading<'_>)) {
        for (index, class) in self.classes.iter().enumerate() {
            if class.get() > 0 {
                each(&format!("rq_{}xx", index + 1), Reading::Counter(class.get()));
            }
            for (code, counter) in self.codes[index].get().iter().flat_map(|codes| codes.iter().enumerate()) {
                if counter.get() > 0 {
                    each(&format!("rq_{}{code:02}", index + 1), Reading::Counter(counter.get()));
                }
            }
        }
    }
}

/// What a group belongs to; decides the prefix of its names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    Listener(Arc<str>),
    Http(Arc<str>),
    Tcp(Arc<str>),
    Cluster(Arc<str>),
    /// In a virtual host: a `vcluster` or `route` and its name.
    Group {
        host: Arc<str>,
        kind: &'static str,
        name: Arc<str>,
    },
    /// A method of a service behind a cluster, called by gRPC-Web.
    Call {
        cluster: Arc<str>,
        method: Arc<str>,
    },
    /// A network filter of this kind, with its prefix.
    Guard(&'static str, Arc<str>),
}

/// All groups of all workers. Locked when configuration changes and when somebody reads, never per request.
#[derive(Default)]
pub struct Registry {
    groups: Mutex<BTreeMap<Owner, Vec<Slot>>>,
    /// The administrator wants this process to be taken for unwell (`/healthcheck/fail`).
    pub unwell: AtomicBool,
}

struct Slot {
    group: Weak<dyn Group>,
}

/// Sums over workers.
#[derive(Debug, Clone)]
pub enum Total {
    Counter(u64),
    Gauge(u64),
    Histogram(Distribution),
}

/// Metrics of one owner by name.
pub type Totals = BTreeMap<String, Total>;

impl Registry {
    /// A new group for one worker. It is forgotten when its last user drops it.
    pub fn add<G: Group + Default + 'static>(&self, owner: Owner) -> Arc<G> {
        let group: Arc<G> = Arc::default();
        let weak: Weak<dyn Group> = Arc::downgrade(&(group.clone() as Arc<dyn Group>));
        let mut groups = self.groups.lock().expect("no panic while locked");
        groups.entry(owner).or_default().push(Slot { group: weak });
        group
    }

    /// One counter of one owner, summed.
    pub fn counter(&self, owner: &Owner, wanted: &str) -> u64 {
        let groups = self.groups.lock().expect("no panic while locked");
        let mut sum = 0;
        for group in groups.get(owner).into_iter().flatten().filter_map(|slot| slot.group.upgrade()) {
            group.visit(&mut |name, reading| match reading {
                Reading::Counter(value) if name == wanted => sum += value,
                _ => {}
            });
        }
        sum
    }

    /// Every metric of every owner, summed, in order.
    pub fn read(&self) -> BTreeMap<Owner, Totals> {
        let mut groups = self.groups.lock().expect("no panic while locked");
        groups.retain(|_, slots| {
            slots.retain(|slot| slot.group.strong_count() > 0);
            !slots.is_empty()
        });
        let sum = |slots: &Vec<Slot>| {
            let mut totals = Totals::new();
            for group in slots.iter().filter_map(|slot| slot.group.upgrade()) {
                group.visit(&mut |name, reading| add(&mut totals, name, &reading));
            }
            totals
        };
        groups.iter().map(|(owner, slots)| (owner.clone(), sum(slots))).collect()
    }
}

fn add(totals: &mut Totals, name: &str, reading: &Reading<'_>) {
    match reading {
        Reading::Counter(value) => match totals.entry(name.into()).or_insert(Total::Counter(0)) {
            Total::Counter(sum) => *sum += value,
            Total::Gauge(_) | Total::Histogram(_) => {}
        },
        Reading::Gauge(value) => match totals.entry(name.into()).or_insert(Total::Gauge(0)) {
            Total::Gauge(sum) => *sum = sum.wrapping_add(*value),
            Total::Counter(_) | Total::Histogram(_) => {}
        },
        Reading::Level(value) => match totals.entry(name.into()).or_insert(Total::Gauge(*value)) {
            Total::Gauge(least) => *least = (*least).min(*value),
            Total::Counter(_) | Total::Histogram(_) => {}
        },
        Reading::Histogram(value) => {
            if let Total::Histogram(sum) =
                totals.entry(name.into()).or_insert_with(|| Total::Histogram(Distribution::default()))
            {
                value.merge_into(sum);
            }
        }
    }
}

impl ClusterStats {
    /// What is read of a cluster that no worker has used, which has `hosts`, so many of them healthy, so many degraded.
    pub fn unused(hosts: u64, healthy: u64, degraded: u64) -> Totals {
        let stats = ClusterStats::default();
        stats.membership_change.add(u64::from(hosts > 0));
        stats.membership_total.set(hosts);
        stats.membership_healthy.set(healthy);
        stats.membership_degraded.set(degraded);
        let mut totals = Totals::new();
        stats.visit(&mut |name, reading| add(&mut totals, name, &reading));
        totals
    }
}

impl Owner {
    /// Envoy's full name of a metric of this owner.
    pub fn metric(&self, name: &str) -> String {
        let (scope, owner) = match self {
            Owner::Listener(owner) => ("listener", owner.replace(':', "_")),
            Owner::Http(owner) => ("http", owner.to_string()),
            Owner::Tcp(owner) => ("tcp", owner.to_string()),
            Owner::Guard(kind, owner) => (*kind, owner.to_string()),
            Owner::Cluster(owner) => ("cluster", owner.to_string()),
            Owner::Call { cluster, method } => ("cluster", format!("{cluster}.grpc-web.{method}")),
            Owner::Group { host, kind, name } => ("vhost", format!("{host}.{kind}.{name}")),
        };
        let name = match (self, name) {
            (_, name) if name.starts_with("ssl_") => format!("ssl.{}", &name[4..]),
            (_, name) if name.starts_with("outlier_detection_") => format!("outlier_detection.{}", &name[18..]),
            (_, name) if name.starts_with("health_check_") => format!("health_check.{}", &name[13..]),
            (Owner::Cluster(_) | Owner::Group { .. }, name) if name.starts_with("rq_") => format!("upstream_{name}"),
            (_, name) if name.starts_with("rq_") && name.as_bytes()[3].is_ascii_digit() => format!("downstream_{name}"),
            (_, name) => name.to_string(),
        };
        format!("{scope}.{owner}.{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_over_workers_and_forgets() {
        let registry = Registry::default();
        let owner = Owner::Cluster("a".into());
        let one: Arc<ClusterStats> = registry.add(owner.clone());
        let two: Arc<ClusterStats> = registry.add(owner.clone());
        one.upstream_rq_total.add(2);
        two.upstream_rq_total.inc();
        two.responses.note(503);
        one.membership_total.set(3);
        two.membership_total.set(3);
        let all = registry.read();
        assert!(matches!(all[&owner]["upstream_rq_total"], Total::Counter(3)));
        assert!(matches!(all[&owner]["membership_total"], Total::Gauge(3)), "every worker has the same hosts");
        assert!(matches!(all[&owner]["rq_503"], Total::Counter(1)));
        assert_eq!(owner.metric("rq_503"), "cluster.a.upstream_rq_503");
        drop((one, two));
        assert!(registry.read().is_empty());
    }
}
