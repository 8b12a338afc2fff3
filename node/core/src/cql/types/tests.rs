use super::*;
use crate::cql::value::arbitrary::{any_type, user};
use proptest::prelude::*;

fn users(name: &str) -> Option<Arc<UserType>> {
    ["address", "Odd Name", "a_type", "select"]
        .contains(&name)
        .then(|| user(name, vec![CqlType::Int]))
}

fn parse(text: &str) -> Result<CqlType, TypeError> {
    CqlType::parse(text, &users)
}

#[test]
fn every_type_shows_itself_as_system_schema_does() {
    let texts = [
        "ascii",
        "bigint",
        "blob",
        "boolean",
        "counter",
        "date",
        "decimal",
        "double",
        "duration",
        "float",
        "inet",
        "int",
        "smallint",
        "text",
        "time",
        "timestamp",
        "timeuuid",
        "tinyint",
        "uuid",
        "varint",
        "list<int>",
        "frozen<list<int>>",
        "set<text>",
        "map<text, int>",
        "map<text, frozen<list<int>>>",
        "frozen<map<int, frozen<set<int>>>>",
        "frozen<tuple<int, text>>",
        "address",
        "frozen<address>",
        "list<frozen<address>>",
        "\"Odd Name\"",
        "frozen<\"Odd Name\">",
        "frozen<\"select\">",
    ];
    for text in texts {
        assert_eq!(parse(text).unwrap().to_string(), text);
    }
}

#[test]
fn other_spellings_are_read_too() {
    let same = [
        ("VARCHAR", "text"),
        ("tuple<int,text>", "frozen<tuple<int, text>>"),
        (" map < text , int > ", "map<text, int>"),
        ("frozen<list<list<int>>>", "frozen<list<frozen<list<int>>>>"),
        ("frozen<map<int, address>>", "frozen<map<int, frozen<address>>>"),
        ("tuple<list<int>>", "frozen<tuple<frozen<list<int>>>>"),
        ("list<tuple<int>>", "list<frozen<tuple<int>>>"),
        ("Address", "address"),
        ("'org.apache.cassandra.db.marshal.Int32Type'", "int"),
        ("'UTF8Type'", "text"),
        (
            "'org.apache.cassandra.db.marshal.MapType(UTF8Type,org.apache.cassandra.db.marshal.LongType)'",
            "map<text, bigint>",
        ),
        ("'FrozenType(ListType(Int32Type))'", "frozen<list<int>>"),
        ("'ReversedType(TimeUUIDType)'", "timeuuid"),
        ("'TupleType(Int32Type, UTF8Type)'", "frozen<tuple<int, text>>"),
    ];
    for (text, shown) in same {
        assert_eq!(parse(text).unwrap().to_string(), shown, "{text}");
    }
}

#[test]
fn what_is_no_type_is_refused() {
    assert!(matches!(parse("integer"), Err(TypeError::Unknown { .. })));
    assert!(matches!(parse("\"address"), Err(TypeError::Syntax { .. })));
    assert!(matches!(parse("\"ADDRESS\""), Err(TypeError::Unknown { .. })));
    assert!(matches!(parse(""), Err(TypeError::Syntax { at: 0, .. })));
    assert!(matches!(parse("int int"), Err(TypeError::Syntax { at: 4, .. })));
    assert!(matches!(parse("list<int"), Err(TypeError::Syntax { .. })));
    assert!(matches!(parse("list"), Err(TypeError::Syntax { .. })));
    assert!(matches!(parse("list<int, int>"), Err(TypeError::Parameters { given: 2, .. })));
    assert!(matches!(parse("map<int>"), Err(TypeError::Parameters { given: 1, .. })));
    assert!(matches!(parse("list<list<int>>"), Err(TypeError::NotFrozen { .. })));
    assert!(matches!(parse("list<address>"), Err(TypeError::NotFrozen { .. })));
    assert!(matches!(parse("list<counter>"), Err(TypeError::NotAllowed { .. })));
    assert!(matches!(parse("set<duration>"), Err(TypeError::NotAllowed { .. })));
    assert!(matches!(parse("map<duration, int>"), Err(TypeError::NotAllowed { .. })));
    assert!(parse("map<int, duration>").is_ok());
    assert!(matches!(parse("frozen<int>"), Err(TypeError::FrozenScalar { .. })));
    assert!(matches!(parse("frozen<list<frozen<int>>>"), Err(TypeError::FrozenScalar { .. })));
    assert!(matches!(parse("'EmptyType'"), Err(TypeError::Unknown { .. })));
    for deep in ["frozen<", "list<frozen<", "tuple<", "frozen<tuple<", "map<int,"] {
        assert_eq!(parse(&deep.repeat(100_000)), Err(TypeError::TooDeep), "{deep}");
    }
    let deep = format!("'{}'", "FrozenType(".repeat(100_000));
    assert_eq!(parse(&deep), Err(TypeError::TooDeep));
}

#[test]
fn what_may_be_in_a_key() {
    let good = ["int", "text", "frozen<list<int>>", "tuple<int, text>", "frozen<address>"];
    let bad = [
        "counter",
        "duration",
        "list<int>",
        "address",
        "tuple<int, duration>",
        "frozen<list<duration>>",
    ];
    for text in good {
        assert!(parse(text).unwrap().is_key_type(), "{text}");
    }
    for text in bad {
        assert!(!parse(text).unwrap().is_key_type(), "{text}");
    }
    assert!(
        parse("set<int>").unwrap().is_multicell() && !parse("tuple<int>").unwrap().is_multicell()
    );
}

#[test]
fn values_of_one_type_are_values_of_another() {
    let holds = |mine: &str, theirs: &str| {
        parse(mine).unwrap().value_compatible_with(&parse(theirs).unwrap())
    };
    for (mine, theirs) in [
        ("text", "ascii"),
        ("blob", "int"),
        ("varint", "int"),
        ("bigint", "timestamp"),
        ("uuid", "timeuuid"),
        ("list<text>", "list<ascii>"),
        ("tuple<int, text>", "tuple<int>"),
        ("int", "int"),
    ] {
        assert!(holds(mine, theirs), "{mine} {theirs}");
        let both = mine == theirs || mine == "bigint";
        assert_eq!(holds(theirs, mine), both, "{theirs} {mine}");
    }
    assert!(
        !holds("blob", "list<int>")
            && !holds("list<int>", "frozen<list<int>>")
            && !holds("bigint", "int")
    );
}

proptest! {
    #[test]
    fn types_come_back(ty in any_type()) {
        // Those that nothing can be made of are made by the strategy all the same.
        let text = ty.to_string();
        match CqlType::parse(&text, &|_| None) {
            Ok(back) => prop_assert_eq!(back, ty),
            Err(TypeError::NotAllowed { .. } | TypeError::Unknown { .. }) => {}
            Err(other) => prop_assert!(false, "{}: {}", text, other),
        }
    }

    #[test]
    fn any_text_is_read_without_panic(text in "(list|set|map|frozen|tuple|int|text|<|>|,| |\"|'|é){0,12}") {
        let _ = parse(&text);
    }
}
