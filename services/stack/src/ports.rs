//! Ports: which are taken and by whom, and offsets at which all are free.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

use crate::component::Component;

/// The largest offset: with it the highest port stays below 32768, where Linux begins to lend
/// ports to clients.
pub const MAX_OFFSET: u16 = 32767 - 9094;

/// The step between offsets that are picked: no two ports of a stack differ by a multiple of it,
/// so that two stacks at different picked offsets never meet.
const STEP: u16 = 29;

/// A port that another process listens on.
#[derive(Debug, thiserror::Error)]
#[error(
    "port {port}, which {component} needs, is in use{}: stop it, or set CONTRAIL_PORT_OFFSET \
     (for example CONTRAIL_PORT_OFFSET=100), which is added to every port",
    owner.as_ref().map(|owner| format!(" by {owner}")).unwrap_or_default()
)]
pub struct PortInUse {
    /// The port, with the offset.
    pub port: u16,
    /// Who needs it.
    pub component: Component,
    /// Who has it, when that can be found out.
    pub owner: Option<String>,
}

/// A port with the offset added.
pub fn port(component: Component, offset: u16) -> u16 {
    component.base_port() + offset
}

/// Checks that everything the components listen on is free.
///
/// # Errors
/// The first port that is not, and who holds it. What is being closed just now (a stack that was
/// killed a moment ago) is waited for, up to `patience`.
pub fn check(components: &[Component], offset: u16, patience: Duration) -> Result<(), PortInUse> {
    let deadline = Instant::now() + patience;
    for &component in components {
        for base in component.base_ports() {
            let port = base + offset;
            while !is_free(port) {
                if Instant::now() >= deadline {
                    return Err(PortInUse {
                        port,
                        component,
                        owner: owner(port),
                    });
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
    Ok(())
}

/// Whether a listener can be bound to a port on loopback.
fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// The process that listens on a port, as far as /proc lets us see.
pub fn owner(port: u16) -> Option<String> {
    let inodes: HashSet<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .flat_map(|table| listening_inodes(&table, port))
        .collect();
    std::fs::read_dir("/proc")
        .ok()?
        .flatten()
        .find_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let holds = std::fs::read_dir(entry.path().join("fd"))
                .ok()?
                .flatten()
                .filter_map(|fd| std::fs::read_link(fd.path()).ok())
                .any(|target| {
                    target
                        .to_str()
                        .and_then(|name| name.strip_prefix("socket:["))
                        .and_then(|name| name.strip_suffix(']'))
                        .is_some_and(|inode| inodes.contains(inode))
                });
            if !holds {
                return None;
            }
            let name = std::fs::read_to_string(entry.path().join("comm")).ok()?;
            Some(format!("process {pid} ({})", name.trim()))
        })
}

/// Inodes of sockets in state LISTEN on a port, from the text of /proc/net/tcp.
fn listening_inodes(table: &str, port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let local = fields.nth(1)?;
            let state = fields.nth(1)?;
            let inode = fields.nth(5)?;
            let (_, hex) = local.rsplit_once(':')?;
            (state == LISTEN && u16::from_str_radix(hex, 16).ok()? == port)
                .then(|| inode.to_owned())
        })
        .collect()
}

/// An offset at which every port was free, kept from other stacks that pick one, until dropped.
#[derive(Debug)]
pub struct FreeOffset {
    offset: u16,
    _lock: Flock<File>,
}

impl FreeOffset {
    /// Picks one.
    ///
    /// # Errors
    /// No lock file can be made in the temporary directory, or no offset is free.
    pub fn pick() -> io::Result<Self> {
        let slots = MAX_OFFSET / STEP;
        // Offset 0 and its neighbours are left to a stack that a person runs.
        let first = 40;
        // Where to begin differs from process to process, so that few ask for the same slot.
        let begin = std::process::id() as u16 % (slots - first);
        for step in 0..slots - first {
            let offset = (first + (begin + step) % (slots - first)) * STEP;
            let path: PathBuf =
                std::env::temp_dir().join(format!("contrail-port-offset-{offset}.lock"));
            let Ok(file) = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
            else {
                continue;
            };
            let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
                continue;
            };
            let all_free = Component::every()
                .flat_map(Component::base_ports)
                .all(|base| is_free(base + offset));
            if all_free {
                return Ok(Self {
                    offset,
                    _lock: lock,
                });
            }
        }
        Err(io::Error::other(
            "no port offset with all ports free was found",
        ))
    }

    /// The offset.
    pub fn get(&self) -> u16 {
        self.offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_ports_differ_by_a_multiple_of_the_step() {
        let ports: Vec<u16> = Component::every()
            .flat_map(|component| component.base_ports().iter().copied())
            .collect();
        for (index, a) in ports.iter().enumerate() {
            assert!(a + MAX_OFFSET < 32768);
            for b in &ports[index + 1..] {
                assert_ne!(a.abs_diff(*b) % STEP, 0, "{a} and {b}");
            }
        }
    }

    #[test]
    fn a_port_in_use_is_reported_with_its_owner() {
        let free = FreeOffset::pick().unwrap();
        let taken = port(Component::Registry, free.get());
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, taken)).unwrap();
        let error = check(&Component::ALL, free.get(), Duration::ZERO).unwrap_err();
        let message = error.to_string();
        assert_eq!(error.port, taken);
        for part in [
            &taken.to_string(),
            "registry",
            &format!("process {}", std::process::id()),
            "CONTRAIL_PORT_OFFSET",
        ] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn two_picks_differ() {
        let (one, other) = (FreeOffset::pick().unwrap(), FreeOffset::pick().unwrap());
        assert_ne!(one.get(), other.get());
    }
}
