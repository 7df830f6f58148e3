//! SHA-256 sums in the format of `sha256sum`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

/// Sums by file name.
pub type Sums = BTreeMap<String, String>;

/// Reads lines of sum, two spaces, name. A line that is none of this is left out.
pub fn parse(text: &str) -> Sums {
    text.lines()
        .filter_map(|line| line.split_once("  "))
        .map(|(sum, name)| (name.to_owned(), sum.to_owned()))
        .collect()
}

/// The sum of a file's content, in hexadecimal.
pub fn of_file(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hasher.finalize())),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// The sum of a text, in hexadecimal.
pub fn of_text(text: &str) -> String {
    hex(&Sha256::digest(text))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compares a directory with a list: the same files, no more and no fewer, with the same content.
///
/// # Errors
/// A sentence that names the first file that differs and both sums.
pub fn compare(directory: &Path, expected: &Sums) -> Result<(), String> {
    let found: Vec<String> = std::fs::read_dir(directory)
        .and_then(|entries| {
            entries
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect::<io::Result<_>>()
        })
        .map_err(|error| format!("{} cannot be read: {error}", directory.display()))?;
    if let Some(extra) = found.iter().find(|name| !expected.contains_key(*name)) {
        return Err(format!("{extra} is not on the list of what belongs to it"));
    }
    for (name, sum) in expected {
        let path = directory.join(name);
        let actual = match of_file(&path) {
            Ok(sum) => sum,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(format!("{name} did not come"));
            }
            Err(error) => return Err(format!("{name} cannot be read: {error}")),
        };
        if actual != *sum {
            return Err(format!("{name} has SHA-256 {actual}, expected {sum}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sum of "abc", from FIPS 180-2, appendix B.1.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_changed_a_missing_and_an_extra_file_are_each_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        let expected = parse(&format!("{ABC}  a.jar\n{ABC}  b.jar\n"));

        file("a.jar", "abc");
        assert!(
            compare(dir.path(), &expected)
                .unwrap_err()
                .starts_with("b.jar did not come")
        );
        file("b.jar", "abd");
        let message = compare(dir.path(), &expected).unwrap_err();
        assert!(
            message.starts_with("b.jar has") && message.ends_with(ABC),
            "{message}"
        );
        file("b.jar", "abc");
        compare(dir.path(), &expected).unwrap();
        file("c.jar", "abc");
        assert!(
            compare(dir.path(), &expected)
                .unwrap_err()
                .starts_with("c.jar is not")
        );
    }
}
