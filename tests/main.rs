//! The one integration test binary: whole-system tests, and tests about the tree itself.

mod tidy;
