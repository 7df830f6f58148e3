//! A SELECT whose result comes in pieces, one block of the engine each.

use std::marker::PhantomData;

use super::connection::{Connection, Parameter, Parameters};
use super::ffi::{self, Api};
use super::result::Answer;
use crate::exception::Exception;

/// A running SELECT; cancelled if dropped before its end.
#[derive(Debug)]
pub struct ResultStream<'c> {
    api: &'static Api,
    handle: ffi::RawHandle,
    stream: Answer,
    ended: bool,
    _connection: PhantomData<&'c Connection>,
}

impl ResultStream<'_> {
    pub(super) fn open(
        api: &'static Api,
        handle: ffi::RawHandle,
        sql: &[u8],
        format: &str,
        parameters: &[Parameter],
    ) -> Result<Self, Exception> {
        let parameters = Parameters::new(parameters);
        // SAFETY: addresses and lengths of texts that outlive the call.
        let raw = unsafe { parameters.call(api.stream_query, handle, sql, format) };
        Ok(Self {
            api,
            handle,
            stream: Answer::take(api, raw)?,
            ended: false,
            _connection: PhantomData,
        })
    }

    /// The next piece; None at the end. Every piece is a whole document of the format, headers and
    /// all.
    ///
    /// # Errors
    /// What the engine says; nothing comes after.
    pub fn next_piece(&mut self) -> Result<Option<Answer>, Exception> {
        if self.ended {
            return Ok(None);
        }
        // SAFETY: an open handle and its stream, used by one thread at a time (`&mut self`).
        let raw = unsafe { (self.api.stream_fetch)(self.handle, self.stream.raw()) };
        let piece = Answer::take(self.api, raw);
        self.ended = !matches!(&piece, Ok(piece) if !piece.as_ref().is_empty());
        if self.ended {
            piece.map(|_| None)
        } else {
            piece.map(Some)
        }
    }
}

impl Drop for ResultStream<'_> {
    fn drop(&mut self) {
        if !self.ended {
            // SAFETY: an open handle and its stream, which is freed after this.
            unsafe { (self.api.stream_cancel)(self.handle, self.stream.raw()) };
        }
    }
}
