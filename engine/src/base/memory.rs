//! A [`Store`] in memory, for what need not outlive the process, and as the model that redb is tested against.

use std::collections::BTreeMap;

use value::Result;

use super::store::{Range, Reader, Store, Table, Visit, Writer, is_empty};
use crate::sync::{Arc, Mutex};

type Entries = BTreeMap<Vec<u8>, Arc<[u8]>>;
type State = BTreeMap<Table, Entries>;

/// See the top of the file. Clones share the contents.
#[derive(Clone, Default)]
pub struct MemoryStore {
    state: Arc<Mutex<Arc<State>>>,
    writing: Arc<Mutex<()>>,
}

impl MemoryStore {
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }
}

struct MemoryReader(Arc<State>);

struct MemoryWriter(State);

impl Store for MemoryStore {
    fn read(&self) -> Result<Box<dyn Reader>> {
        Ok(Box::new(MemoryReader(Arc::clone(&self.state.lock()))))
    }

    fn write(&self, run: &mut dyn FnMut(&mut dyn Writer) -> Result<()>) -> Result<()> {
        let _one = self.writing.lock();
        let mut writer = MemoryWriter(State::clone(&self.state.lock()));
        run(&mut writer)?;
        *self.state.lock() = Arc::new(writer.0);
        Ok(())
    }

    fn failed(&self) -> bool {
        false
    }

    fn reopen(&self) -> Result<Arc<dyn Store>> {
        Ok(Arc::new(self.clone()))
    }

    fn close(&self) -> Result<()> {
        Ok(())
    }

    fn size(&self) -> u64 {
        u64::MAX
    }

    fn unused(&self) -> Result<u64> {
        Ok(0)
    }

    fn name(&self) -> String {
        "memory".to_owned()
    }
}

fn scan(entries: &Entries, range: Range<'_>, backward: bool, visit: Visit<'_>) {
    if is_empty(range) {
        return;
    }
    let mut range = entries.range::<[u8], _>(range);
    while let Some((key, value)) = if backward { range.next_back() } else { range.next() } {
        if !visit(key, value) {
            break;
        }
    }
}

impl Reader for MemoryReader {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Arc<[u8]>>> {
        Ok(self.0.get(&table).and_then(|entries| entries.get(key)).cloned())
    }

    fn scan(&self, table: Table, range: Range<'_>, backward: bool, visit: Visit<'_>) -> Result<()> {
        if let Some(entries) = self.0.get(&table) {
            scan(entries, range, backward, visit);
        }
        Ok(())
    }
}

impl Writer for MemoryWriter {
    fn get(&mut self, table: Table, key: &[u8]) -> Result<Option<Arc<[u8]>>> {
        Ok(self.0.get(&table).and_then(|entries| entries.get(key)).cloned())
    }

    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        self.0.entry(table).or_default().insert(key.to_vec(), value.into());
        Ok(())
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<()> {
        self.0.entry(table).or_default().remove(key);
        Ok(())
    }

    fn delete_range(&mut self, table: Table, range: Range<'_>) -> Result<()> {
        let entries = self.0.entry(table).or_default();
        let mut keys = Vec::new();
        scan(entries, range, false, &mut |key, _| {
            keys.push(key.to_vec());
            true
        });
        for key in keys {
            entries.remove(&key);
        }
        Ok(())
    }
}
