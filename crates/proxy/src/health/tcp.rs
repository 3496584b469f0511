//! The TCP check: a connection, and perhaps bytes to send and to receive (`HealthCheck.TcpHealthCheck`).

use super::check::Subject;
use super::dial::{self, Connection};
use crate::io::Io;
use engine::resilience::health::{Failure, Outcome, found_in_order};
use model::health::{HealthCheck, TcpProbe};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// An endpoint that sends more without what is waited for has failed.
const MOST_BYTES: usize = 1 << 20;

pub(super) async fn check(
    subject: &Subject,
    config: &HealthCheck,
    probe: &TcpProbe,
    connection: &mut Option<Connection>,
) -> Outcome {
    let kept = match connection.take() {
        Some(Connection::Tcp(io)) => Some(*io),
        _ => None,
    };
    let io = match kept {
        Some(io) => Ok(io),
        None => dial::connect(subject, config).await,
    };
    let Ok(mut io) = io else { return Outcome::Failed(Failure::Network) };
    if talk(&mut io, probe).await.is_err() {
        return Outcome::Failed(Failure::Network);
    }
    // Only a conversation tells the next time that the endpoint is still there.
    if !probe.receive.is_empty() {
        *connection = Some(Connection::Tcp(Box::new(io)));
    }
    Outcome::Healthy { degraded: false }
}

async fn talk(io: &mut Io, probe: &TcpProbe) -> std::io::Result<()> {
    if !probe.send.is_empty() {
        io.write_all(&probe.send).await?;
        io.flush().await?;
    }
    let mut bytes = Vec::new();
    while !found_in_order(&probe.receive, &bytes) {
        if io.read_buf(&mut bytes).await? == 0 || bytes.len() > MOST_BYTES {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}
