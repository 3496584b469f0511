//! Requests that wait for what the main thread is asked for.

mod support;

use model::cluster::UpstreamProtocol;
use model::demand::{Demand, OnDemandClusters, Source};
use model::filter::{FilterKind, HttpFilter};
use model::http::{HttpManager, RouteSource};
use model::listener::NetworkFilter;
use model::route::{Action, Domains, RouteTable, VirtualHost};
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;
use support::*;

fn on_demand(clusters: bool, timeout: Duration) -> impl Fn(&mut HttpManager) {
    move |manager| {
        let clusters = clusters.then_some(OnDemandClusters { source: Source::Ads, timeout });
        let kind = FilterKind::OnDemand(clusters);
        manager.filters.push(HttpFilter { name: "demand".into(), kind, disabled: false });
    }
}

fn proxy(timeout: Duration) -> Proxy {
    let manager = manager(Action::Forward(Box::new(forward("late"))), on_demand(true, timeout));
    Proxy::start(NetworkFilter::Http(Arc::new(manager)), vec![])
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n";
const LONG: Duration = Duration::from_secs(60);

fn send(proxy: &Proxy) -> TcpStream {
    let mut stream = proxy.connect();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(GET).unwrap();
    stream
}

#[test]
fn many_requests_ask_once_and_go_on_when_the_cluster_is_there() {
    let mut proxy = proxy(LONG);
    let mut demands = proxy.demands();
    let mut waiting: Vec<TcpStream> = (0..5).map(|_| send(&proxy)).collect();
    assert_eq!(demands.blocking_recv(), Some((Demand::cluster("late"), Source::Ads)));
    // Something else changes meanwhile.
    proxy.publish(|snapshot| drop(snapshot.clusters.insert("x".into(), cluster("x", &[], UpstreamProtocol::Http1))));
    let late = cluster("late", &[echo()], UpstreamProtocol::Http1);
    proxy.publish(|snapshot| drop(snapshot.clusters.insert("late".into(), late)));
    for stream in &mut waiting {
        let head = read_until(stream, "\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    }
    assert!(demands.try_recv().is_err(), "asked once");
    let head = read_until(&mut send(&proxy), "\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && demands.try_recv().is_err(), "{head}");
    // It goes: who calls it now asks anew.
    proxy.publish(|snapshot| drop(snapshot.clusters.remove("late")));
    let mut again = send(&proxy);
    assert!(demands.blocking_recv().is_some());
    proxy.answer(Demand::cluster("late"));
    let head = read_until(&mut again, "\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{head}");
}

#[test]
fn the_wait_ends() {
    let mut proxy = proxy(Duration::from_millis(50));
    let mut demands = proxy.demands();
    let head = read_until(&mut send(&proxy), "\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{head}");
    assert!(demands.try_recv().is_ok());
}

#[test]
fn without_discovery_nobody_waits() {
    let head = read_until(&mut send(&proxy(LONG)), "\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{head}");
}

fn table(hosts: Vec<VirtualHost>) -> Arc<RouteTable> {
    let exact = hosts.iter().enumerate().map(|(index, host)| (host.name.clone(), index)).collect();
    let domains = Domains { exact, ..Domains::default() };
    let more_hosts = Some(Source::Ads);
    Arc::new(RouteTable { name: "table".into(), virtual_hosts: hosts, domains, more_hosts, ..RouteTable::default() })
}

#[test]
fn virtual_hosts_are_waited_for() {
    let respond = || Action::Forward(Box::new(forward("backend")));
    let manager = manager(respond(), |manager| {
        on_demand(false, LONG)(manager);
        manager.routes = RouteSource::Rds("table".into());
    });
    let mut proxy = Proxy::start(
        NetworkFilter::Http(Arc::new(manager)),
        vec![cluster("backend", &[echo()], UpstreamProtocol::Http1)],
    );
    proxy.publish(|snapshot| drop(snapshot.routes.insert("table".into(), table(vec![]))));
    let mut demands = proxy.demands();
    let mut waiting = send(&proxy);
    let wanted = Demand::virtual_host("table", "shop");
    assert_eq!(demands.blocking_recv(), Some((wanted.clone(), Source::Ads)));
    let host = VirtualHost { name: "shop".into(), routes: routes_of(respond()), ..VirtualHost::default() };
    proxy.publish(|snapshot| drop(snapshot.routes.insert("table".into(), table(vec![host]))));
    let head = read_until(&mut waiting, "\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    proxy.publish(|snapshot| drop(snapshot.routes.insert("table".into(), table(vec![]))));
    let mut waiting = send(&proxy);
    assert!(demands.blocking_recv().is_some());
    proxy.answer(wanted);
    let head = read_until(&mut waiting, "\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 404 Not Found\r\n"), "{head}");
}
