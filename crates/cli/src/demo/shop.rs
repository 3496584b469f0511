//! The demo's services: one small HTTP server that plays web, orders, catalog or ratings.
//!
//! It knows nothing of the mesh: it calls other services at the addresses it finds in its environment
//! (`ORDERS_SERVICE_HOST`, `ORDERS_SERVICE_PORT`), as programs on Kubernetes do.

use anyhow::Context;
use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// A service of the demo's shop.
#[derive(Args)]
pub(crate) struct Shop {
    /// web, orders, catalog or ratings
    #[arg(long)]
    service: String,
    #[arg(long, default_value = "v1")]
    version: String,
    #[arg(long)]
    instance: String,
    #[arg(long)]
    listen: SocketAddr,
    /// Services to call for every request
    #[arg(long, value_delimiter = ',')]
    calls: Vec<String>,
    /// Milliseconds of pretended work
    #[arg(long, default_value_t = 1)]
    work_ms: u64,
}

struct State {
    shop: Shop,
    client: Client<HttpConnector, Empty<Bytes>>,
    upstreams: Vec<(String, String)>,
}

pub(crate) fn run(shop: Shop) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let upstreams = shop.calls.iter().map(|name| Ok((name.clone(), address_of(name)?)));
        let upstreams = upstreams.collect::<anyhow::Result<Vec<_>>>()?;
        let listener =
            TcpListener::bind(shop.listen).await.with_context(|| format!("cannot listen on {}", shop.listen))?;
        println!("{} {} serves on {}", shop.service, shop.version, shop.listen);
        let client = Client::builder(TokioExecutor::new()).build_http();
        let state = Arc::new(State { shop, client, upstreams });
        loop {
            let (stream, _) = listener.accept().await?;
            let state = state.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| answer(state.clone(), request));
                // A caller that breaks off is nobody's concern.
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    })
}

fn address_of(service: &str) -> anyhow::Result<String> {
    let name = service.to_uppercase().replace('-', "_");
    let variable = |suffix: &str| {
        let name = format!("{name}_SERVICE_{suffix}");
        std::env::var(&name).with_context(|| format!("{name} is not set"))
    };
    Ok(format!("http://{}:{}/", variable("HOST")?, variable("PORT")?))
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    tokio::time::sleep(Duration::from_millis(state.shop.work_ms)).await;
    let mut called = serde_json::Map::new();
    let mut status = StatusCode::OK;
    for (name, address) in &state.upstreams {
        match call(&state.client, name, address).await {
            Ok(body) => {
                called.insert(name.clone(), body);
            }
            Err(error) => {
                status = StatusCode::BAD_GATEWAY;
                called.insert(name.clone(), json!({ "error": format!("{error:#}") }));
            }
        }
    }
    let shop = &state.shop;
    let mut body = json!({"service": shop.service, "version": shop.version, "instance": shop.instance, "path": request.uri().path()});
    if !called.is_empty() {
        body["calls"] = Value::Object(called);
    }
    let response = Response::builder().status(status).header("content-type", "application/json");
    Ok(response.body(Full::new(Bytes::from(format!("{body}\n")))).unwrap_or_default())
}

async fn call(client: &Client<HttpConnector, Empty<Bytes>>, name: &str, address: &str) -> anyhow::Result<Value> {
    let request = Request::get(address).header("host", name).body(Empty::new())?;
    let response = client.request(request).await.context("no answer")?;
    let status = response.status();
    let body = response.into_body().collect().await.context("answer cut off")?.to_bytes();
    anyhow::ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).context("answer is not JSON")
}
