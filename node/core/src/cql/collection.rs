//! Collections, tuples and user-defined types as bytes: taken apart and put together.
//!
//! ```text
//! list, set  | count i32 | then each: length i32 | element |
//! map        | count i32 | then each: length i32 | key | length i32 | value |
//! tuple, udt | then each: length i32, -1 for null | part |      the last ones may be missing, and are null then
//! ```
//!
//! Source: native protocol v5, §6.9 to §6.24 (the same in v3 and v4). No bytes at all are an empty collection. Taking
//! apart allocates nothing and believes no count: every element is there before it is handed out.

use super::types::CqlType;
use super::value::ValueError;
use bytes::Bytes;
use std::cmp::Ordering;

/// The `length i32` in front of a value, and the value; `None` is null, an `Err` that it is not there.
fn take<'a>(bytes: &mut &'a [u8], ty: &'static str) -> Result<Option<&'a [u8]>, ValueError> {
    let truncated = ValueError::Truncated { ty };
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else {
        return Err(truncated);
    };
    // Any negative length is null, as in Cassandra.
    let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
        *bytes = rest;
        return Ok(None);
    };
    let (value, rest) = rest.split_at_checked(length).ok_or(truncated)?;
    *bytes = rest;
    Ok(Some(value))
}

/// How many there are, and what follows. No more than can be there, for each takes `least` bytes.
fn take_count<'a>(
    bytes: &'a [u8],
    least: usize,
    ty: &'static str,
) -> Result<(usize, &'a [u8]), ValueError> {
    if bytes.is_empty() {
        return Ok((0, bytes));
    }
    let truncated = ValueError::Truncated { ty };
    let Some((count, rest)) = bytes.split_first_chunk::<4>() else {
        return Err(truncated);
    };
    match usize::try_from(i32::from_be_bytes(*count)) {
        Ok(count) if count <= rest.len() / least => Ok((count, rest)),
        _ => Err(truncated),
    }
}

/// The elements of a list or a set, one after the other. After an error there are no more.
#[derive(Debug, Clone)]
pub struct Elements<'a> {
    rest: &'a [u8],
    left: usize,
    ty: &'static str,
}

impl<'a> Elements<'a> {
    /// Takes a list or a set apart; `ty` is what errors call it.
    pub fn new(bytes: &'a [u8], ty: &'static str) -> Result<Elements<'a>, ValueError> {
        let (left, rest) = take_count(bytes, 4, ty)?;
        Ok(Elements { rest, left, ty })
    }

    /// How many are still to come, if all is well.
    pub fn left(&self) -> usize {
        self.left
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<&'a [u8], ValueError>;

    fn next(&mut self) -> Option<Self::Item> {
        let Some(left) = self.left.checked_sub(1) else {
            let extra = std::mem::take(&mut self.rest).len();
            return (extra > 0).then_some(Err(ValueError::Trailing { ty: self.ty, extra }));
        };
        self.left = left;
        let element = take(&mut self.rest, self.ty)
            .and_then(|element| element.ok_or(ValueError::NullElement { ty: self.ty }));
        if element.is_err() {
            (self.left, self.rest) = (0, &[]);
        }
        Some(element)
    }
}

/// The keys and values of a map, one after the other. After an error there are no more.
#[derive(Debug, Clone)]
pub struct Pairs<'a>(Elements<'a>);

impl<'a> Pairs<'a> {
    /// Takes a map apart.
    pub fn new(bytes: &'a [u8]) -> Result<Pairs<'a>, ValueError> {
        let (pairs, rest) = take_count(bytes, 8, "map")?;
        // A pair takes 8 bytes, so twice as many fit into the length of a slice.
        Ok(Pairs(Elements { rest, left: pairs * 2, ty: "map" }))
    }

    /// How many are still to come, if all is well.
    pub fn left(&self) -> usize {
        self.0.left / 2
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), ValueError>;

    fn next(&mut self) -> Option<Self::Item> {
        let key = match self.0.next()? {
            Ok(key) => key,
            Err(e) => return Some(Err(e)),
        };
        // The count was even, so after a key there is a value or an error.
        Some(self.0.next()?.map(|value| (key, value)))
    }
}

/// The parts of a tuple or of a user-defined type, one after the other; `None` is null. Missing ones do not come.
/// After an error there are no more.
#[derive(Debug, Clone)]
pub struct Parts<'a> {
    rest: &'a [u8],
    ty: &'static str,
}

impl<'a> Parts<'a> {
    /// Takes a tuple apart; `ty` is what errors call it.
    pub fn new(bytes: &'a [u8], ty: &'static str) -> Parts<'a> {
        Parts { rest: bytes, ty }
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = Result<Option<&'a [u8]>, ValueError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let part = take(&mut self.rest, self.ty);
        if part.is_err() {
            self.rest = &[];
        }
        Some(part)
    }
}

/// A list of these elements, in this order.
pub fn encode_list<V: AsRef<[u8]>>(elements: &[V]) -> Result<Bytes, ValueError> {
    encode_all("list", elements.len(), elements.iter().map(AsRef::as_ref))
}

/// A set of these elements of type `of`: sorted, each once.
pub fn encode_set<V: AsRef<[u8]>>(of: &CqlType, mut elements: Vec<V>) -> Result<Bytes, ValueError> {
    elements.sort_by(|a, b| of.compare(a.as_ref(), b.as_ref()));
    elements.dedup_by(|a, b| of.compare(a.as_ref(), b.as_ref()) == Ordering::Equal);
    encode_all("set", elements.len(), elements.iter().map(AsRef::as_ref))
}

/// A map of these pairs with keys of type `key`: sorted by key, each once, the last value of a key being its value.
pub fn encode_map<K: AsRef<[u8]>, V: AsRef<[u8]>>(
    key: &CqlType,
    mut pairs: Vec<(K, V)>,
) -> Result<Bytes, ValueError> {
    // Reversed first, so that the stable sort leaves the last of equals in front.
    pairs.reverse();
    pairs.sort_by(|(a, _), (b, _)| key.compare(a.as_ref(), b.as_ref()));
    pairs.dedup_by(|(a, _), (b, _)| key.compare(a.as_ref(), b.as_ref()) == Ordering::Equal);
    let both = pairs.iter().flat_map(|(k, v)| [k.as_ref(), v.as_ref()]);
    encode_all("map", pairs.len(), both)
}

/// The same value as it is kept: sets and maps sorted, those within too. Clients write them in whatever order they have
/// them; if two wrote one set in two orders, it would not be one key.
///
/// # Errors
/// Bytes that [`CqlType::check`] does not accept.
pub fn sorted(ty: &CqlType, bytes: &Bytes) -> Result<Bytes, ValueError> {
    if !has_sorted(ty) {
        return Ok(bytes.clone());
    }
    let inner = |ty: &CqlType, part: &[u8]| sorted(ty, &bytes.slice_ref(part));
    match ty {
        CqlType::List { of, .. } => {
            let all = Elements::new(bytes, "list")?.map(|element| inner(of, element?));
            encode_list(&all.collect::<Result<Vec<_>, _>>()?)
        }
        CqlType::Set { of, .. } => {
            let all = Elements::new(bytes, "set")?.map(|element| inner(of, element?));
            encode_set(of, all.collect::<Result<Vec<_>, _>>()?)
        }
        CqlType::Map { key, value, .. } => {
            let all = Pairs::new(bytes)?.map(|pair| {
                let (k, v) = pair?;
                Ok::<_, ValueError>((inner(key, k)?, inner(value, v)?))
            });
            encode_map(key, all.collect::<Result<Vec<_>, _>>()?)
        }
        CqlType::Tuple(types) => sorted_parts(types.iter(), bytes, inner),
        CqlType::User { of, .. } => sorted_parts(of.fields.iter().map(|(_, ty)| ty), bytes, inner),
        _ => Ok(bytes.clone()),
    }
}

fn sorted_parts<'t>(
    types: impl Iterator<Item = &'t CqlType>,
    bytes: &Bytes,
    inner: impl Fn(&CqlType, &[u8]) -> Result<Bytes, ValueError>,
) -> Result<Bytes, ValueError> {
    let parts = Parts::new(bytes, "tuple").zip(types);
    let parts = parts.map(|(part, ty)| part?.map(|part| inner(ty, part)).transpose());
    encode_tuple(&parts.collect::<Result<Vec<_>, _>>()?)
}

/// Whether it is a set or a map, or has one in it.
fn has_sorted(ty: &CqlType) -> bool {
    match ty {
        CqlType::Set { .. } | CqlType::Map { .. } => true,
        CqlType::List { of, .. } => has_sorted(of),
        CqlType::Tuple(types) => types.iter().any(has_sorted),
        CqlType::User { of, .. } => of.fields.iter().any(|(_, ty)| has_sorted(ty)),
        _ => false,
    }
}

/// A tuple, or a user-defined type, of these parts; `None` is null.
pub fn encode_tuple<V: AsRef<[u8]>>(parts: &[Option<V>]) -> Result<Bytes, ValueError> {
    let mut out = Vec::new();
    for part in parts {
        match part {
            Some(part) => put(&mut out, part.as_ref(), "tuple")?,
            None => out.extend_from_slice(&(-1_i32).to_be_bytes()),
        }
    }
    Ok(Bytes::from(out))
}

fn encode_all<'a>(
    ty: &'static str,
    count: usize,
    values: impl Iterator<Item = &'a [u8]>,
) -> Result<Bytes, ValueError> {
    let mut out = length(count, ty)?.to_vec();
    for value in values {
        put(&mut out, value, ty)?;
    }
    Ok(Bytes::from(out))
}

fn put(out: &mut Vec<u8>, value: &[u8], ty: &'static str) -> Result<(), ValueError> {
    out.extend_from_slice(&length(value.len(), ty)?);
    out.extend_from_slice(value);
    Ok(())
}

fn length(n: usize, ty: &'static str) -> Result<[u8; 4], ValueError> {
    match i32::try_from(n) {
        Ok(n) => Ok(n.to_be_bytes()),
        Err(_) => Err(ValueError::TooLarge { ty, found: n }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ty(name: &str) -> CqlType {
        CqlType::parse(name, &|_| None).expect(name)
    }

    fn raw(count: i32, values: &[&[u8]]) -> Bytes {
        let mut out = count.to_be_bytes().to_vec();
        values.iter().for_each(|value| put(&mut out, value, "test").expect("short"));
        Bytes::from(out)
    }

    #[test]
    fn sets_and_maps_are_sorted_wherever_they_are_and_lists_are_not() {
        let (one, two) = (&[0, 0, 0, 1][..], &[0, 0, 0, 2][..]);
        let set = ty("set<int>");
        let (given, kept) = (raw(3, &[two, one, two]), raw(2, &[one, two]));
        assert_eq!(sorted(&set, &given).expect("a set"), kept);
        assert_eq!(sorted(&set, &kept).expect("a set"), kept);
        assert_eq!(sorted(&set, &Bytes::new()).expect("an empty set"), raw(0, &[]));
        let list = raw(2, &[two, one]);
        assert_eq!(sorted(&ty("list<int>"), &list).expect("a list"), list);
        // The last value of a key is its value.
        let map = raw(3, &[two, b"a", one, b"b", two, b"c"]);
        let kept_map = raw(2, &[one, b"b", two, b"c"]);
        assert_eq!(sorted(&ty("map<int, text>"), &map).expect("a map"), kept_map);
        let (within, kept_within) = (raw(1, &[&given]), raw(1, &[&kept]));
        assert_eq!(sorted(&ty("list<frozen<set<int>>>"), &within).expect("a list"), kept_within);
        // What is missing at the end of a tuple stays missing.
        let tuple = ty("tuple<int, frozen<set<int>>, int>");
        let given = encode_tuple(&[None, Some(given)]).expect("a tuple");
        let kept = encode_tuple(&[None, Some(kept)]).expect("a tuple");
        assert_eq!(sorted(&tuple, &given).expect("a tuple"), kept);
        let short = raw(2, &[one]);
        assert_eq!(sorted(&set, &short), Err(ValueError::Truncated { ty: "set" }));
    }
}
