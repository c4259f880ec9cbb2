//! CancelRequest: comes on a connection of its own, is never answered and never says whether it hit.

use session::Database;
use value::Result;

use super::frame::{Body, violation};

/// Bytes of the longest cancel key that protocol 3.2 allows.
const LONGEST_KEY: usize = 256;

/// Passes the request on. `body` follows the request code. Errors: 08P01 for a malformed packet.
pub fn request(database: &dyn Database, mut body: Body<'_>) -> Result<()> {
    let process = body.u32()? as i32;
    let length = body.rest();
    if !(4..=LONGEST_KEY).contains(&length) {
        return Err(violation("invalid length of query cancel packet").fatal());
    }
    let secret = body.bytes(length)?;
    database.cancel(process, &secret);
    Ok(())
}
