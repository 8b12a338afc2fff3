use super::*;
use proptest::prelude::*;

fn string(text: &str) -> Constant {
    Constant::String(text.into())
}

fn integer_of(text: &str) -> Constant {
    Constant::Integer(text.into())
}

fn float_of(text: &str) -> Constant {
    Constant::Float(text.into())
}

fn bytes(ty: &CqlType, constant: &Constant) -> Vec<u8> {
    let bytes = ty.constant(constant).unwrap_or_else(|e| panic!("{ty} {constant:?}: {e}"));
    let bytes = bytes.expect("not null");
    assert_eq!(ty.check(&bytes), Ok(()), "{ty} {constant:?}");
    bytes.to_vec()
}

#[test]
fn constants_become_the_bytes_of_the_specification() {
    let blob = Constant::Blob(vec![0xca, 0xfe]);
    let uuid = Constant::Uuid(0x6ba7_b810_9dad_11d1_80b4_00c0_4fd4_30c8);
    let vectors: [(CqlType, Constant, &[u8]); 25] = [
        (CqlType::Ascii, string("ab"), b"ab"),
        (CqlType::Text, string("é"), "é".as_bytes()),
        (CqlType::Blob, blob, &[0xca, 0xfe]),
        (CqlType::Boolean, Constant::Boolean(true), &[1]),
        (CqlType::Tinyint, integer_of("-128"), &[0x80]),
        (CqlType::Smallint, integer_of("258"), &[1, 2]),
        (CqlType::Int, integer_of("-1"), &[0xff; 4]),
        (CqlType::Bigint, integer_of("1"), &[0, 0, 0, 0, 0, 0, 0, 1]),
        (CqlType::Counter, integer_of("1"), &[0, 0, 0, 0, 0, 0, 0, 1]),
        (CqlType::Varint, integer_of("128"), &[0, 0x80]),
        (CqlType::Decimal, float_of("1.5"), &[0, 0, 0, 1, 15]),
        (CqlType::Decimal, integer_of("-1"), &[0, 0, 0, 0, 0xff]),
        (CqlType::Float, integer_of("1"), &[0x3f, 0x80, 0, 0]),
        (CqlType::Float, float_of("NaN"), &[0x7f, 0xc0, 0, 0]),
        (CqlType::Float, float_of("-Infinity"), &[0xff, 0x80, 0, 0]),
        (CqlType::Double, float_of("1e400"), &[0x7f, 0xf0, 0, 0, 0, 0, 0, 0]),
        (CqlType::Date, string("1970-01-02"), &[0x80, 0, 0, 1]),
        (CqlType::Time, string("00:00:00.000000001"), &[0, 0, 0, 0, 0, 0, 0, 1]),
        (CqlType::Timestamp, integer_of("1"), &[0, 0, 0, 0, 0, 0, 0, 1]),
        (CqlType::Timestamp, string("1970-01-01T00:00:00.001Z"), &[0, 0, 0, 0, 0, 0, 0, 1]),
        (CqlType::Timestamp, string(""), &[]),
        (CqlType::Duration, Constant::Duration("1mo2d3ns".into()), &[2, 4, 6]),
        (CqlType::Inet, string("127.0.0.1"), &[127, 0, 0, 1]),
        (CqlType::Inet, string("::ffff:127.0.0.1"), &[127, 0, 0, 1]),
        (CqlType::Inet, string("::1"), &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
    ];
    for (ty, constant, wanted) in vectors {
        assert_eq!(bytes(&ty, &constant), wanted, "{ty} {constant:?}");
    }
    assert_eq!(bytes(&CqlType::Timeuuid, &uuid), bytes(&CqlType::Uuid, &uuid));
    assert_eq!(CqlType::Int.constant(&Constant::Null), Ok(None));
}

#[test]
fn what_does_not_fit_is_refused_in_cassandras_words() {
    let refused = |ty: CqlType, constant: &Constant| ty.constant(constant).unwrap_err().to_string();
    assert_eq!(refused(CqlType::Int, &string("abc")), "Invalid STRING constant (abc) of type int");
    assert_eq!(
        refused(CqlType::Text, &integer_of("1")),
        "Invalid INTEGER constant (1) of type text"
    );
    assert_eq!(
        refused(CqlType::Text, &Constant::Blob(vec![0xca])),
        "Invalid HEX constant (0xca) of type text"
    );
    let list = CqlType::list(CqlType::Int, false).unwrap();
    assert_eq!(refused(list, &integer_of("1")), "Invalid INTEGER constant (1) of type list<int>");
    assert!(
        refused(CqlType::Tinyint, &integer_of("128"))
            .starts_with("Unable to make tinyint from '128'")
    );
    assert!(refused(CqlType::Int, &integer_of("2147483648")).starts_with("Unable to make int"));
    assert!(refused(CqlType::Ascii, &string("é")).contains("ascii"));
    assert!(refused(CqlType::Inet, &string("localhost")).contains("address"));
    assert!(refused(CqlType::Timeuuid, &Constant::Uuid(0)).contains("version 0"));
    assert!(refused(CqlType::Duration, &integer_of("5")).contains("1h30m"));
    let long = refused(CqlType::Int, &string(&"é".repeat(10_000)));
    assert!(long.len() < 1000, "a long constant is cut");
}

#[test]
fn constants_have_a_type_of_their_own() {
    let own = |constant: Constant| CqlType::of_constant(&constant);
    assert_eq!(own(Constant::Null), None);
    assert_eq!(own(string("a")), Some(CqlType::Ascii));
    assert_eq!(own(string("é")), Some(CqlType::Text));
    assert_eq!(own(integer_of("2147483647")), Some(CqlType::Int));
    assert_eq!(own(integer_of("2147483648")), Some(CqlType::Bigint));
    assert_eq!(own(integer_of("9223372036854775808")), Some(CqlType::Varint));
    assert_eq!(own(float_of("1.5")), Some(CqlType::Double));
    assert_eq!(own(Constant::Uuid(0)), Some(CqlType::Uuid));
}

fn constant() -> impl Strategy<Value = Constant> {
    let text = "[-0-9a-fT:.Z]{0,12}";
    prop_oneof![
        any::<String>().prop_map(|t| Constant::String(t.into())),
        text.prop_map(|t| Constant::String(t.into())),
        "-?[0-9]{1,40}".prop_map(|t| Constant::Integer(t.into())),
        "-?[0-9]{1,20}\\.[0-9]{0,20}([eE][+-]?[0-9]{1,3})?".prop_map(|t| Constant::Float(t.into())),
        prop::sample::select(vec!["NaN", "-NaN", "Infinity", "-Infinity"])
            .prop_map(|t| Constant::Float(t.into())),
        any::<bool>().prop_map(Constant::Boolean),
        any::<u128>().prop_map(Constant::Uuid),
        any::<Vec<u8>>().prop_map(Constant::Blob),
        "-?([0-9]{1,3}y)?([0-9]{1,3}mo)?([0-9]{1,3}h)?".prop_map(|t| Constant::Duration(t.into())),
        text.prop_map(|t| Constant::Duration(t.into())),
        text.prop_map(|t| Constant::Integer(t.into())),
    ]
}

proptest! {
    #[test]
    fn what_a_constant_becomes_is_a_value(
        ty in prop::sample::select(crate::cql::value::arbitrary::SCALARS.to_vec()),
        constant in constant(),
    ) {
        if let Ok(Some(bytes)) = ty.constant(&constant) {
            prop_assert_eq!(ty.check(&bytes), Ok(()));
        }
        let _ = CqlType::of_constant(&constant);
    }
}
