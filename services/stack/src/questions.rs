//! The questions of sql/queries: each as a file, and where there is a faster way to the same answer,
//! a file of the same name in the folder `fast`.

use std::path::Path;

/// One question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Name of its file, without `.sql`.
    pub name: String,
    /// What it answers: the comment that its file begins with.
    pub about: String,
    /// Asks the rows.
    pub plain: String,
    /// Comes to the same answer by reading less.
    pub fast: Option<String>,
    /// Values for the places `{name:Type}` of both, as the files' first lines show them
    /// (`-p airport=OMDB`).
    pub examples: Vec<(String, String)>,
}

impl Question {
    /// Values for all places of the question: those `given`, and examples for the others.
    ///
    /// # Errors
    /// A name that the question does not have.
    pub fn parameters(&self, given: &[(String, String)]) -> Result<Vec<(String, String)>, String> {
        for (name, _) in given {
            let place = format!("{{{name}:");
            let known = |sql: &str| sql.contains(&place);
            if !known(&self.plain) && !self.fast.as_deref().is_some_and(known) {
                let names: Vec<&str> = self.examples.iter().map(|(name, _)| &**name).collect();
                return Err(format!(
                    "{} has no parameter {name}; it has {}",
                    self.name,
                    if names.is_empty() {
                        "none".to_owned()
                    } else {
                        names.join(", ")
                    }
                ));
            }
        }
        let missing = self
            .examples
            .iter()
            .filter(|(name, _)| !given.iter().any(|(known, _)| known == name));
        Ok(given.iter().chain(missing).cloned().collect())
    }
}

/// The questions of a folder, by name.
///
/// # Errors
/// The folder or a file cannot be read.
pub fn questions(folder: &Path) -> Result<Vec<Question>, String> {
    let failed = |error: std::io::Error| {
        format!(
            "cannot read the queries in {}: {error}: CONTRAIL_SHARE is the directory that holds sql/",
            folder.display()
        )
    };
    let mut questions = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let (Some(name), Some("sql")) = (stem, path.extension().and_then(|e| e.to_str())) else {
            continue;
        };
        let plain = std::fs::read_to_string(&path).map_err(failed)?;
        let fast = folder.join("fast").join(format!("{name}.sql"));
        let fast = match std::fs::read_to_string(fast) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        let mut examples = examples(first_line(&plain));
        examples.extend(
            fast.iter()
                .flat_map(|text| self::examples(first_line(text))),
        );
        examples.sort();
        examples.dedup();
        questions.push(Question {
            name: name.to_owned(),
            about: first_line(&plain).to_owned(),
            plain,
            fast,
            examples,
        });
    }
    questions.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(questions)
}

/// The comment that a file begins with.
fn first_line(text: &str) -> &str {
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("--").unwrap_or_default().trim()
}

/// Each `-p NAME=VALUE` in a comment.
fn examples(comment: &str) -> Vec<(String, String)> {
    comment
        .split("-p ")
        .skip(1)
        .filter_map(|rest| {
            let word = rest.split_whitespace().next()?;
            let (name, value) = word.split_once('=')?;
            Some((
                name.to_owned(),
                value.trim_end_matches([',', ';', '.', ':']).to_owned(),
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_say_what_they_answer_and_what_they_take() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("fast")).unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("b.sql", "SELECT 1");
        write(
            "a.sql",
            "-- Answers one; -p x=1.5, -p y=a.\nSELECT {x:Float64}, {y:String}",
        );
        write("fast/a.sql", "-- Faster; -p z=-2\nSELECT {z:Int8}");
        write("notes.md", "");
        let all = questions(dir.path()).unwrap();
        let names: Vec<_> = all.iter().map(|question| &*question.name).collect();
        assert_eq!(names, ["a", "b"]);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            all[0].examples,
            [pair("x", "1.5"), pair("y", "a"), pair("z", "-2")]
        );
        assert!(all[0].about.starts_with("Answers one") && all[0].fast.is_some());
        assert_eq!((&*all[1].about, &all[1].fast), ("", &None));
        assert_eq!(
            all[0].parameters(&[pair("y", "b")]).unwrap(),
            [pair("y", "b"), pair("x", "1.5"), pair("z", "-2")]
        );
        let refused = all[0].parameters(&[pair("w", "b")]).unwrap_err();
        assert_eq!(refused, "a has no parameter w; it has x, y, z");
        let message = questions(Path::new("/nowhere")).unwrap_err();
        assert!(message.contains("CONTRAIL_SHARE"), "{message}");
    }
}
