//! Failure accrual: what requests say of their hosts, and hosts that are left out for a while.
//!
//! Each worker judges by the requests that it sent itself and ejects for itself; Envoy's workers add theirs up. With
//! several workers a failing host is noticed after as many failures in each.

use super::cluster::Cluster;
use super::host::Host;
use crate::telemetry::{ClusterStats, Counter};
use engine::resilience::outlier::{self, Origin, Sign, Verdict};
use model::cluster::{Cause, OutlierDetection};
use std::rc::Rc;

impl Cluster {
    /// Records what a request said about `host`; ejects it when it keeps failing.
    pub fn note(&self, host: &Rc<Host>, sign: Sign) {
        let good = match sign {
            Sign::Status(status) => status < 500,
            Sign::ConnectOk | Sign::ConnectOkFinal => true,
            Sign::LocalOrigin | Sign::Timeout => false,
        };
        if !good {
            host.errors.set(host.errors.get() + 1);
        }
        let Some(config) = &self.config.outlier else { return };
        let was_out = host.outlier.borrow().is_out();
        let causes = host.outlier.borrow_mut().note(config, sign, self.now());
        let mut changed = was_out != host.outlier.borrow().is_out();
        for cause in causes.into_iter().flatten() {
            if cause == Cause::Consecutive5xx {
                self.stats.outlier_detection_ejections_consecutive_5xx.inc();
            }
            changed |= self.detected(config, host, cause);
        }
        if changed {
            self.refresh_eligible();
        }
    }

    /// A request goes to `host`: where it shall tell whether the host works again, no other one follows it.
    pub(super) fn begin_probe(&self, host: &Host) {
        if self.probes() && host.outlier.borrow_mut().begin_probe() {
            self.refresh_eligible();
        }
    }

    /// A request to `host` ended without telling anything about it.
    pub(super) fn end_probe(&self, host: &Host) {
        if self.probes() && host.outlier.borrow_mut().end_probe() {
            self.refresh_eligible();
        }
    }

    fn probes(&self) -> bool {
        self.config.outlier.as_ref().is_some_and(|outlier| outlier.windowed.is_some())
    }

    /// True when the host was ejected.
    fn detected(&self, config: &OutlierDetection, host: &Host, cause: Cause) -> bool {
        if host.outlier.borrow().is_ejected() {
            return false;
        }
        let counters = counters(&self.stats, cause);
        counters.iter().for_each(|(detected, _)| detected.inc());
        let hosts = self.hosts();
        let ejected = hosts.all.iter().filter(|host| host.outlier.borrow().is_ejected()).count();
        let verdict = outlier::judge(config, cause, ejected, hosts.all.len(), self.random_unit());
        if verdict == Verdict::Overflow {
            self.stats.outlier_detection_ejections_overflow.inc();
            return false;
        }
        if matches!(cause, Cause::Consecutive5xx | Cause::SuccessRate) {
            self.stats.outlier_detection_ejections_total.inc();
        }
        if verdict == Verdict::Spare {
            return false;
        }
        host.outlier.borrow_mut().eject(config, self.now(), self.random_unit());
        counters.iter().for_each(|(_, enforced)| enforced.inc());
        self.stats.outlier_detection_ejections_enforced_total.inc();
        self.stats.outlier_detection_ejections_active.inc();
        tracing::debug!(cluster = %self.config.name, host = %host.name, ?cause, "ejected");
        true
    }

    /// Lets ejected hosts return and compares the hosts, once an interval.
    pub fn detect_outliers(&self) {
        let Some(config) = &self.config.outlier else { return };
        let now = self.now();
        if now < self.next_detection.get() {
            return;
        }
        self.next_detection.set(now + config.interval);
        let hosts = self.hosts();
        let mut changed = false;
        for host in &hosts.all {
            if host.outlier.borrow_mut().interval(config, now) {
                self.stats.outlier_detection_ejections_active.dec();
                changed = true;
            }
        }
        for origin in [Origin::Server, Origin::Way] {
            let rates: Vec<_> = hosts.all.iter().map(|host| host.outlier.borrow().rate(origin)).collect();
            for (host, cause) in outlier::outliers(config, origin, &rates) {
                if matches!(cause, Cause::SuccessRate | Cause::LocalOriginSuccessRate) {
                    self.stats.outlier_detection_ejections_success_rate.inc();
                }
                changed |= self.detected(config, &hosts.all[host], cause);
            }
        }
        for host in &hosts.all {
            host.outlier.borrow_mut().rest(config, now);
        }
        if changed {
            self.refresh_eligible();
        }
    }
}

/// Detected and enforced ejections; what is Ripstop's own only counts with all.
fn counters(stats: &ClusterStats, cause: Cause) -> Option<(&Counter, &Counter)> {
    Some(match cause {
        Cause::WindowedSuccessRate => return None,
        Cause::Consecutive5xx => (
            &stats.outlier_detection_ejections_detected_consecutive_5xx,
            &stats.outlier_detection_ejections_enforced_consecutive_5xx,
        ),
        Cause::ConsecutiveGatewayFailure => (
            &stats.outlier_detection_ejections_detected_consecutive_gateway_failure,
            &stats.outlier_detection_ejections_enforced_consecutive_gateway_failure,
        ),
        Cause::ConsecutiveLocalOriginFailure => (
            &stats.outlier_detection_ejections_detected_consecutive_local_origin_failure,
            &stats.outlier_detection_ejections_enforced_consecutive_local_origin_failure,
        ),
        Cause::SuccessRate => (
            &stats.outlier_detection_ejections_detected_success_rate,
            &stats.outlier_detection_ejections_enforced_success_rate,
        ),
        Cause::LocalOriginSuccessRate => (
            &stats.outlier_detection_ejections_detected_local_origin_success_rate,
            &stats.outlier_detection_ejections_enforced_local_origin_success_rate,
        ),
        Cause::FailurePercentage => (
            &stats.outlier_detection_ejections_detected_failure_percentage,
            &stats.outlier_detection_ejections_enforced_failure_percentage,
        ),
        Cause::LocalOriginFailurePercentage => (
            &stats.outlier_detection_ejections_detected_local_origin_failure_percentage,
            &stats.outlier_detection_ejections_enforced_local_origin_failure_percentage,
        ),
    })
}
