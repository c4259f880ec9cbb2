//! What declarations are written with: constructors for rows, and the small helpers that thunks share.

use value::{Datum, Error, Oid, Result, SqlState};

use crate::{Function, Thunk, Volatility};

/// A row for a strict, immutable function that may fail. The methods below change what differs.
pub(crate) const fn f(
    oid: Oid,
    name: &'static str,
    args: &'static [Oid],
    returns: Oid,
    call: Thunk,
) -> Function {
    Function {
        oid,
        name,
        args,
        arg_names: &[],
        variadic: false,
        defaults: 0,
        returns,
        strict: true,
        volatility: Volatility::Immutable,
        fallible: true,
        waits: false,
        prepare: None,
        call,
        system: false,
    }
}

/// A function that `Environment::system` answers.
macro_rules! sys {
    ($oid:literal, $name:literal, $args:expr, $returns:expr) => {{
        let mut function = $crate::declare::f($oid, $name, $args, $returns, |call, args| {
            $crate::system::ask($oid, call, args)
        });
        function.system = true;
        function
    }};
}
pub(crate) use sys;

impl Function {
    pub(crate) const fn stable(mut self) -> Function {
        self.volatility = Volatility::Stable;
        self
    }

    pub(crate) const fn volatile(mut self) -> Function {
        self.volatility = Volatility::Volatile;
        self
    }

    /// Called with NULL arguments too.
    pub(crate) const fn nullable(mut self) -> Function {
        self.strict = false;
        self
    }

    /// Never fails.
    pub(crate) const fn total(mut self) -> Function {
        self.fallible = false;
        self
    }

    pub(crate) const fn variadic(mut self) -> Function {
        self.variadic = true;
        self
    }

    pub(crate) const fn waits(mut self) -> Function {
        self.waits = true;
        self
    }

    /// The last `count` arguments may be left out.
    pub(crate) const fn defaults(mut self, count: usize) -> Function {
        self.defaults = count;
        self
    }

    pub(crate) const fn names(mut self, names: &'static [&'static str]) -> Function {
        self.arg_names = names;
        self
    }
}

/// The arguments do not have the declared types: a broken promise of the caller.
#[cold]
pub(crate) fn mismatch(args: &[Datum]) -> Error {
    Error::internal(format!("function called with arguments of the wrong type: {args:?}"))
}

/// A thunk over arguments matched by pattern: `thunk!([Datum::Int4(a), Datum::Int4(b)] => expression)`, where the
/// expression gives a `Result<Datum>`.
macro_rules! thunk {
    ($($pattern:pat => $body:expr),+ $(,)?) => {
        |_: &mut $crate::Call<'_>, args: &[value::Datum]| match args {
            $($pattern => $body,)+
            _ => Err($crate::declare::mismatch(args)),
        }
    };
    ($call:ident; $($pattern:pat => $body:expr),+ $(,)?) => {
        |$call: &mut $crate::Call<'_>, args: &[value::Datum]| match args {
            $($pattern => $body,)+
            _ => Err($crate::declare::mismatch(args)),
        }
    };
}
pub(crate) use thunk;

pub(crate) fn text_of(text: impl Into<std::sync::Arc<str>>) -> Result<Datum> {
    Ok(Datum::Text(text.into()))
}

pub(crate) fn out_of_range(what: &str) -> Error {
    Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, format!("{what} out of range"))
}

pub(crate) fn division_by_zero() -> Error {
    Error::new(SqlState::DIVISION_BY_ZERO, "division by zero")
}

pub(crate) fn invalid_parameter(message: impl Into<String>) -> Error {
    Error::new(SqlState::INVALID_PARAMETER_VALUE, message)
}
