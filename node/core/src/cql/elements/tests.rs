use super::*;
use crate::cql::collection::{Elements, Pairs};
use crate::cql::value::arbitrary::user;
use crate::data::{Content, Expiry};
use crate::types::TimestampMicros;
use proptest::prelude::*;

fn parse(ty: &str) -> CqlType {
    CqlType::parse(ty, &|_| None).unwrap()
}

fn cell(value: &[u8], expiry: Option<Expiry>) -> Cell {
    let value = Bytes::copy_from_slice(value);
    Cell { timestamp: TimestampMicros(1), content: Content::Value { value, expiry } }
}

fn complex(mut elements: Vec<(Bytes, Cell)>) -> Complex {
    elements.sort_by(|(a, _), (b, _)| a.cmp(b));
    elements.dedup_by(|(a, _), (b, _)| a == b);
    Complex { deletion: None, elements }
}

fn decimal(text: &str) -> Bytes {
    let ty = CqlType::Decimal;
    ty.constant(&crate::cql::Constant::Float(text.into())).unwrap().unwrap()
}

proptest! {
    #[test]
    fn a_set_is_read_as_it_was_written(elements in prop::collection::btree_set(any::<i32>(), 1..20)) {
        let bytes = |n: &i32| Bytes::copy_from_slice(&n.to_be_bytes());
        let paths = elements.iter().rev().map(|n| (path(&CqlType::Int, &bytes(n)).unwrap(), cell(b"", None)));
        let stored = complex(paths.collect());
        let read = value(&parse("set<int>"), &stored, GcSeconds(0)).unwrap().unwrap();
        let read: Vec<Bytes> =
            Elements::new(&read, "set").unwrap().map(|e| Bytes::copy_from_slice(e.unwrap())).collect();
        prop_assert_eq!(read, elements.iter().map(bytes).collect::<Vec<_>>());
    }

    #[test]
    fn a_map_is_read_as_it_was_written(pairs in prop::collection::btree_map("[a-z\\x00]{0,4}", any::<Vec<u8>>(), 1..20)) {
        let stored = pairs.iter().map(|(k, v)| (path(&CqlType::Text, k.as_bytes()).unwrap(), cell(v, None)));
        let stored = complex(stored.collect());
        let read = value(&parse("map<text, blob>"), &stored, GcSeconds(0)).unwrap().unwrap();
        let read: Vec<(Vec<u8>, Vec<u8>)> =
            Pairs::new(&read).unwrap().map(|p| p.map(|(k, v)| (k.to_vec(), v.to_vec())).unwrap()).collect();
        prop_assert_eq!(read, pairs.into_iter().map(|(k, v)| (k.into_bytes(), v)).collect::<Vec<_>>());
    }

    #[test]
    fn a_user_type_is_read_as_it_was_written(
        fields in prop::collection::vec(prop::option::of(any::<Vec<u8>>()), 1..300)
    ) {
        let of = user("t", vec![CqlType::Blob; fields.len()]);
        let ty = CqlType::User { of, frozen: false };
        let cells = fields.iter().enumerate().filter_map(|(place, field)| {
            Some((field_path(place).unwrap(), cell(field.as_deref()?, None)))
        });
        let read = value(&ty, &complex(cells.collect()), GcSeconds(0)).unwrap();
        let written = collection::encode_tuple(&fields).unwrap();
        prop_assert_eq!(read, fields.iter().any(Option::is_some).then_some(written));
    }

    #[test]
    fn a_list_is_in_the_order_in_which_it_was_made(
        // At which end, and how many at a time; a clock that moves on, or two statements of one batch.
        writes in prop::collection::vec((any::<bool>(), 0..4_usize, any::<bool>()), 0..12)
    ) {
        let (mut expected, mut stored) = (std::collections::VecDeque::new(), Vec::new());
        let mut now = 1_790_000_000_000_000_i64;
        let mut places = Places::new(TimestampMicros(now), 9);
        let mut next = 0_u8;
        for (front, count, later) in writes {
            if later {
                now += 1;
                places = Places::new(TimestampMicros(now), u128::from(next) * 7919);
            }
            let paths = if front { places.front(count) } else { places.back(count) }.unwrap();
            let values: Vec<u8> = (next..).take(count).collect();
            next += u8::try_from(count).unwrap();
            stored.extend(paths.into_iter().zip(&values).map(|(path, value)| (path, cell(&[*value], None))));
            if front {
                values.into_iter().rev().for_each(|value| expected.push_front(value));
            } else {
                expected.extend(values);
            }
        }
        prop_assert!(stored.iter().all(|(path, _)| path.len() == 16));
        let read = value(&parse("list<tinyint>"), &complex(stored), GcSeconds(0)).unwrap();
        prop_assert_eq!(read.is_none(), expected.is_empty());
        let read = read.unwrap_or_default();
        let read: Vec<u8> = Elements::new(&read, "list").unwrap().map(|e| e.unwrap()[0]).collect();
        prop_assert_eq!(read, Vec::from(expected));
    }
}

#[test]
fn what_cql_calls_equal_is_one_element() {
    let same = [decimal("1.0"), decimal("1.00"), decimal("1")];
    let paths: Vec<_> = same.iter().map(|d| path(&CqlType::Decimal, d).unwrap()).collect();
    assert!(paths.iter().all(|path| *path == paths[0]));
    assert!(path(&CqlType::Decimal, &decimal("-2.5")).unwrap() < paths[0]);
}

#[test]
fn what_has_expired_is_no_element_and_no_element_is_null() {
    let expiry = Some(Expiry { ttl_s: 5, expires_at: GcSeconds(10) });
    let one = |n: i32, expiry| (path(&CqlType::Int, &n.to_be_bytes()).unwrap(), cell(b"", expiry));
    let stored = complex(vec![one(1, expiry), one(2, None)]);
    let count = |now| {
        let read = value(&parse("set<int>"), &stored, GcSeconds(now)).unwrap();
        read.map(|read| Elements::new(&read, "set").unwrap().left())
    };
    assert_eq!((count(9), count(10)), (Some(2), Some(1)));
    let stored = complex(vec![one(1, expiry)]);
    assert_eq!(value(&parse("set<int>"), &stored, GcSeconds(10)), Ok(None));
    assert_eq!(value(&parse("set<int>"), &Complex::default(), GcSeconds(0)), Ok(None));
}

#[test]
fn a_path_of_another_type_is_an_error_and_no_value() {
    let stored = complex(vec![(Bytes::from_static(b"\x30nonsense"), cell(b"", None))]);
    let error = value(&parse("set<int>"), &stored, GcSeconds(0)).unwrap_err();
    assert!(matches!(error, ElementsError::Path(ClusteringError::Corrupt { .. })), "{error}");
    let long = path(&CqlType::Blob, &vec![0; 65_536]).unwrap_err();
    assert!(matches!(long, ClusteringError::TooLong { .. }), "{long}");
}

#[test]
fn a_request_has_no_more_places_than_can_be_numbered() {
    let mut places = Places::new(TimestampMicros(1), 1);
    assert_eq!(places.back(usize::MAX), None);
    assert_eq!(places.front(usize::MAX), None);
    assert_eq!(places.back(1).unwrap().len(), 1);
}

#[test]
fn a_field_that_is_not_known_yet_is_left_out_and_a_path_of_another_type_is_damage() {
    let ty = CqlType::User { of: user("t", vec![CqlType::Blob]), frozen: false };
    let at = |place: usize| (field_path(place).unwrap(), cell(b"x", None));
    let alone = collection::encode_tuple(&[Some(b"x")]).unwrap();
    assert_eq!(value(&ty, &complex(vec![at(0), at(1)]), GcSeconds(0)), Ok(Some(alone)));
    assert_eq!(value(&ty, &complex(vec![at(1)]), GcSeconds(0)), Ok(None));
    let odd = complex(vec![(Bytes::from_static(b"abc"), cell(b"x", None))]);
    assert_eq!(value(&ty, &odd, GcSeconds(0)), Err(ElementsError::Field { found: 3 }));
    assert_eq!(field_path(1 << 16), None);
}
