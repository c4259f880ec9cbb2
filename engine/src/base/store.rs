//! The narrow ordered key-value store that the base stands on: get, put, delete, scan, with one writer and
//! immutable readers. `redb` and `memory` implement it and pass the same tests.
use std::ops::Bound;
use value::Result;
use crate::sync::Arc;

/// The key spaces of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table { Meta, Catalog, Storages, Sequences, Statistics, Rows, Delta, Blobs, Index }

pub trait Store: Send + Sync {
    fn read(&self) -> Result<Box<dyn Reader>>;
}
pub trait Reader: Send + Sync {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Arc<[u8]>>>;
}
pub mod key {}
