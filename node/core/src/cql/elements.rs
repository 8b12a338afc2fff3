//! Collections and user-defined types whose elements are cells of their own: where each lies, and how they become one
//! value again.
//!
//! ```text
//! type | path, which is also the order                           | what the cell holds
//! set  | the element, byte-comparable as a clustering column is  | no bytes
//! map  | the key, likewise                                       | the value
//! list | time i64, sign flipped | chance u32 | number u32        | the element
//! udt  | the place of the field u16                             | the field's value
//! ```
//!
//! Invariants: elements lie in the order in which a reader sees them, and what CQL calls equal (`1.0` and `1.00`) is one
//! element, which reads back in one form; both because paths are [`clustering`] keys of one column. A list's elements lie
//! by the time of the coordinator that wrote them: what is appended counts from 1970 forwards, what is prepended backwards,
//! so neither has to know what there is already. `chance` keeps two coordinators of one microsecond apart, `number` the
//! elements of one statement or batch in their order. (Cassandra: a timeuuid, mirrored at 2010 for what is prepended.)
//!
//! **This goes to disk: it never changes.**
//!
//! CAVEAT: who appends twice, because the first time went unanswered, has appended twice (as in Cassandra).

use super::clustering::{self, ClusteringError};
use super::collection;
use super::types::CqlType;
use super::value::ValueError;
use crate::counter::{self, CounterError};
use crate::data::{Cell, ClusteringKey, Complex};
use crate::merge::value_at;
use crate::types::{GcSeconds, TimestampMicros};
use bytes::Bytes;
use thiserror::Error;

/// Why elements are no value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ElementsError {
    /// A path that is not of this type.
    #[error(transparent)]
    Path(#[from] ClusteringError),
    /// They are too many for one value.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// A path that is no place of a field.
    #[error("a field lies at a path of {found} bytes, where a place has two")]
    Field {
        /// How many bytes it has.
        found: usize,
    },
    /// A shard of a counter that is none.
    #[error(transparent)]
    Counter(#[from] CounterError),
}

/// The path of a set's element, or of a map's key, of type `of`.
///
/// # Errors
/// A value that its type does not have, or one of more than [`clustering::VALUE_BYTES_MAX`] bytes.
pub fn path(of: &CqlType, value: &[u8]) -> Result<Bytes, ClusteringError> {
    clustering::encode(&[(of.clone(), false)], &[Some(value)]).map(|key| key.0)
}

/// The path of the field of a user-defined type at this place. `None`: no type has so many.
pub fn field_path(place: usize) -> Option<Bytes> {
    u16::try_from(place).ok().map(|place| Bytes::copy_from_slice(&place.to_be_bytes()))
}

/// The value of a user-defined type whose fields these are; null if all of them are. A field that the type does not have
/// is one that another node has heard of already.
fn of_fields<'a>(
    fields: usize,
    live: impl Iterator<Item = (&'a Bytes, &'a Bytes)>,
) -> Result<Option<Bytes>, ElementsError> {
    let mut parts = vec![None; fields];
    for (path, value) in live {
        let place = <[u8; 2]>::try_from(path.as_ref());
        let place = place.map_err(|_| ElementsError::Field { found: path.len() })?;
        if let Some(part) = parts.get_mut(usize::from(u16::from_be_bytes(place))) {
            *part = Some(value);
        }
    }
    if parts.iter().all(Option::is_none) {
        return Ok(None);
    }
    Ok(Some(collection::encode_tuple(&parts)?))
}

/// What [`path`] was made of.
fn of_path(of: &CqlType, path: &Bytes) -> Result<Bytes, ClusteringError> {
    let values = clustering::decode(&[(of.clone(), false)], &ClusteringKey(path.clone()))?;
    // A path that says null comes from nowhere; as an element it is one without bytes.
    Ok(values.into_iter().flatten().next().unwrap_or_default())
}

/// The elements that live at `now`, with their paths and values, in order.
pub fn live(complex: &Complex, now: GcSeconds) -> impl Iterator<Item = (&Bytes, &Bytes)> {
    let value = move |cell| value_at(cell, now);
    complex
        .elements
        .iter()
        .filter_map(move |(path, cell): &(Bytes, Cell)| Some((path, value(cell)?)))
}

/// The collection or user-defined type `ty`, or the counter, that lives at `now`. Without elements it is null, as in Cassandra.
///
/// # Errors
/// A path that is not of this type, or a shard that is no number: what is stored is damaged.
pub fn value(
    ty: &CqlType,
    complex: &Complex,
    now: GcSeconds,
) -> Result<Option<Bytes>, ElementsError> {
    if ty.is_counter() {
        let total = counter::total(complex, now)?;
        return Ok(total.map(|total| Bytes::copy_from_slice(&total.to_be_bytes())));
    }
    let mut live = live(complex, now).peekable();
    if live.peek().is_none() {
        return Ok(None);
    }
    Ok(match ty {
        CqlType::List { .. } => {
            let elements: Vec<_> = live.map(|(_, value)| value).collect();
            Some(collection::encode_list(&elements)?)
        }
        CqlType::Set { of, .. } => {
            let elements: Result<Vec<_>, _> = live.map(|(path, _)| of_path(of, path)).collect();
            Some(collection::encode_set(of, elements?)?)
        }
        CqlType::Map { key, .. } => {
            let pair = |(path, value)| Ok::<_, ClusteringError>((of_path(key, path)?, value));
            let pairs: Result<Vec<_>, _> = live.map(pair).collect();
            Some(collection::encode_map(key, pairs?)?)
        }
        CqlType::User { of, .. } => of_fields(of.fields.len(), live)?,
        // Nothing else has elements.
        _ => None,
    })
}

/// Where a request puts new elements of lists.
#[derive(Debug)]
pub struct Places {
    now: i64,
    chance: u32,
    /// The number of the next one that is appended.
    back: u32,
    /// Below the number of the first one that was prepended.
    front: u32,
}

impl Places {
    /// Of a request at this time, whose chance is drawn anew. A coordinator gives no time twice.
    #[expect(clippy::cast_possible_truncation, reason = "of chance any part will do")]
    pub fn new(now: TimestampMicros, chance: u128) -> Places {
        Places { now: now.0, chance: chance as u32, back: 0, front: u32::MAX }
    }

    /// So many places behind all there are. `None`: the request has more elements than can be numbered.
    pub fn back(&mut self, count: usize) -> Option<Vec<Bytes>> {
        let first = self.back;
        self.back = first.checked_add(u32::try_from(count).ok()?)?;
        Some((first..self.back).map(|number| self.path(self.now, number)).collect())
    }

    /// So many places, in order, before all there are.
    pub fn front(&mut self, count: usize) -> Option<Vec<Bytes>> {
        let end = self.front;
        self.front = end.checked_sub(u32::try_from(count).ok()?)?;
        let time = self.now.saturating_neg();
        Some((self.front..end).map(|number| self.path(time, number)).collect())
    }

    fn path(&self, time: i64, number: u32) -> Bytes {
        let mut path = Vec::with_capacity(16);
        path.extend_from_slice(&(time ^ i64::MIN).to_be_bytes());
        path.extend_from_slice(&self.chance.to_be_bytes());
        path.extend_from_slice(&number.to_be_bytes());
        Bytes::from(path)
    }
}

#[cfg(test)]
mod tests;
