//! Programs of the system that the stack needs: finding them, and naming what to install.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The oldest Java that Kafka 4 and the registry run on.
pub const JAVA_VERSION: u32 = 17;

/// A program that is missing or too old.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// Not on the PATH.
    #[error(
        "{missing} cannot be found on the PATH: install with `{install}` (Debian, Ubuntu; \
         elsewhere the package that provides {missing})"
    )]
    Missing {
        /// The program, or several with commas between.
        missing: String,
        /// The command that installs them.
        install: String,
    },
    /// Java below [`JAVA_VERSION`].
    #[error(
        "{program} is Java {found}, but Kafka and the schema registry need Java {JAVA_VERSION} or \
         newer: install with `{install}` (Debian, Ubuntu), or point JAVA_HOME at a newer one"
    )]
    OldJava {
        /// The program that was asked.
        program: PathBuf,
        /// What it answered.
        found: u32,
        /// The command that installs a newer one.
        install: String,
    },
    /// Java is there but does not say what it is.
    #[error(
        "{program} -version cannot be understood ({reason}): install Java {JAVA_VERSION} with \
         `{install}` (Debian, Ubuntu), or point JAVA_HOME at one that works"
    )]
    BrokenJava {
        /// The program that was asked.
        program: PathBuf,
        /// What went wrong.
        reason: String,
        /// The command that installs one.
        install: String,
    },
}

/// The Debian package that provides a program.
fn package(program: &str) -> &str {
    match program {
        "java" => "default-jre-headless",
        "node" => "nodejs",
        "mvn" => "maven",
        "cc" | "c++" | "make" => "build-essential",
        other => other,
    }
}

/// The command that installs what provides these programs.
pub fn install_command(programs: &[&str]) -> String {
    let mut packages: Vec<&str> = Vec::new();
    for program in programs {
        let package = package(program);
        if !packages.contains(&package) {
            packages.push(package);
        }
    }
    // A process's own directory belongs to whom it runs as.
    let is_root = Path::new("/proc/self")
        .metadata()
        .is_ok_and(|own| own.uid() == 0);
    let sudo = if is_root { "" } else { "sudo " };
    format!("{sudo}apt-get install -y {}", packages.join(" "))
}

/// Looks a program up on the PATH.
///
/// # Errors
/// What installs it.
pub fn find(program: &str) -> Result<PathBuf, String> {
    find_in(program, std::env::var_os("PATH").as_deref()).ok_or_else(|| {
        ToolError::Missing {
            missing: program.to_owned(),
            install: install_command(&[program]),
        }
        .to_string()
    })
}

/// Looks a program up on a PATH.
pub fn find_in(program: &str, path: Option<&OsStr>) -> Option<PathBuf> {
    std::env::split_paths(path?)
        .filter(|directory| !directory.as_os_str().is_empty())
        .map(|directory| directory.join(program))
        .find(|candidate| is_executable(candidate))
}

fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// Checks that all of these programs are on the PATH.
///
/// # Errors
/// One message for all that are not.
pub fn require(programs: &[&str]) -> Result<(), ToolError> {
    let path = std::env::var_os("PATH");
    let missing: Vec<&str> = programs
        .iter()
        .copied()
        .filter(|program| find_in(program, path.as_deref()).is_none())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(ToolError::Missing {
        missing: missing.join(", "),
        install: install_command(&missing),
    })
}

/// Finds Java: the given program, or `$JAVA_HOME/bin/java`, or the one on the PATH; and checks
/// that it is new enough.
///
/// # Errors
/// See [`ToolError`].
pub fn java(given: Option<&Path>) -> Result<PathBuf, ToolError> {
    let from_home = || {
        std::env::var_os("JAVA_HOME")
            .filter(|home| !home.is_empty())
            .map(|home| Path::new(&home).join("bin/java"))
            .filter(|java| is_executable(java))
    };
    let program = given
        .filter(|path| !path.as_os_str().is_empty())
        .map(Path::to_owned)
        .or_else(from_home)
        .or_else(|| find_in("java", std::env::var_os("PATH").as_deref()))
        .ok_or_else(|| ToolError::Missing {
            missing: "java".into(),
            install: install_command(&["java"]),
        })?;
    let install = install_command(&["java"]);
    match java_version(&program) {
        Ok(found) if found >= JAVA_VERSION => Ok(program),
        Ok(found) => Err(ToolError::OldJava {
            program,
            found,
            install,
        }),
        Err(error) => Err(ToolError::BrokenJava {
            program,
            reason: error.to_string(),
            install,
        }),
    }
}

fn java_version(program: &Path) -> io::Result<u32> {
    let output = Command::new(program)
        .arg("-version")
        .stdin(Stdio::null())
        .output()?;
    // Java has always said its version on standard error.
    let text = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    parse_java_version(&text).ok_or_else(|| {
        io::Error::other(format!(
            "it printed {:?}",
            text.lines().next().unwrap_or_default()
        ))
    })
}

/// The feature version in `openjdk version "17.0.15" 2025-04-15`; before 9 it was `"1.8.0_392"`.
fn parse_java_version(text: &str) -> Option<u32> {
    let (_, rest) = text.split_once("version \"")?;
    let mut numbers = rest.split(|c: char| !c.is_ascii_digit());
    match numbers.next()?.parse().ok()? {
        1 => numbers.next()?.parse().ok(),
        feature => Some(feature),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_versions_of_all_ages_are_read() {
        for (text, version) in [
            ("openjdk version \"17.0.15\" 2025-04-15", Some(17)),
            ("java version \"1.8.0_392\"", Some(8)),
            ("openjdk version \"21\" 2023-09-19", Some(21)),
            ("openjdk version \"25-ea\" 2025-09-16", Some(25)),
            (
                "Picked up JAVA_TOOL_OPTIONS: -Da=b\nopenjdk version \"11.0.2\"",
                Some(11),
            ),
            ("command not found", None),
        ] {
            assert_eq!(parse_java_version(text), version, "{text}");
        }
    }

    #[test]
    fn an_old_java_is_told_apart_from_a_broken_one() {
        let dir = tempfile::tempdir().unwrap();
        let script = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            path
        };
        let old = script("old", "#!/bin/sh\necho 'java version \"11.0.2\"' >&2\n");
        let message = java(Some(&old)).unwrap_err().to_string();
        assert!(
            message.contains("Java 11") && message.contains("default-jre-headless"),
            "{message}"
        );
        let broken = script("broken", "#!/bin/sh\necho no >&2\n");
        let message = java(Some(&broken)).unwrap_err().to_string();
        assert!(message.contains("\"no\""), "{message}");
    }

    #[test]
    fn all_that_is_missing_is_named_at_once_with_each_package_once() {
        let message = require(&["sh", "no-such-program-a", "no-such-program-b"])
            .unwrap_err()
            .to_string();
        assert!(
            message.starts_with("no-such-program-a, no-such-program-b cannot"),
            "{message}"
        );
        assert!(
            install_command(&["cc", "make", "mvn"])
                .ends_with("apt-get install -y build-essential maven")
        );
    }
}
