//! A TCP proxy that misbehaves when told to: tests of faults put it between two programs.
//!
//! It listens on a free port of loopback and connects to its target for each connection that it takes. It
//! is stopped when it is dropped, with its connections.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How soon a changed manner is noticed.
const LOOK: Duration = Duration::from_millis(10);
/// Longest wait for the target.
const CONNECT: Duration = Duration::from_secs(5);

/// How bytes are passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Manner {
    /// At once.
    #[default]
    Pass,
    /// Each piece after a while.
    Delay(Duration),
    /// Not at all: connections stay open and are silent both ways, until this changes. Nothing is lost.
    Hold,
    /// What the client sends is kept back until this changes; answers pass.
    HoldRequests,
    /// What the server answers is kept back until this changes; requests pass.
    HoldAnswers,
    /// Connections are refused, as by a machine that is up and a program that is not.
    Refuse,
}

/// The way of the bytes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    ToServer,
    ToClient,
}

impl Manner {
    fn holds(self, way: Way) -> bool {
        match self {
            Self::Hold => true,
            Self::HoldRequests => way == Way::ToServer,
            Self::HoldAnswers => way == Way::ToClient,
            Self::Pass | Self::Delay(_) | Self::Refuse => false,
        }
    }
}

#[derive(Debug, Default)]
struct Shared {
    manner: Mutex<Manner>,
    /// Connections of an earlier era are cut.
    era: AtomicU64,
    /// Bytes that were read and are kept back now.
    held: AtomicU64,
    /// Connections that were ever taken.
    connections: AtomicU64,
    over: AtomicBool,
}

impl Shared {
    fn manner(&self) -> Manner {
        *self.manner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn era(&self) -> u64 {
        self.era.load(Ordering::SeqCst)
    }

    fn is_over(&self, era: u64) -> bool {
        self.over.load(Ordering::SeqCst) || self.era() != era
    }
}

/// A proxy that runs.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Begins to pass connections on to a port of loopback.
    ///
    /// # Errors
    /// No port is free, or no thread can be started.
    pub fn start(target: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        listener.set_nonblocking(true)?;
        let shared = Arc::new(Shared::default());
        let its = Arc::clone(&shared);
        std::thread::Builder::new()
            .name(format!("proxy-{port}"))
            .spawn(move || accept(&listener, target, &its))?;
        Ok(Self { port, shared })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Changes how bytes are passed on, on the connections that there are and on new ones.
    pub fn set(&self, manner: Manner) {
        *self.lock() = manner;
    }

    /// Cuts every connection that there is. What was under way is lost.
    pub fn cut(&self) {
        self.shared.era.fetch_add(1, Ordering::SeqCst);
    }

    /// Bytes that were taken from one side and are kept back from the other at this moment.
    pub fn held(&self) -> u64 {
        self.shared.held.load(Ordering::SeqCst)
    }

    /// Connections that were ever taken.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    fn lock(&self) -> MutexGuard<'_, Manner> {
        self.shared
            .manner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
    }
}

fn accept(listener: &TcpListener, target: u16, shared: &Arc<Shared>) {
    while !shared.over.load(Ordering::SeqCst) {
        let Ok((client, _)) = listener.accept() else {
            std::thread::sleep(LOOK);
            continue;
        };
        if shared.manner() == Manner::Refuse {
            continue;
        }
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let its = Arc::clone(shared);
        // Where no thread can be had the connection is closed, which is no surprise to its client.
        let _ = std::thread::Builder::new().spawn(move || connection(client, target, &its));
    }
}

fn connection(client: TcpStream, target: u16, shared: &Arc<Shared>) {
    let era = shared.era();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, target));
    let both = || -> io::Result<[(TcpStream, TcpStream, Way); 2]> {
        client.set_nonblocking(false)?;
        let server = TcpStream::connect_timeout(&address, CONNECT)?;
        for stream in [&client, &server] {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(LOOK))?;
            stream.set_write_timeout(Some(LOOK))?;
        }
        Ok([
            (client.try_clone()?, server.try_clone()?, Way::ToServer),
            (server, client.try_clone()?, Way::ToClient),
        ])
    };
    let Ok(both) = both() else {
        return;
    };
    std::thread::scope(|scope| {
        for (from, to, way) in &both {
            scope.spawn(move || {
                pump(from, to, *way, era, shared);
                let _ = to.shutdown(Shutdown::Write);
            });
        }
    });
}

/// Passes one way's bytes on until its end, or until the connection is cut.
fn pump(mut from: &TcpStream, to: &TcpStream, way: Way, era: u64, shared: &Shared) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        if shared.is_over(era) {
            return cut(from, to);
        }
        let length = match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => length,
            Err(error) if is_only_late(&error) => continue,
            Err(_) => return cut(from, to),
        };
        if let Manner::Delay(delay) = shared.manner() {
            std::thread::sleep(delay);
        }
        if shared.manner().holds(way) {
            shared.held.fetch_add(length as u64, Ordering::SeqCst);
            while shared.manner().holds(way) && !shared.is_over(era) {
                std::thread::sleep(LOOK);
            }
            shared.held.fetch_sub(length as u64, Ordering::SeqCst);
        }
        if !write(to, &buffer[..length], era, shared) {
            return cut(from, to);
        }
    }
}

/// Writes all of it, unless the connection is cut.
fn write(mut to: &TcpStream, mut bytes: &[u8], era: u64, shared: &Shared) -> bool {
    while !bytes.is_empty() {
        if shared.is_over(era) {
            return false;
        }
        match to.write(bytes) {
            Ok(0) => return false,
            Ok(written) => bytes = &bytes[written..],
            Err(error) if is_only_late(&error) => {}
            Err(_) => return false,
        }
    }
    true
}

fn cut(from: &TcpStream, to: &TcpStream) {
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

fn is_only_late(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers each connection with what it sends.
    fn echo() -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let _ = io::copy(&mut &stream, &mut &stream);
                });
            }
        });
        port
    }

    fn connect(proxy: &Proxy) -> TcpStream {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).unwrap();
        let limit = Some(Duration::from_millis(300));
        stream.set_read_timeout(limit).unwrap();
        stream
    }

    fn ask(mut stream: &TcpStream) -> io::Result<[u8; 2]> {
        stream.write_all(b"hi")?;
        let mut answer = [0; 2];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    }

    #[test]
    fn it_passes_holds_cuts_and_refuses() {
        let proxy = Proxy::start(echo()).unwrap();
        let stream = connect(&proxy);
        assert_eq!(&ask(&stream).unwrap(), b"hi");

        for manner in [Manner::Hold, Manner::HoldRequests, Manner::HoldAnswers] {
            proxy.set(manner);
            assert!(ask(&stream).is_err(), "{manner:?} is no silence");
            assert_eq!(proxy.held(), 2, "{manner:?}");
            proxy.set(Manner::Pass);
            let mut late = [0; 2];
            (&stream).read_exact(&mut late).unwrap();
            assert_eq!(&late, b"hi", "{manner:?} lost it");
        }

        proxy.set(Manner::Delay(Duration::from_millis(40)));
        let began = std::time::Instant::now();
        ask(&stream).unwrap();
        assert!(began.elapsed() >= Duration::from_millis(80));

        proxy.set(Manner::Pass);
        proxy.cut();
        let end = std::iter::repeat_with(|| ask(&stream)).take(3).last();
        assert!(end.unwrap().is_err());
        assert_eq!(&ask(&connect(&proxy)).unwrap(), b"hi");

        proxy.set(Manner::Refuse);
        assert!(ask(&connect(&proxy)).is_err());
        assert_eq!(proxy.connections(), 2);
    }
}
