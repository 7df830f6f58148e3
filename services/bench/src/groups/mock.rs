//! (h) The simulator alone: its generator, and what one client is served.

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use contrail::Component;
use flight::source::{ClientFrame, SSE_PATH, WEBSOCKET_PATH};
use flight_mock::{Parameters, Simulator};
use tokio_tungstenite::tungstenite::{self, Message};

use super::Group;
use crate::Plan;
use crate::report::{Line, Role, Target, Unit};
use crate::rounds::{Run, Subject, interleaved};
use crate::world::{World, now_ms, pid};

/// The group.
pub const GROUP: Group = Group {
    letter: 'h',
    title: "the simulator alone",
    run,
};

const EVENTS: u64 = 3_000_000;
const YEAR: Duration = Duration::from_secs(365 * 86_400);

fn run(plan: &Plan) -> Result<Vec<Line>> {
    let simulator = |fleet| {
        Simulator::new(Parameters {
            seed: 42,
            fleet,
            period_ms: 1000,
            epoch_ms: now_ms() - YEAR.as_millis() as i64,
        })
    };
    let (small, large) = (simulator(500)?, simulator(20_000)?);
    let world = World {
        fleet: 500,
        period_ms: 1000,
        age: YEAR,
    };
    let stack = world.stack().only([Component::Mock]).start()?;
    let port = stack.port(Component::Mock);
    let mock = pid(&stack, Component::Mock)?;
    let served = |take: fn(u16, u64) -> Result<u64>| {
        move || {
            let processes = [("flight-mock", mock), ("client", std::process::id())];
            Run::measure(processes, || take(port, EVENTS))
        }
    };
    let mut text = Vec::new();
    for offset in 0..1000 {
        small.event(offset)?.write_json(&mut text);
        text.push(b'\n');
    }
    let event_bytes = text.len() as u64 / 1000;

    let line = |role, subject: &str, path: &str| {
        Line::new('h', role, subject, path, Unit::PerSecond, Vec::new())
    };
    interleaved(
        plan.rounds,
        vec![
            Subject::new(
                line(
                    Role::Ours,
                    "generator, 500 aircraft",
                    "one thread: event N from N, written as JSON to memory",
                )
                .with_target(Target::AtLeast(1e6)),
                || generate(&small, |event, out| event.write_json(out)),
            ),
            Subject::new(
                line(
                    Role::Ours,
                    "generator, 20,000 aircraft",
                    "the same, with a timetable that no cache holds",
                )
                .with_target(Target::AtLeast(1e6)),
                || generate(&large, |event, out| event.write_json(out)),
            ),
            Subject::new(
                line(
                    Role::Peer,
                    "serde_json, 500 aircraft",
                    "one thread: the same events, written by serde_json",
                ),
                || {
                    generate(&small, |event, out| {
                        // Writing to memory cannot fail.
                        let _ = serde_json::to_writer(out, &event.position());
                    })
                },
            ),
            Subject::new(
                line(
                    Role::Limit,
                    "computed only, 500 aircraft",
                    "one thread: event N from N, not written",
                ),
                || {
                    generate(&small, |event, _| {
                        black_box(event);
                    })
                },
            ),
            Subject::new(
                line(
                    Role::Ours,
                    "served by WebSocket",
                    "flight-mock to one client on loopback that does not parse; credit for all",
                ),
                served(websocket),
            ),
            Subject::new(
                line(
                    Role::Ours,
                    "served by SSE",
                    "flight-mock to one client on loopback that does not parse",
                ),
                served(sse),
            ),
            Subject::new(
                line(
                    Role::Limit,
                    "socket",
                    "the same JSON, made beforehand, through a socket on loopback in pieces of 64 KiB",
                ),
                || {
                    Run::measure([("both ends", std::process::id())], || {
                        socket(EVENTS, event_bytes)
                    })
                },
            ),
        ],
    )
}

fn generate(
    simulator: &Simulator,
    mut take: impl FnMut(flight_mock::simulator::Event<'_>, &mut Vec<u8>),
) -> Result<Run> {
    let mut json = Vec::with_capacity(2 << 20);
    Run::measure([("bench", std::process::id())], || {
        for offset in 0..EVENTS as i64 {
            take(simulator.event(offset)?, &mut json);
            if json.len() > 1 << 20 {
                black_box(&json);
                json.clear();
            }
        }
        Ok(EVENTS)
    })
}

fn websocket(port: u16, events: u64) -> Result<u64> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    let (mut socket, _) =
        tungstenite::client(format!("ws://127.0.0.1:{port}{WEBSOCKET_PATH}"), stream)
            .map_err(|error| anyhow::anyhow!("the mock's WebSocket: {error}"))?;
    let start = ClientFrame::Start {
        from: Some(0),
        credit: events,
        max_batch: 5_000,
    };
    socket.send(Message::text(serde_json::to_string(&start)?))?;
    let mut taken = 0;
    while taken < events {
        match socket.read()? {
            Message::Text(text) => taken += newlines(text.as_bytes()),
            Message::Close(frame) => bail!("the mock closed after {taken} events: {frame:?}"),
            _ => {}
        }
    }
    Ok(taken)
}

fn sse(port: u16, events: u64) -> Result<u64> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    write!(
        stream,
        "GET {SSE_PATH}?from=0 HTTP/1.1\r\nHost: mock\r\n\r\n"
    )?;
    let mut buffer = vec![0; 256 << 10];
    // An event has four of them; headers, chunks and the event `batch` have a few more.
    let mut lines = 0;
    while lines < 4 * events {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            bail!("the stream ended after {} events", lines / 4);
        }
        lines += newlines(&buffer[..read]);
    }
    Ok(events)
}

/// A batch's frame has one before each event.
fn newlines(text: &[u8]) -> u64 {
    text.iter().map(|byte| u64::from(*byte == b'\n')).sum()
}

fn socket(events: u64, event_bytes: u64) -> Result<u64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let total = events * event_bytes;
    std::thread::scope(|scope| {
        let sender = scope.spawn(move || -> Result<()> {
            let (mut stream, _) = listener.accept()?;
            let piece = vec![b'x'; 64 << 10];
            let mut left = total;
            while left > 0 {
                let bytes = left.min(piece.len() as u64);
                stream.write_all(&piece[..bytes as usize])?;
                left -= bytes;
            }
            Ok(())
        });
        let mut stream = TcpStream::connect(address)?;
        let mut buffer = vec![0; 256 << 10];
        let mut taken = 0;
        while taken < total {
            match stream.read(&mut buffer)? {
                0 => break,
                read => taken += read as u64,
            }
        }
        match sender.join() {
            Ok(sent) => sent.context("sending")?,
            Err(_) => bail!("the sending thread panicked"),
        }
        Ok(taken / event_bytes)
    })
}
