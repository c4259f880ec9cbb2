//! numeric.
use crate::{Error, Result, SqlState};
use num_bigint::BigInt;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

#[derive(Clone, Debug)]
pub struct Numeric(pub(crate) Repr);

#[derive(Clone, Debug)]
pub(crate) enum Repr {
    Small { coefficient: i128, scale: u16 },
    Big { coefficient: Box<BigInt>, scale: u16 },
    NaN,
    Infinity,
    NegInfinity,
}

fn pending<T>() -> Result<T> {
    Err(Error::new(SqlState::INTERNAL_ERROR, "pending"))
}

impl Numeric {
    pub const ZERO: Numeric = Numeric(Repr::Small { coefficient: 0, scale: 0 });
    pub const ONE: Numeric = Numeric(Repr::Small { coefficient: 1, scale: 0 });
    pub const NAN: Numeric = Numeric(Repr::NaN);
    pub const INFINITY: Numeric = Numeric(Repr::Infinity);
    pub const NEG_INFINITY: Numeric = Numeric(Repr::NegInfinity);
    pub fn from_i64(value: i64) -> Numeric { Numeric::from_i128(i128::from(value), 0) }
    /// `coefficient * 10^-scale`.
    pub fn from_i128(coefficient: i128, scale: u16) -> Numeric { Numeric(Repr::Small { coefficient, scale }) }
    pub fn from_f64(_value: f64) -> Numeric { Numeric::ZERO }
    pub fn from_f32(_value: f32) -> Numeric { Numeric::ZERO }
    /// Without surrounding blanks handling differences: blanks are trimmed; 22P02.
    pub fn parse(_text: &str) -> Result<Numeric> { pending() }
    pub fn to_i16(&self) -> Result<i16> { pending() }
    pub fn to_i32(&self) -> Result<i32> { pending() }
    pub fn to_i64(&self) -> Result<i64> { pending() }
    pub fn to_f64(&self) -> f64 { 0.0 }
    pub fn to_f32(&self) -> f32 { 0.0 }
    /// The value as `coefficient * 10^-scale` when it is exact at that scale and fits.
    pub fn to_i128(&self, _scale: u16) -> Option<i128> { None }
    /// Digits shown after the point.
    pub fn scale(&self) -> u16 { 0 }
    /// Digits after the point without trailing zeros (`min_scale`).
    pub fn min_scale(&self) -> Option<u16> { None }
    pub fn trim_scale(&self) -> Numeric { self.clone() }
    pub fn is_nan(&self) -> bool { matches!(self.0, Repr::NaN) }
    pub fn is_infinite(&self) -> bool { matches!(self.0, Repr::Infinity | Repr::NegInfinity) }
    pub fn is_zero(&self) -> bool { matches!(self.0, Repr::Small { coefficient: 0, .. }) }
    /// -1, 0 or 1; NaN gives 0.
    pub fn signum(&self) -> i32 { 0 }
    pub fn add(&self, _other: &Numeric) -> Result<Numeric> { pending() }
    pub fn sub(&self, _other: &Numeric) -> Result<Numeric> { pending() }
    pub fn mul(&self, _other: &Numeric) -> Result<Numeric> { pending() }
    pub fn div(&self, _other: &Numeric) -> Result<Numeric> { pending() }
    /// `div(a, b)`: quotient truncated to an integer.
    pub fn div_trunc(&self, _other: &Numeric) -> Result<Numeric> { pending() }
    pub fn rem(&self, _other: &Numeric) -> Result<Numeric> { pending() }
    pub fn neg(&self) -> Numeric { self.clone() }
    pub fn abs(&self) -> Numeric { self.clone() }
    pub fn round(&self, _scale: i32) -> Numeric { self.clone() }
    pub fn trunc(&self, _scale: i32) -> Numeric { self.clone() }
    pub fn ceil(&self) -> Numeric { self.clone() }
    pub fn floor(&self) -> Numeric { self.clone() }
    pub fn sqrt(&self) -> Result<Numeric> { pending() }
    pub fn exp(&self) -> Result<Numeric> { pending() }
    pub fn ln(&self) -> Result<Numeric> { pending() }
    /// `log(x)`: base 10.
    pub fn log10(&self) -> Result<Numeric> { pending() }
    /// `log(base, x)` with `self` as x.
    pub fn log(&self, _base: &Numeric) -> Result<Numeric> { pending() }
    pub fn power(&self, _exponent: &Numeric) -> Result<Numeric> { pending() }
    pub fn gcd(&self, _other: &Numeric) -> Result<Numeric> { pending() }
    pub fn lcm(&self, _other: &Numeric) -> Result<Numeric> { pending() }
    pub fn factorial(_n: i64) -> Result<Numeric> { pending() }
    pub fn apply_typmod(&self, _typmod: i32) -> Result<Numeric> { pending() }
}
impl fmt::Display for Numeric {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result { Ok(()) }
}
impl PartialEq for Numeric { fn eq(&self, other: &Numeric) -> bool { self.cmp(other).is_eq() } }
impl Eq for Numeric {}
impl PartialOrd for Numeric { fn partial_cmp(&self, other: &Numeric) -> Option<Ordering> { Some(self.cmp(other)) } }
impl Ord for Numeric { fn cmp(&self, _other: &Numeric) -> Ordering { Ordering::Equal } }
impl Hash for Numeric { fn hash<H: Hasher>(&self, _state: &mut H) {} }
