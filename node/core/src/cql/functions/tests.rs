use super::*;
use crate::cql::constant::Constant;
use crate::cql::decimal::Decimal;
use crate::cql::duration::Duration;
use crate::cql::uuid;
use crate::cql::value::arbitrary::{SCALARS, value};
use crate::types::TimestampMicros;
use bytes::Bytes;
use proptest::prelude::*;

/// `5` of type `int`, `1.5` of type `decimal`.
fn of(ty: &CqlType, text: &str) -> Bytes {
    let constant = match ty {
        CqlType::Float | CqlType::Double | CqlType::Decimal => Constant::Float(text.into()),
        ty if ty.is_numeric() => Constant::Integer(text.into()),
        _ => Constant::String(text.into()),
    };
    ty.constant(&constant).unwrap().unwrap()
}

fn shown(ty: &CqlType, bytes: Option<Bytes>) -> String {
    ty.to_literal(bytes.as_deref()).unwrap()
}

#[test]
fn arithmetic_is_javas_in_cassandras_types() {
    use CqlType::{Bigint, Decimal, Double, Float, Int, Smallint, Tinyint, Varint};
    use Operator::{Add, Divide, Multiply, Remainder, Subtract};
    let vectors = [
        (Tinyint, "127", Add, Tinyint, "1", Tinyint, "-128"),
        (Smallint, "-32768", Subtract, Tinyint, "1", Smallint, "32767"),
        (Int, "2147483647", Add, Smallint, "1", Int, "-2147483648"),
        (Int, "65536", Multiply, Int, "65536", Int, "0"),
        (Int, "-7", Divide, Int, "2", Int, "-3"),
        (Int, "-7", Remainder, Int, "2", Int, "-1"),
        (Int, "-2147483648", Divide, Int, "-1", Int, "-2147483648"),
        (Bigint, "9223372036854775807", Add, Int, "1", Bigint, "-9223372036854775808"),
        (Varint, "9223372036854775807", Add, Bigint, "1", Varint, "9223372036854775808"),
        (Varint, "-7", Divide, Int, "2", Varint, "-3"),
        (Int, "1", Add, Float, "0.5", Float, "1.5"),
        (Bigint, "1", Add, Float, "0.5", Double, "1.5"),
        (Varint, "1", Add, Float, "0.5", Decimal, "1.5"),
        (Double, "1", Divide, Double, "0.0", Double, "Infinity"),
        (Double, "-5.5", Remainder, Double, "2", Double, "-1.5"),
        (Decimal, "1.10", Add, Int, "1", Decimal, "2.10"),
        (Decimal, "1.5", Multiply, Decimal, "2.50", Decimal, "3.750"),
        (Decimal, "1", Divide, Decimal, "3", Decimal, "0.33333333333333333333333333333333"),
        (Decimal, "1", Divide, Decimal, "8", Decimal, "0.125"),
        (Decimal, "200", Divide, Decimal, "2", Decimal, "1E+2"),
        (Decimal, "2", Divide, Decimal, "3", Decimal, "0.66666666666666666666666666666667"),
        (Decimal, "-5.5", Remainder, Decimal, "2", Decimal, "-1.5"),
        (Decimal, "1e-2000000000", Divide, Decimal, "1", Decimal, "0"),
    ];
    for (left, a, operator, right, b, ty, wanted) in vectors {
        assert_eq!(arithmetic_type(&left, &right), Some(ty.clone()));
        let (x, y) = (of(&left, a), of(&right, b));
        let result = arithmetic(operator, (&left, Some(&x)), (&right, Some(&y))).unwrap();
        assert_eq!(shown(&ty, result), wanted, "{a} {} {b}", operator.symbol());
    }
}

#[test]
fn arithmetic_that_has_no_result_says_so() {
    use CqlType::{Decimal, Int, Text, Varint};
    let one = of(&Int, "1");
    assert_eq!(arithmetic(Operator::Add, (&Int, None), (&Int, Some(&one))), Ok(None));
    assert_eq!(arithmetic(Operator::Add, (&Int, Some(&[])), (&Int, Some(&one))), Ok(None));
    for (ty, operator) in
        [(Int, Operator::Divide), (Varint, Operator::Remainder), (Decimal, Operator::Divide)]
    {
        let (one, zero) = (of(&ty, "1"), of(&ty, "0"));
        let failed = arithmetic(operator, (&ty, Some(&one)), (&ty, Some(&zero))).unwrap_err();
        assert_eq!(
            failed.to_string(),
            format!("the operation '{ty} {} {ty}' failed: / by zero", operator.symbol())
        );
    }
    assert!(matches!(
        arithmetic(Operator::Add, (&Text, Some(b"a")), (&Int, Some(&one))),
        Err(FunctionError::Unsupported { .. })
    ));
    let (tiny, huge) = (of(&Decimal, "1e-2000000000"), of(&Decimal, "1e2000000000"));
    for operator in [Operator::Add, Operator::Subtract, Operator::Divide, Operator::Remainder] {
        let result = arithmetic(operator, (&Decimal, Some(&huge)), (&Decimal, Some(&tiny)));
        assert!(matches!(result, Err(FunctionError::TooLarge { .. })), "{operator:?}");
    }
    let nan = of(&CqlType::Double, "NaN");
    let result = arithmetic(Operator::Add, (&Varint, Some(&one)), (&CqlType::Double, Some(&nan)));
    assert_eq!(result, Err(FunctionError::NotDecimal { value: "NaN".into() }));
    assert_eq!(negate(&Int, Some(&one)).unwrap().as_deref(), Some(&[0xff; 4][..]));
}

#[test]
fn a_blob_is_another_type_only_if_it_may_be() {
    let int = of(&CqlType::Int, "5");
    assert_eq!(blob_as(&CqlType::Int, Some(&int)), Ok(Some(int.clone())));
    assert_eq!(blob_as(&CqlType::Int, None), Ok(None));
    assert!(matches!(blob_as(&CqlType::Bigint, Some(&int)), Err(FunctionError::Value(_))));
}

#[test]
fn casts_are_javas() {
    use CqlType::{
        Ascii, Bigint, Boolean, Counter, Decimal, Double, Float, Int, Smallint, Text, Tinyint,
        Varint,
    };
    let vectors = [
        (Int, "257", Tinyint, "1"),
        (Int, "-32769", Smallint, "32767"),
        (Double, "1e30", Int, "2147483647"),
        (Double, "-1e30", Bigint, "-9223372036854775808"),
        (Double, "NaN", Int, "0"),
        (Double, "300.9", Tinyint, "44"),
        (Double, "1e30", Tinyint, "-1"),
        (Varint, "18446744073709551617", Bigint, "1"),
        (Varint, "-18446744073709551617", Int, "-1"),
        (Decimal, "-12.9", Int, "-12"),
        (Decimal, "1e100", Bigint, "0"),
        (Decimal, "1e-1000000000", Bigint, "0"),
        (Decimal, "12.9", Varint, "12"),
        (Decimal, "0.1", Double, "0.1"),
        (Float, "0.5", Decimal, "0.5"),
        (Int, "3", Decimal, "3"),
        (Counter, "7", Int, "7"),
        (Bigint, "16777217", Float, "1.6777216E7"),
        (Int, "-5", Text, "'-5'"),
        (Float, "1", Ascii, "'1.0'"),
        (CqlType::Date, "2011-02-03", Text, "'2011-02-03'"),
        (CqlType::Timestamp, "2011-02-03T04:05:06.789Z", Text, "'2011-02-03T04:05:06.789Z'"),
        (CqlType::Timestamp, "2011-02-03T04:05Z", CqlType::Date, "'2011-02-03'"),
        (CqlType::Date, "2011-02-03", CqlType::Timestamp, "'2011-02-03T00:00:00.000Z'"),
        (CqlType::Inet, "::1", Text, "'::1'"),
    ];
    for (from, text, to, wanted) in vectors {
        let result = cast(&from, &to, Some(&of(&from, text))).unwrap();
        assert_eq!(shown(&to, result), wanted, "cast({text} of {from} as {to})");
    }
    assert_eq!(cast(&Boolean, &Text, Some(&[1])).unwrap().as_deref(), Some(&b"true"[..]));
    for (from, to) in
        [(Text, Int), (Int, Boolean), (Int, Counter), (Text, Ascii), (CqlType::Blob, Text)]
    {
        assert!(!can_cast(&from, &to), "{from} {to}");
        assert!(matches!(cast(&from, &to, None), Err(FunctionError::Unsupported { .. })));
    }
    assert_eq!(cast(&Int, &Text, None), Ok(None));
}

fn aggregate(kind: AggregateKind, ty: &CqlType, values: &[Option<&str>]) -> String {
    let mut aggregate = Aggregate::new(kind, ty).unwrap();
    for text in values {
        aggregate.add(text.map(|text| of(ty, text)).as_deref()).unwrap();
    }
    shown(&aggregate_type(kind, ty).unwrap(), aggregate.finish().unwrap())
}

#[test]
fn aggregates_are_cassandras() {
    use AggregateKind::{Avg, Count, Max, Min, Sum};
    use CqlType::{Bigint, Counter, Decimal, Double, Float, Int, Smallint, Text, Tinyint, Varint};
    let max = "9223372036854775807";
    let vectors: [(AggregateKind, CqlType, &[Option<&str>], &str); 27] = [
        (Count, Text, &[Some("a"), None, Some("b")], "2"),
        (Count, Text, &[], "0"),
        (Min, Int, &[Some("3"), None, Some("-1")], "-1"),
        (Max, Int, &[Some("3"), None, Some("-1")], "3"),
        (Max, Text, &[], "null"),
        (Sum, Tinyint, &[Some("127"), Some("1")], "-128"),
        (Avg, Tinyint, &[Some("127"), Some("126")], "126"),
        (Sum, Smallint, &[Some("1"), Some("2")], "3"),
        (Sum, Int, &[Some("2147483647"), Some("1")], "-2147483648"),
        (Avg, Int, &[Some("2147483647"), Some("2147483647")], "2147483647"),
        (Avg, Int, &[Some("-3"), Some("-4")], "-3"),
        (Sum, Bigint, &[Some(max), Some("1")], "-9223372036854775808"),
        (Avg, Bigint, &[Some(max), Some(max), None], max),
        (Sum, Counter, &[Some("1"), Some("2")], "3"),
        (Sum, Varint, &[Some(max), Some("1")], "9223372036854775808"),
        (Avg, Varint, &[Some("-3"), Some("-4")], "-3"),
        (Sum, Decimal, &[Some("1.10"), Some("2")], "3.10"),
        (Avg, Decimal, &[Some("1.0"), Some("1.1")], "1.0"),
        (Avg, Decimal, &[Some("1.1"), Some("1.2")], "1.2"),
        (Sum, Double, &[Some("0.1"), Some("0.2"), Some("0.3")], "0.6"),
        (Sum, Float, &[Some("1e38"), Some("3e38")], "Infinity"),
        (Sum, Double, &[Some("Infinity"), Some("1")], "Infinity"),
        (Avg, Double, &[Some("1"), Some("2")], "1.5"),
        (Avg, Int, &[], "0"),
        (Sum, Double, &[Some("1.5e308"), Some("1.5e308")], "Infinity"),
        (Avg, Double, &[Some("1.5e308"), Some("1.5e308")], "1.5E308"),
        (Avg, Double, &[Some("Infinity"), Some("-Infinity")], "NaN"),
    ];
    for (kind, ty, values, wanted) in vectors {
        assert_eq!(aggregate(kind, &ty, values), wanted, "{kind:?} of {values:?} of {ty}");
    }
    assert!(Aggregate::new(Sum, &Text).is_err());
    assert!(Aggregate::new(Min, &CqlType::Duration).is_err());
}

#[test]
fn a_sum_of_decimals_does_not_grow_without_end() {
    let ty = CqlType::Decimal;
    let mut sum = Aggregate::new(AggregateKind::Sum, &ty).unwrap();
    let grown = (0..100).try_for_each(|n| sum.add(Some(&of(&ty, &format!("1e-{}", n * 19_000)))));
    assert_eq!(grown, Err(FunctionError::TooLarge { function: "sum" }));
}

#[test]
fn times_are_turned_into_each_other() {
    use CqlType::{Date, Timestamp, Timeuuid};
    let millis = 1_296_705_906_789_i64;
    let id = now(TimestampMicros(millis * 1000 + 5), 3, 7, [1; 6]).unwrap();
    assert_eq!(Timeuuid.check(&id), Ok(()));
    assert_eq!(uuid::unix_100ns(id.as_ref().try_into().unwrap()), Some(millis * 10_000 + 53));
    let timestamp = Bytes::copy_from_slice(&millis.to_be_bytes());
    assert_eq!(to_timestamp(&Timeuuid, Some(&id)), Ok(Some(timestamp.clone())));
    assert_eq!(to_unix_timestamp(&Timestamp, Some(&timestamp)), Ok(Some(timestamp.clone())));
    let date = to_date(&Timeuuid, Some(&id)).unwrap();
    assert_eq!(shown(&Date, date.clone()), "'2011-02-03'");
    assert_eq!(to_date(&Timestamp, Some(&timestamp)).unwrap(), date);
    let midnight = to_timestamp(&Date, date.as_deref()).unwrap();
    assert_eq!(shown(&Timestamp, midnight), "'2011-02-03T00:00:00.000Z'");
    let before = to_date(&Timestamp, Some(&(-1_i64).to_be_bytes())).unwrap();
    assert_eq!(shown(&Date, before), "'1969-12-31'");
    let (least, greatest) =
        (min_timeuuid(Some(&timestamp)).unwrap(), max_timeuuid(Some(&timestamp)).unwrap());
    assert!(
        Timeuuid.compare(&least.unwrap(), &id).is_lt()
            && Timeuuid.compare(&greatest.unwrap(), &id).is_gt()
    );
    assert_eq!(to_date(&Timestamp, None), Ok(None));
    assert!(matches!(
        to_date(&Timestamp, Some(&i64::MAX.to_be_bytes())),
        Err(FunctionError::TooLarge { .. })
    ));
    assert!(matches!(to_date(&CqlType::Int, None), Err(FunctionError::Unsupported { .. })));
}

#[test]
fn durations_are_added_by_the_calendar() {
    use CqlType::{Date, Timestamp};
    let add = |ty: &CqlType, text: &str, duration: &str, negative: bool| {
        let duration = Duration::parse(duration).unwrap().to_bytes();
        add_duration(ty, Some(&of(ty, text)), Some(&duration), negative).map(|sum| shown(ty, sum))
    };
    assert_eq!(add(&Date, "2012-01-31", "1mo", false), Ok("'2012-02-29'".into()));
    assert_eq!(add(&Date, "2012-03-01", "1d", true), Ok("'2012-02-29'".into()));
    assert_eq!(
        add(&Timestamp, "2012-01-31T23:00Z", "1mo1d2h", false),
        Ok("'2012-03-02T01:00:00.000Z'".into())
    );
    assert!(matches!(
        add(&Date, "2012-01-31", "1h", false),
        Err(FunctionError::Precision { wanted: "day", .. })
    ));
    assert!(matches!(
        add(&Timestamp, "2012-01-31", "1ns", false),
        Err(FunctionError::Precision { wanted: "millisecond", .. })
    ));
}

fn number() -> impl Strategy<Value = (CqlType, Vec<u8>)> {
    let types: Vec<_> = SCALARS.into_iter().filter(CqlType::is_numeric).collect();
    prop::sample::select(types).prop_flat_map(|ty| {
        let v = value(&ty);
        (Just(ty), v)
    })
}

proptest! {
    #[test]
    fn results_are_values_of_the_promised_type((left, a) in number(), (right, b) in number()) {
        use Operator::{Add, Divide, Multiply, Remainder, Subtract};
        let ty = arithmetic_type(&left, &right).unwrap();
        for operator in [Add, Subtract, Multiply, Divide, Remainder] {
            if let Ok(Some(result)) = arithmetic(operator, (&left, Some(&a)), (&right, Some(&b))) {
                prop_assert_eq!(ty.check(&result), Ok(()));
            }
        }
    }

    #[test]
    fn every_cast_gives_a_value(
        (from, bytes) in prop::sample::select(SCALARS.to_vec()).prop_flat_map(|ty| { let v = value(&ty); (Just(ty), v) }),
        to in prop::sample::select(SCALARS.to_vec()),
    ) {
        match cast(&from, &to, Some(&bytes)) {
            Ok(Some(result)) => prop_assert_eq!(to.check(&result), Ok(())),
            Ok(None) => prop_assert!(bytes.is_empty()),
            Err(FunctionError::Unsupported { .. }) => prop_assert!(!can_cast(&from, &to)),
            Err(FunctionError::TooLarge { .. } | FunctionError::NotDecimal { .. }) => {}
            Err(other) => prop_assert!(false, "{}", other),
        }
    }

    /// By a second route: in 128 bits.
    #[test]
    fn decimals_add_and_multiply_as_integers_do(a in any::<i32>(), b in any::<i32>(), s in 0..9_u32, t in 0..9_u32) {
        let ty = CqlType::Decimal;
        let decimal = |n: i32, scale: u32| {
            Decimal { unscaled: n.into(), scale: i32::try_from(scale).unwrap() }.to_bytes()
        };
        let ten = |n: u32| 10_i128.pow(n);
        let (x, y) = (decimal(a, s), decimal(b, t));
        let result = |operator| {
            let bytes = arithmetic(operator, (&ty, Some(&x)), (&ty, Some(&y))).unwrap().unwrap();
            Decimal::from_bytes(&bytes).unwrap()
        };
        let sum = Decimal { unscaled: (i128::from(a) * ten(9 - s) + i128::from(b) * ten(9 - t)).into(), scale: 9 };
        prop_assert!(result(Operator::Add).compare(&sum).is_eq());
        let scale = i32::try_from(s + t).unwrap();
        let product = Decimal { unscaled: (i128::from(a) * i128::from(b)).into(), scale };
        prop_assert!(result(Operator::Multiply).compare(&product).is_eq());
    }

    #[test]
    fn sums_do_not_depend_on_the_order(numbers in proptest::collection::vec(any::<i64>(), 0..20)) {
        let of = |numbers: &mut dyn Iterator<Item = &i64>, kind| {
            let mut aggregate = Aggregate::new(kind, &CqlType::Bigint).unwrap();
            numbers.for_each(|n| aggregate.add(Some(&n.to_be_bytes())).unwrap());
            aggregate.finish().unwrap()
        };
        for kind in [AggregateKind::Sum, AggregateKind::Avg, AggregateKind::Min, AggregateKind::Max] {
            prop_assert_eq!(of(&mut numbers.iter(), kind), of(&mut numbers.iter().rev(), kind));
        }
        let sum = numbers.iter().fold(0_i64, |sum, n| sum.wrapping_add(*n));
        prop_assert_eq!(of(&mut numbers.iter(), AggregateKind::Sum).unwrap(), sum.to_be_bytes().to_vec());
    }
}
