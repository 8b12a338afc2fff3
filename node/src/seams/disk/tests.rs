//! Both disks keep one contract; the simulated one also forgets, and a small log shows that forgetting is noticed.

use super::{Disk, Faults, File, SimDisk, StdDisk, Survives};
use crate::seams::rng::Rng;
use proptest::prelude::*;
use rand::Rng as _;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

fn read_all(file: &dyn File) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    let n = file.read_at(0, &mut bytes).unwrap();
    assert_eq!(n, bytes.len());
    bytes
}

/// What any disk must do as long as the power stays on.
fn conforms(disk: &dyn Disk) {
    let p = Path::new;
    disk.create_dir(p("")).unwrap();
    disk.create_dir(p("a/b")).unwrap();
    assert_eq!(disk.list(p("a")).unwrap(), ["b"]);
    assert_eq!(disk.list(p("none")).unwrap_err().kind(), ErrorKind::NotFound);
    let missing = disk.open(p("a/f"), false).err().unwrap();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(missing.to_string().contains("a/f"), "{missing}");
    assert_eq!(disk.open(p("../f"), true).err().unwrap().kind(), ErrorKind::InvalidInput);
    assert_eq!(disk.open(p("/f"), true).err().unwrap().kind(), ErrorKind::InvalidInput);

    let f = disk.open(p("a/f"), true).unwrap();
    assert!(f.is_empty().unwrap());
    f.write_at(5000, b"world").unwrap();
    f.write_at(0, b"hello").unwrap();
    assert_eq!(f.len().unwrap(), 5005);
    let mut buf = [9; 10];
    assert_eq!(f.read_at(4998, &mut buf).unwrap(), 7);
    assert_eq!(&buf[..7], b"\0\0world");
    assert_eq!(f.read_at(6000, &mut buf).unwrap(), 0);
    f.set_len(3).unwrap();
    f.set_len(5).unwrap();
    assert_eq!(read_all(&*f), b"hel\0\0", "what was cut off does not come back");
    f.sync().unwrap();
    disk.sync_dir(p("a")).unwrap();

    disk.hard_link(p("a/f"), p("a/g")).unwrap();
    assert_eq!(disk.hard_link(p("a/f"), p("a/g")).unwrap_err().kind(), ErrorKind::AlreadyExists);
    let h = disk.open(p("a/h"), true).unwrap();
    h.write_at(0, b"old").unwrap();
    disk.rename(p("a/f"), p("a/h")).unwrap();
    assert_eq!(disk.list(p("a")).unwrap(), ["b", "g", "h"]);
    assert_eq!(read_all(&*h), b"old", "an open handle stays readable");
    assert_eq!(read_all(&*disk.open(p("a/h"), false).unwrap()), b"hel\0\0");
    disk.remove(p("a/g")).unwrap();
    disk.remove(p("a/h")).unwrap();
    assert_eq!(read_all(&*f), b"hel\0\0");
    assert_eq!(disk.remove(p("a/h")).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(disk.remove_dir(p("a")).unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
    disk.remove_dir(p("a/b")).unwrap();
    disk.remove_dir(p("a")).unwrap();
    assert!(disk.list(p("")).unwrap().is_empty());
}

#[test]
fn the_real_disk_conforms() {
    let dir = tempfile::tempdir().unwrap();
    conforms(&StdDisk::new(dir.path().join("data")));
}

#[test]
fn the_simulated_disk_conforms() {
    let disk = SimDisk::new(1, Faults::default());
    conforms(&disk);
    assert_eq!(disk.used_bytes(), 0, "a removed file gives its space back");
}

#[test]
fn a_synced_byte_survives_every_crash_and_an_unsynced_one_does_not_always() {
    let mut forgot = 0;
    for seed in 0..100 {
        let disk = SimDisk::new(seed, Faults::default());
        let f = disk.open(Path::new("f"), true).unwrap();
        disk.sync_dir(Path::new("")).unwrap();
        f.write_at(0, &[1; 10_000]).unwrap();
        f.sync().unwrap();
        f.write_at(10_000, &[2; 10_000]).unwrap();
        disk.crash();
        assert!(f.len().is_err(), "a handle from before the crash is dead");
        assert!(disk.list(Path::new("")).is_err(), "and so is the view");
        let bytes = read_all(&*disk.reopen().open(Path::new("f"), false).unwrap());
        assert_eq!(bytes[..10_000], [1; 10_000]);
        forgot += u32::from(bytes[10_000..] != [2; 10_000]);
    }
    assert!((40..100).contains(&forgot), "{forgot} of 100");
}

#[test]
fn a_name_is_durable_after_sync_dir_only() {
    let (mut kept, mut lost) = (0, 0);
    for seed in 0..50 {
        let disk = SimDisk::new(seed, Faults::default());
        disk.open(Path::new("synced"), true).unwrap();
        disk.sync_dir(Path::new("")).unwrap();
        disk.open(Path::new("first"), true).unwrap();
        disk.open(Path::new("second"), true).unwrap();
        disk.crash();
        let names = disk.reopen().list(Path::new("")).unwrap();
        assert!(names.contains(&"synced".to_owned()));
        let (first, second) =
            (names.contains(&"first".to_owned()), names.contains(&"second".to_owned()));
        assert!(first || !second, "a prefix of the operations survives");
        kept += u32::from(second);
        lost += u32::from(!first);
    }
    assert!(kept > 0 && lost > 0, "{kept} {lost}");
}

#[test]
fn a_removed_name_that_comes_back_has_its_bytes() {
    let mut back = 0;
    for seed in 0..20 {
        let disk = SimDisk::new(seed, Faults::default());
        let f = disk.open(Path::new("f"), true).unwrap();
        f.write_at(0, b"bytes").unwrap();
        f.sync().unwrap();
        disk.sync_dir(Path::new("")).unwrap();
        drop(f);
        disk.remove(Path::new("f")).unwrap();
        assert_eq!(disk.used_bytes(), 0);
        disk.crash();
        if let Ok(f) = disk.reopen().open(Path::new("f"), false) {
            assert_eq!(read_all(&*f), b"bytes");
            assert_eq!(disk.used_bytes(), 4096);
            back += 1;
        }
    }
    assert!((1..20).contains(&back), "{back} of 20");
}

#[test]
fn after_a_failed_sync_the_next_one_lies() {
    let mut lost = 0;
    for seed in 0..20 {
        let disk = SimDisk::new(seed, Faults::default());
        let f = disk.open(Path::new("f"), true).unwrap();
        disk.sync_dir(Path::new("")).unwrap();
        f.write_at(0, b"before").unwrap();
        disk.fail_next_syncs(1);
        f.sync().unwrap_err();
        assert_eq!(read_all(&*f), b"before", "the page cache still shows it");
        f.sync().unwrap();
        disk.crash();
        let bytes = read_all(&*disk.reopen().open(Path::new("f"), false).unwrap());
        lost += u32::from(bytes != b"before");
    }
    assert!((1..20).contains(&lost), "{lost} of 20");
}

#[test]
fn a_full_disk_takes_what_fits_and_says_so() {
    let full = Faults { capacity_bytes: Some(8192), ..Faults::default() };
    let disk = SimDisk::new(1, full);
    let f = disk.open(Path::new("f"), true).unwrap();
    let error = f.write_at(0, &[1; 9000]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(f.len().unwrap(), 8192);
    f.write_at(100, b"no growth needed").unwrap();
    f.set_len(0).unwrap();
    assert_eq!(disk.used_bytes(), 0);
    f.write_at(0, &[1; 8192]).unwrap();
}

#[test]
fn faults_can_be_switched_while_it_runs() {
    let disk = SimDisk::new(1, Faults::default());
    let f = disk.open(Path::new("f"), true).unwrap();
    f.write_at(0, &[0; 100]).unwrap();
    disk.set_faults(|faults| faults.read_error = 1.0);
    f.read_at(0, &mut [0; 10]).unwrap_err();
    disk.set_faults(|faults| (faults.read_error, faults.write_error) = (0.0, 1.0));
    f.write_at(0, b"x").unwrap_err();
    disk.set_faults(|faults| (faults.write_error, faults.bit_rot) = (0.0, 1.0));
    let mut buf = [0; 100];
    f.read_at(0, &mut buf).unwrap();
    assert_eq!(buf.iter().map(|b| b.count_ones()).sum::<u32>(), 1, "one bit flipped");
    disk.set_faults(|faults| faults.bit_rot = 0.0);
    let at = usize::try_from(disk.flip_bit(Path::new("f")).unwrap().unwrap()).unwrap();
    let mut again = [0; 100];
    f.read_at(0, &mut again).unwrap();
    assert_eq!((buf[at] ^ again[at]).count_ones(), 1);
}

#[test]
fn equal_seeds_crash_equally() {
    let run = |seed| {
        let disk = SimDisk::new(seed, Faults::default());
        let f = disk.open(Path::new("f"), true).unwrap();
        disk.sync_dir(Path::new("")).unwrap();
        f.write_at(0, &[7; 100_000]).unwrap();
        disk.crash();
        read_all(&*disk.reopen().open(Path::new("f"), false).unwrap())
    };
    assert_eq!(run(3), run(3));
    assert!((0..10).any(|seed| run(seed) != run(3)));
}

#[test]
fn what_survives_can_be_told_instead_of_left_to_chance() {
    for survives in Survives::ALL {
        for seed in 0..5 {
            let disk = SimDisk::new(seed, Faults::default());
            let old = disk.open(Path::new("old"), true).unwrap();
            disk.sync_dir(Path::new("")).unwrap();
            old.write_at(0, b"bytes").unwrap();
            disk.open(Path::new("new"), true).unwrap();
            disk.crash_with(survives);
            let disk = disk.reopen();
            let bytes = read_all(&*disk.open(Path::new("old"), false).unwrap()) == b"bytes";
            let name = disk.list(Path::new("")).unwrap().len() == 2;
            match survives {
                Survives::Chance => {}
                Survives::Nothing => assert!(!bytes && !name),
                Survives::Everything => assert!(bytes && name),
                Survives::Names => assert!(!bytes && name),
                Survives::Bytes => assert!(bytes && !name),
            }
        }
    }
}

/// A few changes, one after the other, until one does not work.
fn changes(disk: &dyn Disk) -> Result<(), std::io::Error> {
    let p = Path::new;
    disk.create_dir(p("d"))?;
    disk.sync_dir(p(""))?;
    let f = disk.open(p("d/f"), true)?;
    f.write_at(0, b"bytes")?;
    f.sync()?;
    disk.rename(p("d/f"), p("d/g"))?;
    disk.hard_link(p("d/g"), p("d/h"))?;
    disk.remove(p("d/g"))?;
    f.set_len(1)?;
    f.read_at(0, &mut [0; 1])?;
    disk.sync_dir(p("d"))?;
    disk.open(p("d/h"), false)?;
    disk.remove(p("d/h"))?;
    disk.remove_dir(p("d"))
}

#[test]
fn the_power_fails_and_an_error_comes_at_exactly_the_change_that_was_counted_out() {
    let whole = SimDisk::new(1, Faults::default());
    changes(&whole).unwrap();
    let (total, reads) = (whole.figures().changes, whole.figures().reads);
    assert_eq!((total, reads), (12, 1));
    for nth in 0..=total {
        let disk = SimDisk::new(1, Faults::default());
        disk.crash_after(nth, Survives::Everything);
        let outcome = changes(&disk);
        assert_eq!((outcome.is_ok(), disk.is_powered()), (nth == total, nth == total), "{nth}");
        let done = disk.figures().changes;
        assert_eq!(done, total.min(nth + 1));

        let disk = SimDisk::new(1, Faults::default());
        disk.fail_change_after(nth);
        let outcome = changes(&disk);
        assert_eq!(outcome.is_ok(), nth == total);
        assert!(disk.is_powered());
        assert_eq!(disk.figures().changes, done, "nothing went on behind the error");
    }
    let disk = SimDisk::new(1, Faults::default());
    disk.kill_after(4);
    changes(&disk).unwrap_err();
    assert!(!disk.is_powered());
    let next = disk.reopen();
    assert_eq!(read_all(&*next.open(Path::new("d/f"), false).unwrap()), b"bytes");
    next.crash_with(Survives::Nothing);
    assert!(next.reopen().open(Path::new("d/f"), false).is_err(), "nothing had synced the name");
    let disk = SimDisk::new(1, Faults::default());
    disk.fail_read_after(0);
    assert!(changes(&disk).unwrap_err().to_string().contains("read error"));
    let disk = SimDisk::new(1, Faults::default());
    disk.crash_after(0, Survives::Nothing);
    disk.fail_change_after(0);
    disk.call_off();
    changes(&disk).unwrap();
}

#[test]
fn a_fork_is_a_disk_of_its_own() {
    let disk = SimDisk::new(1, Faults::default());
    let f = disk.open(Path::new("f"), true).unwrap();
    f.write_at(0, b"before").unwrap();
    let fork = disk.fork(2, Survives::Everything);
    f.write_at(0, b"behind").unwrap();
    let g = fork.open(Path::new("f"), false).unwrap();
    assert_eq!(read_all(&*g), b"before");
    g.write_at(0, b"forked").unwrap();
    assert_eq!(read_all(&*f), b"behind");
    drop(g);
    fork.remove(Path::new("f")).unwrap();
    assert_eq!((fork.used_bytes(), disk.used_bytes()), (0, 4096));
    assert_eq!(disk.fork(2, Survives::Nothing).list(Path::new("")).unwrap(), [""; 0]);
}

#[test]
fn a_lying_directory_sync_forgets_names_and_a_failing_one_says_so() {
    let mut lost = 0;
    for seed in 0..20 {
        let lies = Faults { sync_dir_lie: 1.0, ..Faults::default() };
        let disk = SimDisk::new(seed, lies);
        disk.open(Path::new("f"), true).unwrap();
        disk.sync_dir(Path::new("")).unwrap();
        disk.crash();
        lost += u32::from(disk.reopen().open(Path::new("f"), false).is_err());
    }
    assert!((1..20).contains(&lost), "{lost} of 20");
    let fails = Faults { sync_dir_error: 1.0, ..Faults::default() };
    let disk = SimDisk::new(1, fails);
    disk.open(Path::new("f"), true).unwrap();
    disk.sync_dir(Path::new("")).unwrap_err();
    disk.crash_with(Survives::Nothing);
    assert!(disk.reopen().open(Path::new("f"), false).is_err());
}

#[test]
fn a_fault_may_concern_some_files_only() {
    let faults =
        Faults { write_error: 1.0, name_error: 1.0, paths: ".sst".into(), ..Faults::default() };
    let disk = SimDisk::new(1, faults);
    disk.open(Path::new("a.sst"), true).err().unwrap();
    let f = disk.open(Path::new("a.log"), true).unwrap();
    f.write_at(0, b"x").unwrap();
    disk.rename(Path::new("a.log"), Path::new("a.sst")).unwrap_err();
    disk.set_faults(|faults| faults.name_error = 0.0);
    disk.open(Path::new("a.sst"), true).unwrap().write_at(0, b"x").unwrap_err();
}

#[test]
fn a_misdirected_write_lands_in_another_sector() {
    for seed in 0..20 {
        let disk = SimDisk::new(seed, Faults::default());
        let f = disk.open(Path::new("f"), true).unwrap();
        f.write_at(0, &[1; 3 * 4096]).unwrap();
        disk.set_faults(|faults| faults.misdirected_write = 1.0);
        f.write_at(4096 + 10, &[2; 5]).unwrap();
        let bytes = read_all(&*f);
        let hit = bytes.iter().position(|byte| *byte == 2).unwrap();
        assert_eq!(hit % 4096, 10);
        assert_ne!(hit / 4096, 1);
        assert_eq!(bytes[4096..8192], [1; 4096]);
    }
}

#[test]
fn a_shredded_page_has_pieces_of_both() {
    let mut mixed = 0;
    for seed in 0..50 {
        let disk = SimDisk::new(seed, Faults { shredded_page: 1.0, ..Faults::default() });
        let f = disk.open(Path::new("f"), true).unwrap();
        disk.sync_dir(Path::new("")).unwrap();
        f.write_at(0, &[1; 4096]).unwrap();
        f.sync().unwrap();
        f.write_at(0, &[2; 4096]).unwrap();
        disk.crash();
        let bytes = read_all(&*disk.reopen().open(Path::new("f"), false).unwrap());
        assert!(bytes.chunks(512).all(|piece| piece == [1; 512] || piece == [2; 512]));
        // Once old, new, old: no single tear does that.
        let changes = bytes.windows(2).filter(|pair| pair[0] != pair[1]).count();
        mixed += usize::from(changes > 1);
    }
    assert!(mixed > 20, "{mixed} of 50");
}

/// A log of numbered records, `| number u64 | size u32 | filler | crc32 u32 |`. `honest = false` plants the bug: every
/// fifth sync is skipped.
struct TinyLog {
    file: Arc<dyn File>,
    end: u64,
    next: u64,
    synced: u64,
    honest: bool,
    asked: u32,
}

impl TinyLog {
    fn recover(disk: &dyn Disk, honest: bool) -> TinyLog {
        let file = disk.open(Path::new("log"), true).unwrap();
        disk.sync_dir(Path::new("")).unwrap();
        let bytes = read_all(&*file);
        let (mut end, mut next) = (0, 0);
        while let Some(head) = bytes.get(end..end + 12) {
            let number = u64::from_le_bytes(head[..8].try_into().unwrap());
            let size = u32::from_le_bytes(head[8..].try_into().unwrap()) as usize;
            let Some(record) = bytes.get(end..end + 12 + size + 4) else { break };
            let (body, crc) = record.split_at(12 + size);
            if number != next || crc32fast::hash(body).to_le_bytes() != crc {
                break;
            }
            end += record.len();
            next += 1;
        }
        file.set_len(end as u64).unwrap();
        file.sync().unwrap();
        TinyLog { file, end: end as u64, next, synced: next, honest, asked: 0 }
    }

    fn append(&mut self, size: u32) {
        let mut record = self.next.to_le_bytes().to_vec();
        record.extend(size.to_le_bytes());
        record.extend(std::iter::repeat_n(0xab, size as usize));
        record.extend(crc32fast::hash(&record).to_le_bytes());
        self.file.write_at(self.end, &record).unwrap();
        self.end += record.len() as u64;
        self.next += 1;
    }

    fn sync(&mut self) {
        self.asked += 1;
        if self.honest || !self.asked.is_multiple_of(5) {
            self.file.sync().unwrap();
        }
        self.synced = self.next;
    }
}

/// Appends, syncs and crashes at random; gives the first promise that a recovery broke.
fn fuzz_log(seed: u64, honest: bool) -> Result<(), String> {
    let disk = SimDisk::new(seed, Faults::default());
    let mut rng = Rng::from_seed(seed).stream("fuzz");
    let mut promised = 0;
    for boot in 0..4 {
        let mut log = TinyLog::recover(&disk.reopen(), honest);
        if log.next < promised {
            return Err(format!("boot {boot}: {promised} records synced, {} found", log.next));
        }
        for _ in 0..rng.random_range(1..30) {
            log.append(rng.random_range(0..3000));
            if rng.random_bool(0.3) {
                log.sync();
            }
        }
        promised = log.synced;
        disk.crash();
    }
    Ok(())
}

#[test]
fn a_log_that_syncs_loses_nothing_and_one_that_skips_a_sync_is_caught() {
    let mut caught = 0;
    for seed in 0..300 {
        fuzz_log(seed, true).unwrap();
        caught += u32::from(fuzz_log(seed, false).is_err());
    }
    assert!(caught > 20, "the planted bug was caught in {caught} of 300 runs");
}

#[derive(Debug, Clone)]
enum Op {
    Write(u16, u8, u16),
    SetLen(u16),
    Sync,
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => (0..20_000_u16, any::<u8>(), 0..9000_u16).prop_map(|(o, b, n)| Op::Write(o, b, n)),
        1 => (0..20_000_u16).prop_map(Op::SetLen),
        2 => Just(Op::Sync),
        1 => Just(Op::Crash),
    ]
}

proptest! {
    /// Against a plain vector: live reads agree at every step, and after a crash every byte is one that was there at the
    /// last sync or later.
    #[test]
    fn a_file_agrees_with_a_vector(seed: u64, ops in prop::collection::vec(op(), 1..40)) {
        let disk = SimDisk::new(seed, Faults::default());
        let mut file = disk.open(Path::new("f"), true).unwrap();
        disk.sync_dir(Path::new("")).unwrap();
        let mut model: Vec<u8> = Vec::new();
        // Every state since the last sync, that one included.
        let mut since: Vec<Vec<u8>> = vec![Vec::new()];
        for op in ops {
            match op {
                Op::Write(offset, byte, len) => {
                    file.write_at(u64::from(offset), &vec![byte; usize::from(len)]).unwrap();
                    let end = usize::from(offset) + usize::from(len);
                    if len > 0 {
                        model.resize(model.len().max(end), 0);
                        model[usize::from(offset)..end].fill(byte);
                    }
                }
                Op::SetLen(len) => {
                    file.set_len(u64::from(len)).unwrap();
                    model.resize(usize::from(len), 0);
                }
                Op::Sync => {
                    file.sync().unwrap();
                    since.clear();
                }
                Op::Crash => {
                    disk.crash();
                    file = disk.reopen().open(Path::new("f"), false).unwrap();
                    let found = read_all(&*file);
                    prop_assert!(found.len() >= since.iter().map(Vec::len).min().unwrap_or(0));
                    for (i, byte) in found.iter().enumerate() {
                        // Zero: a sector that did not get out although the length did.
                        let possible = *byte == 0
                            || since.iter().any(|state| state.get(i) == Some(byte));
                        let settled = since.iter().all(|s| s.get(i) == since[0].get(i));
                        prop_assert!(possible, "byte {i} is {byte}, which was never there");
                        if settled && let Some(expected) = since[0].get(i) {
                            prop_assert_eq!(byte, expected, "byte {} never changed", i);
                        }
                    }
                    model = found;
                    since.clear();
                }
            }
            since.push(model.clone());
            prop_assert!(read_all(&*file) == model, "the live file differs");
            prop_assert_eq!(disk.used_bytes() % 4096, 0);
        }
    }
}

#[test]
fn a_directory_is_locked_by_one_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let disk = StdDisk::new(dir.path());
    let held = disk.lock().unwrap();
    let refused = disk.lock().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::WouldBlock);
    assert!(refused.to_string().contains("is in use by another running process"), "{refused}");
    drop(held);
    drop(disk.lock().unwrap());
}
