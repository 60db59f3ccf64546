//! How do columns become documents, and documents columns?
//!
//! A file of rows (Parquet, Arrow IPC, CSV, JSON Lines) is a [`Table`]: it yields documents and rejected rows, knows where to go
//! on, and never has more than a few mebibytes of rows in memory. Invariant: no byte of a file reaches a decoder of
//! Parquet or Arrow before what it claims was looked at.

#![allow(clippy::wildcard_enum_match_arm, reason = "Arrow has forty types, of which each place knows a few")]

pub mod batches;
mod build;
mod cell;
mod chunks;
mod delimited;
mod delta;
mod guard;
mod infer;
mod ipc;
mod map;
mod pages;
pub(crate) mod pass;
mod quotes;
mod rows;
mod tables;
mod text;
mod thrift;
mod write;

pub(crate) use self::chunks::Marker;
pub use self::chunks::config_in;
pub(crate) use self::delimited::{Delimited, DelimitedWriter, Shape};
pub(crate) use self::infer::Inference;
pub use self::map::ColumnMap;
pub use self::rows::BadRow;
pub use self::tables::{Position, Row, Table, TableOptions, Vectors};
pub(crate) use self::write::{Ids, Layout, TableFormat, TableWriter, VectorColumn};
