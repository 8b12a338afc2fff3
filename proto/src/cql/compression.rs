//! Compressed blocks: whole bodies in v4 (lz4 with its size before it, or snappy), payloads of segments in v5 (lz4, its
//! size being in the segment's header).
//!
//! A block's claim of its decompressed size is checked against what is allowed, and against what the compressed bytes
//! could possibly become, before memory is set aside for it.

use super::version::Compression;
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Shorter bodies are sent as they are: they gain nothing.
const BODY_BYTES_MIN: usize = 128;

/// LZ4's densest sequence makes 255 bytes of one byte; snappy's 64 bytes of three.
const EXPANSION_MAX: usize = 255;

/// Bytes that are not what a compressor writes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadBlock {
    /// The connection agreed on no compression.
    #[error("STARTUP asked for no compression on this connection")]
    NotAgreed,
    /// It does not even have a size.
    #[error("its {length} bytes do not hold a size")]
    NoSize {
        /// The block's bytes.
        length: usize,
    },
    /// It claims to become longer than it can.
    #[error("{length} bytes of {compression} cannot become {claimed}")]
    Incredible {
        /// The algorithm.
        compression: Compression,
        /// The block's bytes.
        length: usize,
        /// What they claim to become.
        claimed: usize,
    },
    /// It would become longer than is allowed.
    #[error("decompressed it would have {claimed} bytes, {max} at most are allowed")]
    TooLong {
        /// What it claims to become.
        claimed: usize,
        /// What is allowed.
        max: usize,
    },
    /// It is not the algorithm's.
    #[error("{length} bytes are not {compression} of {claimed} bytes")]
    Broken {
        /// The algorithm.
        compression: Compression,
        /// The block's bytes.
        length: usize,
        /// What they claim to become.
        claimed: usize,
    },
}

/// A v4 body as it was before compression, of `max` bytes at most.
pub(crate) fn decompress_body(
    compression: Compression,
    body: &Bytes,
    max: usize,
) -> Result<Bytes, BadBlock> {
    // Some clients set the flag on bodies that are empty, which no algorithm writes.
    if body.is_empty() {
        return Ok(Bytes::new());
    }
    let (block, claimed) = match compression {
        Compression::Lz4 => {
            let mut block = &body[..];
            let claimed = block.try_get_u32().ok().and_then(|size| usize::try_from(size).ok());
            (block, claimed)
        }
        Compression::Snappy => (&body[..], snap::raw::decompress_len(body).ok()),
    };
    let Some(claimed) = claimed else { return Err(BadBlock::NoSize { length: body.len() }) };
    if claimed > max {
        return Err(BadBlock::TooLong { claimed, max });
    }
    decompress(compression, block, claimed).map(BytesMut::freeze)
}

/// A block that becomes exactly `claimed` bytes, which the caller has found not to be too many.
pub(crate) fn decompress(
    compression: Compression,
    block: &[u8],
    claimed: usize,
) -> Result<BytesMut, BadBlock> {
    let length = block.len();
    if claimed > length.saturating_mul(EXPANSION_MAX) {
        return Err(BadBlock::Incredible { compression, length, claimed });
    }
    let mut out = BytesMut::zeroed(claimed);
    let became = match compression {
        Compression::Lz4 => lz4_flex::block::decompress_into(block, &mut out).ok(),
        Compression::Snappy => snap::raw::Decoder::new().decompress(block, &mut out).ok(),
    };
    match became {
        Some(became) if became == claimed => Ok(out),
        _ => Err(BadBlock::Broken { compression, length, claimed }),
    }
}

/// Compresses what `out` holds from `start` on as a v4 body, if that makes it shorter; says whether it did.
pub(crate) fn compress_tail(compression: Compression, out: &mut BytesMut, start: usize) -> bool {
    let body = out.get(start..).unwrap_or_default();
    let length = body.len();
    let Some(size) = u32::try_from(length).ok().filter(|_| length >= BODY_BYTES_MIN) else {
        return false;
    };
    let mut prefix = [0; 4];
    let compressed = match compression {
        Compression::Lz4 => {
            prefix = size.to_be_bytes();
            Some((lz4_flex::block::compress(body), prefix.len()))
        }
        // Snappy's own format begins with the size.
        Compression::Snappy => {
            snap::raw::Encoder::new().compress_vec(body).ok().map(|block| (block, 0))
        }
    };
    match compressed {
        Some((block, prefixed)) if prefixed + block.len() < length => {
            out.truncate(start);
            out.put_slice(prefix.get(..prefixed).unwrap_or_default());
            out.put_slice(&block);
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
