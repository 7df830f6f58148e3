//! The functions of libchdb that this server calls, found by name when the library is loaded.

use std::ffi::{OsStr, c_char, c_int, c_void};

use libloading::Library;

/// What `chdb_connect` gives: the address of a connection handle.
pub(super) type RawConnection = *mut c_void;
/// A connection handle, which every statement takes.
pub(super) type RawHandle = *mut c_void;
/// A result, of a query or of one fetch.
pub(super) type RawResult = *mut c_void;
/// An insert stream.
pub(super) type RawInsert = *mut c_void;

/// What `chdb_classify_query_n` fills.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct RawAnalysis {
    pub struct_size: u32,
    pub statement_count: u32,
    pub flags: u32,
    pub query_class: u32,
}

type WithParams = unsafe extern "C" fn(
    RawHandle,
    *const c_char,
    usize,
    *const c_char,
    usize,
    *const *const c_char,
    *const usize,
    *const *const c_char,
    *const usize,
    usize,
) -> *mut c_void;

macro_rules! api {
    ($($(#[$doc:meta])* $name:ident = $symbol:literal : $signature:ty;)*) => {
        /// Addresses of the functions. The library stays loaded until the process ends.
        pub(super) struct Api {
            $($(#[$doc])* pub $name: $signature,)*
        }

        impl Api {
            /// Loads the library and finds every function.
            ///
            /// # Errors
            /// The library cannot be loaded, or lacks a function: the name tells which.
            pub fn load(path: &OsStr) -> Result<Self, libloading::Error> {
                // SAFETY: loading runs the library's initialisers. libchdb's own are meant to run
                // so; that the file is libchdb is for who sets the path to see to.
                let library = unsafe { Library::new(path) }?;
                let api = Self {
                    // SAFETY: each signature is the one that chdb.h of this version declares.
                    $($name: *unsafe { library.get::<$signature>(concat!($symbol, "\0").as_bytes()) }?,)*
                };
                // The engine's threads outlive any scope of ours.
                std::mem::forget(library);
                Ok(api)
            }
        }
    };
}

api! {
    set_signal_handlers_enabled = "chdb_set_signal_handlers_enabled": unsafe extern "C" fn(c_int);
    connect = "chdb_connect": unsafe extern "C" fn(c_int, *mut *mut c_char) -> RawConnection;
    close_conn = "chdb_close_conn": unsafe extern "C" fn(RawConnection);
    query = "chdb_query_with_params_n": WithParams;
    stream_query = "chdb_stream_query_with_params_n": WithParams;
    stream_fetch = "chdb_stream_fetch_result": unsafe extern "C" fn(RawHandle, RawResult) -> RawResult;
    stream_cancel = "chdb_stream_cancel_query": unsafe extern "C" fn(RawHandle, RawResult);
    destroy_result = "chdb_destroy_query_result": unsafe extern "C" fn(RawResult);
    stream_insert = "chdb_stream_insert_with_params_n": WithParams;
    insert_append = "chdb_stream_append": unsafe extern "C" fn(RawInsert, *const c_void, usize) -> c_int;
    insert_done = "chdb_stream_done": unsafe extern "C" fn(RawInsert) -> RawResult;
    insert_error = "chdb_stream_insert_error": unsafe extern "C" fn(RawInsert) -> *const c_char;
    destroy_insert = "chdb_destroy_insert_stream": unsafe extern "C" fn(RawInsert);
    result_buffer = "chdb_result_buffer": unsafe extern "C" fn(RawResult) -> *const u8;
    result_length = "chdb_result_length": unsafe extern "C" fn(RawResult) -> usize;
    result_error = "chdb_result_error": unsafe extern "C" fn(RawResult) -> *const c_char;
    result_rows = "chdb_result_rows_read": unsafe extern "C" fn(RawResult) -> u64;
    storage_rows_read = "chdb_result_storage_rows_read": unsafe extern "C" fn(RawResult) -> u64;
    storage_bytes_read = "chdb_result_storage_bytes_read": unsafe extern "C" fn(RawResult) -> u64;
    rows_written = "chdb_result_rows_written": unsafe extern "C" fn(RawResult) -> u64;
    bytes_written = "chdb_result_bytes_written": unsafe extern "C" fn(RawResult) -> u64;
    classify = "chdb_classify_query_n": unsafe extern "C" fn(
        RawHandle, *const c_char, usize, *const c_char, usize, *mut RawAnalysis,
    ) -> c_int;
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Api")
    }
}
