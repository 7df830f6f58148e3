//! Log files of processes: appended to by the processes themselves, cut here when they grow.
//!
//! The processes write to the file, not into a pipe of the supervisor: so the last words of a
//! process are kept even when the supervisor dies with it. Cutting is copy-and-truncate, which
//! works because the files are opened for appending; lines written between the copy and the cut
//! are lost, which a log can bear.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Size in bytes at which a log is cut.
pub const LIMIT_BYTES: u64 = 10 << 20;
/// How many older pieces are kept: NAME.log.1 is the youngest.
pub const KEPT: u32 = 3;

/// Opens a log for appending.
///
/// # Errors
/// The directory or the file cannot be made.
pub fn open(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    File::options().create(true).append(true).open(path)
}

/// Moves a log that is above `limit` bytes aside and empties it. Returns whether it did.
///
/// # Errors
/// A file cannot be copied, renamed or cut.
pub fn rotate(path: &Path, limit: u64, kept: u32) -> io::Result<bool> {
    match path.metadata() {
        Ok(metadata) if metadata.len() > limit => {}
        Ok(_) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    }
    for age in (1..kept).rev() {
        match std::fs::rename(piece(path, age), piece(path, age + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    std::fs::copy(path, piece(path, 1))?;
    File::options().write(true).open(path)?.set_len(0)?;
    Ok(true)
}

fn piece(path: &Path, age: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{age}"));
    name.into()
}

/// The last lines of a log, read from its last 256 KiB.
///
/// # Errors
/// The file cannot be read.
pub fn tail(path: &Path, lines: usize) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(256 << 10)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    Ok(all[all.len().saturating_sub(lines)..].join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_log_above_the_limit_is_cut_while_its_writer_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let mut writer = open(&path).unwrap();
        for round in 0..5 {
            writer
                .write_all(format!("round {round}\n").as_bytes())
                .unwrap();
            assert!(rotate(&path, 4, 3).unwrap());
            assert!(!rotate(&path, 4, 3).unwrap());
        }
        writer.write_all(b"last\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "last\n");
        for (age, round) in [(1, 4), (2, 3), (3, 2)] {
            assert_eq!(
                std::fs::read_to_string(piece(&path, age)).unwrap(),
                format!("round {round}\n")
            );
        }
        assert!(!piece(&path, 4).exists());
    }

    #[test]
    fn the_tail_is_the_last_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        std::fs::write(&path, "1\n2\n3\n").unwrap();
        assert_eq!(tail(&path, 2).unwrap(), "2\n3");
        assert_eq!(tail(&path, 9).unwrap(), "1\n2\n3");
    }
}
