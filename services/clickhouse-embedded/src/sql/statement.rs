//! A request's text taken apart: an INSERT with its data, or anything else.

use std::collections::BTreeSet;

use super::control::{Control, control};
use super::lexer::{Kind, Lexer, Token, unquote};

/// One statement.
#[derive(Debug, PartialEq, Eq)]
pub enum Statement {
    /// Nothing but white space and comments.
    Empty,
    /// An INSERT of rows that follow it.
    Insert(Insert),
    /// An INSERT that selects from `input(…)`, which are the rows that follow it.
    InsertFromInput(InputSelect),
    /// One that this server answers itself.
    Control(Control),
    /// Everything else.
    Query(Query),
}

/// An INSERT of rows.
#[derive(Debug, PartialEq, Eq)]
pub struct Insert {
    /// The statement without its FORMAT or VALUES; settings that stood behind it included.
    pub header: Vec<u8>,
    /// The format that it named.
    pub format: Option<String>,
    /// Where in the text the rows begin.
    pub data: usize,
}

/// `INSERT INTO … SELECT … FROM input('structure') … FORMAT …`.
#[derive(Debug, PartialEq, Eq)]
pub struct InputSelect {
    /// The statement up to `input`.
    pub before: Vec<u8>,
    /// The columns that `input` declares.
    pub structure: String,
    /// The statement from behind `input(…)` up to its FORMAT.
    pub after: Vec<u8>,
    /// The format that it named.
    pub format: String,
    /// Where in the text the rows begin.
    pub data: usize,
}

/// A statement without rows.
#[derive(Debug, PartialEq, Eq)]
pub struct Query {
    /// Where the statement ends: before a semicolon that closes it.
    pub end: usize,
    /// Something other than comments follows that semicolon.
    pub several: bool,
    /// The format that its FORMAT clause names.
    pub format: Option<String>,
    /// Where that clause stands.
    pub format_clause: Option<(usize, usize)>,
    /// Its first word, in upper case; empty for a bracket.
    pub verb: String,
    /// It has INTO OUTFILE.
    pub into_outfile: bool,
    /// Names that stand before an opening parenthesis, in lower case, without quotes.
    pub calls: Vec<String>,
    /// Every name and keyword, in lower case, without quotes: a function may also be an argument, as
    /// in `arrayMap(lower, x)`.
    pub names: Vec<String>,
}

/// Takes a request's text apart.
pub fn parse(text: &[u8]) -> Statement {
    let mut lexer = Lexer::new(text);
    let Some(first) = lexer.next() else {
        return Statement::Empty;
    };
    if first.is("INSERT") {
        if let Some(insert) = insert(text) {
            return Statement::Insert(insert);
        }
        if let Some(insert) = insert_from_input(text) {
            return Statement::InsertFromInput(insert);
        }
    }
    if (first.is("KILL") || first.is("SYSTEM"))
        && let Some(control) = control(text)
    {
        return Statement::Control(control);
    }
    Statement::Query(query(text))
}

/// Finds VALUES, FORMAT or the end of an INSERT of rows; None for one that selects.
fn insert(text: &[u8]) -> Option<Insert> {
    let mut tokens = Lexer::new(text).skip(1).peekable();
    tokens.next_if(|token| token.is("INTO"));
    tokens.next_if(|token| token.is("TABLE"));
    tokens.next_if(|token| token.is("FUNCTION"));
    // The name may be a keyword: INSERT INTO values VALUES (1).
    tokens.next()?;
    let mut header_end = None;
    while let Some(token) = tokens.next() {
        if token.depth > 0 {
            continue;
        }
        let selects = ["SELECT", "WITH", "FROM", "WATCH"];
        if selects.iter().any(|keyword| token.is(keyword)) {
            return None;
        }
        match token.kind {
            Kind::Open => {
                let selected = |next: &Token<'_>| next.is("SELECT") || next.is("WITH");
                if tokens.peek().is_some_and(selected) {
                    return None;
                }
            }
            Kind::Other if token.text == b"." => {
                tokens.next();
            }
            Kind::Semicolon => {
                header_end = Some((token.start, token.end()));
                break;
            }
            _ if token.is("VALUES") => {
                return Some(Insert {
                    header: text[..token.start].to_vec(),
                    format: Some("Values".to_owned()),
                    data: token.end(),
                });
            }
            _ if token.is("FORMAT") => {
                let name = tokens.next()?;
                return Some(with_format(text, &token, &name));
            }
            _ => {}
        }
    }
    let (end, data) = header_end.unwrap_or((text.len(), text.len()));
    Some(Insert {
        header: text[..end].to_vec(),
        format: None,
        data,
    })
}

/// `… FORMAT name [SETTINGS …]`, then rows.
fn with_format(text: &[u8], keyword: &Token<'_>, name: &Token<'_>) -> Insert {
    let mut header = text[..keyword.start].to_vec();
    let mut end = name.end();
    let mut behind = Lexer::new(&text[end..]);
    if behind.next().is_some_and(|token| token.is("SETTINGS"))
        && let Some((from, to)) = settings_clause(&text[end..])
    {
        header.extend_from_slice(&text[end + from..end + to]);
        end += to;
    }
    Insert {
        header,
        format: Some(String::from_utf8_lossy(&unquote(name)).into_owned()),
        data: rows_begin(text, end),
    }
}

/// Where a SETTINGS clause at the beginning of the text stands: `SETTINGS a = 1, b = 'x'`.
fn settings_clause(text: &[u8]) -> Option<(usize, usize)> {
    let mut tokens = Lexer::new(text).peekable();
    let from = tokens.next()?.start;
    loop {
        let name = tokens.next()?;
        let equals = tokens.next()?;
        if name.kind != Kind::Word || equals.text != b"=" {
            return None;
        }
        let mut value = tokens.next()?;
        while matches!(value.text, b"-" | b"+") {
            value = tokens.next()?;
        }
        let mut to = value.end();
        // 1.5 is three tokens.
        while let Some(dot) = tokens.next_if(|token| token.text == b"." && token.start == to) {
            to = dot.end();
            if let Some(digits) = tokens.next_if(|token| token.start == to) {
                to = digits.end();
            }
        }
        if tokens.next_if(|token| token.kind == Kind::Comma).is_none() {
            return Some((from, to));
        }
    }
}

/// Rows begin behind the first line feed, if only blanks come before it, or else behind the blanks.
fn rows_begin(text: &[u8], format_end: usize) -> usize {
    let mut at = format_end;
    while text
        .get(at)
        .is_some_and(|b| matches!(b, b' ' | b'\t' | 0x0c))
    {
        at += 1;
    }
    if text.get(at) == Some(&b';') {
        at += 1;
        while text
            .get(at)
            .is_some_and(|b| matches!(b, b' ' | b'\t' | 0x0c))
        {
            at += 1;
        }
    }
    if text.get(at) == Some(&b'\r') {
        at += 1;
    }
    if text.get(at) == Some(&b'\n') {
        at += 1;
    }
    at
}

fn insert_from_input(text: &[u8]) -> Option<InputSelect> {
    let mut window: Vec<Token<'_>> = Vec::new();
    let mut input = None;
    let mut tokens = Lexer::new(text).peekable();
    while let Some(token) = tokens.next() {
        if token.kind == Kind::Semicolon {
            return None;
        }
        if input.is_some() && token.depth == 0 && token.is("FORMAT") {
            let (start, end, structure): (usize, usize, String) = input?;
            let name = tokens.next()?;
            return Some(InputSelect {
                before: text[..start].to_vec(),
                structure,
                after: text[end..token.start].to_vec(),
                format: String::from_utf8_lossy(&unquote(&name)).into_owned(),
                data: rows_begin(text, name.end()),
            });
        }
        window.push(token);
        if let [.., call, open, structure, close] = window.as_slice()
            && input.is_none()
            && call.is("input")
            && open.text == b"("
            && structure.kind == Kind::Text
            && close.text == b")"
        {
            let structure = String::from_utf8_lossy(&unquote(structure)).into_owned();
            input = Some((call.start, close.end(), structure));
        }
        if window.len() > 8 {
            window.drain(..4);
        }
    }
    None
}

/// Whether anything but comments and semicolons follows the first semicolon outside of quotes.
pub fn goes_on_behind_semicolon(text: &[u8]) -> bool {
    Lexer::new(text)
        .skip_while(|token| token.kind != Kind::Semicolon)
        .any(|token| token.kind != Kind::Semicolon)
}

fn query(text: &[u8]) -> Query {
    let tokens: Vec<Token<'_>> = Lexer::new(text).collect();
    let closes = |token: &Token<'_>| token.kind == Kind::Semicolon;
    let count = tokens.iter().position(closes).unwrap_or(tokens.len());
    let (statement, behind) = tokens.split_at(count);

    let (mut calls, mut names) = (BTreeSet::new(), BTreeSet::new());
    for (at, token) in statement.iter().enumerate() {
        if !matches!(token.kind, Kind::Word | Kind::QuotedName) {
            continue;
        }
        let name = String::from_utf8_lossy(&unquote(token)).to_lowercase();
        if statement.get(at + 1).is_some_and(|next| next.text == b"(") {
            calls.insert(name.clone());
        }
        names.insert(name);
    }
    let (format, format_clause) = format_clause(statement).unzip();
    let outfile = |pair: &[Token<'_>]| pair[0].is("INTO") && pair[1].is("OUTFILE");
    Query {
        end: behind.first().map_or(text.len(), |token| token.start),
        several: behind.iter().any(|token| !closes(token)),
        format,
        format_clause,
        verb: statement
            .first()
            .map_or_else(String::new, |token| match token.kind {
                Kind::Word => String::from_utf8_lossy(token.text).to_uppercase(),
                _ => String::new(),
            }),
        into_outfile: statement.windows(2).any(outfile),
        calls: calls.into_iter().collect(),
        names: names.into_iter().collect(),
    }
}

/// FORMAT counts where the statement or its last SETTINGS follows: `SELECT format FROM t` has none.
fn format_clause(statement: &[Token<'_>]) -> Option<(String, (usize, usize))> {
    let at = statement
        .iter()
        .rposition(|token| token.depth == 0 && token.is("FORMAT"))?;
    let name = statement.get(at + 1)?;
    let named = at > 0 && matches!(name.kind, Kind::Word | Kind::QuotedName);
    let last = statement
        .get(at + 2)
        .is_none_or(|token| token.is("SETTINGS") || token.is("INTO"));
    (named && last).then(|| {
        let text = String::from_utf8_lossy(&unquote(name)).into_owned();
        (text, (statement[at].start, name.end()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> (String, Option<String>, String) {
        match parse(text.as_bytes()) {
            Statement::Insert(insert) => (
                String::from_utf8(insert.header).unwrap().trim().to_owned(),
                insert.format,
                text[insert.data..].to_owned(),
            ),
            other => panic!("{text}: {other:?}"),
        }
    }

    fn plain(text: &str) -> Query {
        match parse(text.as_bytes()) {
            Statement::Query(query) => query,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn rows_are_told_from_the_insert() {
        let cases = [
            (
                "INSERT INTO t VALUES (1), (2)",
                "INSERT INTO t",
                Some("Values"),
                " (1), (2)",
            ),
            (
                "insert into db.t (a, b) format CSV\n1,2\n\n3,4;\n",
                "insert into db.t (a, b)",
                Some("CSV"),
                "1,2\n\n3,4;\n",
            ),
            (
                "INSERT INTO t FORMAT RowBinary \x01\x02",
                "INSERT INTO t",
                Some("RowBinary"),
                "\x01\x02",
            ),
            (
                "INSERT INTO t(`values`, \"format\") FORMAT TSV\r\nx",
                "INSERT INTO t(`values`, \"format\")",
                Some("TSV"),
                "x",
            ),
            (
                "INSERT INTO values VALUES (1)",
                "INSERT INTO values",
                Some("Values"),
                " (1)",
            ),
            (
                "INSERT INTO db.values FORMAT TSV\n1",
                "INSERT INTO db.values",
                Some("TSV"),
                "1",
            ),
            (
                "/* VALUES */ INSERT INTO t -- FORMAT\n FORMAT TSV\n;",
                "/* VALUES */ INSERT INTO t -- FORMAT",
                Some("TSV"),
                ";",
            ),
            (
                "INSERT INTO t SETTINGS a = 1, b = 'VALUES' VALUES (1)",
                "INSERT INTO t SETTINGS a = 1, b = 'VALUES'",
                Some("Values"),
                " (1)",
            ),
            (
                "INSERT INTO t FORMAT CSV SETTINGS a = -1.5, b='x'\n7",
                "INSERT INTO t SETTINGS a = -1.5, b='x'",
                Some("CSV"),
                "7",
            ),
            ("INSERT INTO t", "INSERT INTO t", None, ""),
            ("INSERT INTO t;", "INSERT INTO t", None, ""),
            (
                "INSERT INTO FUNCTION null('a Int') FORMAT TSV\n1",
                "INSERT INTO FUNCTION null('a Int')",
                Some("TSV"),
                "1",
            ),
            (
                "INSERT INTO t FORMAT TSV\n1\n; DROP TABLE t",
                "INSERT INTO t",
                Some("TSV"),
                "1\n; DROP TABLE t",
            ),
        ];
        for (text, header, format, data) in cases {
            let got = rows(text);
            assert_eq!(
                (got.0.as_str(), got.1.as_deref(), got.2.as_str()),
                (header, format, data),
                "{text}"
            );
        }
    }

    #[test]
    fn inserts_that_select_are_queries() {
        for text in [
            "INSERT INTO t SELECT 1",
            "INSERT INTO t (a) (SELECT 1)",
            "INSERT INTO t WITH 1 AS x SELECT x",
            "INSERT INTO t (a) SETTINGS b = 1 SELECT 1",
        ] {
            assert_eq!(plain(text).verb, "INSERT", "{text}");
        }
    }

    #[test]
    fn rows_of_input_are_found() {
        let text = "INSERT INTO t (a) SELECT a FROM input('a Int32, b Array(String)') \
                    WHERE NOT throwIf(now() > 5) SETTINGS insert_deduplication_token = 'x' \
                    FORMAT RowBinary\n\x01";
        let Statement::InsertFromInput(insert) = parse(text.as_bytes()) else {
            panic!("not an insert from input");
        };
        assert_eq!(insert.structure, "a Int32, b Array(String)");
        assert_eq!(insert.before, b"INSERT INTO t (a) SELECT a FROM ");
        assert!(insert.after.starts_with(b" WHERE NOT") && insert.after.ends_with(b"'x' "));
        assert_eq!(
            (insert.format.as_str(), &text[insert.data..]),
            ("RowBinary", "\x01")
        );
    }

    #[test]
    fn one_statement_is_told_from_several() {
        assert!(plain("SELECT 1; SELECT 2").several);
        assert!(plain("SELECT 1; garbage").several);
        for text in [
            "SELECT 1",
            "SELECT 1;",
            "SELECT 1 ; -- done\n;",
            "SELECT ';'",
        ] {
            assert!(!plain(text).several, "{text}");
        }
        let text = "SELECT 1 ; ";
        assert_eq!(&text[..plain(text).end], "SELECT 1 ");
        assert_eq!(parse(b" -- nothing\n"), Statement::Empty);
    }

    #[test]
    fn the_format_of_an_answer_is_seen() {
        let format = |text: &str| plain(text).format;
        assert_eq!(format("SELECT 1 FORMAT JSON").as_deref(), Some("JSON"));
        assert_eq!(
            format("SELECT 1 format CSV settings a=1;").as_deref(),
            Some("CSV")
        );
        assert_eq!(format("SELECT format FROM t"), None);
        assert_eq!(format("SELECT * FROM (SELECT 1 FORMAT JSON)"), None);
        assert_eq!(format("SELECT 'FORMAT JSON'"), None);
    }

    #[test]
    fn calls_are_seen_however_they_are_written() {
        for text in [
            "SELECT * FROM file('x')",
            "SELECT FILE ('x')",
            "SELECT `file`/* c */('x')",
            "SELECT \"file\" -- c\n ('x')",
            "SELECT \u{201c}file\u{201d}('x')",
        ] {
            assert_eq!(plain(text).calls, ["file"], "{text}");
        }
        assert!(plain("SELECT 'file(1)' -- file(1)").calls.is_empty());
        let query = plain("SELECT arrayMap(`File`, x)");
        assert_eq!(query.calls, ["arraymap"]);
        assert_eq!(query.names, ["arraymap", "file", "select", "x"]);
        assert!(plain("SELECT 1 INTO /* */ OUTFILE 'x'").into_outfile);
    }
}
