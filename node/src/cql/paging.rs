//! Where a page ends and the next one begins. Clients keep it and give it back to any node, perhaps after a restart of this
//! one, so it says all there is to say.
//!
//! ```text
//! | 1 u8 | remaining u64 (max: no limit) | given u64 | token i64 | key length u16 | key | after u8 | [clustering key] |
//! ```
//!
//! `given` are rows of this partition that were given out (for PER PARTITION LIMIT); `after` is 0 if the whole partition
//! was, and 1 if it goes on behind the clustering key.

use super::failure::Refusal;
use bytes::{BufMut as _, Bytes, BytesMut};
use helenus_core::{ClusteringKey, Key, token};
use helenus_proto::cql::{ErrorKind, ErrorResponse, Reader};

const FORMAT: u8 = 1;

/// The last row of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Rows that the statement's LIMIT leaves.
    pub(super) remaining: Option<u64>,
    /// Rows of this partition that were given.
    pub(super) given: u64,
    /// The partition.
    pub(super) key: Key,
    /// The row; `None`: the partition is through.
    pub(super) after: Option<ClusteringKey>,
}

impl Place {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(32 + self.key.0.len());
        out.put_u8(FORMAT);
        out.put_u64(self.remaining.unwrap_or(u64::MAX));
        out.put_u64(self.given);
        out.put_i64(token::of(&self.key.0).0);
        // A key has no more than this, or it would not have been written.
        out.put_u16(u16::try_from(self.key.0.len()).unwrap_or(u16::MAX));
        out.put_slice(&self.key.0);
        match &self.after {
            None => out.put_u8(0),
            Some(after) => {
                out.put_u8(1);
                out.put_slice(&after.0);
            }
        }
        out.freeze()
    }

    pub(super) fn decode(state: Bytes) -> Result<Place, Refusal> {
        let unknown = || {
            Box::new(ErrorResponse::new(
                ErrorKind::Protocol,
                "the paging state is not one of this server's: pass on that of the page before, unchanged",
            ))
        };
        let mut reader = Reader::new(state);
        let read = |reader: &mut Reader| {
            const WHAT: &str = "the paging state";
            let format = reader.byte(WHAT)?;
            let remaining = reader.long(WHAT)?.cast_unsigned();
            let given = reader.long(WHAT)?.cast_unsigned();
            let token = reader.long(WHAT)?;
            let key = reader.short(WHAT)?;
            let key = reader.take(WHAT, usize::from(key))?;
            let after = match reader.byte(WHAT)? {
                0 => None,
                _ => Some(ClusteringKey(reader.take(WHAT, reader.left())?)),
            };
            Ok::<_, helenus_proto::cql::Malformed>((format, remaining, given, token, key, after))
        };
        let read = read(&mut reader).map_err(|_| unknown())?;
        let (format, remaining, given, token, key, after) = read;
        if format != FORMAT || token != helenus_core::token::of(&key).0 {
            return Err(unknown());
        }
        let remaining = (remaining != u64::MAX).then_some(remaining);
        Ok(Place { remaining, given, key: Key(key), after })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        let after = Some(ClusteringKey(Bytes::from_static(b"row")));
        Place { remaining: Some(7), given: 3, key: Key(Bytes::from_static(b"key")), after }
    }

    #[test]
    fn a_place_comes_back_as_it_went() {
        let whole = Place { after: None, remaining: None, ..place() };
        for place in [place(), whole] {
            assert_eq!(Place::decode(place.encode()).unwrap(), place);
        }
    }

    #[test]
    fn what_is_no_place_is_refused() {
        let good = place().encode();
        for cut in 0..good.len() - b"row".len() {
            assert!(Place::decode(good.slice(..cut)).is_err(), "{cut}");
        }
        let mut other_key = BytesMut::from(&good[..]);
        other_key[27] ^= 1;
        assert!(Place::decode(other_key.freeze()).is_err(), "the token is not that of the key");
        let mut newer = BytesMut::from(&good[..]);
        newer[0] = 2;
        assert!(Place::decode(newer.freeze()).is_err());
    }
}
