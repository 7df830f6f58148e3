//! How many events a second one client is served, by each transport:
//! `cargo run --release -p flight-mock --example transports`.
//!
//! The server has one thread of its own. The client takes what comes without parsing it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use flight::shutdown::Shutdown;
use flight::source::ClientFrame;
use flight_mock::Settings;
use flight_mock::server::{Patience, serve};
use flight_mock::settings::Epoch;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;

const EVENTS: u64 = 2_000_000;

fn main() -> Result<()> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?.to_string();
    // A year in the past, so that everything asked for has happened.
    let epoch = Epoch(flight_mock::server::feed::now_ms() - 365 * 86_400_000);
    let settings = Settings {
        epoch,
        ..Settings::default()
    };
    let shutdown = Shutdown::new();
    let server = {
        let shutdown = shutdown.clone();
        std::thread::spawn(move || -> Result<()> {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?
                .block_on(async {
                    let listener = TcpListener::from_std(listener)?;
                    Ok(serve(&settings, Patience::default(), listener, shutdown).await?)
                })
        })
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            for max_batch in [500, 2_000, u32::MAX] {
                report(
                    &format!("WebSocket, max_batch {max_batch}"),
                    websocket(&address, max_batch).await?,
                );
            }
            report("SSE", sse(&address).await?);
            anyhow::Ok(())
        })?;
    shutdown.trigger();
    match server.join() {
        Ok(outcome) => outcome,
        Err(_) => bail!("the server's thread panicked"),
    }
}

fn report(transport: &str, time: Duration) {
    println!(
        "{transport}: {:.0} events/s",
        EVENTS as f64 / time.as_secs_f64()
    );
}

async fn websocket(address: &str, max_batch: u32) -> Result<Duration> {
    let (mut socket, _) =
        tokio_tungstenite::connect_async(format!("ws://{address}/v1/flights/ws")).await?;
    let start = ClientFrame::Start {
        from: Some(0),
        credit: EVENTS,
        max_batch,
    };
    let started = Instant::now();
    socket
        .send(Message::text(serde_json::to_string(&start)?))
        .await?;
    let mut events = 0;
    while events < EVENTS {
        let message = socket.next().await.context("the server goes on")??;
        if let Message::Text(text) = message {
            events += text
                .as_bytes()
                .iter()
                .filter(|byte| **byte == b'\n')
                .count() as u64;
        }
    }
    Ok(started.elapsed())
}

async fn sse(address: &str) -> Result<Duration> {
    let mut stream = TcpStream::connect(address).await?;
    let started = Instant::now();
    stream
        .write_all(b"GET /v1/flights/stream?from=0 HTTP/1.1\r\nHost: mock\r\n\r\n")
        .await?;
    let mut events = 0;
    let mut buffer = vec![0; 256 << 10];
    while events < EVENTS {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            bail!("the stream ended after {events} events");
        }
        // Each event's JSON ends with the only `}` in it.
        events += buffer[..read].iter().filter(|byte| **byte == b'}').count() as u64;
    }
    Ok(started.elapsed())
}
