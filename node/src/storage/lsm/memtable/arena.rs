//! Bytes laid end to end, named by where they begin. Nothing is freed before all of it is.
//!
//! Bounded: a name has 32 bits, so an arena takes at most 4 GiB; whoever owns it stops well before ([`BYTES_MAX`]).

const CHUNK_BITS: u32 = 20;
const CHUNK_BYTES_MAX: usize = 1 << CHUNK_BITS;
/// A table with a few partitions takes a few kilobytes.
const CHUNK_BYTES_MIN: usize = 8 << 10;
const CHUNKS_MAX: usize = 1 << (32 - CHUNK_BITS);

/// An arena this full takes no more: with chunks that are not quite full, this is reached before names run out.
pub(super) const BYTES_MAX: u64 = 3 << 30;

#[derive(Debug, Default)]
pub(super) struct Arena {
    chunks: Vec<Vec<u8>>,
}

impl Arena {
    /// Appends two pieces, side by side. Gives their name; `None`: they are too large, or the arena is full.
    pub(super) fn put(&mut self, first: &[u8], second: &[u8]) -> Option<u32> {
        let len = first.len() + second.len();
        if self.chunks.last().is_none_or(|chunk| chunk.capacity() - chunk.len() < len) {
            if len > CHUNK_BYTES_MAX || self.chunks.len() == CHUNKS_MAX {
                return None;
            }
            let next = self.chunks.last().map_or(CHUNK_BYTES_MIN, |chunk| chunk.capacity() * 2);
            self.chunks.push(Vec::with_capacity(next.min(CHUNK_BYTES_MAX).max(len)));
        }
        let number = u32::try_from(self.chunks.len() - 1).ok()?;
        let chunk = self.chunks.last_mut()?;
        let within = u32::try_from(chunk.len()).ok()?;
        chunk.extend_from_slice(first);
        chunk.extend_from_slice(second);
        Some((number << CHUNK_BITS) | within)
    }

    /// The `len` bytes that lie `skip` behind the beginning of what is called `at`.
    pub(super) fn get(&self, at: u32, skip: usize, len: usize) -> &[u8] {
        let (chunk, within) = parts(at);
        let start = within + skip;
        self.chunks.get(chunk).and_then(|chunk| chunk.get(start..start + len)).unwrap_or(&[])
    }

    /// The same, to be written over.
    pub(super) fn get_mut(&mut self, at: u32, skip: usize, len: usize) -> Option<&mut [u8]> {
        let (chunk, within) = parts(at);
        let start = within + skip;
        self.chunks.get_mut(chunk)?.get_mut(start..start + len)
    }
}

fn parts(at: u32) -> (usize, usize) {
    ((at >> CHUNK_BITS) as usize, at as usize & (CHUNK_BYTES_MAX - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_lie_side_by_side_and_keep_their_names() {
        let mut arena = Arena::default();
        let piece = |i: u32| vec![i.to_le_bytes()[0]; 1 + i as usize * 7 % 5000];
        let names: Vec<u32> = (0..2000).map(|i| arena.put(&piece(i), b"end").unwrap()).collect();
        for (i, name) in (0..).zip(names) {
            assert_eq!(arena.get(name, 0, piece(i).len()), piece(i));
            assert_eq!(arena.get(name, piece(i).len(), 3), b"end");
        }
        assert!(arena.put(&vec![0; CHUNK_BYTES_MAX], b"").is_some());
        assert_eq!(arena.put(&vec![0; CHUNK_BYTES_MAX], b"x"), None);
    }
}
