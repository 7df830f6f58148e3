//! Errors as ClickHouse words them: a code, a message, and the HTTP status that goes with the code.

use std::sync::OnceLock;

use thiserror::Error;

/// Codes that this server gives itself; the engine gives many more.
pub mod code {
    #![allow(missing_docs)]
    pub const CANNOT_READ_ALL_DATA: u32 = 33;
    pub const BAD_ARGUMENTS: u32 = 36;
    pub const TOO_LARGE_SIZE_COMPRESSED: u32 = 39;
    pub const CHECKSUM_DOESNT_MATCH: u32 = 40;
    pub const NOT_IMPLEMENTED: u32 = 48;
    pub const LOGICAL_ERROR: u32 = 49;
    pub const SYNTAX_ERROR: u32 = 62;
    pub const UNKNOWN_COMPRESSION_METHOD: u32 = 89;
    pub const READONLY: u32 = 164;
    pub const UNKNOWN_FORMAT: u32 = 73;
    pub const UNKNOWN_SETTING: u32 = 115;
    pub const REQUIRED_PASSWORD: u32 = 194;
    pub const TOO_MANY_SIMULTANEOUS_QUERIES: u32 = 202;
    pub const NETWORK_ERROR: u32 = 210;
    pub const EMPTY_QUERY: u32 = 211;
    pub const QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING: u32 = 216;
    pub const QUERY_IS_TOO_LARGE: u32 = 229;
    pub const ABORTED: u32 = 236;
    pub const MEMORY_LIMIT_EXCEEDED: u32 = 241;
    pub const CANNOT_DECOMPRESS: u32 = 271;
    pub const INTO_OUTFILE_NOT_ALLOWED: u32 = 358;
    pub const SESSION_NOT_FOUND: u32 = 372;
    pub const SESSION_IS_LOCKED: u32 = 373;
    pub const INVALID_SESSION_TIMEOUT: u32 = 374;
    pub const QUERY_WAS_CANCELLED: u32 = 394;
    pub const TOO_MANY_ROWS_OR_BYTES: u32 = 396;
    pub const BAD_REQUEST_PARAMETER: u32 = 408;
    pub const SETTING_CONSTRAINT_VIOLATION: u32 = 452;
    pub const AUTHENTICATION_FAILED: u32 = 516;
    pub const UNSUPPORTED_MEDIA_TYPE: u32 = 779;
    pub const UNKNOWN_EXCEPTION: u32 = 1002;
}

static VERSION: OnceLock<String> = OnceLock::new();

/// Tells the messages which engine speaks; the first call counts.
pub fn set_version(version: &str) {
    let _ = VERSION.set(version.to_owned());
}

/// An error of the engine or of this server, for a client.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
#[error("{text}")]
pub struct Exception {
    code: u32,
    text: String,
}

impl Exception {
    /// An error of this server. `name` is ClickHouse's name for the code.
    pub fn new(code: u32, name: &str, message: &str) -> Self {
        Self {
            code,
            text: with_version(&format!("Code: {code}. DB::Exception: {message} ({name})")),
        }
    }

    /// An error as the engine words it.
    pub fn from_engine(text: &str) -> Self {
        let code = text
            .strip_prefix("Code: ")
            .and_then(|rest| rest.split_once('.'))
            .and_then(|(code, _)| code.parse().ok());
        match code {
            Some(code) => Self {
                code,
                text: with_version(text),
            },
            None => Self::new(code::UNKNOWN_EXCEPTION, "UNKNOWN_EXCEPTION", text),
        }
    }

    /// ClickHouse's number for what went wrong.
    pub fn code(&self) -> u32 {
        self.code
    }

    /// The HTTP status that ClickHouse answers this code with.
    pub fn status(&self) -> u16 {
        match self.code {
            194 => 401,
            192 | 193 | 497 | 512 | 516 => 403,
            // Parsing, types and values.
            6 | 8 | 15 | 25 | 26 | 27 | 36 | 37 | 38 | 41 | 44 | 53 | 62 | 72 | 117 | 123 | 167
            | 168 | 223 | 321 | 376 | 427 | 441 | 675 | 676 => 400,
            // Unknown functions, identifiers, types, storages, tables, formats, databases, …
            46 | 47 | 50 | 56 | 60 | 63 | 73 | 78 | 81 | 115 | 152 | 336 | 511 => 404,
            159 => 408,
            381 => 411,
            229 => 413,
            779 => 415,
            48 => 501,
            76 | 209 | 439 => 503,
            _ => 500,
        }
    }
}

/// Every message ends alike, whichever part of the engine worded it: clients of older ClickHouse
/// find an exception in a broken-off result by its last three bytes, `))` and a line feed.
fn with_version(text: &str) -> String {
    let version = VERSION.get().map_or("unknown", String::as_str);
    let text = text.trim_end();
    let text = match text.rsplit_once(" (version ") {
        Some((text, rest)) if rest.ends_with(')') && !rest.contains(' ') => text,
        _ => text,
    };
    format!("{text} (version {version} (embedded build))")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engine_messages_keep_their_code_and_end_alike() {
        let texts = [
            "Code: 60. DB::Exception: Table x does not exist. (UNKNOWN_TABLE)",
            "Code: 60. DB::Exception: Table x does not exist. (UNKNOWN_TABLE) (version 26.7.2.1)",
        ];
        for text in texts {
            let exception = Exception::from_engine(text);
            assert_eq!((exception.code(), exception.status()), (60, 404));
            let text = exception.to_string();
            assert!(text.ends_with("(embedded build))"), "{text}");
            assert_eq!(text.matches("(version ").count(), 1, "{text}");
        }
        assert_eq!(Exception::from_engine("no code").code(), 1002);
    }
}
