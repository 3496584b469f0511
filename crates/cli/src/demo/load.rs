//! Steady load on the front door, with every answer counted.

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A request that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Answers so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    pub(super) succeeded: u64,
    pub(super) failed: u64,
    pub(super) catalog_v1: u64,
    pub(super) catalog_v2: u64,
    pub(super) last_failure: String,
}

impl Totals {
    pub(super) fn since(&self, before: &Totals) -> Totals {
        Totals {
            succeeded: self.succeeded - before.succeeded,
            failed: self.failed - before.failed,
            catalog_v1: self.catalog_v1 - before.catalog_v1,
            catalog_v2: self.catalog_v2 - before.catalog_v2,
            last_failure: self.last_failure.clone(),
        }
    }
}

/// Stops when dropped.
pub(super) struct Load {
    totals: Arc<Mutex<Totals>>,
    task: tokio::task::JoinHandle<()>,
}

impl Load {
    /// Sends `rate` requests a second to `port` on loopback, whatever the answers take.
    pub(super) fn start(port: u16, rate: u32) -> Load {
        let totals: Arc<Mutex<Totals>> = Arc::default();
        let shared = totals.clone();
        let task = tokio::spawn(async move {
            let client: Client<HttpConnector, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
            let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
            loop {
                ticks.tick().await;
                let (client, totals) = (client.clone(), shared.clone());
                tokio::spawn(async move {
                    let answer = tokio::time::timeout(TIMEOUT, visit(&client, port)).await;
                    count(&totals, answer.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in 10 s"))));
                });
            }
        });
        Load { totals, task }
    }

    pub(super) fn totals(&self) -> Totals {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn visit(client: &Client<HttpConnector, Empty<Bytes>>, port: u16) -> anyhow::Result<String> {
    let request = Request::get(format!("http://127.0.0.1:{port}/")).header("host", "web").body(Empty::new())?;
    let response = client.request(request).await.context("no answer")?;
    let status = response.status();
    let body = response.into_body().collect().await.context("answer cut off")?.to_bytes();
    let body = String::from_utf8_lossy(&body).into_owned();
    anyhow::ensure!(status.is_success(), "{status}: {body}");
    Ok(body)
}

fn count(totals: &Mutex<Totals>, answer: anyhow::Result<String>) {
    let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
    match answer {
        Ok(body) => {
            totals.succeeded += 1;
            // The answer is a tree of calls; the catalog's leaf says which version served.
            let leaf: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
            match leaf.pointer("/calls/orders/calls/catalog/version").and_then(serde_json::Value::as_str) {
                Some("v1") => totals.catalog_v1 += 1,
                Some("v2") => totals.catalog_v2 += 1,
                _ => {}
            }
        }
        Err(error) => {
            totals.failed += 1;
            totals.last_failure = format!("{error:#}");
        }
    }
}
