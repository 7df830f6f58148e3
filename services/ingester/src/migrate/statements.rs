//! Cuts a migration into statements: the server takes one at a time.

/// The statements of a file. A statement ends with a semicolon at the end of a line; lines that are
/// only a comment are left out.
pub fn split(sql: &str) -> Vec<String> {
    let mut statements = vec![String::new()];
    for line in sql.lines() {
        let code = line.trim_end();
        if code.trim_start().starts_with("--") || code.is_empty() {
            continue;
        }
        let current = statements.last_mut().expect("there is always one");
        match code.strip_suffix(';') {
            Some(end) => {
                current.push_str(end);
                statements.push(String::new());
            }
            None => {
                current.push_str(code);
                current.push('\n');
            }
        }
    }
    statements.retain(|statement| !statement.trim().is_empty());
    statements
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn statements_end_at_the_end_of_a_line() {
        let sql = "-- first\nCREATE TABLE a (x String DEFAULT ';x');\n\nCREATE TABLE b\n(\n    y Int32 -- why\n);\n";
        assert_eq!(
            split(sql),
            [
                "CREATE TABLE a (x String DEFAULT ';x')",
                "CREATE TABLE b\n(\n    y Int32 -- why\n)"
            ]
        );
        assert!(split("-- nothing\n").is_empty());
        assert_eq!(split("SELECT 1"), ["SELECT 1\n"]);
    }
}
