//! The commit log alone: cut at every byte, flipped at every byte.

use crate::seams::disk::{Disk, Faults, SimDisk};
use crate::storage::StorageError;
use crate::storage::lsm::log::{
    Log, Mutation, Position, RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, segment_name,
};
use crate::storage::lsm::replay::{read_all, replay};
use helenus_core::{TableId, Token};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

const DIR: &str = "log";

fn disk() -> SimDisk {
    let disk = SimDisk::new(1, Faults::default());
    disk.create_dir(Path::new(DIR)).unwrap();
    disk
}

fn open(disk: &SimDisk, segment_size: u64, id: u64) -> Log {
    let disk = Arc::new(disk.clone());
    let old = VecDeque::new();
    Log::open(disk, DIR.into(), segment_size, old, Position::default(), id).unwrap()
}

fn append(log: &mut Log, n: u8) {
    let (key, update) = ([n; 5], vec![n; 20 + usize::from(n)]);
    let mutation =
        Mutation { table: TableId(9), token: Token(i64::from(n)), key: &key, update: &update };
    log.append(&mutation).unwrap();
}

fn sync(log: &mut Log) {
    let job = log.begin_sync().unwrap().unwrap();
    let result = job.run();
    log.finish_sync(job.upto, result).unwrap();
}

/// The numbers of the records that replay gives, or why it refuses; and how much was cut.
fn replayed(disk: &SimDisk) -> Result<(Vec<u8>, u64), StorageError> {
    let mut found = Vec::new();
    let replayed = replay(disk, Path::new(DIR), &mut |_, mutation| {
        let n = mutation.key[0];
        assert_eq!(mutation.update, vec![n; 20 + usize::from(n)]);
        assert_eq!((mutation.table, mutation.token), (TableId(9), Token(i64::from(n))));
        found.push(n);
        Ok(())
    })?;
    Ok((found, replayed.cut_bytes))
}

fn contents(disk: &SimDisk, id: u64) -> Vec<u8> {
    read_all(disk.open(&Path::new(DIR).join(segment_name(id)), false).unwrap().as_ref()).unwrap()
}

fn overwrite(disk: &SimDisk, id: u64, bytes: &[u8]) {
    let file = disk.open(&Path::new(DIR).join(segment_name(id)), true).unwrap();
    file.set_len(0).unwrap();
    file.write_at(0, bytes).unwrap();
}

/// Five records, two syncs, all acknowledged. `marked`: the last sync's mark is there too.
fn five(marked: bool) -> SimDisk {
    let disk = disk();
    let mut log = open(&disk, 1 << 20, 1);
    (1..=3).for_each(|n| append(&mut log, n));
    sync(&mut log);
    (4..=5).for_each(|n| append(&mut log, n));
    log.write_out().unwrap();
    if marked {
        sync(&mut log);
    }
    disk
}

#[test]
fn what_was_written_comes_back() {
    for marked in [true, false] {
        assert_eq!(replayed(&five(marked)).unwrap(), (vec![1, 2, 3, 4, 5], 0));
    }
}

#[test]
fn cut_at_every_byte_gives_exactly_the_whole_records_before_the_cut_or_a_refusal() {
    let whole = contents(&five(true), 1);
    let mut ends = Vec::new();
    for n in 1..=5 {
        let pattern = [[n; 5].as_slice(), &vec![n; 20 + usize::from(n)]].concat();
        let at = whole.windows(pattern.len()).position(|w| w == pattern).unwrap();
        ends.push(at + pattern.len() + 1);
    }
    // Between two records there is nothing to cut: behind the header, each record and each mark.
    let mark = RECORD_HEADER_BYTES + 1 + 16 + 1;
    let between = [&[SEGMENT_HEADER_BYTES, ends[2] + mark, ends[4] + mark], &ends[..]].concat();
    let mut refused = 0;
    for len in 0..=whole.len() {
        let disk = disk();
        overwrite(&disk, 1, &whole[..len]);
        match replayed(&disk) {
            Ok((found, cut)) => {
                let expected: Vec<u8> =
                    (1..=5).zip(&ends).filter(|(_, end)| **end <= len).map(|(n, _)| n).collect();
                assert_eq!(found, expected, "cut at {len}");
                assert_eq!(cut == 0, between.contains(&len), "cut at {len}");
            }
            Err(_) => refused += 1,
        }
    }
    // The file alone cannot tell a cut from a torn write.
    assert_eq!(refused, 0);
}

#[test]
fn a_segment_that_is_shorter_than_its_successor_says_is_refused_once_that_was_synced() {
    for synced in [true, false] {
        let disk = disk();
        let mut log = open(&disk, 200, 1);
        (1..=6).for_each(|n| append(&mut log, n));
        log.write_out().unwrap();
        if synced {
            sync(&mut log);
        }
        assert_eq!(log.segments(), 2);
        assert_eq!(replayed(&disk).unwrap(), (vec![1, 2, 3, 4, 5, 6], 0));
        let whole = contents(&disk, 1);
        for len in 0..whole.len() {
            overwrite(&disk, 1, &whole[..len]);
            match replayed(&disk) {
                Err(StorageError::Corrupt { path, .. }) => {
                    assert!(synced && path.ends_with(&segment_name(1)), "cut at {len}: {path}");
                }
                Ok((found, cut)) => {
                    assert!(!synced, "cut at {len} went unnoticed: {found:?}");
                    assert!(cut > 0 && found.ends_with(&[4, 5, 6]), "{found:?}");
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
}

#[test]
fn every_flipped_bit_is_noticed_or_harmless() {
    for marked in [true, false] {
        let whole = contents(&five(marked), 1);
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut damaged = whole.clone();
                damaged[at] ^= 1 << bit;
                let disk = disk();
                overwrite(&disk, 1, &damaged);
                match replayed(&disk) {
                    Ok((found, _)) => assert_eq!(found, vec![1, 2, 3, 4, 5], "byte {at}"),
                    Err(StorageError::Corrupt { offset, .. }) => {
                        assert!(offset <= at as u64, "byte {at} blamed on {offset}");
                    }
                    Err(other) => panic!("byte {at}: {other}"),
                }
            }
        }
    }
}

#[test]
fn a_hole_before_a_mark_is_refused_and_one_behind_the_last_mark_is_cut() {
    let whole = contents(&five(true), 1);
    // Where the third record begins: durable by the first mark, zeroed as if its sector had never been written.
    let third = whole.windows(5).position(|w| w == [3; 5]).unwrap() - 41;
    let fourth = whole.windows(5).position(|w| w == [4; 5]).unwrap() - 41;
    let mut hole = whole.clone();
    hole[third..fourth].fill(0);
    let disk = disk();
    overwrite(&disk, 1, &hole);
    assert!(matches!(replayed(&disk), Err(StorageError::Corrupt { .. })));
    let mut tail = contents(&five(false), 1);
    tail[fourth..].fill(0);
    overwrite(&disk, 1, &tail);
    let (found, cut) = replayed(&disk).unwrap();
    assert_eq!(found, vec![1, 2, 3]);
    assert_eq!(cut, (tail.len() - fourth) as u64);
}

#[test]
fn a_missing_segment_is_refused() {
    let disk = disk();
    let mut log = open(&disk, 100, 1);
    for n in 1..=9 {
        append(&mut log, n);
    }
    sync(&mut log);
    assert!(log.segments() >= 3);
    let (found, _) = replayed(&disk).unwrap();
    assert_eq!(found, (1..=9).collect::<Vec<_>>());
    disk.remove(&Path::new(DIR).join(segment_name(2))).unwrap();
    match replayed(&disk) {
        Err(StorageError::Corrupt { path, what, remedy, .. }) => {
            assert!(path.ends_with(&segment_name(3)), "{path}");
            assert!(what.contains("missing"), "{what}");
            assert!(remedy.contains("repair"), "{remedy}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn random_bytes_never_panic() {
    let mut state = 12345_u64;
    for len in [0, 1, 47, 48, 49, 60, 500, 3000] {
        for _ in 0..20 {
            let bytes: Vec<u8> = (0..len)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    state.to_be_bytes()[0]
                })
                .collect();
            let disk = disk();
            overwrite(&disk, 1, &bytes);
            if let Ok((found, _)) = replayed(&disk) {
                assert!(found.is_empty());
            }
        }
    }
}

#[test]
fn a_failed_write_or_sync_poisons() {
    for sync_fails in [true, false] {
        let disk = disk();
        let mut log = open(&disk, 1 << 20, 1);
        append(&mut log, 1);
        if sync_fails {
            disk.fail_next_syncs(1);
        } else {
            disk.set_faults(|faults| faults.write_error = 1.0);
        }
        let failed = match log.begin_sync() {
            Ok(job) => {
                let job = job.unwrap();
                let result = job.run();
                log.finish_sync(job.upto, result)
            }
            Err(error) => Err(error),
        };
        assert!(matches!(failed, Err(StorageError::Poisoned { .. })), "{failed:?}");
        disk.set_faults(|faults| faults.write_error = 0.0);
        let mutation = Mutation { table: TableId(9), token: Token(0), key: b"k", update: b"u" };
        assert!(matches!(log.append(&mutation), Err(StorageError::Poisoned { .. })));
        assert!(matches!(log.write_out(), Err(StorageError::Poisoned { .. })));
        assert!(log.poisoned().unwrap().contains("simulated"));
    }
}
