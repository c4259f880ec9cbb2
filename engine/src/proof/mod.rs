//! The proof that nothing acknowledged is lost: crashes, failing disks, flipped bits, and mistakes planted on
//! purpose, which these tests must find. They are part of the crate, not of `tests/`, because planted mistakes
//! are built for the crate's own tests only.

// Everything here is a test, helpers too.
#![allow(clippy::unwrap_used)]

mod bits;
mod check;
mod crash;
mod faults;
mod filling;
mod room;
#[path = "../../tests/engine/setup.rs"]
#[allow(dead_code, reason = "shared with the tests of the public face")]
mod setup;
