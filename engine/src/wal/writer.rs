use super::*;
use std::task::{Context, Poll};
#[derive(Debug)]
pub(super) struct Shared {}
pub(super) fn claim(_len: usize) -> u64 { todo!() }
pub(super) fn start(_d: Arc<dyn Disk>, _o: WalOptions, _f: reader::Found, _m: Arc<Metrics>) -> Result<Arc<Shared>> { todo!() }
impl Shared {
 pub(super) fn reserve(&self, _len: usize) -> Result<()> { todo!() }
 pub(super) fn give_back(&self, _len: u64) { todo!() }
 pub(super) fn append(&self, _len: u64, _r: Vec<u8>) -> Result<Lsn> { todo!() }
 pub(super) fn durable(&self) -> Lsn { todo!() }
 pub(super) fn last(&self) -> Lsn { todo!() }
 pub(super) fn wait_blocking(&self, _l: Lsn) -> Result<()> { todo!() }
 pub(super) fn failed(&self) -> Option<Error> { todo!() }
 pub(super) fn bytes(&self) -> u64 { todo!() }
 pub(super) fn recycle(&self, _l: Lsn) -> Result<()> { todo!() }
 pub(super) fn close(&self) -> Result<()> { todo!() }
 pub(super) fn poll_durable(&self, _l: Lsn, _c: &mut Context<'_>) -> Poll<Result<()>> { todo!() }
}
