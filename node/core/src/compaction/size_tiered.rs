//! Size-tiered: SSTables of like size make a bucket; a bucket of at least `min_threshold` is compacted into one SSTable,
//! which then belongs to a bucket of larger ones. So a byte is rewritten about log(data / flush) / log(min_threshold)
//! times, and a read may have to look into a few SSTables of every size.
//!
//! Where Cassandra's comment and its code differ we follow the code: of equally hot buckets it takes the one with the
//! *largest* SSTables (its comment promises the smallest; DataStax kept the behaviour and changed the comment).

use super::{Candidate, SizeTiered, total};

/// The hottest bucket that is full.
pub(super) fn choose<'a>(
    free: &[&'a Candidate],
    options: &SizeTiered,
) -> Option<Vec<&'a Candidate>> {
    buckets(free, options).into_iter().filter_map(|bucket| trim(bucket, options)).max_by(|a, b| {
        let hotness = |bucket: &[&Candidate]| bucket.iter().map(|s| s.hotness).sum::<f64>();
        hotness(a).total_cmp(&hotness(b)).then_with(|| average(a).cmp(&average(b)))
    })
}

/// How many compactions it would take to leave every bucket below `min_threshold`.
pub(super) fn pending_tasks(free: &[&Candidate], options: &SizeTiered) -> u64 {
    let (min, max) = options.thresholds();
    buckets(free, options)
        .iter()
        .filter(|bucket| bucket.len() >= min)
        .map(|bucket| bucket.len().div_ceil(max) as u64)
        .sum()
}

/// SSTables of like size, in order of size. Going up, each joins the first bucket that it is like; the bucket's average
/// then counts it in.
fn buckets<'a>(free: &[&'a Candidate], options: &SizeTiered) -> Vec<Vec<&'a Candidate>> {
    let mut sorted = free.to_vec();
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
    total(bucket) / bucket.len().max(1) as u64
}
