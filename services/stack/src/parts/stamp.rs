//! The stamp of a part: what was fetched, file by file, so that later runs notice damage cheaply.

use std::fmt::Write as _;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Part, PartError, io_error, sums};

/// Name of the stamp in a part's directory.
const STAMP: &str = ".stamp";

/// The first line of a stamp: a part fetched for other sums is another part.
fn heading(part: Part) -> String {
    format!("fetched for {}", sums::of_text(part.sums()))
}

/// One line per file: sum, size in bytes, time of change in ns, path.
struct Entry {
    sum: String,
    size: u64,
    changed_ns: i128,
    path: PathBuf,
}

/// Writes the stamp of a part whose content has just been compared with its sums.
pub fn write(part: Part, directory: &Path) -> Result<(), PartError> {
    let mut text = heading(part);
    for path in files(directory).map_err(io_error("list", directory))? {
        let full = directory.join(&path);
        let sum = sums::of_file(&full).map_err(io_error("read", &full))?;
        let metadata = full.metadata().map_err(io_error("read", &full))?;
        let (size, changed) = (metadata.len(), changed_ns(&metadata));
        let _ = write!(text, "\n{sum} {size} {changed} {}", path.display());
    }
    save(directory, &text)
}

fn save(directory: &Path, text: &str) -> Result<(), PartError> {
    let path = directory.join(STAMP);
    let new = directory.join(".stamp.new");
    std::fs::write(&new, format!("{text}\n"))
        .and_then(|()| std::fs::rename(&new, &path))
        .map_err(io_error("write", &path))
}

/// Compares a part with its stamp.
pub fn check(part: Part, directory: &Path) -> Result<(), PartError> {
    let missing = || PartError::Missing {
        part,
        directory: directory.to_owned(),
    };
    let path = directory.join(STAMP);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
        Err(error) => return Err(io_error("read", &path)(error)),
    };
    let mut lines = text.lines();
    if lines.next() != Some(heading(part).as_str()) {
        return Err(missing());
    }
    let damaged = |file: &Path, reason: &str| PartError::Damaged {
        part,
        file: directory.join(file),
        reason: reason.to_owned(),
    };
    let mut touched = false;
    for line in lines {
        let Some(entry) = parse(line) else {
            return Err(damaged(Path::new(STAMP), "cannot be understood"));
        };
        let full = directory.join(&entry.path);
        let Ok(metadata) = full.metadata() else {
            return Err(damaged(&entry.path, "is gone"));
        };
        if metadata.len() != entry.size {
            let reason = format!(
                "has {} bytes where {} were fetched",
                metadata.len(),
                entry.size
            );
            return Err(damaged(&entry.path, &reason));
        }
        if changed_ns(&metadata) != entry.changed_ns {
            // Copied or touched, maybe changed: only the content tells.
            let sum = sums::of_file(&full).map_err(io_error("read", &full))?;
            if sum != entry.sum {
                return Err(damaged(
                    &entry.path,
                    "has other content than what was fetched",
                ));
            }
            touched = true;
        }
    }
    if touched {
        // A directory that cannot be written to is no reason to refuse what is whole: it only
        // means reading it again next time.
        let _ = write(part, directory);
    }
    Ok(())
}

fn parse(line: &str) -> Option<Entry> {
    let mut fields = line.splitn(4, ' ');
    Some(Entry {
        sum: fields.next()?.to_owned(),
        size: fields.next()?.parse().ok()?,
        changed_ns: fields.next()?.parse().ok()?,
        path: fields.next()?.into(),
    })
}

fn changed_ns(metadata: &Metadata) -> i128 {
    i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec())
}

/// Every file below a directory but the stamp, as paths relative to it.
fn files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(relative) = pending.pop() {
        for entry in std::fs::read_dir(directory.join(&relative))? {
            let entry = entry?;
            let path = relative.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                pending.push(path);
            } else if path != Path::new(STAMP) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("libs")).unwrap();
        std::fs::write(dir.path().join("libs/a.jar"), "abc").unwrap();
        write(Part::Kafka, dir.path()).unwrap();
        dir
    }

    #[test]
    fn damage_of_each_kind_is_noticed_and_the_file_named() {
        let dir = part();
        check(Part::Kafka, dir.path()).unwrap();
        let jar = dir.path().join("libs/a.jar");
        let message = || check(Part::Kafka, dir.path()).unwrap_err().to_string();

        std::fs::write(&jar, "abd").unwrap();
        assert!(
            message().contains("libs/a.jar has other content"),
            "{}",
            message()
        );
        std::fs::write(&jar, "ab").unwrap();
        assert!(
            message().contains("has 2 bytes where 3 were fetched"),
            "{}",
            message()
        );
        std::fs::remove_file(&jar).unwrap();
        assert!(message().contains("libs/a.jar is gone"), "{}", message());
    }

    #[test]
    fn a_file_that_was_only_touched_is_whole() {
        let dir = part();
        std::fs::write(dir.path().join("libs/a.jar"), "abc").unwrap();
        check(Part::Kafka, dir.path()).unwrap();
    }

    #[test]
    fn a_part_fetched_for_other_sums_is_missing() {
        let dir = part();
        assert!(matches!(
            check(Part::Registry, dir.path()),
            Err(PartError::Missing { .. })
        ));
    }
}
