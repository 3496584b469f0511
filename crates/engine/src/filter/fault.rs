//! Faults that are injected on purpose (`filters.http.fault.v3.HTTPFault`).

use crate::head::Head;
use crate::route::matching;
use model::filter::{Chance, Fault, FaultAbort, FaultDelay, FaultRate};
use std::time::Duration;

/// How a request is aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abort {
    Http(u16),
    Grpc(u8),
}

/// What is done to one request, in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub delay: Option<Duration>,
    pub abort: Option<Abort>,
    /// Bytes per second of the response body.
    pub rate: Option<u64>,
}

/// Decides for one request to `cluster`; `random` is drawn once per kind of fault.
pub fn plan(fault: &Fault, head: &Head, cluster: &str, mut random: impl FnMut() -> u64) -> Plan {
    let node = head.get(b"x-envoy-downstream-service-node").unwrap_or_default();
    let wanted = (fault.upstream_cluster.is_empty() || &*fault.upstream_cluster == cluster)
        && fault.headers.iter().all(|matcher| matching::header(matcher, head))
        && (fault.downstream_nodes.is_empty() || fault.downstream_nodes.iter().any(|name| name.as_bytes() == node));
    if !wanted {
        return Plan::default();
    }
    let mut hit = |numerator: u32, denominator: u32| random() % u64::from(denominator.max(1)) < u64::from(numerator);
    let mut chosen = |numerator: u32, denominator: u32, header: Option<&[u8]>| {
        // A header lowers the share, never raises it.
        let given = header.and_then(|name| number(head, name)).and_then(|given| u32::try_from(given).ok());
        hit(given.map_or(numerator, |given| given.min(numerator)), denominator)
    };
    Plan {
        delay: fault.delay.as_ref().and_then(|chance| delay(chance, head, &mut chosen)),
        abort: fault.abort.as_ref().and_then(|chance| abort(chance, head, &mut chosen)),
        rate: fault.rate.as_ref().and_then(|chance| rate(chance, head, &mut chosen)),
    }
}

/// Numerator, denominator, and the header that may lower the numerator.
type Roll<'a> = dyn FnMut(u32, u32, Option<&[u8]>) -> bool + 'a;

fn delay(chance: &Chance<FaultDelay>, head: &Head, roll: &mut Roll<'_>) -> Option<Duration> {
    let (time, header): (Duration, Option<&[u8]>) = match chance.what {
        FaultDelay::Fixed(time) => (time, None),
        FaultDelay::Header => {
            let millis = number(head, b"x-envoy-fault-delay-request")?;
            (Duration::from_millis(millis), Some(b"x-envoy-fault-delay-request-percentage"))
        }
    };
    roll(chance.numerator, chance.denominator, header).then_some(time)
}

fn abort(chance: &Chance<FaultAbort>, head: &Head, roll: &mut Roll<'_>) -> Option<Abort> {
    let (abort, header): (Abort, Option<&[u8]>) = match chance.what {
        FaultAbort::Http(status) => (Abort::Http(status), None),
        FaultAbort::Grpc(status) => (Abort::Grpc(status), None),
        FaultAbort::Header => {
            let http = number(head, b"x-envoy-fault-abort-request").filter(|status| (200..600).contains(status));
            let grpc = number(head, b"x-envoy-fault-abort-grpc-request");
            let asked = match (http, grpc) {
                (Some(status), _) => Abort::Http(u16::try_from(status).ok()?),
                (None, Some(status)) => Abort::Grpc(u8::try_from(status).ok()?),
                (None, None) => return None,
            };
            (asked, Some(b"x-envoy-fault-abort-request-percentage"))
        }
    };
    roll(chance.numerator, chance.denominator, header).then_some(abort)
}

fn rate(chance: &Chance<FaultRate>, head: &Head, roll: &mut Roll<'_>) -> Option<u64> {
    let (kib, header): (u64, Option<&[u8]>) = match chance.what {
        FaultRate::Fixed(kib) => (kib, None),
        FaultRate::Header => {
            let kib = number(head, b"x-envoy-fault-throughput-response").filter(|kib| *kib > 0)?;
            (kib, Some(b"x-envoy-fault-throughput-response-percentage"))
        }
    };
    roll(chance.numerator, chance.denominator, header).then(|| kib.saturating_mul(1024))
}

fn number(head: &Head, name: &[u8]) -> Option<u64> {
    std::str::from_utf8(head.get(name)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn always<T>(what: T) -> Option<Chance<T>> {
        Some(Chance { what, numerator: 100, denominator: 100 })
    }

    fn head(fields: &[(&str, &str)]) -> Head {
        let mut head = Head::default();
        fields.iter().for_each(|(name, value)| head.push(name.as_bytes(), value.as_bytes()));
        head
    }

    #[test]
    fn shares() {
        let abort = Some(Chance { what: FaultAbort::Http(503), numerator: 25, denominator: 100 });
        let fault = Fault { abort, ..Fault::default() };
        let hits = (0..100).filter(|random| plan(&fault, &head(&[]), "a", || *random).abort.is_some()).count();
        assert_eq!(hits, 25);
    }

    #[test]
    fn conditions() {
        let fault = Fault {
            delay: always(FaultDelay::Fixed(Duration::from_secs(1))),
            upstream_cluster: "a".into(),
            downstream_nodes: vec!["n1".into()],
            ..Fault::default()
        };
        let from = |node: &str| head(&[("x-envoy-downstream-service-node", node)]);
        assert!(plan(&fault, &from("n1"), "a", || 0).delay.is_some());
        assert_eq!(plan(&fault, &from("n1"), "b", || 0), Plan::default());
        assert_eq!(plan(&fault, &from("n2"), "a", || 0), Plan::default());
    }

    #[test]
    fn by_header() {
        let fault = Fault {
            delay: always(FaultDelay::Header),
            abort: always(FaultAbort::Header),
            rate: always(FaultRate::Header),
            ..Fault::default()
        };
        assert_eq!(plan(&fault, &head(&[]), "a", || 0), Plan::default());
        let asked = head(&[
            ("x-envoy-fault-delay-request", "20"),
            ("x-envoy-fault-abort-grpc-request", "14"),
            ("x-envoy-fault-throughput-response", "2"),
        ]);
        let wanted = Plan { delay: Some(Duration::from_millis(20)), abort: Some(Abort::Grpc(14)), rate: Some(2048) };
        assert_eq!(plan(&fault, &asked, "a", || 0), wanted);
        let rarely = head(&[("x-envoy-fault-abort-request", "500"), ("x-envoy-fault-abort-request-percentage", "10")]);
        assert_eq!(plan(&fault, &rarely, "a", || 9).abort, Some(Abort::Http(500)));
        assert_eq!(plan(&fault, &rarely, "a", || 10).abort, None);
    }
}
