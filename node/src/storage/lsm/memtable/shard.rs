//! Partitions whose tokens begin with the same bits, in order: a vector of a few dozen, which is as fast to insert into as
//! anything is. Where tokens crowd (of a node that owns little of the ring, or of keys that somebody chose for it) there
//! are several vectors, none of them long, so that no insertion moves more than a few kilobytes.

use super::arena::Arena;
use helenus_core::Token;
use std::cmp::Ordering;

/// A run that grows beyond this becomes two.
const RUN_MAX: usize = 256;

/// So far from where it should be most partitions are at most: a few cache lines.
const NEAR: usize = 4;
/// A run begins with so much room.
const RUN_MIN: usize = 8;

/// Where a partition is. Its key lies in the arena, with what it holds behind it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) token: Token,
    pub(super) at: u32,
    pub(super) key_len: u16,
    /// Of the encoding behind the key; [`OTHER`]: an index lies there.
    pub(super) value_len: u16,
}

/// What a partition holds is not in the arena: four bytes behind the key say where it is.
pub(super) const OTHER: u16 = u16::MAX;

impl Entry {
    pub(super) fn key<'a>(&self, arena: &'a Arena) -> &'a [u8] {
        arena.get(self.at, 0, usize::from(self.key_len))
    }

    pub(super) fn value<'a>(&self, arena: &'a Arena) -> &'a [u8] {
        let len =
            if self.value_len == OTHER { size_of::<u32>() } else { usize::from(self.value_len) };
        arena.get(self.at, usize::from(self.key_len), len)
    }

    fn cmp(&self, token: Token, key: &[u8], arena: &Arena) -> Ordering {
        // Nearly always the token says it, and the arena is left alone.
        self.token.cmp(&token).then_with(|| self.key(arena).cmp(key))
    }
}

#[derive(Debug)]
pub(super) enum Shard {
    Run(Vec<Entry>),
    /// In order; none is empty.
    Runs(Box<[Vec<Entry>]>),
}

impl Default for Shard {
    fn default() -> Shard {
        Shard::Run(Vec::new())
    }
}

/// Which run, and where in it.
pub(super) type At = (usize, usize);

impl Shard {
    pub(super) fn runs(&self) -> &[Vec<Entry>] {
        match self {
            Shard::Run(run) => std::slice::from_ref(run),
            Shard::Runs(runs) => runs,
        }
    }

    fn runs_mut(&mut self) -> &mut [Vec<Entry>] {
        match self {
            Shard::Run(run) => std::slice::from_mut(run),
            Shard::Runs(runs) => runs,
        }
    }

    /// Where a partition is, or where it would be. `within` says how far into the shard its token lies, of 2^32: tokens are
    /// evenly spread, so that is nearly where it is, and what halving would look at on the way there is not even loaded.
    pub(super) fn find(
        &self,
        (token, within): (Token, u32),
        key: &[u8],
        arena: &Arena,
    ) -> Result<At, At> {
        let cmp = |entry: &Entry| entry.cmp(token, key, arena);
        let runs = match self {
            Shard::Run(run) => {
                let found = search(run, (run.len() * within as usize) >> u32::BITS, cmp);
                return found.map(|at| (0, at)).map_err(|at| (0, at));
            }
            Shard::Runs(runs) => runs,
        };
        // The last run that begins at or before it.
        let begins_before = |run: &Vec<Entry>| run.first().is_some_and(|first| cmp(first).is_le());
        let which = runs.partition_point(begins_before).saturating_sub(1);
        let found = runs.get(which).map_or(Err(0), |run| run.binary_search_by(cmp));
        found.map(|at| (which, at)).map_err(|at| (which, at))
    }

    pub(super) fn get(&self, (run, at): At) -> Option<&Entry> {
        self.runs().get(run)?.get(at)
    }

    pub(super) fn get_mut(&mut self, (run, at): At) -> Option<&mut Entry> {
        self.runs_mut().get_mut(run)?.get_mut(at)
    }

    /// Inserts where [`Shard::find`] said.
    pub(super) fn insert(&mut self, (which, at): At, entry: Entry) {
        let Some(run) = self.runs_mut().get_mut(which) else { return };
        if run.len() == run.capacity() {
            // Memory, not time, is what a memtable is short of: a vector that doubles is a quarter empty.
            let more = if run.is_empty() { RUN_MIN } else { 4 + run.len() / 8 };
            run.reserve_exact(more);
        }
        run.insert(at, entry);
        if run.len() <= RUN_MAX {
            return;
        }
        let behind = run.split_off(run.len() / 2);
        match self {
            Shard::Run(run) => *self = Shard::Runs(Box::new([std::mem::take(run), behind])),
            Shard::Runs(runs) => {
                let mut more = std::mem::take(runs).into_vec();
                more.insert(which + 1, behind);
                *runs = more.into_boxed_slice();
            }
        }
    }

    /// Appends what sorts behind everything here.
    pub(super) fn push(&mut self, entry: Entry) {
        let which = self.runs().len().saturating_sub(1);
        let at = self.runs().last().map_or(0, Vec::len);
        self.insert((which, at), entry);
    }

    /// The entries from a place on.
    pub(super) fn from(&self, (run, at): At) -> impl Iterator<Item = &Entry> {
        let runs = self.runs().get(run..).unwrap_or(&[]);
        let (first, rest) = runs
            .split_first()
            .map_or((&[][..], &[][..]), |(first, rest)| (first.get(at..).unwrap_or(&[]), rest));
        first.iter().chain(rest.iter().flatten())
    }
}

/// Halves what is near `guess`, if what is sought lies there, or else what is on the right side of it.
fn search(run: &[Entry], guess: usize, cmp: impl Fn(&Entry) -> Ordering) -> Result<usize, usize> {
    let (low, high) = (guess.saturating_sub(NEAR), run.len().min(guess + NEAR));
    let is =
        |at: usize, accepts: fn(Ordering) -> bool| run.get(at).is_some_and(|e| accepts(cmp(e)));
    let (low, high) = if is(low, Ordering::is_gt) {
        (0, low)
    } else if is(high, Ordering::is_le) {
        (high, run.len())
    } else {
        (low, high)
    };
    let found = run.get(low..high).unwrap_or(&[]).binary_search_by(cmp);
    found.map(|at| low + at).map_err(|at| low + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_holds_however_many_runs_there_are() {
        let mut arena = Arena::default();
        let mut shard = Shard::default();
        let mut expected = Vec::new();
        for i in 0..3000_u32 {
            // Three keys to a token, in an order that jumps about.
            let n = i * 1_009 % 3000;
            let (token, key) = (Token(i64::from(n / 3)), n.to_be_bytes());
            let at = arena.put(&key, b"").unwrap();
            let within = n.reverse_bits(); // A guess that is wrong.
            let place = shard.find((token, within), &key, &arena).unwrap_err();
            shard.insert(place, Entry { token, at, key_len: 4, value_len: 0 });
            expected.push((token, key.to_vec()));
        }
        expected.sort();
        let own = |entry: &Entry| (entry.token, entry.key(&arena).to_vec());
        let all: Vec<_> = shard.from((0, 0)).map(own).collect();
        assert_eq!(all, expected);
        assert!(shard.runs().len() > 3000 / RUN_MAX);
        assert!(shard.runs().iter().all(|run| (1..=RUN_MAX).contains(&run.len())));
        for (i, (token, key)) in expected.iter().enumerate() {
            let place = shard.find((*token, u32::MAX), key, &arena).unwrap();
            assert_eq!(shard.get(place).map(own), Some((*token, key.clone())));
            assert_eq!(shard.from(place).count(), 3000 - i);
        }
    }

    #[test]
    fn an_entry_is_small() {
        assert_eq!(size_of::<Entry>(), 16);
        assert!(size_of::<Shard>() <= 24);
    }
}
