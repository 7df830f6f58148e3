//! `make bench`: how fast the platform is, beside its peers and its limits.
//!
//! Each group of lines is measured by one file in [`groups`]. Within a group every subject is measured
//! in the same run, on the same machine, in interleaved rounds, and the median is shown: a figure of
//! ours stands only beside a figure of somebody else's from the same minutes. CPU seconds are counted
//! for every process that takes part, also where the clock shows no difference: on a machine of two
//! cores what one process burns another lacks.

pub mod asking;
pub mod compare;
pub mod cpu;
pub mod data;
pub mod groups;
pub mod machine;
pub mod report;
pub mod rounds;
pub mod world;

/// How the groups are to measure.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How often each subject is measured. The median of these is shown.
    pub rounds: usize,
    /// Rows in the tables that questions are asked of.
    pub rows: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            rounds: 3,
            rows: 20_000_000,
        }
    }
}
