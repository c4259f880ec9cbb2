//! JSON values.
use crate::{Error, Numeric, Result, SqlState};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A parsed JSON value as jsonb stores it.
#[derive(Clone, Debug)]
pub enum Jsonb {
    Null,
    Bool(bool),
    Number(Numeric),
    String(Arc<str>),
    Array(Vec<Jsonb>),
    /// Sorted by key length, then bytes; keys are unique.
    Object(Vec<(Arc<str>, Jsonb)>),
}
fn pending<T>() -> Result<T> {
    Err(Error::new(SqlState::INTERNAL_ERROR, "pending"))
}
impl Jsonb {
    /// 22P02 `invalid input syntax for type json`.
    pub fn parse(_text: &str) -> Result<Jsonb> { pending() }
    /// An object of pairs in any order; the last of equal keys wins.
    pub fn object(_pairs: Vec<(Arc<str>, Jsonb)>) -> Jsonb { Jsonb::Null }
    /// `->` text.
    pub fn field(&self, _key: &str) -> Option<&Jsonb> { None }
    /// `->` int; negative counts from the end.
    pub fn index(&self, _index: i32) -> Option<&Jsonb> { None }
    /// `#>`.
    pub fn path<S: AsRef<str>>(&self, _path: &[S]) -> Option<&Jsonb> { None }
    /// `->>`: strings without quotes, JSON null is SQL NULL (`None`).
    pub fn as_text(&self) -> Option<String> { None }
    /// `@>`.
    pub fn contains(&self, _other: &Jsonb) -> bool { false }
    /// `?`.
    pub fn exists(&self, _key: &str) -> bool { false }
    pub fn type_name(&self) -> &'static str { "" }
    /// `jsonb_array_length`; 22023.
    pub fn array_length(&self) -> Result<usize> { pending() }
    /// `||`.
    pub fn concat(&self, _other: &Jsonb) -> Result<Jsonb> { pending() }
    /// `- text`.
    pub fn delete_key(&self, _key: &str) -> Result<Jsonb> { pending() }
    /// `- int`.
    pub fn delete_index(&self, _index: i32) -> Result<Jsonb> { pending() }
    /// `#-`.
    pub fn delete_path<S: AsRef<str>>(&self, _path: &[S]) -> Result<Jsonb> { pending() }
    /// `jsonb_set`.
    pub fn set_path<S: AsRef<str>>(&self, _path: &[S], _value: Jsonb, _create: bool) -> Result<Jsonb> { pending() }
    /// `jsonb_insert`.
    pub fn insert_path<S: AsRef<str>>(&self, _path: &[S], _value: Jsonb, _after: bool) -> Result<Jsonb> { pending() }
    pub fn strip_nulls(&self) -> Jsonb { self.clone() }
    /// `jsonb_pretty`.
    pub fn pretty(&self) -> String { String::new() }
}
impl fmt::Display for Jsonb {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result { Ok(()) }
}
impl PartialEq for Jsonb { fn eq(&self, other: &Jsonb) -> bool { self.cmp(other).is_eq() } }
impl Eq for Jsonb {}
impl PartialOrd for Jsonb { fn partial_cmp(&self, other: &Jsonb) -> Option<Ordering> { Some(self.cmp(other)) } }
impl Ord for Jsonb { fn cmp(&self, _other: &Jsonb) -> Ordering { Ordering::Equal } }
impl Hash for Jsonb { fn hash<H: Hasher>(&self, _state: &mut H) {} }

/// Checks that `text` is one JSON value (the input function of `json`).
pub fn validate(_text: &str) -> Result<()> { pending() }
/// Writes `text` as a JSON string with quotes.
pub fn quote(_text: &str, _out: &mut String) {}
/// `json -> key`: the raw text of the member (the last of equal keys), as written.
pub fn raw_field<'a>(_json: &'a str, _key: &str) -> Result<Option<&'a str>> { pending() }
/// `json -> index`.
pub fn raw_index(_json: &str, _index: i32) -> Result<Option<&str>> { pending() }
/// `json #> path`.
pub fn raw_path<'a, S: AsRef<str>>(_json: &'a str, _path: &[S]) -> Result<Option<&'a str>> { pending() }
/// The text of a raw JSON value as `->>` gives it: strings unquoted, null is `None`.
pub fn raw_as_text(_raw: &str) -> Result<Option<String>> { pending() }
/// The elements of a raw array; 22023 otherwise.
pub fn raw_elements(_json: &str) -> Result<Vec<&str>> { pending() }
/// The members of a raw object in the order written, duplicates kept; 22023 otherwise.
pub fn raw_members(_json: &str) -> Result<Vec<(String, &str)>> { pending() }
/// `json_typeof`.
pub fn raw_type_name(_json: &str) -> Result<&'static str> { pending() }
