//! v5's segments: payloads with checksums of header and payload. (§2.2)
//!
//! ```text
//! plain: | payload length 17 bits | self-contained 1 bit | 0... to 24 bits                    | crc24 of those 3 bytes |
//! lz4:   | sent length 17 bits | length 17 bits | self-contained 1 bit | 0... to 40 bits      | crc24 of those 5 bytes |
//! then:  | payload | crc32 of the payload as it was sent |
//! ```
//!
//! All numbers are little-endian, unlike everything within. A self-contained segment holds whole envelopes; one that is
//! not holds a part of a long one. An lz4 segment whose length is 0 holds its payload uncompressed.
//!
//! After a checksum that does not match, nobody knows what was asked or where the next segment begins: every
//! [`SegmentFault`] ends the connection, and no answer is owed.

use super::compression;
use super::version::Compression;
use bytes::{Buf, BufMut, BytesMut};

/// The longest payload of a segment.
pub const PAYLOAD_BYTES_MAX: usize = (1 << 17) - 1;

const CRC24_INIT: u32 = 0x0087_5060;
const CRC24_POLY: u32 = 0x0197_4F0B;
/// What Cassandra feeds the CRC32 before the payload, so that zeros do not have the checksum zero.
const CRC32_SEED: [u8; 4] = [0xFA, 0x2D, 0x55, 0xCA];
const CRC24_BYTES: usize = 3;
const CRC32_BYTES: usize = 4;
const LENGTH_BITS: u32 = 17;
const LENGTH_MASK: u64 = (1 << LENGTH_BITS) - 1;

/// A segment that is not what was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SegmentFault {
    /// The header is damaged, or this is not a segment at all.
    #[error(
        "a segment's header has the checksum {found:#08x}, but {expected:#08x} was sent with it; close the connection"
    )]
    HeaderChecksum {
        /// Of the bytes that came.
        found: u32,
        /// As it came.
        expected: u32,
    },
    /// The payload is damaged.
    #[error(
        "a segment's payload of {length} bytes has the checksum {found:#010x}, but {expected:#010x} was sent with it; \
         close the connection"
    )]
    PayloadChecksum {
        /// Of the payload.
        length: usize,
        /// Of the bytes that came.
        found: u32,
        /// As it came.
        expected: u32,
    },
    /// The payload cannot be decompressed.
    #[error("a segment's payload cannot be decompressed: {0}; close the connection")]
    Payload(#[from] compression::BadBlock),
    /// A self-contained segment ends within an envelope.
    #[error(
        "a self-contained segment ends within an envelope, {left} bytes after its begin; close the connection"
    )]
    NotSelfContained {
        /// The bytes of the envelope that it has.
        left: usize,
    },
    /// A self-contained segment comes while a long envelope is not complete.
    #[error(
        "a self-contained segment interrupts an envelope that is spread over segments; close the connection"
    )]
    Interrupted,
}

/// What a segment holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Segment {
    /// Whether it holds whole envelopes, and not a part of one.
    pub self_contained: bool,
    /// Envelopes, or a part of one.
    pub payload: BytesMut,
}

/// Whether payloads are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentFormat {
    /// They are not.
    Plain,
    /// By lz4, where it helps.
    Lz4,
}

impl SegmentFormat {
    /// What the compression agreed in STARTUP means for segments; snappy was refused there.
    pub fn of(compression: Option<Compression>) -> SegmentFormat {
        match compression {
            Some(Compression::Lz4) => SegmentFormat::Lz4,
            Some(Compression::Snappy) | None => SegmentFormat::Plain,
        }
    }

    /// Bytes of the header without its checksum.
    const fn header_bytes(self) -> usize {
        match self {
            SegmentFormat::Plain => 3,
            SegmentFormat::Lz4 => 5,
        }
    }

    /// Takes the next segment off the front of `input`; `None` if more bytes are needed.
    pub fn decode(self, input: &mut BytesMut) -> Result<Option<Segment>, SegmentFault> {
        let mut rest = &input[..];
        let header = rest.try_get_uint_le(self.header_bytes());
        let crc24 = rest.try_get_uint_le(CRC24_BYTES);
        let (Ok(header), Ok(crc24)) = (header, crc24) else { return Ok(None) };
        let expected = u32::try_from(crc24).unwrap_or(u32::MAX);
        let found = crc24_of(header, self.header_bytes());
        if found != expected {
            return Err(SegmentFault::HeaderChecksum { found, expected });
        }
        // 17 bits fit any usize.
        let length_at = |bit: u32| usize::try_from((header >> bit) & LENGTH_MASK).unwrap_or(0);
        let length = length_at(0);
        let (claimed, flag_bit) = match self {
            SegmentFormat::Plain => (0, LENGTH_BITS),
            SegmentFormat::Lz4 => (length_at(LENGTH_BITS), 2 * LENGTH_BITS),
        };
        if rest.len() < length + CRC32_BYTES {
            return Ok(None);
        }
        input.advance(self.header_bytes() + CRC24_BYTES);
        let payload = input.split_to(length);
        let expected = input.get_u32_le();
        let found = crc32_of(&payload);
        if found != expected {
            return Err(SegmentFault::PayloadChecksum { length, found, expected });
        }
        let payload = match claimed {
            0 => payload,
            claimed => compression::decompress(Compression::Lz4, &payload, claimed)?,
        };
        Ok(Some(Segment { self_contained: (header >> flag_bit) & 1 == 1, payload }))
    }

    /// Appends segments to `out`: one that is self-contained if the payload fits, otherwise as many as it needs.
    pub fn encode(self, payload: &[u8], out: &mut BytesMut) {
        let self_contained = payload.len() <= PAYLOAD_BYTES_MAX;
        for part in payload.chunks(PAYLOAD_BYTES_MAX) {
            self.encode_one(part, self_contained, out);
        }
    }

    fn encode_one(self, payload: &[u8], self_contained: bool, out: &mut BytesMut) {
        debug_assert!(payload.len() <= PAYLOAD_BYTES_MAX, "a payload of {}", payload.len());
        let compressed = match self {
            SegmentFormat::Plain => None,
            SegmentFormat::Lz4 => Some(lz4_flex::block::compress(payload)),
        };
        let compressed = compressed.filter(|block| block.len() < payload.len());
        let sent = compressed.as_deref().unwrap_or(payload);
        let mut header = sent.len() as u64;
        let flag_bit = match self {
            SegmentFormat::Plain => LENGTH_BITS,
            SegmentFormat::Lz4 => {
                let length = if compressed.is_some() { payload.len() as u64 } else { 0 };
                header |= length << LENGTH_BITS;
                2 * LENGTH_BITS
            }
        };
        header |= u64::from(self_contained) << flag_bit;
        out.put_uint_le(header, self.header_bytes());
        out.put_uint_le(u64::from(crc24_of(header, self.header_bytes())), CRC24_BYTES);
        out.put_slice(sent);
        out.put_u32_le(crc32_of(sent));
    }
}

/// The CRC24 of the lowest `bytes` bytes of a header, the lowest first.
fn crc24_of(header: u64, bytes: usize) -> u32 {
    header.to_le_bytes().iter().take(bytes).fold(CRC24_INIT, |crc, byte| {
        (0..8).fold(crc ^ (u32::from(*byte) << 16), |crc, _| {
            let shifted = crc << 1;
            if shifted & 0x0100_0000 == 0 { shifted } else { shifted ^ CRC24_POLY }
        })
    })
}

fn crc32_of(payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&CRC32_SEED);
    crc.update(payload);
    crc.finalize()
}

#[cfg(test)]
mod tests;
