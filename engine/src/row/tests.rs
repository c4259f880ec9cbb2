use proptest::prelude::*;
use value::types::oid;
use value::{Array, Datum, Interval, Numeric, Type};

use super::*;

const TYPES: [Oid; 14] = [
    oid::BOOL,
    oid::INT2,
    oid::INT4,
    oid::INT8,
    oid::TEXT,
    oid::FLOAT8,
    oid::BYTEA,
    oid::NUMERIC,
    oid::DATE,
    oid::TIMESTAMPTZ,
    oid::INTERVAL,
    oid::UUID,
    oid::INT4_ARRAY,
    oid::VARCHAR,
];

fn value_of(ty: Oid) -> BoxedStrategy<Datum> {
    match ty {
        oid::BOOL => any::<bool>().prop_map(Datum::Bool).boxed(),
        oid::INT2 => any::<i16>().prop_map(Datum::Int2).boxed(),
        oid::INT4 => any::<i32>().prop_map(Datum::Int4).boxed(),
        oid::INT8 => any::<i64>().prop_map(Datum::Int8).boxed(),
        oid::FLOAT8 => any::<f64>().prop_map(Datum::Float8).boxed(),
        oid::DATE => any::<i32>().prop_map(Datum::Date).boxed(),
        oid::TIMESTAMPTZ => any::<i64>().prop_map(Datum::TimestampTz).boxed(),
        oid::NUMERIC => (any::<i64>(), 0u16..12)
            .prop_map(|(digits, scale)| {
                Datum::Numeric(Arc::new(Numeric::from_i128(i128::from(digits), scale)))
            })
            .boxed(),
        oid::INTERVAL => any::<(i32, i32, i64)>()
            .prop_map(|(months, days, micros)| Datum::Interval(Interval { months, days, micros }))
            .boxed(),
        oid::UUID => any::<[u8; 16]>().prop_map(|bytes| Datum::Uuid(Arc::new(bytes))).boxed(),
        oid::BYTEA => prop_oneof![
            9 => prop::collection::vec(any::<u8>(), 0..40),
            1 => prop::collection::vec(any::<u8>(), 60_000..80_000),
        ]
        .prop_map(|bytes| Datum::Bytea(bytes.into()))
        .boxed(),
        oid::INT4_ARRAY => prop::collection::vec(any::<i32>(), 0..6)
            .prop_map(|values| {
                let values = values.into_iter().map(Datum::Int4).collect();
                Datum::Array(Arc::new(Array::from_values(oid::INT4, values)))
            })
            .boxed(),
        _ => ".{0,24}".prop_map(Datum::text).boxed(),
    }
}

fn row(types: &[Oid]) -> BoxedStrategy<Vec<Datum>> {
    types
        .iter()
        .map(|ty| prop_oneof![1 => Just(Datum::Null), 4 => value_of(*ty)].boxed())
        .collect::<Vec<_>>()
        .boxed()
}

fn layout(types: &[Oid]) -> RowLayout {
    RowLayout::new(types.iter().map(|ty| (Type::new(*ty), Datum::Null)))
}

/// Values as compared here: by their debug form, so that NaN equals NaN.
fn text(values: &[Datum]) -> String {
    format!("{values:?}")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn rows_and_patches_round_trip(
        (types, old, new) in prop::collection::vec(prop::sample::select(&TYPES[..]), 0..20)
            .prop_flat_map(|types| (Just(types.clone()), row(&types), row(&types))),
        kept in any::<u32>(),
        shorter in 0usize..20,
    ) {
        let layout = layout(&types);
        // The new row shares some columns with the old one, which may lack the last ones.
        let new: Vec<Datum> = new
            .into_iter()
            .enumerate()
            .map(|(column, value)| if kept >> (column % 32) & 1 == 1 { old[column].clone() } else { value })
            .collect();
        let old = &old[..shorter.min(old.len())];
        let (mut old_bytes, mut new_bytes, mut patch) = (vec![], vec![], vec![]);
        encode(&layout, old, &mut old_bytes).unwrap();
        encode(&layout, &new, &mut new_bytes).unwrap();
        let mut expected = old.to_vec();
        expected.resize(types.len(), Datum::Null);
        prop_assert_eq!(text(&decode(&layout, &old_bytes).unwrap()), text(&expected));
        prop_assert_eq!(text(&decode(&layout, &new_bytes).unwrap()), text(&new));
        encode_patch(&layout, &old_bytes, &new_bytes, &mut patch).unwrap();
        prop_assert_eq!(&apply_patch(&layout, &old_bytes, &patch).unwrap(), &new_bytes);
        prop_assert!(patch.len() <= new_bytes.len() + 3 + types.len().div_ceil(8) + types.len() * 5);

        let row = Row::new(new_bytes.clone().into(), Arc::new(layout));
        for (column, value) in new.iter().enumerate() {
            prop_assert_eq!(format!("{:?}", row.get(column)), format!("{value:?}"));
            prop_assert_eq!(row.is_null(column), value.is_null());
        }
        prop_assert_eq!(column_count(&new_bytes), Some(types.len()));
    }

    /// Whatever the bytes are: an error or some values, never a panic.
    #[test]
    fn damaged_bytes_never_panic(
        types in prop::collection::vec(prop::sample::select(&TYPES[..]), 0..12),
        bytes in prop::collection::vec(any::<u8>(), 0..80),
        patch in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let layout = layout(&types);
        let _ = decode(&layout, &bytes);
        let _ = apply_patch(&layout, &bytes, &patch);
        let _ = encode_patch(&layout, &bytes, &patch, &mut vec![]);
    }
}

#[test]
fn a_column_added_later_reads_as_its_missing_value() {
    let narrow = layout(&[oid::INT4]);
    let mut bytes = vec![];
    encode(&narrow, &[Datum::Int4(7)], &mut bytes).unwrap();
    let wide = RowLayout::new([
        (Type::new(oid::INT4), Datum::Null),
        (Type::new(oid::TEXT), Datum::text("new")),
        (Type::new(oid::INT8), Datum::Null),
    ]);
    let row = Row::new(bytes.clone().into(), Arc::new(wide));
    assert_eq!(text(&row.decode()), text(&[Datum::Int4(7), Datum::text("new"), Datum::Null]));
    assert!(!row.is_null(1) && row.is_null(2));
    // A later update stores all columns.
    let mut new = vec![];
    encode(row.layout(), &[Datum::Int4(7), Datum::text("new"), Datum::Int8(1)], &mut new).unwrap();
    let mut patch = vec![];
    encode_patch(row.layout(), &bytes, &new, &mut patch).unwrap();
    assert_eq!(apply_patch(row.layout(), &bytes, &patch).unwrap(), new);
}

#[test]
fn a_value_of_the_wrong_kind_is_an_error() {
    let layout = layout(&[oid::INT4, oid::TEXT]);
    for values in [vec![Datum::Int8(1)], vec![Datum::Int4(1), Datum::Int4(1)], vec![Datum::Null; 3]] {
        let error = encode(&layout, &values, &mut vec![]).unwrap_err();
        assert_eq!(error.state(), SqlState::INTERNAL_ERROR);
    }
}

#[test]
fn the_sum_of_all_values_has_a_bound() {
    // One megabyte that 1,100 columns share: none is too long, all together are, and nothing of them is copied.
    let long = Datum::text("x".repeat(1 << 20));
    let columns = layout(&[oid::TEXT; 1100]);
    let mut out = vec![7];
    let error = encode(&columns, &vec![long.clone(); 1100], &mut out).unwrap_err();
    assert_eq!(error.state(), SqlState::PROGRAM_LIMIT_EXCEEDED);
    assert!(out == [7] && out.capacity() < 1 << 20, "{} bytes", out.capacity());
    // Exactly as many as there may be, of whatever kind.
    let array = Datum::Array(Arc::new(Array::from_values(oid::INT4, vec![Datum::Int4(1); 1000])));
    let columns = layout(&[oid::TEXT, oid::INT4_ARRAY, oid::INT4, oid::BYTEA]);
    for number in [Datum::Null, array] {
        let row = [long.clone(), number, Datum::Int4(5), Datum::Bytea(vec![1; 100_000].into())];
        let mut whole = vec![];
        encode(&columns, &row, &mut whole).unwrap();
        // Header, bitmap, slots: three ends and one number.
        let size = whole.len() - (2 + 1 + 3 * 4 + 4);
        let mut out = vec![];
        encode_within(size, &columns, &row, &mut out).unwrap();
        assert_eq!(out, whole);
        out.clear();
        let error = encode_within(size - 1, &columns, &row, &mut out).unwrap_err();
        assert_eq!(error.state(), SqlState::PROGRAM_LIMIT_EXCEEDED);
        assert!(out.is_empty());
    }
}
