//! The real binary over the real engine, asked from outside. One file per behaviour.
#![allow(clippy::unwrap_used)]

mod access;
mod bad_input;
mod clients;
mod common;
mod compression;
mod control;
mod formats;
mod fuzz;
mod inserts;
mod life;
mod limits;
mod queries;
mod seed_questions;
mod sessions;
