use super::*;
use proptest::prelude::*;

fn n(text: &str) -> Numeric {
    Numeric::parse(text).unwrap()
}

/// Each row: an operation as PostgreSQL 15 answered it.
#[test]
fn arithmetic_as_postgres() {
    type Op = fn(&Numeric, &Numeric) -> Result<Numeric>;
    let table: &[(Op, &str, &str, &str)] = &[
        (Numeric::div, "1", "3", "0.33333333333333333333"),
        (Numeric::div, "2", "3", "0.66666666666666666667"),
        (Numeric::div, "10", "4", "2.5000000000000000"),
        (Numeric::div, "1", "7000", "0.00014285714285714286"),
        (Numeric::div, "123456789012345678901234567890", "7", "17636684144620811271604938270"),
        (Numeric::div, "-1", "8", "-0.12500000000000000000"),
        (Numeric::mul, "1.50", "2.0", "3.000"),
        (Numeric::add, "1.5", "2.25", "3.75"),
        (Numeric::rem, "-7.5", "2", "-1.5"),
        (Numeric::power, "2", "3", "8.0000000000000000"),
        (Numeric::power, "2", "0.5", "1.4142135623730950"),
        (Numeric::power, "2", "-3", "0.1250000000000000"),
        (Numeric::power, "1.1", "100", "13780.6123398222701841"),
        (
            Numeric::power,
            "2",
            "200",
            "1606938044258990275541962092341162602522202993782792835301376.0000000000000000",
        ),
        (Numeric::power, "0.5", "-10.5", "1448.1546878700493"),
        (Numeric::power, "12.34", "5.6", "1292304.6121742964"),
        (Numeric::div, "123", "0.007", "17571.428571428571"),
        (Numeric::div, "1e-20", "3", "0.0000000000000000000033333333333333333333"),
        (Numeric::div, "1e20", "3", "33333333333333333333"),
        (Numeric::div, "99999", "10000", "9.9999000000000000"),
        (Numeric::div_trunc, "-7", "2", "-3"),
        (Numeric::div, "Infinity", "2", "Infinity"),
        (Numeric::mul, "Infinity", "0", "NaN"),
        (Numeric::sub, "Infinity", "Infinity", "NaN"),
    ];
    for (op, a, b, want) in table {
        assert_eq!(op(&n(a), &n(b)).unwrap().to_string(), *want, "{a} {b}");
    }
    assert_eq!(n("2").sqrt().unwrap().to_string(), "1.414213562373095");
    assert_eq!(n("1").exp().unwrap().to_string(), "2.7182818284590452");
    for (op, text, want) in [
        (Numeric::ln as fn(&Numeric) -> Result<Numeric>, "2", "0.6931471805599453"),
        (Numeric::ln, "0.95", "-0.051293294387550533"),
        (Numeric::ln, "123456789.123", "18.631401767164318"),
        (Numeric::ln, "1.0000001", "0.00000009999999500000033"),
        (Numeric::exp, "-20.5", "0.000000001250152866386743"),
        (Numeric::exp, "100", "26881171418161354484126255515800135873611119"),
        (Numeric::exp, "0.001", "1.0010005001667083"),
        (Numeric::log10, "0.001", "-3.0000000000000000"),
        (Numeric::sqrt, "10000000000", "100000.00000000000"),
        (Numeric::sqrt, "123456789.12", "11111.11106595556"),
        (Numeric::sqrt, "0.0001", "0.01000000000000000"),
    ] {
        assert_eq!(op(&n(text)).unwrap().to_string(), want, "{text}");
    }
    assert_eq!(n("1000").log10().unwrap().to_string(), "3.0000000000000000");
    assert_eq!(n("1").div(&n("0")).unwrap_err().state(), SqlState::DIVISION_BY_ZERO);
    assert_eq!(n("2.5").round(0).to_string(), "3");
    assert_eq!(n("-2.5").round(0).to_string(), "-3");
    assert_eq!(n("1234").round(-2).to_string(), "1200");
    assert_eq!(n("-0.5").ceil().to_string(), "0");
    assert_eq!(n("-0.5").floor().to_string(), "-1");
    assert_eq!(Numeric::from_f64(1234.5).to_string(), "1234.5");
    assert_eq!(Numeric::from_f64(0.1 + 0.2).to_string(), "0.3");
    assert_eq!(Numeric::from_f64(1e20).to_string(), "100000000000000000000");
}

#[test]
fn text_and_limits() {
    for (text, want) in [
        ("0012.50", "12.50"),
        (" -0 ", "0"),
        (".5", "0.5"),
        ("5.", "5"),
        ("1e3", "1000"),
        ("1.25e1", "12.5"),
        ("1e-3", "0.001"),
        ("nan", "NaN"),
        ("-inf", "-Infinity"),
        ("170141183460469231731687303715884105728", "170141183460469231731687303715884105728"),
    ] {
        assert_eq!(n(text).to_string(), want);
    }
    for text in ["", ".", "1.2.3", "1e", "abc", "1 2", "--1", "1_0", "-nan", "0x10"] {
        assert_eq!(
            Numeric::parse(text).unwrap_err().state(),
            SqlState::INVALID_TEXT_REPRESENTATION,
            "{text}"
        );
    }
    assert!(Numeric::parse("1e131071").is_ok());
    assert_eq!(Numeric::parse("1e131072").unwrap_err().message(), "value overflows numeric format");
    assert!(Numeric::parse("1e-16384").is_err());
    let typmod = crate::types::numeric_typmod(4, 2);
    assert_eq!(n("99.994").apply_typmod(typmod).unwrap().to_string(), "99.99");
    let error = n("99.995").apply_typmod(typmod).unwrap_err();
    assert_eq!(
        error.fields().detail.as_deref(),
        Some("A field with precision 4, scale 2 must round to an absolute value less than 10^2.")
    );
    let negative = crate::types::numeric_typmod(2, -3);
    assert_eq!(n("12345").apply_typmod(negative).unwrap().to_string(), "12000");
    assert!(n("99999").apply_typmod(negative).is_err());
    assert_eq!(n("1e30").to_i64().unwrap_err().message(), "bigint out of range");
}

fn hash(value: &Numeric) -> u64 {
    let mut state = std::collections::hash_map::DefaultHasher::new();
    value.hash(&mut state);
    state.finish()
}

proptest! {
    #[test]
    fn text_round_trip(coefficient in any::<i128>(), scale in 0u16..60) {
        let value = Numeric::from_i128(coefficient, scale);
        let again = n(&value.to_string());
        prop_assert_eq!(again.to_string(), value.to_string());
        prop_assert_eq!(hash(&again), hash(&value));
    }

    #[test]
    fn small_and_big_agree(a in any::<i128>(), b in any::<i128>(), s in 0u16..40, t in 0u16..40) {
        let (x, y) = (Numeric::from_i128(a, s), Numeric::from_i128(b, t));
        let sum = x.add(&y).unwrap();
        prop_assert_eq!(&sum.sub(&y).unwrap(), &x);
        let (big_x, big_y, _) = x.aligned_big(&y).unwrap();
        prop_assert_eq!(x.cmp(&y), big_x.cmp(&big_y));
        if !y.is_zero() {
            let quotient = x.mul(&y).unwrap().div(&y).unwrap();
            prop_assert_eq!(quotient.round(i32::from(s)), x.clone());
            let rest = x.rem(&y).unwrap();
            prop_assert_eq!(x.div_trunc(&y).unwrap().mul(&y).unwrap().add(&rest).unwrap(), x);
        }
    }

    #[test]
    fn trailing_zeros_hash_alike(coefficient in any::<i64>(), scale in 0u16..20, more in 0i32..40) {
        let value = Numeric::from_i128(i128::from(coefficient), scale);
        let wider = value.round(i32::from(scale) + more);
        prop_assert_eq!(hash(&value), hash(&wider));
        prop_assert_eq!(value, wider);
    }
}
