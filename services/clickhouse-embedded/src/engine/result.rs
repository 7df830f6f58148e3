//! What the engine answers: bytes in a format, and counts.

use std::ffi::CStr;

use super::ffi::{self, Api};
use crate::exception::{Exception, code};

/// Rows and bytes, as `X-ClickHouse-Summary` has them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Rows read from tables.
    pub read_rows: u64,
    /// Bytes read from tables.
    pub read_bytes: u64,
    /// Rows inserted, of materialized views too; rows that deduplication dropped count as well.
    pub written_rows: u64,
    /// Bytes inserted.
    pub written_bytes: u64,
    /// Rows of the result.
    pub result_rows: u64,
    /// Bytes of the result, before compression.
    pub result_bytes: u64,
}

impl std::ops::AddAssign for Stats {
    fn add_assign(&mut self, other: Self) {
        self.read_rows += other.read_rows;
        self.read_bytes += other.read_bytes;
        self.written_rows += other.written_rows;
        self.written_bytes += other.written_bytes;
        self.result_rows += other.result_rows;
        self.result_bytes += other.result_bytes;
    }
}

/// A result without error, or a piece of one. Its bytes are the engine's own, freed on drop.
#[derive(Debug)]
pub struct Answer {
    api: &'static Api,
    raw: ffi::RawResult,
}

// SAFETY: a result is a buffer and some numbers. It belongs to no thread and no connection.
unsafe impl Send for Answer {}

impl Answer {
    /// Takes a result over, or its error.
    pub(super) fn take(api: &'static Api, raw: ffi::RawResult) -> Result<Self, Exception> {
        if raw.is_null() {
            return Err(Exception::new(
                code::LOGICAL_ERROR,
                "LOGICAL_ERROR",
                "the engine gave no result",
            ));
        }
        let answer = Self { api, raw };
        // SAFETY: a result that is not freed; the message lives as long as it.
        let error = unsafe { (api.result_error)(raw) };
        if error.is_null() {
            Ok(answer)
        } else {
            // SAFETY: a C string of the engine's, copied here.
            let text = unsafe { CStr::from_ptr(error) }.to_string_lossy();
            Err(Exception::from_engine(&text))
        }
    }

    /// The address of the result, for calls that continue it.
    pub(super) fn raw(&self) -> ffi::RawResult {
        self.raw
    }

    /// Counts.
    pub fn stats(&self) -> Stats {
        let (api, raw) = (self.api, self.raw);
        // SAFETY: a result that is not freed.
        unsafe {
            Stats {
                read_rows: (api.storage_rows_read)(raw),
                read_bytes: (api.storage_bytes_read)(raw),
                written_rows: (api.rows_written)(raw),
                written_bytes: (api.bytes_written)(raw),
                result_rows: (api.result_rows)(raw),
                result_bytes: (api.result_length)(raw) as u64,
            }
        }
    }
}

impl AsRef<[u8]> for Answer {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: a result that is not freed; its buffer does not change and lives as long.
        unsafe {
            let buffer = (self.api.result_buffer)(self.raw);
            if buffer.is_null() {
                &[]
            } else {
                std::slice::from_raw_parts(buffer, (self.api.result_length)(self.raw))
            }
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // SAFETY: freed once.
        unsafe { (self.api.destroy_result)(self.raw) };
    }
}
