//! What is measured, by the letter under which `make bench --only` knows it.

mod disk;
mod ingest;
mod instrumentation;
mod latency;
mod memory;
mod mock;
mod producer;
mod questions;
mod transports;

use anyhow::Result;

use crate::Plan;
use crate::report::Line;

/// A group of lines that are measured together.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    /// Its letter.
    pub letter: char,
    /// What it is about, in a few words.
    pub title: &'static str,
    /// Measures it.
    pub run: fn(&Plan) -> Result<Vec<Line>>,
}

/// All groups, in the order in which they run.
pub const GROUPS: &[Group] = &[
    producer::GROUP,
    transports::GROUP,
    ingest::GROUP,
    latency::GROUP,
    questions::GROUP,
    disk::GROUP,
    memory::GROUP,
    mock::GROUP,
    instrumentation::GROUP,
];
