//! CPU time of processes, from /proc.

use std::fs;
use std::io;

/// Clock ticks per second in /proc. Linux fixes this at 100 for programs, whatever the kernel's own is.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU seconds, user and system, that a process has used so far with all its threads.
///
/// # Errors
/// There is no such process.
pub fn seconds(pid: u32) -> io::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse(&stat).ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat is not as expected")))
}

/// Resident memory of a process in megabytes: now, and the most it ever had.
///
/// # Errors
/// There is no such process.
pub fn resident_mb(pid: u32) -> io::Result<(f64, f64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kilobytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let number = line.trim().trim_end_matches("kB").trim();
        number.parse::<f64>().ok().map(|kb| kb / 1024.0)
    };
    kilobytes("VmRSS:")
        .zip(kilobytes("VmHWM:"))
        .ok_or_else(|| io::Error::other(format!("/proc/{pid}/status has no VmRSS and VmHWM")))
}

/// Fields 14 and 15, counted from behind the program's name, which may hold blanks and brackets.
fn parse(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

/// CPU time of named processes over a span: taken at its beginning, asked at its end.
#[derive(Debug)]
pub struct Meter {
    processes: Vec<(String, u32, f64)>,
}

impl Meter {
    /// Begins to count for `processes`: what to call each, and its process id.
    ///
    /// # Errors
    /// One of them is not there.
    pub fn start<'a>(processes: impl IntoIterator<Item = (&'a str, u32)>) -> io::Result<Self> {
        let processes = processes
            .into_iter()
            .map(|(name, pid)| Ok((name.to_owned(), pid, seconds(pid)?)))
            .collect::<io::Result<_>>()?;
        Ok(Self { processes })
    }

    /// CPU seconds of each since the start.
    ///
    /// # Errors
    /// One of them has ended.
    pub fn stop(&self) -> io::Result<Vec<(String, f64)>> {
        self.processes
            .iter()
            .map(|(name, pid, before)| Ok((name.clone(), seconds(*pid)? - before)))
            .collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_program_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 100";
        assert_eq!(parse(stat), Some(3.0));
        assert_eq!(parse("7 (a) S 1"), None);
    }

    #[test]
    fn this_process_uses_time_and_memory() {
        let pid = std::process::id();
        let meter = Meter::start([("self", pid)]).unwrap();
        let begun = std::time::Instant::now();
        while begun.elapsed().as_millis() < 60 {
            std::hint::spin_loop();
        }
        assert!(meter.stop().unwrap()[0].1 > 0.0);
        let (now, most) = resident_mb(pid).unwrap();
        assert!(now > 1.0 && most >= now);
        assert!(seconds(u32::MAX - 1).is_err());
    }
}
