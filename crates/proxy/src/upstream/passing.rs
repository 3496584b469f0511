//! Hosts of ORIGINAL_DST clusters: made for the destination a connection had, forgotten when nobody goes there.

use super::host::Host;
use engine::Head;
use model::Address;
use model::cluster::OriginalDst;
use model::endpoint::{Endpoint, EndpointTarget};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Clients may choose destinations; more than this many at a time are refused.
const MOST_HOSTS: usize = 65_536;

/// Where a request or connection was going.
#[derive(Clone, Copy, Default)]
pub struct Bound<'a> {
    /// Before it was redirected here.
    pub original: Option<SocketAddr>,
    pub request: Option<&'a Head>,
}

#[derive(Default)]
pub(super) struct Passing {
    hosts: RefCell<HashMap<SocketAddr, Used>>,
    swept: Cell<Option<Instant>>,
}

struct Used {
    host: Rc<Host>,
    /// Since the last sweep.
    recently: bool,
}

impl Passing {
    /// The host for `bound`. An error says whether a request named a destination that is none.
    pub(super) fn host(&self, config: &OriginalDst, bound: &Bound<'_>) -> Result<Rc<Host>, bool> {
        let address = destination(config, bound)?;
        let mut hosts = self.hosts.borrow_mut();
        if let Some(used) = hosts.get_mut(&address) {
            used.recently = true;
            return Ok(used.host.clone());
        }
        if hosts.len() >= MOST_HOSTS {
            return Err(false);
        }
        let host = Rc::new(Host::new(Arc::new(endpoint(address)), Address::Tcp(address)));
        hosts.insert(address, Used { host: host.clone(), recently: true });
        Ok(host)
    }

    pub(super) fn hosts(&self) -> Vec<Rc<Host>> {
        self.hosts.borrow().values().map(|used| used.host.clone()).collect()
    }

    /// Closes idle connections, and every `cleanup` forgets hosts that were not wanted since and have none.
    pub(super) fn tick(&self, now: Instant, cleanup: Duration, idle: Duration) {
        let due = self.swept.get().is_none_or(|swept| now.duration_since(swept) >= cleanup);
        if due {
            self.swept.set(Some(now));
        }
        self.hosts.borrow_mut().retain(|_, used| {
            used.host.sweep(now, idle);
            if !due {
                return true;
            }
            let stays = std::mem::take(&mut used.recently) || used.host.connections.get() > 0;
            if !stays {
                used.host.retire();
            }
            stays
        });
    }
}

fn destination(config: &OriginalDst, bound: &Bound<'_>) -> Result<SocketAddr, bool> {
    let named = match (&config.header, bound.request) {
        (Some(name), Some(request)) => request.get(name.as_bytes()),
        _ => None,
    };
    let mut address = match named {
        Some(text) => std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(true)?,
        None => bound.original.ok_or(false)?,
    };
    if let Some(port) = config.port {
        address.set_port(port);
    }
    Ok(address)
}

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint {
        target: EndpointTarget::Address(Address::Tcp(address)),
        more_addresses: Default::default(),
        weight: 1,
        health: Default::default(),
        hostname: Box::default(),
        check: Default::default(),
        lb_metadata: Default::default(),
        socket_match: Default::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(header: Option<&str>, port: Option<u16>) -> OriginalDst {
        OriginalDst { header: header.map(Into::into), port, cleanup: Duration::from_secs(5) }
    }

    #[test]
    fn a_header_may_name_the_destination() {
        let mut head = Head::default();
        head.push(b"x-envoy-original-dst-host", b"192.0.2.1:81");
        let original = Some("192.0.2.9:80".parse().unwrap());
        let bound = Bound { original, request: Some(&head) };
        let to =
            |config: &OriginalDst, bound: &Bound<'_>| destination(config, bound).map(|address| address.to_string());
        let header = Some("x-envoy-original-dst-host");
        assert_eq!(to(&config(header, None), &bound).as_deref(), Ok("192.0.2.1:81"));
        assert_eq!(to(&config(header, Some(8080)), &bound).as_deref(), Ok("192.0.2.1:8080"));
        assert_eq!(to(&config(None, None), &bound).as_deref(), Ok("192.0.2.9:80"));
        assert_eq!(to(&config(None, None), &Bound::default()), Err(false));
        head.set(b"x-envoy-original-dst-host", b"not an address");
        assert_eq!(to(&config(header, None), &Bound { original, request: Some(&head) }), Err(true));
    }

    #[test]
    fn unused_hosts_are_forgotten() {
        let (passing, config, start) = (Passing::default(), config(None, None), Instant::now());
        let bound = Bound { original: Some("192.0.2.9:80".parse().unwrap()), request: None };
        let first = passing.host(&config, &bound).unwrap();
        assert!(Rc::ptr_eq(&first, &passing.host(&config, &bound).unwrap()));
        passing.tick(start, config.cleanup, Duration::ZERO);
        passing.tick(start + Duration::from_secs(1), config.cleanup, Duration::ZERO);
        assert_eq!(passing.hosts().len(), 1, "it was used before the first sweep");
        passing.tick(start + Duration::from_secs(6), config.cleanup, Duration::ZERO);
        assert!(passing.hosts().is_empty());
    }
}
