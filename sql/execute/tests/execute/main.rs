//! Statements from their text to their rows, over a real engine. `cases.txt` holds what PostgreSQL 15 answers.

#![allow(clippy::unwrap_used)]

mod cases;
mod concurrency;
mod database;
mod limits;
