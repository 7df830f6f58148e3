//! What the service manager is told (systemd's `sd_notify` protocol): that the service runs, that it ends,
//! and, for its watchdog, each sign of life.
//!
//! A sign of life is a turn of the loop that does the service's work, never of a timer beside it: a service
//! whose loop hangs goes silent, and is started again. Waiting for a system that is away is work too, as
//! long as the loop comes round.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::admin::Readiness;
use crate::shutdown::Shutdown;

/// Names the service manager's socket.
const SOCKET: &str = "NOTIFY_SOCKET";
/// Microseconds of silence after which the watchdog bites.
const WATCHDOG: &str = "WATCHDOG_USEC";

/// The way to the service manager.
#[derive(Debug)]
pub struct Manager {
    socket: UnixDatagram,
    address: UnixAddress,
    watchdog: Option<Duration>,
}

impl Manager {
    /// The manager that started this process, if it wants to be told anything.
    ///
    /// # Errors
    /// Its socket is named and cannot be used.
    pub fn from_env() -> io::Result<Option<Self>> {
        let Some(name) = std::env::var_os(SOCKET) else {
            return Ok(None);
        };
        let watchdog = std::env::var(WATCHDOG)
            .ok()
            .and_then(|text| text.parse().ok())
            .map(Duration::from_micros);
        Self::new(&name.to_string_lossy(), watchdog).map(Some)
    }

    fn new(name: &str, watchdog: Option<Duration>) -> io::Result<Self> {
        let address = match name.strip_prefix('@') {
            Some(name) => UnixAddress::from_abstract_name(name)?,
            None => UnixAddress::from_pathname(name)?,
        };
        Ok(Self {
            socket: UnixDatagram::unbound()?,
            address,
            watchdog,
        })
    }

    fn tell(&self, state: &str) {
        // A manager that does not listen is no reason to stop working.
        if let Err(error) = self.socket.send_to_addr(state.as_bytes(), &self.address) {
            tracing::warn!(%error, state, "the service manager cannot be told");
        }
    }
}

/// Tells the service manager that the service runs, and from then on of each sign of life that `readiness`
/// gets, until the shutdown. Without a service manager nothing happens.
///
/// # Errors
/// The manager's socket is named in the environment and cannot be used.
pub fn report(readiness: &Readiness, shutdown: &Shutdown) -> io::Result<()> {
    if let Some(manager) = Manager::from_env()? {
        tokio::spawn(keep_telling(manager, readiness.clone(), shutdown.clone()));
    }
    Ok(())
}

/// As [`report`], for a service whose work is to answer: its sign of life is that its own `/healthz` at
/// `address` does.
///
/// # Errors
/// As [`report`].
pub fn report_server(
    address: SocketAddr,
    readiness: &Readiness,
    shutdown: &Shutdown,
) -> io::Result<()> {
    let Some(manager) = Manager::from_env()? else {
        return Ok(());
    };
    if let Some(patience) = manager.watchdog {
        let (readiness, shutdown) = (readiness.clone(), shutdown.clone());
        tokio::spawn(async move {
            let mut turn = tokio::time::interval(patience / 8);
            while !shutdown.is_requested() {
                turn.tick().await;
                match tokio::time::timeout(patience / 4, is_healthy(address)).await {
                    Ok(Ok(true)) => readiness.beat(),
                    Ok(Ok(false)) => {
                        tracing::warn!(%address, "/healthz does not say that all is well")
                    }
                    Ok(Err(error)) => tracing::warn!(%address, %error, "/healthz cannot be asked"),
                    Err(_) => tracing::warn!(%address, "/healthz does not answer"),
                }
            }
        });
    }
    tokio::spawn(keep_telling(manager, readiness.clone(), shutdown.clone()));
    Ok(())
}

async fn is_healthy(address: SocketAddr) -> io::Result<bool> {
    // Who listens on every address is found on the loopback.
    let address = match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => (Ipv4Addr::LOCALHOST, v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => (Ipv6Addr::LOCALHOST, v6.port()).into(),
        other => other,
    };
    let mut stream = TcpStream::connect(address).await?;
    stream
        .write_all(b"GET /healthz HTTP/1.0\r\nhost: localhost\r\n\r\n")
        .await?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await?;
    Ok(answer.ends_with(b" 200"))
}

async fn keep_telling(manager: Manager, readiness: Readiness, shutdown: Shutdown) {
    manager.tell("READY=1");
    let Some(patience) = manager.watchdog else {
        shutdown.requested().await;
        return manager.tell("STOPPING=1");
    };
    let mut turn = tokio::time::interval(patience / 8);
    let mut seen = None;
    loop {
        tokio::select! {
            () = shutdown.requested() => return manager.tell("STOPPING=1"),
            _ = turn.tick() => {}
        }
        let signs = readiness.signs_of_life();
        if seen.replace(signs) != Some(signs) {
            manager.tell("WATCHDOG=1");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(socket: &UnixDatagram) -> Option<String> {
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    async fn listened(name: &str, socket: UnixDatagram) {
        let manager = Manager::new(name, Some(Duration::from_millis(400))).unwrap();
        let (readiness, shutdown) = (Readiness::default(), Shutdown::new());
        let telling = tokio::spawn(keep_telling(manager, readiness.clone(), shutdown.clone()));
        let heard = tokio::task::spawn_blocking(move || {
            socket
                .set_read_timeout(Some(Duration::from_millis(500)))
                .unwrap();
            assert_eq!(next(&socket).as_deref(), Some("READY=1"));
            assert_eq!(next(&socket).as_deref(), Some("WATCHDOG=1"));
            // Nothing beats any more, so nothing is told.
            assert_eq!(next(&socket), None);
            readiness.beat();
            assert_eq!(next(&socket).as_deref(), Some("WATCHDOG=1"));
            assert_eq!(next(&socket), None);
            shutdown.trigger();
            assert_eq!(next(&socket).as_deref(), Some("STOPPING=1"));
        });
        heard.await.unwrap();
        telling.await.unwrap();
    }

    #[tokio::test]
    async fn the_watchdog_hears_of_signs_of_life_and_of_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        listened(path.to_str().unwrap(), UnixDatagram::bind(&path).unwrap()).await;
    }

    #[tokio::test]
    async fn a_server_is_healthy_if_it_says_so() {
        let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        assert!(!is_healthy_within(address).await, "nobody answers yet");
        let (router, shutdown) = (crate::admin::Admin::default().router(), Shutdown::new());
        shutdown.spawn(crate::admin::serve(listener, router, shutdown.clone()));
        assert!(is_healthy_within(address).await);
        assert!(shutdown.drained(Duration::from_secs(5)).await);
        assert!(!is_healthy_within(address).await, "nobody listens any more");
    }

    async fn is_healthy_within(address: SocketAddr) -> bool {
        let asked = tokio::time::timeout(Duration::from_millis(500), is_healthy(address)).await;
        matches!(asked, Ok(Ok(true)))
    }

    #[tokio::test]
    async fn a_socket_may_have_an_abstract_name() {
        let name = format!("contrail-test-{}", std::process::id());
        let address = UnixAddress::from_abstract_name(&name).unwrap();
        listened(
            &format!("@{name}"),
            UnixDatagram::bind_addr(&address).unwrap(),
        )
        .await;
    }
}
