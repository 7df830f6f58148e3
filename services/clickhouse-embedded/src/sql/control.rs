//! Statements that this server answers itself.

use super::lexer::{Kind, Lexer, Token, unquote};

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// `SYSTEM FLUSH LOGS`
    FlushLogs,
    /// `KILL QUERY WHERE …`
    KillQuery(KillQuery),
}

/// `KILL QUERY WHERE condition [SYNC | ASYNC | TEST] [FORMAT name]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KillQuery {
    /// The condition, as it was written.
    pub condition: Vec<u8>,
    /// Wait until they have ended.
    pub sync: bool,
    /// Only show them.
    pub test: bool,
    /// The format of the answer.
    pub format: Option<String>,
}

/// Finds out whether a text is one of these statements, and nothing more.
pub(super) fn control(text: &[u8]) -> Option<Control> {
    let tokens: Vec<Token<'_>> = Lexer::new(text).collect();
    let closes = |token: &Token<'_>| token.kind == Kind::Semicolon;
    let count = tokens.iter().position(closes).unwrap_or(tokens.len());
    let (statement, behind) = tokens.split_at(count);
    if !behind.iter().all(closes) {
        return None;
    }
    let begins = |words: &[&str]| {
        statement.len() >= words.len()
            && words
                .iter()
                .zip(statement)
                .all(|(word, token)| token.is(word))
    };
    if begins(&["SYSTEM", "FLUSH", "LOGS"]) {
        return Some(Control::FlushLogs);
    }
    if !begins(&["KILL", "QUERY", "WHERE"]) {
        return None;
    }
    let (condition, format) = match statement {
        [rest @ .., keyword, name] if keyword.depth == 0 && keyword.is("FORMAT") => (
            rest,
            Some(String::from_utf8_lossy(&unquote(name)).into_owned()),
        ),
        all => (all, None),
    };
    let (condition, mode) = match condition {
        [rest @ .., word]
            if word.depth == 0 && ["SYNC", "ASYNC", "TEST"].iter().any(|mode| word.is(mode)) =>
        {
            (rest, String::from_utf8_lossy(word.text).to_uppercase())
        }
        all => (all, String::new()),
    };
    let (first, last) = (condition.get(3)?, condition.last()?);
    Some(Control::KillQuery(KillQuery {
        condition: text[first.start..last.end()].to_vec(),
        sync: mode == "SYNC",
        test: mode == "TEST",
        format,
    }))
}

/// Whether every bracket and quote in a text is closed within it, and none beyond that, so that it can
/// stand in brackets.
pub fn brackets_are_closed(text: &[u8]) -> bool {
    let mut open: Vec<u8> = Vec::new();
    for token in Lexer::new(text) {
        match (token.kind, token.text) {
            (Kind::Open, b"(") => open.push(b')'),
            (Kind::Open, b"[") => open.push(b']'),
            (Kind::Open, _) => open.push(b'}'),
            (Kind::Close, bracket) if open.pop() != bracket.first().copied() => return false,
            (Kind::Unclosed | Kind::Semicolon, _) => return false,
            _ => {}
        }
    }
    // A comment to the end of the line would hide what follows.
    open.is_empty() && !ends_in_comment(text)
}

fn ends_in_comment(text: &[u8]) -> bool {
    let probe = [text, b" )"].concat();
    Lexer::new(&probe)
        .last()
        .is_none_or(|token| token.kind != Kind::Close || token.start + 1 != probe.len())
}

/// Cuts a list at its commas, but not within brackets.
pub fn split_list(text: &str) -> Vec<&str> {
    let commas = Lexer::new(text.as_bytes())
        .filter(|token| token.kind == Kind::Comma && token.depth == 0)
        .map(|token| token.start);
    let mut start = 0;
    let mut parts = Vec::new();
    for comma in commas {
        parts.push(&text[start..comma]);
        start = comma + 1;
    }
    parts.push(&text[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kill(text: &str) -> Option<(String, bool, bool, Option<String>)> {
        match control(text.as_bytes())? {
            Control::KillQuery(kill) => Some((
                String::from_utf8(kill.condition).unwrap(),
                kill.sync,
                kill.test,
                kill.format,
            )),
            Control::FlushLogs => None,
        }
    }

    #[test]
    fn kill_query_is_taken_apart() {
        let id = "query_id = 'a;b'".to_owned();
        assert_eq!(
            kill("KILL QUERY WHERE query_id = 'a;b'"),
            Some((id.clone(), false, false, None))
        );
        assert_eq!(
            kill("kill query where query_id = 'a;b' sync format JSON;"),
            Some((id.clone(), true, false, Some("JSON".to_owned())))
        );
        assert_eq!(
            kill("KILL QUERY WHERE query_id = 'a;b' TEST"),
            Some((id, false, true, None))
        );
        for text in [
            "KILL QUERY",
            "KILL QUERY WHERE",
            "KILL QUERY WHERE 1; DROP TABLE t",
            "KILL MUTATION WHERE 1",
            "SELECT 1",
        ] {
            assert_eq!(kill(text), None, "{text}");
        }
        assert_eq!(control(b"SYSTEM FLUSH LOGS;"), Some(Control::FlushLogs));
        assert_eq!(control(b"SYSTEM FLUSH LOGS; SELECT 1"), None);
    }

    #[test]
    fn what_leaves_its_brackets_is_seen() {
        for text in [
            "",
            "a UInt8",
            "a Array(String), `b)` Enum('(' = 1)",
            "/* ) */ a",
        ] {
            assert!(brackets_are_closed(text.as_bytes()), "{text}");
        }
        for text in [
            "a) ENGINE = File('x') --",
            "a) (",
            "(a",
            "a]",
            "a -- comment",
            "a /* comment",
            "'a",
            "a; b",
            "a # comment",
        ] {
            assert!(!brackets_are_closed(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn lists_are_cut_at_their_commas() {
        let types = "UInt8, Map(String, UInt8), Enum('a,b' = 1)";
        assert_eq!(
            split_list(types),
            ["UInt8", " Map(String, UInt8)", " Enum('a,b' = 1)"]
        );
    }
}
