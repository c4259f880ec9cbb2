//! `aclexplode`: an access list (`{alice=r*w/postgres,=r/postgres}`) as rows, one for each right.

use value::types::oid::*;
use value::{Datum, Error, Result, SqlState};

use crate::declare::mismatch;
use crate::set::s;
use crate::{Call, Rows, SetFunction};

/// Letters of the rights.
const RIGHTS: &[(char, &str)] = &[
    ('a', "INSERT"),
    ('r', "SELECT"),
    ('w', "UPDATE"),
    ('d', "DELETE"),
    ('D', "TRUNCATE"),
    ('x', "REFERENCES"),
    ('t', "TRIGGER"),
    ('X', "EXECUTE"),
    ('U', "USAGE"),
    ('C', "CREATE"),
    ('T', "TEMPORARY"),
    ('c', "CONNECT"),
    ('s', "SET"),
    ('A', "ALTER SYSTEM"),
];

fn malformed(item: &str) -> Error {
    Error::new(SqlState::INVALID_TEXT_REPRESENTATION, format!("malformed aclitem: \"{item}\""))
}

/// A role's name at the start of `text`, and the rest; a name in quotes doubles the quotes in it.
fn name(text: &str) -> Option<(String, &str)> {
    let Some(mut rest) = text.strip_prefix('"') else {
        let end = text.find(['=', '/']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut name = String::new();
    loop {
        let end = rest.find('"')?;
        name.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Some((name, rest)),
        }
    }
}

/// The oid of a role; 0 for the empty name, which is PUBLIC.
fn role(call: &Call<'_>, name: &str) -> Result<Datum> {
    if name.is_empty() {
        return Ok(Datum::Oid(0));
    }
    let input = crate::reg_input(REGROLE).ok_or_else(|| Error::internal("regrole has no input"))?;
    call.env.system(input, &[Datum::text(crate::quote_ident(name))])
}

fn explode(call: &mut Call<'_>, args: &[Datum]) -> Result<Rows> {
    let Some(Datum::Array(list)) = args.first() else { return Err(mismatch(args)) };
    let mut rows = Vec::new();
    for item in &list.values {
        let Datum::Text(item) = item else { return Err(malformed("NULL")) };
        let parts = name(item).and_then(|(grantee, rest)| {
            let (rights, grantor) = rest.strip_prefix('=')?.split_once('/')?;
            Some((grantee, rights, name(grantor)?.0))
        });
        let (grantee, rights, grantor) = parts.ok_or_else(|| malformed(item))?;
        let (grantee, grantor) = (role(call, &grantee)?, role(call, &grantor)?);
        let mut letters = rights.chars().peekable();
        while let Some(letter) = letters.next() {
            let right = RIGHTS.iter().find(|(known, _)| *known == letter).ok_or_else(|| malformed(item))?;
            let grantable = letters.next_if_eq(&'*').is_some();
            rows.push(vec![grantor.clone(), grantee.clone(), Datum::text(right.1), Datum::Bool(grantable)]);
        }
    }
    Ok(Box::new(rows.into_iter().map(Ok)))
}

pub(crate) static SET_FUNCTIONS: &[SetFunction] = &[s(
    1689,
    "aclexplode",
    &[ACLITEM_ARRAY],
    RECORD,
    &[("grantor", OID), ("grantee", OID), ("privilege_type", TEXT), ("is_grantable", BOOL)],
    explode,
)
.stable()];
