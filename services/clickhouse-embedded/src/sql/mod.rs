//! As much of ClickHouse's SQL as it takes to tell a statement from the data behind it, to know the
//! format of an answer, and to see which functions a reader calls. What a statement means is the
//! engine's to say (see [`crate::engine::Connection::classify`]).

mod control;
mod lexer;
mod statement;

pub use control::{Control, KillQuery, brackets_are_closed, split_list};
pub use lexer::{Kind, Lexer, Token, unquote};
pub use statement::{InputSelect, Insert, Query, Statement, goes_on_behind_semicolon, parse};

/// Whether this can be the name of an engine setting (and so stand in SQL unquoted).
pub fn is_setting_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// A string literal.
pub fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('\'');
    for c in text.chars() {
        if matches!(c, '\'' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('\'');
    quoted
}

/// A quoted identifier.
pub fn quote_identifier(name: &str) -> String {
    let mut quoted = String::with_capacity(name.len() + 2);
    quoted.push('`');
    for c in name.chars() {
        if matches!(c, '`' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('`');
    quoted
}
