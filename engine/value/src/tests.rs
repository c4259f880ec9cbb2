//! Properties that hold for every type at once: all forms bring a value back, and byte order of keys is the order of values.

use std::cmp::Ordering;
use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;
use std::sync::Arc;

use proptest::prelude::*;

use crate::arrow_form::{ColumnBuilder, ColumnReader, data_type, group_key};
use crate::compare::{compare_typed, hash_typed};
use crate::datetime::{DATE_END, DATE_MIN, TIMESTAMP_END, TIMESTAMP_MIN, USECS_PER_DAY};
use crate::text::{Style, input, output_string};
use crate::types::{self, Oid, Repr, TYPES, Type, TypeKind, oid};
use crate::{Array, Datum, Interval, Jsonb, Numeric, binary, key};

fn numeric() -> impl Strategy<Value = Numeric> {
    prop_oneof![
        3 => (-1000i64..1000, 0u16..4).prop_map(|(c, s)| Numeric::from_i128(c.into(), s)),
        3 => (any::<i128>(), 0u16..40).prop_map(|(c, s)| Numeric::from_i128(c, s)),
        1 => ("[1-9][0-9]{30,60}", -200i32..200).prop_map(|(d, e)| Numeric::parse(&format!("{d}e{e}")).unwrap()),
        1 => ("-[1-9][0-9]{30,60}", -200i32..200).prop_map(|(d, e)| Numeric::parse(&format!("{d}e{e}")).unwrap()),
        1 => prop_oneof![Just(Numeric::NAN), Just(Numeric::INFINITY), Just(Numeric::NEG_INFINITY)],
    ]
}

fn float() -> impl Strategy<Value = f64> {
    prop_oneof![any::<f64>(), (-3i32..3).prop_map(f64::from), Just(-0.0), Just(f64::NAN), Just(f64::INFINITY)]
}

fn json() -> impl Strategy<Value = Jsonb> {
    let leaf = prop_oneof![
        Just(Jsonb::Null),
        any::<bool>().prop_map(Jsonb::Bool),
        (-100i64..100, 0u16..3).prop_map(|(c, s)| Jsonb::Number(Numeric::from_i128(c.into(), s))),
        "[a-c\u{e9}\"]{0,3}".prop_map(Jsonb::string),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Jsonb::Array),
            prop::collection::vec(("[ab]{0,2}".prop_map(Arc::from), inner), 0..3).prop_map(Jsonb::object),
        ]
    })
}

/// Any value of a type; small domains, so that equal values and shared prefixes are common.
fn datum(ty: Oid) -> BoxedStrategy<Datum> {
    match types::repr(ty) {
        Repr::Bool => any::<bool>().prop_map(Datum::Bool).boxed(),
        Repr::Int2 => any::<i16>().prop_map(Datum::Int2).boxed(),
        Repr::Int4 => prop_oneof![any::<i32>(), -3..3].prop_map(Datum::Int4).boxed(),
        Repr::Int8 if ty == oid::TID => (0i64..1 << 48).prop_map(Datum::Int8).boxed(),
        Repr::Int8 => prop_oneof![any::<i64>(), -3i64..3].prop_map(Datum::Int8).boxed(),
        Repr::Oid => any::<u32>().prop_map(Datum::Oid).boxed(),
        Repr::Float4 => float().prop_map(|value| Datum::Float4(value as f32)).boxed(),
        Repr::Float8 => float().prop_map(Datum::Float8).boxed(),
        Repr::Numeric => numeric().prop_map(|value| Datum::Numeric(Arc::new(value))).boxed(),
        Repr::Text if ty == oid::CHAR => "[a-z]".prop_map(Datum::text).boxed(),
        Repr::Text if ty == oid::JSON => json().prop_map(|value| Datum::text(value.to_string())).boxed(),
        Repr::Text => "[ab \u{e9},{}\"\\\\()]{0,4}".prop_map(Datum::text).boxed(),
        Repr::Bytea => prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(255), any::<u8>()], 0..5)
            .prop_map(|bytes| Datum::Bytea(Arc::from(bytes)))
            .boxed(),
        Repr::Date => prop_oneof![DATE_MIN..DATE_END, -400..400, Just(i32::MIN), Just(i32::MAX)]
            .prop_map(Datum::Date)
            .boxed(),
        Repr::Time => (0..USECS_PER_DAY).prop_map(Datum::Time).boxed(),
        Repr::Timestamp => moment().prop_map(Datum::Timestamp).boxed(),
        Repr::TimestampTz => moment().prop_map(Datum::TimestampTz).boxed(),
        Repr::Interval => prop_oneof![
            (-2i32..3, -40i32..40, -2i64..3).prop_map(|(m, d, h)| Interval::new(m, d, h * USECS_PER_DAY)),
            (any::<i32>(), any::<i32>(), any::<i64>()).prop_map(|(m, d, u)| Interval::new(m, d, u)),
        ]
        .prop_map(Datum::Interval)
        .boxed(),
        Repr::Uuid => any::<[u8; 16]>().prop_map(|bytes| Datum::Uuid(Arc::new(bytes))).boxed(),
        Repr::Jsonb => json().prop_map(|value| Datum::Jsonb(Arc::new(value))).boxed(),
        Repr::Array => {
            let element = types::element_of(ty);
            let one = if types::info(ty).is_some_and(|info| info.kind == TypeKind::Base) {
                datum(element)
            } else {
                prop_oneof![4 => datum(element), 1 => Just(Datum::Null)].boxed()
            };
            prop::collection::vec(one, 0..4)
                .prop_map(move |values| {
                    let mut array = Array::from_values(element, values);
                    if matches!(ty, oid::INT2VECTOR | oid::OIDVECTOR) {
                        array.dims.iter_mut().for_each(|dim| dim.lower = 0);
                    }
                    Datum::Array(Arc::new(array))
                })
                .boxed()
        }
        Repr::Record | Repr::None => Just(Datum::Null).boxed(),
    }
}

fn moment() -> impl Strategy<Value = i64> {
    prop_oneof![TIMESTAMP_MIN..TIMESTAMP_END, Just(i64::MIN), Just(i64::MAX), -5i64..5]
}

/// Types with values of their own, arrays of them included.
fn testable() -> Vec<Oid> {
    TYPES
        .iter()
        .filter(|info| {
            let base = if info.is_array() { types::repr(info.element) } else { info.repr };
            !matches!(base, Repr::None | Repr::Record | Repr::Array)
                && !matches!(info.oid, oid::VOID | oid::ANYARRAY | oid::ANYCOMPATIBLEARRAY)
        })
        .map(|info| info.oid)
        .collect()
}

fn typed_pair() -> impl Strategy<Value = (Oid, Datum, Datum)> {
    prop::sample::select(testable()).prop_flat_map(|ty| (Just(ty), datum(ty), datum(ty)))
}

fn hash(ty: Oid, value: &Datum) -> u64 {
    let mut state = DefaultHasher::new();
    hash_typed(ty, value, &mut state);
    state.finish()
}

fn encoded(ty: Oid, value: &Datum, descending: bool) -> Vec<u8> {
    let mut out = Vec::new();
    key::encode(value, ty, descending, false, &mut out);
    out
}

/// Bit for bit the same value, not only an equal one.
fn same(ty: Oid, a: &Datum, b: &Datum) -> bool {
    let style = Style::default();
    compare_typed(ty, a, b).is_eq() && output_string(a, ty, &style) == output_string(b, ty, &style)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn key_order_is_value_order((ty, a, b) in typed_pair()) {
        let order = compare_typed(ty, &a, &b);
        prop_assert_eq!(encoded(ty, &a, false).cmp(&encoded(ty, &b, false)), order);
        prop_assert_eq!(encoded(ty, &a, true).cmp(&encoded(ty, &b, true)), order.reverse());
        if order.is_eq() {
            prop_assert_eq!(hash(ty, &a), hash(ty, &b));
        }
        prop_assert_eq!(compare_typed(ty, &b, &a), order.reverse());
        // A second column never changes what the first one decided.
        let suffix = |value: &Datum, more: &[u8]| [encoded(ty, value, false).as_slice(), more].concat();
        if order != Ordering::Equal {
            prop_assert_eq!(suffix(&a, &[255]).cmp(&suffix(&b, &[0])), order);
        }
        let null = encoded(ty, &Datum::Null, false);
        prop_assert!(encoded(ty, &a, false) < null);
    }

    #[test]
    fn forms_bring_values_back((ty, value, other) in typed_pair()) {
        let mut bytes = Vec::new();
        binary::store(&value, &mut bytes);
        let length = bytes.len();
        binary::store(&other, &mut bytes);
        let (again, used) = binary::load(ty, &bytes).unwrap();
        prop_assert_eq!(used, length);
        prop_assert!(same(ty, &value, &again), "stored {:?} {:?}", value, again);

        let mut sent = Vec::new();
        binary::send(&value, ty, &mut sent);
        let received = binary::receive(Type::new(ty), &sent).unwrap();
        prop_assert!(same(ty, &value, &received), "sent {:?} {:?}", value, received);

        let style = Style::default();
        let readable = ![oid::CSTRING, oid::ACLITEM].contains(&types::element_of(ty));
        if readable {
            let text = output_string(&value, ty, &style);
            let read = input(Type::new(ty), &text, &style).unwrap();
            prop_assert!(same(ty, &value, &read), "{} gave {:?} for {:?}", text, read, value);
        }

        let mut builder = ColumnBuilder::new(Type::new(ty), 3);
        for value in [&value, &Datum::Null, &other] {
            builder.append(value).unwrap();
        }
        let column = builder.finish();
        prop_assert_eq!(column.data_type(), &data_type(Type::new(ty)));
        let reader = ColumnReader::new(column.as_ref(), Type::new(ty)).unwrap();
        prop_assert!(same(ty, &reader.get(0).unwrap(), &value));
        prop_assert!(reader.get(1).unwrap().is_null());
        prop_assert!(same(ty, &reader.get(2).unwrap(), &other));
        let keys = group_key(&column, Type::new(ty)).unwrap();
        prop_assert_eq!(keys.len(), 3);
        if compare_typed(ty, &value, &other).is_eq() {
            let (a, b) = (keys.slice(0, 1), keys.slice(2, 1));
            prop_assert_eq!(a.to_data(), b.to_data());
        }
    }

    #[test]
    fn any_bytes_are_answered(ty in prop::sample::select(testable()), bytes in prop::collection::vec(any::<u8>(), 0..80), text in ".{0,20}") {
        let _ = binary::receive(Type::new(ty), &bytes);
        let _ = binary::load(ty, &bytes);
        let _ = input(Type::new(ty), &text, &Style::default());
        let _ = key::decode_numeric(&bytes, 3);
    }

    #[test]
    fn dates_from_any_text(text in "[-+0-9:./ T,a-zA-Z]{0,24}") {
        for ty in [oid::DATE, oid::TIME, oid::TIMESTAMP, oid::TIMESTAMPTZ, oid::INTERVAL, oid::FLOAT8, oid::NUMERIC] {
            let _ = input(Type::new(ty), &text, &Style::default());
        }
    }
}

#[test]
fn decimal_columns_round_trip() {
    let ty = Type::with_typmod(oid::NUMERIC, types::numeric_typmod(10, 2));
    let mut builder = ColumnBuilder::new(ty, 2);
    for text in ["12.5", "NaN", "-99999999.99"] {
        builder.append(&Datum::Numeric(Arc::new(Numeric::parse(text).unwrap()))).unwrap();
    }
    assert!(builder.append(&Datum::Numeric(Arc::new(Numeric::parse("1e8").unwrap()))).is_err());
    let column = builder.finish();
    let reader = ColumnReader::new(column.as_ref(), ty).unwrap();
    let style = Style::default();
    let shown: Vec<String> =
        (0..3).map(|row| output_string(&reader.get(row).unwrap(), ty.oid, &style)).collect();
    assert_eq!(shown, ["12.50", "NaN", "-99999999.99"]);
}

#[test]
fn a_datum_is_three_words() {
    assert_eq!(size_of::<Datum>(), 24);
}
