//! pending
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use value::{Datum, Error, Oid, Result};
use crate::catalog::{Catalog, Change, Index, Sequence, Table};
use crate::ids::{Isolation, Lsn, RowId};
use crate::lock::{AdvisoryKey, RowLockMode, TableLockMode, Wait};
use crate::row::Row;
use crate::snapshot::Snapshot;
use crate::sync::Arc;
fn pending<T>() -> Result<T> { Err(Error::internal("pending")) }
/// What became of a row lock.
#[derive(Clone, Debug)]
pub enum RowLock {
    /// Held; the row is as the snapshot saw it.
    Granted,
    /// Held, but a newer version was committed since the snapshot: the caller checks its condition again.
    Moved(Row),
    /// Deleted since the snapshot: there is nothing to lock.
    Deleted,
    /// Somebody else holds it ([`Wait::Skip`]).
    Skipped,
    /// This very command (or a later one) of the own transaction has changed it already: UPDATE and DELETE pass over it,
    /// ON CONFLICT DO UPDATE raises 21000.
    AlreadyChanged,
}
/// What an insert with conflict detection did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted { Row(RowId), Conflict { index: Oid, row: RowId } }
/// How long an advisory lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdvisoryScope { Session, Transaction }
/// A point to roll back to: the n-th open savepoint of the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Savepoint(pub usize);
/// A commit that was accepted; `durable` resolves when its answer may leave.
#[must_use = "the answer may leave only when `durable` is ready"]
pub struct Commit { pub lsn: Option<Lsn>, pub durable: DurableFuture }
pub struct DurableFuture { _private: () }
impl DurableFuture { pub fn wait(self) -> Result<()> { pending() } }
impl Future for DurableFuture { type Output = Result<()>; fn poll(self: Pin<&mut Self>, _c: &mut Context<'_>) -> Poll<Result<()>> { Poll::Ready(Ok(())) } }
pub struct Transaction { pub(crate) isolation: Isolation, pub(crate) read_only: bool }
impl Transaction {
    pub fn id(&self) -> u64 { 0 }
    /// Whether anything was written (rows, catalog): what makes a transaction show an xid.
    pub fn has_writes(&self) -> bool { false }
    pub fn isolation(&self) -> Isolation { self.isolation }
    pub fn read_only(&self) -> bool { self.read_only }
    pub fn set_isolation(&mut self, isolation: Isolation) { self.isolation = isolation; }
    pub fn set_read_only(&mut self, read_only: bool) { self.read_only = read_only; }
    /// Whether a snapshot was taken yet: SET TRANSACTION ISOLATION LEVEL must come before.
    pub fn has_snapshot(&self) -> bool { false }
    pub fn catalog(&mut self) -> Arc<Catalog> { Arc::new(Catalog::default()) }
    /// Objects of temporary tables (and indexes on them) stay with the session; all others are published at commit.
    pub fn change_catalog(&mut self, _changes: Vec<Change>) -> Result<()> { pending() }
    pub fn has_catalog_changes(&self) -> bool { false }
    pub fn statement_snapshot(&mut self, _for_writing: bool) -> Result<Snapshot> { pending() }
    pub fn latest_snapshot(&mut self) -> Snapshot { Snapshot(Arc::new(())) }
    pub async fn lock_table(&mut self, _table: Oid, _mode: TableLockMode, _wait: Wait) -> Result<bool> { pending() }
    pub async fn lock_row(&mut self, _table: &Table, _row: RowId, _mode: RowLockMode, _wait: Wait, _snapshot: &Snapshot) -> Result<RowLock> { pending() }
    /// The lock without waiting; `None` = it would wait: call [`Transaction::lock_row`].
    pub fn lock_row_now(&mut self, _table: &Table, _row: RowId, _mode: RowLockMode, _snapshot: &Snapshot) -> Option<Result<RowLock>> { None }
    pub async fn lock_advisory(&mut self, _key: AdvisoryKey, _shared: bool, _scope: AdvisoryScope, _wait: Wait) -> Result<bool> { pending() }
    pub async fn insert(&mut self, _table: &Table, _row: &[Datum]) -> Result<RowId> { pending() }
    pub async fn insert_or_conflict(&mut self, _table: &Table, _row: &[Datum], _arbiters: &[Oid]) -> Result<Inserted> { pending() }
    pub async fn update(&mut self, _table: &Table, _row: RowId, _old: &Row, _new: &[Datum]) -> Result<()> { pending() }
    pub async fn delete(&mut self, _table: &Table, _row: RowId, _old: &Row) -> Result<()> { pending() }
    pub async fn build_index(&mut self, _index: &Index) -> Result<()> { pending() }
    pub fn sequence_next(&mut self, _sequence: &Sequence) -> Result<i64> { pending() }
    pub fn sequence_set(&mut self, _sequence: &Sequence, _value: i64, _is_called: bool) -> Result<()> { pending() }
    pub fn sequence_state(&self, sequence: &Sequence) -> (i64, bool) { (sequence.start, false) }
    pub fn savepoint(&mut self) -> Savepoint { Savepoint(0) }
    /// Undoes everything since the savepoint and releases the locks taken since; the savepoint itself stays open.
    pub fn rollback_to(&mut self, _savepoint: Savepoint) {}
    /// Forgets the savepoint (and later ones), keeping what was done.
    pub fn release(&mut self, _savepoint: Savepoint) {}
    pub fn commit(self) -> Result<Commit> { pending() }
    pub fn rollback(self) {}
}
