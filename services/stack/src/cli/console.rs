//! What `contrail up` shows: lines that stay, and on a terminal a block below them that is drawn
//! anew every second.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, IsTerminal, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use crate::clock;
use crate::supervisor::machine::State;
use crate::supervisor::{Status, log};

/// The screen, and the file that remembers the lines.
pub struct Console {
    terminal: bool,
    inner: Mutex<Inner>,
}

struct Inner {
    log: Option<File>,
    /// Height of the block that is on the screen.
    drawn: usize,
}

impl Console {
    /// Standard output; lines are appended to `log` too.
    pub fn new(path: &Path) -> Self {
        // Without its own log the stack can run all the same.
        let _ = log::rotate(path, log::LIMIT_BYTES, log::KEPT);
        Self {
            terminal: io::stdout().is_terminal(),
            inner: Mutex::new(Inner {
                log: log::open(path).ok(),
                drawn: 0,
            }),
        }
    }

    /// Whether a block can be drawn.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Prints a line that stays.
    pub fn line(&self, text: &str) {
        let stamped = format!("{} {text}", clock::time_of_day(SystemTime::now()));
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = erase(inner.drawn);
        inner.drawn = 0;
        let _ = writeln!(out, "{stamped}");
        show(&out);
        if let Some(log) = &mut inner.log {
            let _ = writeln!(log, "{} {text}", clock::rfc3339(SystemTime::now()));
        }
    }

    /// Draws the block, in place of the last.
    pub fn block(&self, text: &str) {
        if !self.terminal {
            return;
        }
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = erase(inner.drawn);
        // Lines that are too long are cut by the terminal: wrapped, they would be more than counted.
        let _ = write!(out, "\x1b[?7l{text}\x1b[?7h");
        inner.drawn = text.lines().count();
        show(&out);
    }
}

fn erase(lines: usize) -> String {
    match lines {
        0 => String::new(),
        lines => format!("\x1b[{lines}A\x1b[J"),
    }
}

/// Whoever read our output may be gone (`contrail up | head`); the stack goes on.
fn show(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// A table of what everything is at.
pub fn table(statuses: &[Status], colour: bool) -> String {
    let names = statuses.iter().map(|status| status.name.len());
    let width = names.max().unwrap_or(0).max(11);
    let mut text = format!(
        "{:<width$} {:<11} {:>7} {:>6} {:>8}  {}\n",
        "name", "state", "pid", "port", "restarts", "since"
    );
    let dash = |number: Option<u32>| number.map_or("-".to_owned(), |number| number.to_string());
    for status in statuses {
        // The width counts before the colour is added.
        let state = format!("{:<11}", status.state.name());
        let state = match (colour, status.state) {
            (false, _) => state,
            (true, State::Ready | State::External) => format!("\x1b[32m{state}\x1b[0m"),
            (true, State::Stopped | State::Waiting) => format!("\x1b[2m{state}\x1b[0m"),
            (true, State::Starting | State::Stopping) => format!("\x1b[33m{state}\x1b[0m"),
            (true, State::Unready | State::Restarting) => format!("\x1b[31m{state}\x1b[0m"),
        };
        let _ = writeln!(
            text,
            "{:<width$} {state} {:>7} {:>6} {:>8}  {}{}",
            status.name,
            dash(status.pid),
            dash(status.port.map(u32::from)),
            status.restarts,
            &status.since[..19],
            match status.detail.lines().next() {
                Some(detail) => format!("  {detail}"),
                None => String::new(),
            }
        );
    }
    text
}

/// A number with its thousands set apart.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_line_each_and_says_why() {
        let status = Status {
            name: "kafka".into(),
            pid: None,
            state: State::Restarting,
            since: "2026-11-23T20:19:04.120Z".into(),
            restarts: 2,
            port: Some(9092),
            detail: "killed by SIGKILL".into(),
        };
        let text = table(&[status], false);
        assert_eq!(text.lines().count(), 2);
        assert!(
            text.ends_with(
                "kafka       restarting        -   9092        2  2026-11-23T20:19:04  killed by SIGKILL\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn thousands_are_set_apart() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1234567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }
}
