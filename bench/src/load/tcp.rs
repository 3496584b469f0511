//! TCP: a message and its echo.

use super::Work;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub(super) async fn run(work: &Work) -> anyhow::Result<()> {
    let mut stream = work.connect().await?;
    let message = vec![b'x'; work.plan().send];
    let mut echo = vec![0; work.plan().send];
    // A proxy may connect upstream only with the first byte.
    exchange(&mut stream, &message, &mut echo).await?;
    work.ready();
    loop {
        let intended = work.turn().await;
        exchange(&mut stream, &message, &mut echo).await?;
        work.answered(intended);
    }
}

async fn exchange(stream: &mut super::tls::Stream, message: &[u8], echo: &mut [u8]) -> anyhow::Result<()> {
    stream.write_all(message).await?;
    stream.flush().await?;
    stream.read_exact(echo).await?;
    anyhow::ensure!(echo == message, "the echo differs from the message");
    Ok(())
}
