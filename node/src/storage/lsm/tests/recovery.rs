//! Restarts: clean, killed, damaged.

use super::*;
use crate::seams::disk::Disk;
use std::path::Path;

fn dir() -> PathBuf {
    PathBuf::from("data/storage/tables").join(TABLE.to_string())
}

#[tokio::test(start_paused = true)]
async fn a_killed_process_loses_nothing_that_was_committed() {
    let mut setup = Setup::default();
    setup.config.commitlog_sync = CommitlogSync::Periodic(Duration::from_secs(10));
    let rig = setup.fresh();
    for i in 0..1500_u32 {
        rig.put(&i.to_be_bytes(), 5, &[1; 60]).await;
        if i % 100 == 0 {
            // The background gets its turn.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    assert!(rig.sstables() > 0, "some of it is in SSTables by now");
    let again = setup.boot(&rig.kill());
    assert!(again.engine.figures().recovery.records > 0);
    assert_eq!(again.engine.figures().recovery.cut_bytes, 0);
    for i in 0..1500_u32 {
        assert_eq!(again.value(&i.to_be_bytes()).unwrap().len(), 60, "{i}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_clean_stop_survives_a_power_failure_at_once_after_it() {
    for seed in 0..20 {
        let mut setup = Setup::default();
        setup.config.commitlog_sync = CommitlogSync::Periodic(Duration::from_secs(10));
        let rig = setup.boot(&SimDisk::new(seed, Faults::default()));
        for i in 0..300_u32 {
            rig.put(&i.to_be_bytes(), 5, b"value").await;
        }
        let disk = rig.stop().await;
        disk.crash();
        let again = setup.boot(&disk);
        assert!((0..300_u32).all(|i| again.value(&i.to_be_bytes()).is_some()), "seed {seed}");
    }
}

/// What Paxos promises must not be forgotten, however seldom the log is synced otherwise.
#[tokio::test(start_paused = true)]
async fn what_was_waited_for_as_synced_survives_a_power_failure_in_every_mode() {
    let hour = Duration::from_secs(3600);
    for mode in [CommitlogSync::Periodic(hour), CommitlogSync::Group(hour), CommitlogSync::Batch] {
        for seed in 0..10 {
            let mut setup = Setup::default();
            setup.config.commitlog_sync = mode;
            let rig = setup.boot(&SimDisk::new(seed, Faults::default()));
            let began = tokio::time::Instant::now();
            rig.engine.apply(put(b"first", 5, b"v")).unwrap();
            let first = rig.engine.synced();
            // A sync is under way when this one asks, and it begins too early.
            let second = async {
                tokio::task::yield_now().await;
                rig.engine.apply(put(b"second", 5, b"v")).unwrap();
                rig.engine.synced().await
            };
            let (first, second) = tokio::join!(first, second);
            assert!(first.is_ok() && second.is_ok());
            assert!(began.elapsed() < Duration::from_secs(60), "it waited for the period");
            let again = setup.boot(&rig.crash());
            assert!(again.value(b"first").is_some(), "{mode:?}, seed {seed}");
            assert!(again.value(b"second").is_some(), "{mode:?}, seed {seed}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stopped_engine_takes_no_writes() {
    let rig = Setup::default().fresh();
    let stopped = rig.engine.shutdown();
    assert!(matches!(rig.engine.apply(put(b"k", 1, b"v")), Err(StorageError::Stopped)));
    stopped.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_failed_sync_stops_writes_and_not_reads_until_a_restart() {
    let setup = Setup::default();
    let rig = setup.fresh();
    rig.put(b"before", 1, b"v").await;
    rig.disk.fail_next_syncs(1);
    let failed = rig.write(put(b"during", 2, b"v")).await;
    assert!(matches!(failed, Err(StorageError::Poisoned { .. })), "{failed:?}");
    let refused = rig.engine.apply(put(b"after", 3, b"v"));
    assert!(matches!(refused, Err(StorageError::Poisoned { .. })));
    assert!(rig.engine.poisoned().unwrap().contains("sync"));
    assert_eq!(rig.value(b"before").unwrap(), "v");
    let again = setup.boot(&rig.crash());
    assert_eq!(again.value(b"before").unwrap(), "v");
    again.put(b"after", 4, b"v").await;
    assert_eq!(again.engine.poisoned(), None);
}

#[tokio::test(start_paused = true)]
async fn a_table_that_is_defined_late_has_its_writes_from_the_log() {
    let mut setup = Setup::default();
    let rig = setup.fresh();
    rig.put(b"logged", 1, b"v").await;
    rig.engine.flush(None).await.unwrap();
    rig.put(b"only in the log", 2, b"v").await;
    let tables = std::mem::take(&mut setup.tables);
    let again = setup.boot(&rig.crash());
    assert!(matches!(again.try_partition(b"logged"), Err(StorageError::UnknownTable { .. })));
    again.engine.open_table(&tables[0]).unwrap();
    again.engine.open_table(&tables[0]).unwrap();
    assert_eq!(again.value(b"logged").unwrap(), "v");
    assert_eq!(again.value(b"only in the log").unwrap(), "v");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_table_stays_dropped_and_its_files_go() {
    let mut setup = Setup::default();
    let rig = setup.fresh();
    rig.put(b"flushed", 1, b"v").await;
    rig.engine.flush(None).await.unwrap();
    rig.put(b"logged", 2, b"v").await;
    rig.engine.drop_table(TABLE).unwrap();
    assert!(matches!(rig.try_partition(b"flushed"), Err(StorageError::UnknownTable { .. })));
    // Behind the drop on the same lane.
    rig.engine.flush(None).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let names = rig.disk.list(&dir()).unwrap();
    assert!(!names.iter().any(|name| name.ends_with(".sst")), "{names:?}");
    // Created again under the same id, it begins empty, also after a restart.
    let again = setup.boot(&rig.crash());
    assert_eq!(again.scan(100).len(), 0);
    again.put(b"new", 3, b"v").await;
    again.engine.flush(None).await.unwrap();
    again.put(b"newer", 4, b"v").await;
    let third = setup.boot(&again.crash());
    assert_eq!(third.scan(100).len(), 2);
    third.engine.drop_table(TABLE).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    setup.tables.clear();
    let mut disk = third.stop().await;
    // The directory goes too, once the log holds nothing of the table.
    for _ in 0..3 {
        let rig = setup.boot(&disk);
        tokio::time::sleep(Duration::from_secs(1)).await;
        disk = rig.stop().await;
    }
    assert!(disk.list(&dir()).is_err());
}

#[tokio::test(start_paused = true)]
async fn damage_in_the_middle_of_the_log_stops_the_start_and_says_where() {
    let setup = Setup::default();
    let rig = setup.fresh();
    for i in 0..50_u32 {
        rig.put(&i.to_be_bytes(), 1, &[7; 50]).await;
    }
    let disk = rig.kill();
    let log = Path::new("data/storage/commitlog");
    let segment = log.join(&disk.list(log).unwrap()[0]);
    let file = disk.open(&segment, false).unwrap();
    file.write_at(700, &[0xFF]).unwrap();
    match setup.try_boot(&disk).map(drop) {
        Err(StorageError::Corrupt { path, offset, what, remedy }) => {
            assert_eq!(path, segment.display().to_string());
            assert!((500..=700).contains(&offset), "{offset}");
            assert!(!what.is_empty() && remedy.contains("repair"));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_rotten_block_is_an_error_where_it_is_read_and_nowhere_else() {
    let setup = Setup::default();
    let rig = setup.fresh();
    for i in 0..300_u32 {
        rig.put(
            &i.to_be_bytes(),
            1,
            &xxhash_rust::xxh3::xxh3_64(&i.to_be_bytes()).to_be_bytes().repeat(20),
        )
        .await;
    }
    rig.engine.flush(None).await.unwrap();
    let disk = rig.stop().await;
    let names = disk.list(&dir()).unwrap();
    let sstable = dir().join(names.iter().find(|name| name.ends_with(".sst")).unwrap());
    let file = disk.open(&sstable, false).unwrap();
    let mut byte = [0];
    file.read_at(100, &mut byte).unwrap();
    file.write_at(100, &[!byte[0]]).unwrap();
    let again = setup.boot(&disk);
    let (mut good, mut bad) = (0, 0);
    for i in 0..300_u32 {
        match again.try_partition(&i.to_be_bytes()) {
            Ok(Some(_)) => good += 1,
            Err(StorageError::Corrupt { path, offset: 0, .. }) => {
                assert_eq!(path, sstable.display().to_string());
                bad += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(good > 0 && bad > 0, "{good} good, {bad} bad");
}

#[tokio::test(start_paused = true)]
async fn a_lost_sstable_or_manifest_stops_the_start() {
    let setup = Setup::default();
    for lost in [".sst", "MANIFEST"] {
        let rig = setup.fresh();
        rig.put(b"k", 1, b"v").await;
        rig.engine.flush(None).await.unwrap();
        let disk = rig.stop().await;
        let names = disk.list(&dir()).unwrap();
        disk.remove(&dir().join(names.iter().find(|name| name.ends_with(lost)).unwrap())).unwrap();
        match setup.try_boot(&disk).map(drop) {
            Err(StorageError::Corrupt { what, remedy, .. }) => {
                assert!(what.contains("MANIFEST") && remedy.contains("repair"), "{what}");
            }
            other => panic!("{lost}: {other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_flipped_byte_of_an_sstable_is_noticed() {
    let setup = Setup::default();
    let rig = setup.fresh();
    for i in 0..20_u32 {
        rig.put(&i.to_be_bytes(), 1, &[9; 30]).await;
    }
    rig.engine.flush(None).await.unwrap();
    let disk = rig.stop().await;
    let names = disk.list(&dir()).unwrap();
    let sstable = dir().join(names.iter().find(|name| name.ends_with(".sst")).unwrap());
    let file = disk.open(&sstable, false).unwrap();
    for at in 0..file.len().unwrap() {
        let mut byte = [0];
        file.read_at(at, &mut byte).unwrap();
        file.write_at(at, &[byte[0] ^ 0x20]).unwrap();
        if let Ok(again) = setup.try_boot(&disk) {
            for i in 0..20_u32 {
                let found = again.try_partition(&i.to_be_bytes());
                assert!(matches!(found, Err(StorageError::Corrupt { .. })), "byte {at}: {found:?}");
            }
            again.kill();
        }
        let file = disk.open(&sstable, false).unwrap();
        file.write_at(at, &byte).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn the_log_keeps_within_its_space_though_a_cold_table_holds_its_oldest_segment() {
    let mut setup = Setup::default();
    setup.config.memtable_heap_space = 4 << 20;
    setup.config.commitlog_total_space = 64 << 10;
    setup.tables.push(table(TableId(8), |_| {}));
    let rig = setup.fresh();
    let cold = write_of(TableId(8), b"cold", put(b"cold", 1, b"v").partition());
    rig.write(cold).await.unwrap();
    for i in 0..3000_u32 {
        rig.put(&i.to_be_bytes(), 1, &[1; 100]).await;
        assert!(rig.engine.figures().log_bytes <= (64 + 48) << 10);
    }
    rig.engine.flush(None).await.unwrap();
    assert!(rig.engine.figures().log_segments <= 2);
    let again = setup.boot(&rig.crash());
    let found = again.engine.read(TableId(8), token_of(b"cold"), &Key(Bytes::from_static(b"cold")));
    assert!(found.unwrap().is_some());
    assert!((0..3000_u32).all(|i| again.value(&i.to_be_bytes()).is_some()));
}

#[tokio::test(start_paused = true)]
async fn a_replay_larger_than_the_heap_is_flushed_on_the_way() {
    let mut setup = Setup::default();
    setup.config.memtable_heap_space = 4 << 20;
    setup.config.commitlog_total_space = 4 << 20;
    let rig = setup.fresh();
    for i in 0..4000_u32 {
        rig.put(&i.to_be_bytes(), 1, &[1; 100]).await;
    }
    let disk = rig.crash();
    setup.config.memtable_heap_space = 100 << 10;
    let again = setup.boot(&disk);
    assert!(again.sstables() >= 3);
    assert!((0..4000_u32).all(|i| again.value(&i.to_be_bytes()).is_some()));
    let third = setup.boot(&again.crash());
    assert_eq!(third.scan(500).len(), 4000);
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_refuses_writes_keeps_what_it_has_and_recovers() {
    let mut setup = Setup::default();
    setup.config.commitlog_sync = CommitlogSync::Periodic(Duration::from_secs(1));
    let rig = setup.fresh();
    let used = rig.disk.used_bytes();
    rig.disk.set_faults(|faults| faults.capacity_bytes = Some(used + (200 << 10)));
    let mut written = Vec::new();
    let mut refused = None;
    for i in 0..20_000_u32 {
        match rig.write(put(&i.to_be_bytes(), 1, &[i.to_le_bytes()[0]; 100])).await {
            Ok(()) => written.push(i),
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
        if i % 50 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let refused = refused.expect("the disk is full at some time");
    assert!(refused.to_string().contains("full"), "{refused}");
    assert!(written.iter().all(|i| rig.value(&i.to_be_bytes()).is_some()));
    let disk = rig.kill();
    disk.set_faults(|faults| faults.capacity_bytes = None);
    let again = setup.boot(&disk);
    assert!(written.iter().all(|i| again.value(&i.to_be_bytes()).is_some()));
    again.put(b"more", 2, b"v").await;
}

#[tokio::test(start_paused = true)]
async fn writes_are_refused_when_flushes_fail_and_taken_again_when_they_work() {
    let mut setup = Setup::default();
    setup.config.commitlog_sync = CommitlogSync::Periodic(Duration::from_secs(3600));
    let rig = setup.fresh();
    rig.put(b"first", 1, b"v").await;
    // Only flushes sync in the next hour.
    rig.disk.set_faults(|faults| faults.sync_error = 1.0);
    let failed = rig.engine.flush(None).await;
    assert!(matches!(failed, Err(StorageError::Io { .. })), "{failed:?}");
    let mut refused = None;
    for i in 0..10_000_u32 {
        if let Err(error) = rig.write(put(&i.to_be_bytes(), 1, &[1; 100])).await {
            refused = Some(error);
            break;
        }
    }
    assert!(matches!(refused, Some(StorageError::Overloaded { .. })), "{refused:?}");
    assert!(rig.engine.figures().overloaded > 0 && rig.engine.figures().flush_failures > 0);
    rig.disk.set_faults(|faults| faults.sync_error = 0.0);
    // The failed one is tried again after a second, by itself.
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(rig.engine.figures().frozen_memtables, 0);
    rig.put(b"again", 2, b"v").await;
    assert_eq!(rig.value(b"first").unwrap(), "v");
}
