//! Arrays: one flat vector of elements in row-major order with a length and a lower bound for each dimension.
//! Empty `dims` is the empty array, which has no dimensions at all (as in PostgreSQL).

use std::cmp::Ordering;

use crate::compare::compare_typed;
use crate::types::Oid;
use crate::{Datum, Error, Result, SqlState};

/// At most this many dimensions, as in PostgreSQL.
pub const MAX_DIMENSIONS: usize = 6;
/// At most this many elements.
pub const MAX_ELEMENTS: usize = 134_217_727;

/// One dimension of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dimension {
    pub len: i32,
    pub lower: i32,
}

#[derive(Clone, Debug, Default)]
pub struct Array {
    /// The type of the elements.
    pub element: Oid,
    pub dims: Vec<Dimension>,
    /// `product(dims.len)` elements, NULLs as [`Datum::Null`].
    pub values: Vec<Datum>,
}

/// Bounds of one dimension of a slice; `None` means the array's own bound.
pub type Bounds = (Option<i32>, Option<i32>);

impl Array {
    /// `'{}'`.
    pub fn empty(element: Oid) -> Array {
        Array { element, dims: Vec::new(), values: Vec::new() }
    }

    /// One dimension starting at 1 (empty when there are no values).
    pub fn from_values(element: Oid, values: Vec<Datum>) -> Array {
        if values.is_empty() {
            return Array::empty(element);
        }
        Array { element, dims: vec![Dimension { len: values.len() as i32, lower: 1 }], values }
    }

    /// Any shape; 2202E when the dimensions do not multiply to the number of values or are too many.
    pub fn new(element: Oid, dims: Vec<Dimension>, values: Vec<Datum>) -> Result<Array> {
        if dims.len() > MAX_DIMENSIONS {
            return Err(Error::new(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                format!(
                    "number of array dimensions ({}) exceeds the maximum allowed ({MAX_DIMENSIONS})",
                    dims.len()
                ),
            ));
        }
        let mut count: usize = usize::from(!dims.is_empty());
        for dim in &dims {
            let len = usize::try_from(dim.len).map_err(|_| subscript_error("array size is negative"))?;
            count = count.saturating_mul(len);
            if dim.lower.checked_add(dim.len).is_none() {
                return Err(Error::new(
                    SqlState::PROGRAM_LIMIT_EXCEEDED,
                    format!("array lower bound is too large: {}", dim.lower),
                ));
            }
        }
        if count > MAX_ELEMENTS {
            return Err(Error::new(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                format!("array size exceeds the maximum allowed ({MAX_ELEMENTS})"),
            ));
        }
        if count != values.len() {
            return Err(subscript_error("array dimensions do not match its elements"));
        }
        if count == 0 {
            return Ok(Array::empty(element));
        }
        Ok(Array { element, dims, values })
    }

    /// `ARRAY[a, b]` over arrays: a new outer dimension; 2202E when their shapes differ.
    pub fn from_arrays(element: Oid, parts: &[&Array]) -> Result<Array> {
        let Some(first) = parts.first() else { return Ok(Array::empty(element)) };
        if parts.iter().any(|part| part.dims != first.dims) {
            return Err(subscript_error(
                "multidimensional arrays must have array expressions with matching dimensions",
            ));
        }
        if first.dims.is_empty() {
            return Ok(Array::empty(element));
        }
        let mut dims = vec![Dimension { len: parts.len() as i32, lower: 1 }];
        dims.extend_from_slice(&first.dims);
        let values = parts.iter().flat_map(|part| part.values.iter().cloned()).collect();
        Array::new(element, dims, values)
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// `cardinality`.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// `array_length(array, dimension)` with dimensions counted from 1.
    pub fn length(&self, dimension: i32) -> Option<i32> {
        self.dimension(dimension).map(|dim| dim.len)
    }

    pub fn lower(&self, dimension: i32) -> Option<i32> {
        self.dimension(dimension).map(|dim| dim.lower)
    }

    pub fn upper(&self, dimension: i32) -> Option<i32> {
        self.dimension(dimension).map(|dim| dim.lower + (dim.len - 1))
    }

    fn dimension(&self, dimension: i32) -> Option<&Dimension> {
        usize::try_from(dimension).ok()?.checked_sub(1).and_then(|at| self.dims.get(at))
    }

    /// `array_dims`: `[1:3][1:2]`, `None` for the empty array.
    pub fn dims_text(&self) -> Option<String> {
        if self.dims.is_empty() {
            return None;
        }
        Some(self.dims.iter().map(|d| format!("[{}:{}]", d.lower, d.lower + (d.len - 1))).collect())
    }

    /// `array[i][j]`: NULL when a subscript is outside the bounds or their number is not the dimensions'.
    pub fn subscript(&self, subscripts: &[i32]) -> Datum {
        if subscripts.len() != self.dims.len() || self.dims.is_empty() {
            return Datum::Null;
        }
        let mut at: usize = 0;
        for (dim, &subscript) in self.dims.iter().zip(subscripts) {
            let offset = i64::from(subscript) - i64::from(dim.lower);
            if offset < 0 || offset >= i64::from(dim.len) {
                return Datum::Null;
            }
            at = at * dim.len as usize + offset as usize;
        }
        self.values[at].clone()
    }

    /// `array[a:b][c:d]`: bounds are clipped to the array; nothing left gives the empty array. Missing
    /// trailing dimensions are kept whole; the result starts at 1 in every dimension.
    pub fn slice(&self, bounds: &[Bounds]) -> Array {
        if bounds.len() > self.dims.len() || self.dims.is_empty() {
            return Array::empty(self.element);
        }
        let mut ranges = Vec::with_capacity(self.dims.len());
        for (at, dim) in self.dims.iter().enumerate() {
            let (low, high) = bounds.get(at).copied().unwrap_or((None, None));
            let last = dim.lower + (dim.len - 1);
            let low = low.unwrap_or(dim.lower).max(dim.lower);
            let high = high.unwrap_or(last).min(last);
            if low > high {
                return Array::empty(self.element);
            }
            ranges.push(((low - dim.lower) as usize, (high - dim.lower) as usize));
        }
        let mut values = Vec::new();
        self.collect_slice(&ranges, 0, 0, &mut values);
        let dims =
            ranges.iter().map(|(low, high)| Dimension { len: (high - low + 1) as i32, lower: 1 }).collect();
        Array { element: self.element, dims, values }
    }

    fn collect_slice(&self, ranges: &[(usize, usize)], depth: usize, base: usize, out: &mut Vec<Datum>) {
        let (low, high) = ranges[depth];
        let start = base * self.dims[depth].len as usize;
        if depth + 1 == ranges.len() {
            out.extend_from_slice(&self.values[start + low..=start + high]);
            return;
        }
        for at in low..=high {
            self.collect_slice(ranges, depth + 1, start + at, out);
        }
    }

    /// `array[subscripts] := value`: one-dimensional arrays grow (the gap is NULL), others stay within bounds.
    pub fn assign(&self, subscripts: &[i32], value: Datum) -> Result<Array> {
        if self.dims.is_empty() {
            if subscripts.is_empty() || subscripts.len() > MAX_DIMENSIONS {
                return Err(subscript_error("wrong number of array subscripts"));
            }
            let dims = subscripts.iter().map(|&lower| Dimension { len: 1, lower }).collect();
            return Array::new(self.element, dims, vec![value]);
        }
        if subscripts.len() != self.dims.len() {
            return Err(subscript_error("wrong number of array subscripts"));
        }
        let mut result = self.clone();
        if self.dims.len() == 1 {
            let dim = self.dims[0];
            let offset = i64::from(subscripts[0]) - i64::from(dim.lower);
            let (before, after) = ((-offset).max(0), (offset + 1 - i64::from(dim.len)).max(0));
            if before + after + i64::from(dim.len) > MAX_ELEMENTS as i64 {
                return Err(Error::new(
                    SqlState::PROGRAM_LIMIT_EXCEEDED,
                    format!("array size exceeds the maximum allowed ({MAX_ELEMENTS})"),
                ));
            }
            if before > 0 {
                result.values.splice(0..0, std::iter::repeat_n(Datum::Null, before as usize));
            }
            result.values.extend(std::iter::repeat_n(Datum::Null, after as usize));
            result.values[(offset + before) as usize] = value;
            result.dims[0] =
                Dimension { len: result.values.len() as i32, lower: dim.lower.min(subscripts[0]) };
            return Ok(result);
        }
        let mut at: usize = 0;
        for (dim, &subscript) in self.dims.iter().zip(subscripts) {
            let offset = i64::from(subscript) - i64::from(dim.lower);
            if offset < 0 || offset >= i64::from(dim.len) {
                return Err(subscript_error("array subscript out of range"));
            }
            at = at * dim.len as usize + offset as usize;
        }
        result.values[at] = value;
        Ok(result)
    }

    /// `array_append`; 22000 for more than one dimension.
    pub fn append(&self, value: Datum) -> Result<Array> {
        self.one_dimensional()?;
        let mut result = self.clone();
        result.values.push(value);
        match result.dims.first_mut() {
            Some(dim) => dim.len += 1,
            None => result.dims.push(Dimension { len: 1, lower: 1 }),
        }
        Ok(result)
    }

    /// `array_prepend`: the lower bound stays.
    pub fn prepend(&self, value: Datum) -> Result<Array> {
        self.one_dimensional()?;
        let mut result = self.clone();
        result.values.insert(0, value);
        match result.dims.first_mut() {
            Some(dim) => dim.len += 1,
            None => result.dims.push(Dimension { len: 1, lower: 1 }),
        }
        Ok(result)
    }

    fn one_dimensional(&self) -> Result<()> {
        if self.dims.len() > 1 {
            return Err(Error::new(
                SqlState::DATA_EXCEPTION,
                "argument must be empty or one-dimensional array",
            ));
        }
        Ok(())
    }

    /// `array_cat`: same dimensions join along the first, one dimension less becomes a row of the other.
    pub fn concat(&self, other: &Array) -> Result<Array> {
        if self.dims.is_empty() {
            return Ok(Array { element: self.element, ..other.clone() });
        }
        if other.dims.is_empty() {
            return Ok(self.clone());
        }
        let incompatible = |detail: String| {
            Error::new(SqlState::ARRAY_SUBSCRIPT_ERROR, "cannot concatenate incompatible arrays")
                .detail(detail)
        };
        let same_lengths = |a: &[Dimension], b: &[Dimension]| a.iter().zip(b).all(|(a, b)| a.len == b.len);
        let (more, less) = (self.dims.len().max(other.dims.len()), self.dims.len().min(other.dims.len()));
        if more - less > 1 {
            return Err(incompatible(format!(
                "Arrays of {} and {} dimensions are not compatible for concatenation.",
                self.dims.len(),
                other.dims.len()
            )));
        }
        let mut dims;
        if self.dims.len() == other.dims.len() {
            if !same_lengths(&self.dims[1..], &other.dims[1..]) {
                return Err(incompatible(
                    "Arrays with differing element dimensions are not compatible for concatenation."
                        .to_string(),
                ));
            }
            dims = self.dims.clone();
            dims[0].len += other.dims[0].len;
        } else {
            let (outer, inner) =
                if self.dims.len() > other.dims.len() { (self, other) } else { (other, self) };
            if !same_lengths(&outer.dims[1..], &inner.dims) {
                return Err(incompatible(
                    "Arrays with differing dimensions are not compatible for concatenation.".to_string(),
                ));
            }
            dims = outer.dims.clone();
            dims[0].len += 1;
        }
        let values = self.values.iter().chain(&other.values).cloned().collect();
        Array::new(self.element, dims, values)
    }

    /// PostgreSQL's btree order: elements first, then the number of elements, then dimensions and bounds.
    pub fn compare(&self, other: &Array) -> Ordering {
        for (a, b) in self.values.iter().zip(&other.values) {
            let order = compare_nullable(self.element, a, b);
            if order != Ordering::Equal {
                return order;
            }
        }
        self.values
            .len()
            .cmp(&other.values.len())
            .then_with(|| self.dims.len().cmp(&other.dims.len()))
            .then_with(|| self.dims.iter().map(|d| d.len).cmp(other.dims.iter().map(|d| d.len)))
            .then_with(|| self.dims.iter().map(|d| d.lower).cmp(other.dims.iter().map(|d| d.lower)))
    }

    /// `@>`: every element of `other` occurs here; NULL elements never match.
    pub fn contains(&self, other: &Array) -> bool {
        other.values.iter().all(|wanted| {
            !wanted.is_null()
                && self
                    .values
                    .iter()
                    .any(|value| !value.is_null() && compare_typed(self.element, value, wanted).is_eq())
        })
    }

    /// `&&`: at least one element in common.
    pub fn overlaps(&self, other: &Array) -> bool {
        other.values.iter().any(|wanted| {
            !wanted.is_null()
                && self
                    .values
                    .iter()
                    .any(|value| !value.is_null() && compare_typed(self.element, value, wanted).is_eq())
        })
    }
}

/// Elements and fields compare NULLs as equal to each other and greater than anything else.
pub(crate) fn compare_nullable(element: Oid, a: &Datum, b: &Datum) -> Ordering {
    match (a.is_null(), b.is_null()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => compare_typed(element, a, b),
    }
}

fn subscript_error(message: &str) -> Error {
    Error::new(SqlState::ARRAY_SUBSCRIPT_ERROR, message)
}
