//! Functions that need the catalog, the session, sequences or locks: declared here, answered by
//! `Environment::system`. A new one needs a row here and an arm there.

use value::{Datum, Error, Oid, Result};

use crate::{Call, Function};

/// The thunk of every row here.
pub(crate) fn ask(oid: Oid, call: &mut Call<'_>, args: &[Datum]) -> Result<Datum> {
    let function =
        crate::function_by_oid(oid).ok_or_else(|| Error::internal(format!("no function {oid}")))?;
    call.env.system(function, args)
}

pub(crate) static FUNCTIONS: &[Function] = &[];
