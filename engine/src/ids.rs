//! The numbers everything is named by.

use value::Oid;

/// A table's oid.
pub type TableId = Oid;

/// A row within a storage: stable for the row's life, counted up from 0 and never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowId(pub u64);

/// Rows per group: the unit in which overlays are asked for and scans proceed.
pub const GROUP_ROWS: u64 = 8192;

impl RowId {
    /// The row group it belongs to.
    pub fn group(self) -> u32 {
        (self.0 / GROUP_ROWS) as u32
    }

    /// Its place within the group.
    pub fn offset(self) -> u16 {
        (self.0 % GROUP_ROWS) as u16
    }

    /// The row at `offset` of `group`.
    pub fn at(group: u32, offset: u16) -> RowId {
        RowId(u64::from(group) * GROUP_ROWS + u64::from(offset))
    }
}

/// A place in the log, counted in records from 1; the commit timestamp of the record that stands there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

/// A command within a transaction: a statement sees what commands before it wrote, not its own writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u32);

/// READ UNCOMMITTED is mapped to READ COMMITTED by `sql`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    ReadCommitted,
    RepeatableRead,
    Serializable,
}
