//! ClickHouse's tokens, over bytes: what follows an INSERT need not be text.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A bare word: keyword, name, or the rest of a number.
    Word,
    /// `` `name` `` or `"name"`.
    QuotedName,
    /// `'text'`, `$$text$$`, or text in typographic quotes.
    Text,
    /// Opening bracket: `(`, `[`, `{`.
    Open,
    /// Closing bracket.
    Close,
    /// `;`
    Semicolon,
    /// `,`
    Comma,
    /// Anything else, one byte.
    Other,
    /// A quote or comment that nothing closes; it reaches to the end.
    Unclosed,
}

/// A piece of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    /// What it is.
    pub kind: Kind,
    /// Its bytes.
    pub text: &'a [u8],
    /// Where it begins.
    pub start: usize,
    /// How many brackets are open before it.
    pub depth: usize,
}

impl Token<'_> {
    /// Where it ends.
    pub fn end(&self) -> usize {
        self.start + self.text.len()
    }

    /// Whether it is this keyword, bare, in any case.
    pub fn is(&self, keyword: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(keyword.as_bytes())
    }
}

/// Gives tokens one by one, without comments and white space.
#[derive(Debug, Clone)]
pub struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    depth: usize,
}

impl<'a> Lexer<'a> {
    /// Reads from the beginning.
    pub fn new(text: &'a [u8]) -> Self {
        Self {
            text,
            at: 0,
            depth: 0,
        }
    }

    /// Skips white space and comments; false if a comment is not closed.
    fn skip(&mut self) -> bool {
        loop {
            let rest = &self.text[self.at..];
            let line_comment = rest.starts_with(b"--")
                || rest.starts_with(b"//")
                || rest.starts_with(b"# ")
                || rest.starts_with(b"#!");
            if rest.first().is_some_and(|b| is_space(*b)) {
                self.at += 1;
            } else if rest.starts_with("\u{a0}".as_bytes()) {
                self.at += 2;
            } else if rest.starts_with("\u{feff}".as_bytes()) {
                self.at += 3;
            } else if line_comment {
                self.at += rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
            } else if rest.starts_with(b"/*") {
                // Comments nest.
                let (mut open, mut end) = (1_usize, 2);
                while open > 0 {
                    match rest.get(end..end + 2) {
                        Some(b"/*") => (open, end) = (open + 1, end + 2),
                        Some(b"*/") => (open, end) = (open - 1, end + 2),
                        Some(_) => end += 1,
                        None => return false,
                    }
                }
                self.at += end;
            } else {
                return true;
            }
        }
    }

    /// The length of a literal that begins here with `quote`: the quote doubled or after a
    /// backslash does not close it.
    fn quoted(rest: &[u8], quote: u8) -> Option<usize> {
        let mut at = 1;
        loop {
            match rest.get(at)? {
                b'\\' => at += 2,
                b if *b == quote => {
                    if rest.get(at + 1) == Some(&quote) {
                        at += 2;
                    } else {
                        return Some(at + 1);
                    }
                }
                _ => at += 1,
            }
        }
    }

    /// The length of `$tag$…$tag$`, if this is one.
    fn heredoc(rest: &[u8]) -> Option<usize> {
        let tag = 1 + rest[1..].iter().position(|b| *b == b'$')? + 1;
        if !rest[1..tag - 1].iter().all(|b| is_word(*b)) {
            return None;
        }
        let close = rest[tag..]
            .windows(tag)
            .position(|window| window == &rest[..tag])?;
        Some(tag + close + tag)
    }

    fn typographic(rest: &[u8]) -> Option<(Kind, Option<usize>)> {
        let pairs = [
            ("\u{2018}", "\u{2019}", Kind::Text),
            ("\u{201c}", "\u{201d}", Kind::QuotedName),
        ];
        let (_, close, kind) = pairs
            .into_iter()
            .find(|(open, _, _)| rest.starts_with(open.as_bytes()))?;
        let close = close.as_bytes();
        let length = rest
            .windows(close.len())
            .position(|window| window == close)
            .map(|at| at + close.len());
        Some((kind, length))
    }
}

impl<'a> Iterator for Lexer<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let closed = self.skip();
        let rest = &self.text[self.at..];
        let first = *rest.first()?;
        let unclosed = (Kind::Unclosed, rest.len());
        let (kind, length) = if !closed {
            unclosed
        } else if let Some((kind, length)) = Self::typographic(rest) {
            length.map_or(unclosed, |length| (kind, length))
        } else {
            match first {
                b'\'' => Self::quoted(rest, first).map_or(unclosed, |n| (Kind::Text, n)),
                b'`' | b'"' => {
                    Self::quoted(rest, first).map_or(unclosed, |n| (Kind::QuotedName, n))
                }
                b'$' => match Self::heredoc(rest) {
                    Some(length) => (Kind::Text, length),
                    None => (Kind::Word, word_length(rest).max(1)),
                },
                b'(' | b'[' | b'{' => (Kind::Open, 1),
                b')' | b']' | b'}' => (Kind::Close, 1),
                b';' => (Kind::Semicolon, 1),
                b',' => (Kind::Comma, 1),
                b if is_word(b) => (Kind::Word, word_length(rest)),
                _ => (Kind::Other, 1),
            }
        };
        let token = Token {
            kind,
            text: &rest[..length],
            start: self.at,
            depth: self.depth,
        };
        match kind {
            Kind::Open => self.depth += 1,
            Kind::Close => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        self.at += length;
        Some(token)
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn word_length(rest: &[u8]) -> usize {
    rest.iter()
        .position(|b| !(is_word(*b) || *b == b'$'))
        .unwrap_or(rest.len())
}

/// What a quoted name or text stands for. Escapes other than a quote or backslash are left as they
/// are, so that the result compares unequal to any plain name.
pub fn unquote(token: &Token<'_>) -> Vec<u8> {
    let text = token.text;
    match token.kind {
        Kind::QuotedName | Kind::Text if text.first().is_some_and(u8::is_ascii) => {
            let quote = text[0];
            if quote == b'$' {
                let tag = 2 + text[1..].iter().position(|b| *b == b'$').unwrap_or(0);
                return text[tag..text.len() - tag].to_vec();
            }
            let inner = &text[1..text.len() - 1];
            let mut plain = Vec::with_capacity(inner.len());
            let mut at = 0;
            while at < inner.len() {
                let next = inner.get(at + 1).copied();
                match (inner[at], next) {
                    (b'\\', Some(c)) if c == b'\\' || c == b'\'' || c == b'"' || c == b'`' => {
                        plain.push(c);
                        at += 2;
                    }
                    (c, Some(d)) if c == quote && d == quote => {
                        plain.push(c);
                        at += 2;
                    }
                    (c, _) => {
                        plain.push(c);
                        at += 1;
                    }
                }
            }
            plain
        }
        Kind::QuotedName | Kind::Text => text[3..text.len() - 3].to_vec(),
        _ => text.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<(Kind, &str)> {
        Lexer::new(text.as_bytes())
            .map(|token| (token.kind, std::str::from_utf8(token.text).unwrap()))
            .collect()
    }

    #[test]
    fn semicolons_in_quotes_and_comments_are_no_ends() {
        let text = "select 'a;\\';', \"b;\", `c;``;`, $$d;$$, $x$;$$;$x$, \u{2018}e;\u{2019} \
                    -- ;\n // ;\n # ;\n #! ;\n /* ; /* ; */ ; */ from t";
        assert!(
            !tokens(text)
                .iter()
                .any(|(kind, _)| *kind == Kind::Semicolon)
        );
        assert_eq!(tokens(text).last(), Some(&(Kind::Word, "t")));
        assert_eq!(tokens("a#b;").last(), Some(&(Kind::Semicolon, ";")));
    }

    #[test]
    fn what_is_not_closed_reaches_to_the_end() {
        for text in [
            "select 'a;",
            "select `a;",
            "select /* a; /* */ ;",
            "x \u{2018};",
        ] {
            assert_eq!(tokens(text).last().unwrap().0, Kind::Unclosed, "{text}");
        }
        // A dollar that opens nothing is part of a word.
        assert_eq!(tokens("$1 ;").last(), Some(&(Kind::Semicolon, ";")));
    }

    #[test]
    fn quotes_come_off() {
        let unquoted = |text: &str| {
            let token = Lexer::new(text.as_bytes()).next().unwrap();
            String::from_utf8(unquote(&token)).unwrap()
        };
        assert_eq!(unquoted("`file`"), "file");
        assert_eq!(unquoted("'it''s \\'so\\''"), "it's 'so'");
        assert_eq!(unquoted("$tag$x$tag$"), "x");
        assert_eq!(unquoted("\u{201c}file\u{201d}"), "file");
    }

    #[test]
    fn any_bytes_are_read_to_their_end() {
        for seed in 0_u32..2000 {
            let bytes: Vec<u8> = (0..40)
                .map(|at| {
                    let mixed = (seed * 41 + at).wrapping_mul(2_654_435_761) >> 15;
                    let alphabet = b"'\"`$/*-#;(){}a \\\n\xe2\x80\x98\x99\xff";
                    alphabet[mixed as usize % alphabet.len()]
                })
                .collect();
            let last = Lexer::new(&bytes).last();
            assert!(last.is_none_or(|token| token.end() <= bytes.len()));
            for token in Lexer::new(&bytes) {
                unquote(&token);
            }
        }
    }
}
