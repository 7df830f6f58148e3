//! Fetching: the registries' own clients, with progress, into a directory beside the final one.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::{Part, PartError, io_error, stamp, sums};

/// The name of the registry's archive without its ending, and of what is in it.
pub const REGISTRY_STEM: &str = "apicurio-registry-app-3.0.9";
const REGISTRY_ARTIFACT: &str = "io.apicurio:apicurio-registry-app:3.0.9:tar.gz:all";

/// 2.8 on purpose: later ones insist on the parent POM of the registry, which is not published.
const MAVEN_DEPENDENCY_PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:2.8";

const KAFKA_POM: &str = include_str!("../../parts/kafka/pom.xml");
const ENGINE_PACKAGE: &str = include_str!("../../parts/engine/package.json");
const ENGINE_LOCK: &str = include_str!("../../parts/engine/package-lock.json");

/// Time between two lines about a download that takes long.
const REPORT_EVERY: Duration = Duration::from_secs(3);

/// One fetch: what is fetched, where it is put together, and whom to tell.
struct Fetch<'a> {
    part: Part,
    /// Scratch space on the same file system as the final place.
    work: PathBuf,
    begun: Instant,
    say: &'a (dyn Fn(String) + Sync),
}

/// Fetches a part, compares it with its sums and puts it in place. Whatever goes wrong, no half of
/// it is left where it would be found.
pub fn fetch(part: Part, parts: &Path, say: &(dyn Fn(String) + Sync)) -> Result<(), PartError> {
    let work = parts.join(format!(".fetch-{}", part.name()));
    let place = parts.join(part.name());
    remove(&place)?;
    remove(&work)?;
    let fetch = Fetch {
        part,
        work,
        begun: Instant::now(),
        say,
    };
    let result = fetch.run(&place);
    if result.is_err() {
        remove(&place)?;
        // The client's log is kept: the message names it.
        for leftover in ["content", "final", "cache"] {
            remove(&fetch.work.join(leftover))?;
        }
    } else {
        remove(&fetch.work)?;
    }
    result
}

fn remove(directory: &Path) -> Result<(), PartError> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error("remove", directory)(error))
        }
        _ => Ok(()),
    }
}

fn create(directory: &Path) -> Result<(), PartError> {
    std::fs::create_dir_all(directory).map_err(io_error("create", directory))
}

impl Fetch<'_> {
    fn run(&self, place: &Path) -> Result<(), PartError> {
        // What comes is put in `content`, what stays is moved to `final`.
        let (content, last) = (self.work.join("content"), self.work.join("final"));
        create(&content)?;
        create(&last)?;
        match self.part {
            Part::Kafka => {
                let pom = self.work.join("pom.xml");
                std::fs::write(&pom, KAFKA_POM).map_err(io_error("write", &pom))?;
                self.maven(&[
                    &format!("--file={}", pom.display()),
                    &format!("{MAVEN_DEPENDENCY_PLUGIN}:copy-dependencies"),
                    "-DincludeScope=runtime",
                    &format!("-DoutputDirectory={}", content.display()),
                ])?;
                self.compare(&content)?;
                rename(&content, &last.join("libs"))?;
            }
            Part::Registry => {
                self.maven(&[
                    &format!("{MAVEN_DEPENDENCY_PLUGIN}:copy"),
                    &format!("-Dartifact={REGISTRY_ARTIFACT}"),
                    &format!("-DoutputDirectory={}", content.display()),
                ])?;
                self.compare(&content)?;
                let archive = content.join(format!("{REGISTRY_STEM}-all.tar.gz"));
                let mut tar = Command::new("tar");
                // The archive's owner is a user id of whoever packed it.
                tar.arg("--no-same-owner")
                    .arg("-xzf")
                    .arg(&archive)
                    .arg("-C")
                    .arg(&last);
                self.command("tar", tar)?;
            }
            Part::Engine => {
                let project = self.work.join("cache/project");
                create(&project)?;
                for (name, text) in [
                    ("package.json", ENGINE_PACKAGE),
                    ("package-lock.json", ENGINE_LOCK),
                ] {
                    let path = project.join(name);
                    std::fs::write(&path, text).map_err(io_error("write", &path))?;
                }
                let mut npm = Command::new("npm");
                npm.current_dir(&project)
                    .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
                    .arg("--cache")
                    .arg(self.work.join("cache/npm"));
                self.command("npm", npm)?;
                let library = project.join("node_modules/@chdb/lib-linux-x64-gnu/libchdb.so");
                rename(&library, &content.join("libchdb.so"))?;
                self.compare(&content)?;
                rename(&content.join("libchdb.so"), &last.join("libchdb.so"))?;
            }
        }
        stamp::write(self.part, &last)?;
        rename(&last, place)?;
        let size = mebibytes(size_below(place));
        self.say(format!("fetched and verified, {size} MiB"));
        Ok(())
    }

    fn compare(&self, directory: &Path) -> Result<(), PartError> {
        sums::compare(directory, &sums::parse(self.part.sums())).map_err(|reason| {
            PartError::Download {
                part: self.part,
                reason,
            }
        })
    }

    fn maven(&self, arguments: &[&str]) -> Result<(), PartError> {
        let mut maven = Command::new("mvn");
        // A repository of its own: a broken file in the user's would come back on every try, and
        // its growth is the progress.
        maven
            .args(["--batch-mode", "--quiet"])
            .arg(format!(
                "-Dmaven.repo.local={}",
                self.work.join("cache").display()
            ))
            .args(arguments)
            .current_dir(&self.work);
        self.command("mvn", maven)
    }

    /// Runs a client to its end, reporting what has arrived so far.
    fn command(&self, name: &'static str, mut command: Command) -> Result<(), PartError> {
        let log = self.work.join(format!("{name}.log"));
        let file = File::create(&log).map_err(io_error("create", &log))?;
        let other = file.try_clone().map_err(io_error("create", &log))?;
        let failed = |status: String, reason: String| PartError::Client {
            part: self.part,
            command: name,
            status,
            reason,
            log: log.clone(),
        };
        if name != "tar" {
            self.say(format!("fetching with {name}"));
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(other)
            .spawn()
            .map_err(|error| failed("cannot be started".into(), error.to_string()))?;
        let mut reported = Instant::now();
        let status: ExitStatus = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) => {}
                Err(error) => return Err(failed("cannot be waited for".into(), error.to_string())),
            }
            if reported.elapsed() >= REPORT_EVERY {
                reported = Instant::now();
                self.say(format!("{} MiB so far", mebibytes(size_below(&self.work))));
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        if status.success() {
            return Ok(());
        }
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        Err(failed(status.to_string(), complaint(&text)))
    }

    fn say(&self, what: String) {
        let seconds = self.begun.elapsed().as_secs();
        (self.say)(format!("{}: {what} ({seconds} s)", self.part));
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), PartError> {
    std::fs::rename(from, to).map_err(io_error("move", from))
}

/// The first line in which a client says what is wrong; clients end in pages of advice.
fn complaint(log: &str) -> String {
    log.lines()
        .map(str::trim)
        .find(|line| line.contains("[ERROR]") || line.contains("npm error"))
        .or_else(|| log.lines().rfind(|line| !line.trim().is_empty()))
        .unwrap_or("it said nothing")
        .chars()
        .take(400)
        .collect()
}

/// Bytes in all files below a directory; files that vanish meanwhile do not count.
fn size_below(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size_below(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

fn mebibytes(bytes: u64) -> u64 {
    bytes / (1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_complaint_is_the_first_thing_a_client_says_is_wrong() {
        let maven = "warm up\n[ERROR] Could not resolve org.x:y\n[ERROR] -> [Help 1]\n";
        assert_eq!(complaint(maven), "[ERROR] Could not resolve org.x:y");
        assert_eq!(complaint("tar: short read\n\n"), "tar: short read");
        assert_eq!(complaint(""), "it said nothing");
    }
}
