//! An INSERT whose rows come in pieces and are committed at the end, or not at all.

use std::ffi::CStr;
use std::marker::PhantomData;

use super::connection::{Connection, Parameter, Parameters};
use super::ffi::{self, Api};
use super::result::{Answer, Stats};
use crate::exception::{Exception, code};

/// An INSERT that waits for its rows. Dropped without [`commit`](Self::commit) it inserts nothing,
/// except blocks that were full before (the setting `max_insert_block_size`).
#[derive(Debug)]
pub struct InsertStream<'c> {
    api: &'static Api,
    raw: ffi::RawInsert,
    _connection: PhantomData<&'c Connection>,
}

impl InsertStream<'_> {
    pub(super) fn open(
        api: &'static Api,
        handle: ffi::RawHandle,
        sql: &[u8],
        format: &str,
        parameters: &[Parameter],
    ) -> Result<Self, Exception> {
        let parameters = Parameters::new(parameters);
        // SAFETY: addresses and lengths of texts that outlive the call.
        let raw = unsafe { parameters.call(api.stream_insert, handle, sql, format) };
        let stream = Self {
            api,
            raw,
            _connection: PhantomData,
        };
        match stream.error() {
            Some(exception) => Err(exception),
            None => Ok(stream),
        }
    }

    fn error(&self) -> Option<Exception> {
        // SAFETY: a stream that is not freed; the message is copied at once.
        unsafe {
            let text = (self.api.insert_error)(self.raw);
            (!text.is_null())
                .then(|| Exception::from_engine(&CStr::from_ptr(text).to_string_lossy()))
        }
    }

    /// Gives rows, cut anywhere. Waits where the engine is slower.
    ///
    /// # Errors
    /// What the engine says of the rows before.
    pub fn append(&mut self, rows: &[u8]) -> Result<(), Exception> {
        if rows.is_empty() {
            return Ok(());
        }
        // SAFETY: an open stream, and bytes with their length, which the engine copies.
        let state = unsafe { (self.api.insert_append)(self.raw, rows.as_ptr().cast(), rows.len()) };
        if state == 0 {
            return Ok(());
        }
        // The reason is known once the worker has stopped, which `commit` waits for.
        Err(match self.finish() {
            Err(exception) => exception,
            Ok(_) => Exception::new(
                code::UNKNOWN_EXCEPTION,
                "UNKNOWN_EXCEPTION",
                "the engine takes no more rows",
            ),
        })
    }

    /// Commits the rows.
    ///
    /// # Errors
    /// What the engine says of the rows.
    pub fn commit(mut self) -> Result<Stats, Exception> {
        self.finish()
    }

    fn finish(&mut self) -> Result<Stats, Exception> {
        // SAFETY: an open stream; its handle is freed on drop only.
        let raw = unsafe { (self.api.insert_done)(self.raw) };
        Ok(Answer::take(self.api, raw)?.stats())
    }
}

impl Drop for InsertStream<'_> {
    fn drop(&mut self) {
        // SAFETY: freed once; this cancels what was not committed.
        unsafe { (self.api.destroy_insert)(self.raw) };
    }
}
