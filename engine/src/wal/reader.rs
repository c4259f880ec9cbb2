use super::*;
pub(super) struct Found;
impl Found { pub(super) fn replay(&self, _d: Arc<dyn Disk>, _o: &WalOptions) -> Replay { todo!() } }
pub(super) fn scan(_d: &Arc<dyn Disk>, _o: &WalOptions, _a: Lsn) -> Result<Found> { todo!() }
/// Records after the base's LSN, in order.
pub struct Replay {}
impl Iterator for Replay { type Item = Result<(Lsn, Vec<u8>)>; fn next(&mut self) -> Option<Self::Item> { todo!() } }
