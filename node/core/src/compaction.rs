//! Which SSTables to compact next: size-tiered, as Cassandra does it by default.
//!
//! SSTables of like size make a bucket; a bucket of at least `min_threshold` is compacted into one SSTable, which then
//! belongs to a bucket of larger ones. So a byte is rewritten about log(data / flush) / log(min_threshold) times, and a
//! read may have to look into a few SSTables of every size.
//!
//! Choosing is pure: [`choose`] says what, the engine does it, apart. Which is why the tests below can simulate years
//! of flushes without a disk.
//!
//! Where Cassandra's comment and its code differ we follow the code: of equally hot buckets it takes the one with the
//! *largest* SSTables (its comment promises the smallest; DataStax kept the behaviour and changed the comment).
//!
//! CAVEAT: a compaction needs room for its output beside its inputs, so size-tiered compaction of the largest bucket may
//! need as much free space as the table has data.

/// An SSTable that may be compacted: not one that a running compaction has already.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Its number. Later SSTables have larger ones.
    pub id: u64,
    /// Its size on disk.
    pub bytes: u64,
    /// The share of it that gc_grace would let go by now: 0 to 1.
    pub droppable_ratio: f64,
    /// Seconds since it was written.
    pub age_s: u64,
    /// Reads per second and partition; 0 where nobody counts them.
    pub hotness: f64,
}

/// The options of size-tiered compaction, under Cassandra's names and with its defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct SizeTiered {
    /// Fewer SSTables of like size than this are left alone.
    pub min_threshold: u32,
    /// At most so many are compacted at once.
    pub max_threshold: u32,
    /// An SSTable joins a bucket if it is larger than this part of the bucket's average.
    pub bucket_low: f64,
    /// And smaller than this multiple of it.
    pub bucket_high: f64,
    /// SSTables smaller than this are all alike.
    pub min_sstable_size: u64,
    /// A single SSTable is rewritten if more than this part of it could be dropped.
    pub tombstone_threshold: f64,
    /// But not one that is younger than this: rewriting it over and over would gain nothing.
    pub tombstone_compaction_interval_s: u64,
}

impl Default for SizeTiered {
    fn default() -> Self {
        SizeTiered {
            min_threshold: 4,
            max_threshold: 32,
            bucket_low: 0.5,
            bucket_high: 1.5,
            min_sstable_size: 50 << 20,
            tombstone_threshold: 0.2,
            tombstone_compaction_interval_s: 86_400,
        }
    }
}

impl SizeTiered {
    /// Cassandra's defaults with what a table says otherwise.
    pub fn with_thresholds(options: &crate::schema::TableOptions) -> SizeTiered {
        SizeTiered {
            min_threshold: options.min_threshold,
            max_threshold: options.max_threshold,
            min_sstable_size: options.min_sstable_size,
            ..SizeTiered::default()
        }
    }

    /// The thresholds as counts. Compacting one SSTable by itself for its size would go on for ever, so both are at
    /// least 2.
    fn thresholds(&self) -> (usize, usize) {
        let min = usize::try_from(self.min_threshold).unwrap_or(usize::MAX).max(2);
        let max = usize::try_from(self.max_threshold).unwrap_or(usize::MAX).max(min);
        (min, max)
    }
}

/// Why these SSTables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// There are enough of like size.
    Tier,
    /// There are not, but much of this one could be dropped.
    Tombstones,
}

/// What to compact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The SSTables, by [`Candidate::id`]. Invariant: ascending, not empty.
    pub inputs: Vec<u64>,
    /// Their bytes together.
    pub bytes: u64,
    /// Why.
    pub reason: Reason,
}

/// What to compact next, if anything.
pub fn choose(sstables: &[Candidate], options: &SizeTiered) -> Option<Choice> {
    let hottest = buckets(sstables, options)
        .into_iter()
        .filter_map(|bucket| trim(bucket, options))
        .max_by(|a, b| {
            let hotness = |bucket: &[&Candidate]| bucket.iter().map(|s| s.hotness).sum::<f64>();
            hotness(a).total_cmp(&hotness(b)).then_with(|| average(a).cmp(&average(b)))
        });
    match hottest {
        Some(bucket) => Some(choice(&bucket, Reason::Tier)),
        None => sstables
            .iter()
            .filter(|s| {
                s.droppable_ratio > options.tombstone_threshold
                    && s.age_s >= options.tombstone_compaction_interval_s
            })
            // The largest frees the most.
            .max_by_key(|s| (s.bytes, std::cmp::Reverse(s.id)))
            .map(|sstable| choice(&[sstable], Reason::Tombstones)),
    }
}

/// How many compactions it would take to leave every bucket below `min_threshold`, by the SSTables there are now.
pub fn pending_tasks(sstables: &[Candidate], options: &SizeTiered) -> u64 {
    let (min, max) = options.thresholds();
    buckets(sstables, options)
        .iter()
        .filter(|bucket| bucket.len() >= min)
        .map(|bucket| bucket.len().div_ceil(max) as u64)
        .sum()
}

/// A major compaction: everything into one. `None` when there is nothing to gain from it.
pub fn choose_all(sstables: &[Candidate]) -> Option<Choice> {
    let all: Vec<&Candidate> = sstables.iter().collect();
    (!all.is_empty()).then(|| choice(&all, Reason::Tier))
}

fn choice(bucket: &[&Candidate], reason: Reason) -> Choice {
    let mut inputs: Vec<u64> = bucket.iter().map(|s| s.id).collect();
    inputs.sort_unstable();
    Choice { inputs, bytes: bucket.iter().map(|s| s.bytes).sum(), reason }
}

/// SSTables of like size, in order of size. Going up, each joins the first bucket that it is like; the bucket's average
/// then counts it in.
fn buckets<'a>(sstables: &'a [Candidate], options: &SizeTiered) -> Vec<Vec<&'a Candidate>> {
    let mut sorted: Vec<&Candidate> = sstables.iter().collect();
    sorted.sort_by_key(|s| (s.bytes, s.id));
    let mut buckets: Vec<Vec<&Candidate>> = Vec::new();
    for sstable in sorted {
        let like = buckets.iter_mut().find(|bucket| {
            let average = average(bucket);
            let size = sstable.bytes as f64;
            (size > average as f64 * options.bucket_low
                && size < average as f64 * options.bucket_high)
                || (sstable.bytes < options.min_sstable_size && average < options.min_sstable_size)
        });
        match like {
            Some(bucket) => bucket.push(sstable),
            None => buckets.push(vec![sstable]),
        }
    }
    buckets
}

/// Takes the hottest of a bucket that has too many; of equally hot ones the oldest. `None` if it has too few.
fn trim<'a>(mut bucket: Vec<&'a Candidate>, options: &SizeTiered) -> Option<Vec<&'a Candidate>> {
    bucket.sort_by(|a, b| b.hotness.total_cmp(&a.hotness).then_with(|| a.id.cmp(&b.id)));
    let (min, max) = options.thresholds();
    bucket.truncate(max);
    (bucket.len() >= min).then_some(bucket)
}

fn average(bucket: &[&Candidate]) -> u64 {
    let count = bucket.len().max(1) as u64;
    bucket.iter().map(|s| s.bytes).sum::<u64>() / count
}

#[cfg(test)]
mod tests;
