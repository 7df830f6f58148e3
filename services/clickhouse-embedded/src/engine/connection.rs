//! A connection: settings and temporary tables of its own, for one request or for a session.

use std::ffi::{CString, c_char, c_int};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Engine;
use super::ffi::{self, Api, RawAnalysis};
use super::insert::InsertStream;
use super::result::Answer;
use super::stream::ResultStream;
use crate::exception::{Exception, code};

/// What a statement does, by the engine's own parser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// SELECT, SHOW, DESCRIBE, EXPLAIN, EXISTS, CHECK.
    ReadOnly,
    /// Changes a database.
    Mutating,
    /// Changes something beside the databases.
    MutatingGlobal,
    /// Acts on the session or the server.
    Control,
    /// Does not parse, or is of no known class.
    Unknown,
}

/// What the engine's parser says of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Analysis {
    /// How many statements would run; 0 if the text does not parse.
    pub statements: u32,
    /// What they do.
    pub class: Class,
}

/// A typed parameter: name, and value as text.
pub type Parameter = (String, String);

/// A connection for one request or a session, closed on drop.
#[derive(Debug)]
pub struct Connection {
    engine: Arc<Engine>,
    raw: ffi::RawConnection,
}

// SAFETY: a connection belongs to no thread. It is not `Sync`: one thread uses it at a time.
unsafe impl Send for Connection {}

/// Opens a connection; None if the engine refuses.
pub(super) fn connect(api: &Api, arguments: &[CString]) -> Option<ffi::RawConnection> {
    let mut pointers: Vec<*mut c_char> = arguments
        .iter()
        .map(|argument| argument.as_ptr().cast_mut())
        .collect();
    let count = c_int::try_from(pointers.len()).ok()?;
    // SAFETY: `count` valid C strings, which the engine copies and does not write to.
    let raw = unsafe { (api.connect)(count, pointers.as_mut_ptr()) };
    (!raw.is_null()).then_some(raw)
}

impl Connection {
    pub(super) fn open(engine: &Arc<Engine>, query_id: &str) -> Result<Self, Exception> {
        // Holding the lock keeps the engine from closing between the check and the count.
        let base = engine.lock_base();
        if base.is_none() {
            return Err(Exception::new(
                code::ABORTED,
                "ABORTED",
                "the server shuts down",
            ));
        }
        engine.open.fetch_add(1, Ordering::AcqRel);
        drop(base);
        let mut arguments = engine.arguments.clone();
        if let Ok(comment) = CString::new(format!("--log_comment={query_id}")) {
            arguments.push(comment);
        }
        match connect(engine.api, &arguments) {
            Some(raw) => Ok(Self {
                engine: Arc::clone(engine),
                raw,
            }),
            None => {
                engine.open.fetch_sub(1, Ordering::AcqRel);
                Err(Exception::new(
                    code::LOGICAL_ERROR,
                    "LOGICAL_ERROR",
                    "the engine gives no connection",
                ))
            }
        }
    }

    fn handle(&self) -> ffi::RawHandle {
        // SAFETY: `raw` is the address of the handle, valid until `chdb_close_conn`.
        unsafe { *self.raw.cast::<ffi::RawHandle>() }
    }

    /// What the engine's parser says of a text. Nothing runs.
    pub fn classify(&self, sql: &[u8]) -> Analysis {
        let mut analysis = RawAnalysis {
            struct_size: size_of::<RawAnalysis>() as u32,
            query_class: u32::MAX,
            ..RawAnalysis::default()
        };
        // SAFETY: the text's address and length; no target database; a struct of the size it says.
        unsafe {
            (self.engine.api.classify)(
                self.handle(),
                sql.as_ptr().cast(),
                sql.len(),
                std::ptr::null(),
                0,
                &raw mut analysis,
            )
        };
        Analysis {
            statements: analysis.statement_count,
            class: match analysis.query_class {
                0 => Class::ReadOnly,
                1 => Class::Mutating,
                2 => Class::MutatingGlobal,
                3 => Class::Control,
                _ => Class::Unknown,
            },
        }
    }

    /// Why a text is not one statement, in the engine's words; None if it is one. Nothing runs.
    pub fn syntax_error(&self, sql: &[u8]) -> Option<Exception> {
        // The insert stream parses before all else and takes one statement only. What is an INSERT
        // of rows is opened by this, and dropped without rows.
        let stream = InsertStream::open(self.engine.api, self.handle(), sql, "", &[]);
        stream
            .err()
            .filter(|exception| exception.code() == code::SYNTAX_ERROR)
    }

    /// Runs one statement and keeps its whole result in memory.
    ///
    /// The text must have been seen to be one statement: the engine would run several.
    ///
    /// # Errors
    /// What the engine says.
    pub fn query(
        &self,
        sql: &[u8],
        format: &str,
        parameters: &[Parameter],
    ) -> Result<Answer, Exception> {
        let parameters = Parameters::new(parameters);
        let api = self.engine.api;
        // SAFETY: addresses and lengths of texts that outlive the call.
        let raw = unsafe { parameters.call(api.query, self.handle(), sql, format) };
        Answer::take(api, raw)
    }

    /// Starts a SELECT whose result comes in pieces.
    ///
    /// # Errors
    /// What the engine says.
    pub fn stream(
        &self,
        sql: &[u8],
        format: &str,
        parameters: &[Parameter],
    ) -> Result<ResultStream<'_>, Exception> {
        ResultStream::open(self.engine.api, self.handle(), sql, format, parameters)
    }

    /// Starts an INSERT of rows. `sql` has neither FORMAT nor rows.
    ///
    /// # Errors
    /// What the engine says: an unknown table, column or format.
    pub fn insert(
        &self,
        sql: &[u8],
        format: &str,
        parameters: &[Parameter],
    ) -> Result<InsertStream<'_>, Exception> {
        InsertStream::open(self.engine.api, self.handle(), sql, format, parameters)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: opened by `chdb_connect`, closed once. Streams borrow the connection, so none is
        // left; answers do not depend on it.
        unsafe { (self.engine.api.close_conn)(self.raw) };
        self.engine.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Parameters as libchdb takes them: arrays of addresses and lengths.
pub(super) struct Parameters {
    names: Vec<*const c_char>,
    name_lengths: Vec<usize>,
    values: Vec<*const c_char>,
    value_lengths: Vec<usize>,
}

impl Parameters {
    pub fn new(parameters: &[Parameter]) -> Self {
        Self {
            names: parameters.iter().map(|(n, _)| n.as_ptr().cast()).collect(),
            name_lengths: parameters.iter().map(|(n, _)| n.len()).collect(),
            values: parameters.iter().map(|(_, v)| v.as_ptr().cast()).collect(),
            value_lengths: parameters.iter().map(|(_, v)| v.len()).collect(),
        }
    }

    /// Calls one of the functions that take SQL, a format and parameters.
    ///
    /// # Safety
    /// The handle is open, and the parameters given to [`new`](Self::new) still exist.
    pub unsafe fn call(
        &self,
        function: unsafe extern "C" fn(
            ffi::RawHandle,
            *const c_char,
            usize,
            *const c_char,
            usize,
            *const *const c_char,
            *const usize,
            *const *const c_char,
            *const usize,
            usize,
        ) -> *mut std::ffi::c_void,
        handle: ffi::RawHandle,
        sql: &[u8],
        format: &str,
    ) -> *mut std::ffi::c_void {
        // SAFETY: every address comes with its length; the engine copies what it keeps.
        unsafe {
            function(
                handle,
                sql.as_ptr().cast(),
                sql.len(),
                format.as_ptr().cast(),
                format.len(),
                self.names.as_ptr(),
                self.name_lengths.as_ptr(),
                self.values.as_ptr(),
                self.value_lengths.as_ptr(),
                self.names.len(),
            )
        }
    }
}
