//! What the stack runs that is not built here: Kafka, the schema registry, the ClickHouse engine.
//!
//! Each is fetched once, at an exact version, by the client of the registry it is published in,
//! and compared with the SHA-256 sums kept beside this crate (`parts/*.sha256`). A stamp then
//! tells later runs that it is whole; what was damaged since is noticed when the stack starts.

mod fetch;
mod stamp;
mod sums;

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use crate::component::Component;
use crate::tools::{self, ToolError};

/// One download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Apache Kafka: 92 jars.
    Kafka,
    /// The Apicurio registry: one archive, unpacked.
    Registry,
    /// `libchdb.so`, the ClickHouse engine.
    Engine,
}

/// Why a part is not there.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// It was never fetched, or for another version of this program.
    #[error("{part} is not in {}: run `make parts` (or `contrail parts`) to fetch it", directory.display())]
    Missing {
        /// Which one.
        part: Part,
        /// Where it was looked for.
        directory: PathBuf,
    },
    /// It was whole once and is not any more.
    #[error(
        "{part} is damaged: {} {reason}: run `make parts` (or `contrail parts`), which removes \
         and fetches it again", file.display()
    )]
    Damaged {
        /// Which one.
        part: Part,
        /// The file that differs.
        file: PathBuf,
        /// How.
        reason: String,
    },
    /// What came is not what was reviewed.
    #[error(
        "{part}: the download is not what it should be and was removed: {reason}. Run `make parts` \
         again; if it comes out the same, the registry serves something else than \
         services/stack/parts lists, and must not be used"
    )]
    Download {
        /// Which one.
        part: Part,
        /// The file and the sums, or the file that is absent.
        reason: String,
    },
    /// A client is missing.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// A client gave up.
    #[error(
        "{part}: {command} failed ({status}): {reason}. See {}; is the network, or the proxy or \
         mirror that {command} is set up with, in reach? What was half fetched is removed; run \
         `make parts` again", log.display()
    )]
    Client {
        /// Which one.
        part: Part,
        /// mvn, npm or tar.
        command: &'static str,
        /// Its exit status.
        status: String,
        /// Its last complaint.
        reason: String,
        /// All that it said.
        log: PathBuf,
    },
    /// No engine is published for this processor.
    #[error(
        "no ClickHouse engine is known for {0} processors: build or fetch a libchdb.so and name it \
         in CONTRAIL_CLICKHOUSE__LIBRARY"
    )]
    Processor(&'static str),
    /// A file cannot be read or written.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Makes an I/O error name its file.
fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PartError {
    let path = path.to_owned();
    move |source| PartError::Io {
        doing,
        path,
        source,
    }
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Kafka, Self::Registry, Self::Engine];

    /// The part that a component runs on.
    pub const fn of(component: Component) -> Option<Self> {
        match component {
            Component::Kafka => Some(Self::Kafka),
            Component::Registry => Some(Self::Registry),
            Component::Clickhouse => Some(Self::Engine),
            _ => None,
        }
    }

    /// The name of its directory.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Registry => "registry",
            Self::Engine => "engine",
        }
    }

    /// The committed list of sums of what is downloaded.
    const fn sums(self) -> &'static str {
        match self {
            Self::Kafka => include_str!("../../parts/kafka.sha256"),
            Self::Registry => include_str!("../../parts/registry.sha256"),
            Self::Engine => include_str!("../../parts/engine.sha256"),
        }
    }

    /// The clients that fetch it.
    const fn tools(self) -> &'static [&'static str] {
        match self {
            Self::Kafka => &["java", "mvn"],
            Self::Registry => &["java", "mvn", "tar"],
            Self::Engine => &["npm"],
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kafka => "part kafka",
            Self::Registry => "part registry",
            Self::Engine => "part engine",
        })
    }
}

/// The directory of the parts.
#[derive(Debug, Clone)]
pub struct Parts {
    directory: PathBuf,
}

impl Parts {
    /// Parts kept in a directory, which need not exist yet.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// Where one part lies.
    pub fn path(&self, part: Part) -> PathBuf {
        self.directory.join(part.name())
    }

    /// Kafka's class path.
    pub fn kafka_class_path(&self) -> String {
        format!("{}/libs/*", self.path(Part::Kafka).display())
    }

    /// The registry's runnable jar.
    pub fn registry_jar(&self) -> PathBuf {
        self.path(Part::Registry)
            .join(format!("{}-runner.jar", fetch::REGISTRY_STEM))
    }

    /// The engine.
    pub fn engine_library(&self) -> PathBuf {
        self.path(Part::Engine).join("libchdb.so")
    }

    /// Checks that a part is there and as it was fetched. Takes milliseconds: sizes and times of
    /// change are compared, and content only where they differ.
    ///
    /// # Errors
    /// [`PartError::Missing`], [`PartError::Damaged`], [`PartError::Io`].
    pub fn check(&self, part: Part) -> Result<(), PartError> {
        stamp::check(part, &self.path(part))
    }

    /// Fetches what is missing or damaged among `parts`, all at once, and says so line by line.
    /// Returns whether anything had to be fetched.
    ///
    /// # Errors
    /// The first of the parts that could not be had; see [`PartError`].
    pub fn ensure(&self, parts: &[Part], say: &(dyn Fn(String) + Sync)) -> Result<bool, PartError> {
        std::fs::create_dir_all(&self.directory).map_err(io_error("create", &self.directory))?;
        let _lock = self.lock(say)?;
        let mut wanted = Vec::new();
        for &part in parts {
            match self.check(part) {
                Ok(()) => continue,
                Err(PartError::Missing { .. }) => {}
                Err(PartError::Damaged { file, reason, .. }) => say(format!(
                    "{part}: {} {reason}; removing it, to fetch it again",
                    file.display()
                )),
                Err(other) => return Err(other),
            }
            wanted.push(part);
        }
        if wanted.is_empty() {
            return Ok(false);
        }
        if wanted.contains(&Part::Engine) && std::env::consts::ARCH != "x86_64" {
            return Err(PartError::Processor(std::env::consts::ARCH));
        }
        let mut programs: Vec<&str> = Vec::new();
        for program in wanted.iter().flat_map(|part| part.tools()) {
            if !programs.contains(program) {
                programs.push(program);
            }
        }
        tools::require(&programs)?;
        std::thread::scope(|scope| {
            let fetches: Vec<_> = wanted
                .iter()
                .map(|&part| scope.spawn(move || fetch::fetch(part, &self.directory, say)))
                .collect();
            fetches
                .into_iter()
                .map(|fetch| match fetch.join() {
                    Ok(result) => result,
                    Err(panic) => std::panic::resume_unwind(panic),
                })
                // All are waited for before the first error is returned.
                .collect::<Vec<_>>()
                .into_iter()
                .collect::<Result<(), PartError>>()
        })?;
        Ok(true)
    }

    /// Two runs must not fetch into the same directory.
    fn lock(&self, say: &(dyn Fn(String) + Sync)) -> Result<Flock<File>, PartError> {
        let path = self.directory.join(".lock");
        let open = || {
            File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
                .map_err(io_error("create", &path))
        };
        match Flock::lock(open()?, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(lock),
            Err(_) => {
                say("waiting for another run that is fetching parts".into());
                Flock::lock(open()?, FlockArg::LockExclusive)
                    .map_err(|(_, errno)| io_error("lock", &path)(errno.into()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_sums_and_no_sum_list_names_a_host() {
        for part in Part::ALL {
            let sums = sums::parse(part.sums());
            assert!(!sums.is_empty(), "{part}");
            assert!(!part.sums().contains("://"));
        }
        assert_eq!(sums::parse(Part::Kafka.sums()).len(), 92);
    }

    #[test]
    fn what_is_missing_says_how_to_fetch_it() {
        let dir = tempfile::tempdir().unwrap();
        let message = Parts::new(dir.path())
            .check(Part::Engine)
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("part engine") && message.contains("make parts"),
            "{message}"
        );
    }
}
