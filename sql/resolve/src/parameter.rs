//! Types of `$n`: declared by the client, or inferred from the first place that asks for a type.

use value::types::{format_type, oid};
use value::{Error, Oid, Result, SqlState};

/// Parameters may be numbered up to this, as in the protocol.
const MAX_PARAMETERS: usize = 65_535;

/// What is known about the parameters of a statement.
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    /// `INVALID`: not seen; `UNKNOWN`: seen, type open.
    types: Vec<Oid>,
    allowed: bool,
}

impl Parameters {
    /// Declared types; 0 and 705 leave a parameter to inference.
    pub fn new(declared: &[Oid]) -> Parameters {
        let types = declared.iter().map(|&ty| if ty == oid::UNKNOWN { oid::INVALID } else { ty }).collect();
        Parameters { types, allowed: true }
    }

    /// For statements that take none: any `$n` is 42P02.
    pub fn none() -> Parameters {
        Parameters { types: Vec::new(), allowed: false }
    }

    /// The types, in order, after [`crate::resolve`].
    pub fn types(&self) -> &[Oid] {
        &self.types
    }

    /// The type of `$index+1` at a place that uses it: UNKNOWN while nothing has asked for one.
    pub(crate) fn reference(&mut self, number: &str) -> Result<(usize, Oid)> {
        let undefined =
            || Error::new(SqlState::UNDEFINED_PARAMETER, format!("there is no parameter ${number}"));
        let number: usize = number.parse().map_err(|_| undefined())?;
        if !self.allowed || number == 0 || number > MAX_PARAMETERS {
            return Err(undefined());
        }
        if self.types.len() < number {
            self.types.resize(number, oid::INVALID);
        }
        let ty = &mut self.types[number - 1];
        if *ty == oid::INVALID {
            *ty = oid::UNKNOWN;
        }
        Ok((number - 1, *ty))
    }

    /// A place needs parameter `index` to be of type `target`. 42P08 when another place decided differently.
    pub(crate) fn infer(&mut self, index: usize, target: Oid) -> Result<Oid> {
        let known = &mut self.types[index];
        if *known == oid::UNKNOWN {
            *known = target;
        } else if *known != target {
            return Err(Error::new(
                SqlState::AMBIGUOUS_PARAMETER,
                format!("inconsistent types deduced for parameter ${}", index + 1),
            )
            .detail(format!("{} versus {}", format_type(*known, -1), format_type(target, -1))));
        }
        Ok(*known)
    }

    /// 42P18 for a parameter whose type nothing decided.
    pub(crate) fn finish(&self) -> Result<()> {
        match self.types.iter().position(|&ty| ty == oid::UNKNOWN || ty == oid::INVALID) {
            Some(index) => Err(Error::new(
                SqlState::INDETERMINATE_DATATYPE,
                format!("could not determine data type of parameter ${}", index + 1),
            )),
            None => Ok(()),
        }
    }
}
