//! What goes wrong, in which order: the same for the same seed.

use std::fmt;
use std::time::Duration;

use contrail::component::Component::{self, Clickhouse, Ingester, Kafka, Mock, Producer, Registry};

/// A way between two programs that has a proxy on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Link {
    ProducerToMock,
    ProducerToKafka,
    ProducerToRegistry,
    IngesterToKafka,
    IngesterToRegistry,
    IngesterToClickhouse,
}

impl Link {
    pub const ALL: [Self; 6] = [
        Self::ProducerToMock,
        Self::ProducerToKafka,
        Self::ProducerToRegistry,
        Self::IngesterToKafka,
        Self::IngesterToRegistry,
        Self::IngesterToClickhouse,
    ];
}

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// SIGKILL; its supervisor starts it again.
    Kill(Component),
    /// SIGSTOP, and SIGCONT after a while.
    Freeze(Component, Duration),
    /// SIGTERM, and started again.
    Restart(Component),
    /// All connections of a link are cut.
    Cut(Link),
    /// A link is silent for a while, and loses nothing.
    Silence(Link, Duration),
    /// A link keeps answers back for a while; requests arrive. What was kept back is lost at the end.
    LoseAnswers(Link, Duration),
    /// A link is slow for a while: so long for each piece.
    Slow(Link, Duration, Duration),
    /// A link takes no connections for a while, and those that there are are cut.
    Refuse(Link, Duration),
}

impl Fault {
    /// What it is called in a count of faults.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill(_) => "SIGKILL",
            Self::Freeze(..) => "SIGSTOP",
            Self::Restart(_) => "restart",
            Self::Cut(_) => "connections cut",
            Self::Silence(..) => "link silent",
            Self::LoseAnswers(..) => "answers lost",
            Self::Slow(..) => "link slow",
            Self::Refuse(..) => "link refused",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        match self {
            Self::Kill(component) | Self::Restart(component) => write!(f, "{name} {component}"),
            Self::Freeze(component, time) => {
                write!(f, "{name} {component} for {:.1} s", time.as_secs_f64())
            }
            Self::Cut(link) => write!(f, "{name}: {link:?}"),
            Self::Silence(link, time)
            | Self::LoseAnswers(link, time)
            | Self::Refuse(link, time)
            | Self::Slow(link, _, time) => {
                write!(f, "{name}: {link:?} for {:.1} s", time.as_secs_f64())
            }
        }
    }
}

/// How long things last.
#[derive(Debug, Clone, Copy)]
pub struct Durations {
    /// Shortest and longest time for which a process is frozen, in milliseconds.
    pub freeze_ms: (u64, u64),
    /// One freeze in so many is a long one.
    pub one_long_in: u64,
    /// That one's time.
    pub long: Duration,
    /// Shortest and longest time of trouble on a link, in milliseconds.
    pub link_ms: (u64, u64),
    /// Longest rest between two faults, in milliseconds.
    pub rest_ms: u64,
}

/// Faults without end, each with the rest that follows it.
#[derive(Debug, Clone)]
pub struct Plan {
    state: u64,
    durations: Durations,
}

impl Plan {
    pub fn new(seed: u64, durations: Durations) -> Self {
        Self {
            state: seed,
            durations,
        }
    }

    /// SplitMix64.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random() % limit
    }

    fn between(&mut self, (low, high): (u64, u64)) -> Duration {
        Duration::from_millis(low + self.below(high - low + 1))
    }

    fn component(&mut self) -> Component {
        // Those that keep state of ours most often.
        const OFTEN: [Component; 10] = [
            Mock, Producer, Producer, Ingester, Ingester, Ingester, Kafka, Clickhouse, Clickhouse,
            Registry,
        ];
        OFTEN[self.below(OFTEN.len() as u64) as usize]
    }

    fn link(&mut self) -> Link {
        Link::ALL[self.below(Link::ALL.len() as u64) as usize]
    }
}

impl Iterator for Plan {
    type Item = (Fault, Duration);

    fn next(&mut self) -> Option<Self::Item> {
        let durations = self.durations;
        let fault = match self.below(20) {
            0..6 => Fault::Kill(self.component()),
            6..10 => {
                let component = self.component();
                let time = match self.below(durations.one_long_in) {
                    0 => durations.long,
                    _ => self.between(durations.freeze_ms),
                };
                Fault::Freeze(component, time)
            }
            10..12 => Fault::Restart(self.component()),
            12..14 => Fault::Cut(self.link()),
            14..16 => Fault::Silence(self.link(), self.between(durations.link_ms)),
            16..18 => Fault::LoseAnswers(self.link(), self.between(durations.link_ms)),
            18 => {
                let link = self.link();
                let each = self.between((5, 200));
                Fault::Slow(link, each, self.between(durations.link_ms))
            }
            _ => Fault::Refuse(self.link(), self.between(durations.link_ms)),
        };
        let rest = Duration::from_millis(self.below(durations.rest_ms));
        Some((fault, rest))
    }
}
