//! Load told from proxy to proxy: a client's proxy asks with a request header, the server's proxy answers with a response
//! header, and neither application sees either.
//!
//! Only between Ripstop's own, in a mesh: asked where the adaptive policy chooses among hosts that are spoken to by TLS,
//! answered where the client has shown an identity.

use super::call::Call;
use crate::upstream::Cluster;
use engine::Head;

/// In a request: tell; in a response: requests in flight.
const HEADER: &[u8] = b"x-ripstop-load";

/// Asks the server's proxy.
pub(super) fn ask(cluster: &Cluster, request: &mut Head) {
    if cluster.asks_load() {
        request.set(HEADER, b"?");
    }
}

/// Reads the answer, and takes it out of the response.
pub(super) fn take(cluster: &Cluster, response: &mut Head) -> Option<f64> {
    if !cluster.asks_load() {
        return None;
    }
    let load = response.get(HEADER).and_then(|text| std::str::from_utf8(text).ok()?.parse::<u32>().ok());
    response.remove(HEADER);
    load.map(f64::from)
}

/// Notes that a peer asked, and takes the question out of the request.
pub(super) fn note_question(call: &mut Call<'_>) {
    let peer = call.connection.tls.as_ref().is_some_and(|tls| !tls.peer_uris.is_empty());
    if peer && call.request.remove(HEADER) {
        call.leftovers.tell_load = true;
    }
}

/// Answers: this worker's requests in flight.
pub(super) fn tell(call: &mut Call<'_>) {
    if call.leftovers.tell_load {
        let active = call.service.stats.downstream_rq_active.get();
        call.response.set(HEADER, itoa::Buffer::new().format(active).as_bytes());
    }
}
