//! What the crash fuzz found, each as short as it gets.

use super::*;
use crate::seams::disk::Survives;

const COLD: TableId = TableId(8);

/// A flush makes writes durable whose log segment a crash then takes away. The log must not go on with a gap, which the
/// start after the next one would take for a lost file. (Small lives, seed 5.)
#[tokio::test(start_paused = true)]
async fn a_lost_segment_whose_writes_were_flushed_leaves_no_gap_in_the_log() {
    let mut setup = Setup::default();
    setup.config.commitlog_sync = CommitlogSync::Periodic(Duration::from_secs(1));
    setup.config.commitlog_segment_size = 100;
    setup.tables.push(table(COLD, |_| {}));
    let rig = setup.fresh();
    rig.write(write_of(COLD, b"cold", put(b"cold", 1, b"v").partition())).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    for i in 0..5_u32 {
        rig.put(&i.to_be_bytes(), 1, b"v").await;
    }
    // Flushed before the log is synced.
    rig.engine.flush(Some(TABLE)).await.unwrap();
    rig.tasks.abort_all();
    rig.disk.crash_with(Survives::Nothing);
    let again = setup.boot(&rig.disk);
    again.put(b"more", 1, b"v").await;
    let third = setup.boot(&again.stop().await);
    assert!((0..5_u32).all(|i| third.value(&i.to_be_bytes()).is_some()));
    assert_eq!(third.value(b"more").unwrap(), "v");
    let cold = third.engine.read(COLD, token_of(b"cold"), &Key(Bytes::from_static(b"cold")));
    assert!(cold.unwrap().is_some());
}

/// A sync fails, the process is restarted, replays what the system still has in memory, and asks for a sync of it: which
/// succeeds and writes nothing. (The disk errs at every operation, change 196.)
#[tokio::test(start_paused = true)]
async fn a_restart_does_not_believe_what_a_failed_sync_left_in_memory() {
    let setup = Setup::default();
    let rig = setup.fresh();
    rig.put(b"before", 1, b"v").await;
    rig.disk.fail_next_syncs(1);
    rig.write(put(b"during", 2, b"v")).await.unwrap_err();
    let again = setup.boot(&rig.kill());
    assert_eq!(again.value(b"during").unwrap(), "v");
    again.put(b"after", 3, b"v").await;
    again.tasks.abort_all();
    again.disk.crash_with(Survives::Nothing);
    let third = setup.boot(&again.disk);
    for key in [b"before".as_slice(), b"during", b"after"] {
        assert_eq!(third.value(key).unwrap(), "v");
    }
}

/// The process dies between a manifest's renaming and the sync of its directory. The next one reads the new manifest and
/// frees the log that it makes superfluous; then the power fails, and the old manifest is back. (The process dies at
/// every operation.)
#[tokio::test(start_paused = true)]
async fn a_restart_does_not_believe_a_manifest_whose_name_was_not_synced() {
    let setup = Setup::default();
    let mut flushed = false;
    for nth in 0.. {
        let rig = setup.fresh();
        rig.put(b"k", 1, b"v").await;
        rig.disk.kill_after(nth);
        flushed = rig.engine.flush(None).await.is_ok();
        rig.disk.call_off();
        let again = setup.boot(&rig.kill());
        // Its log is freed meanwhile.
        tokio::time::sleep(Duration::from_secs(1)).await;
        again.tasks.abort_all();
        again.disk.crash_with(Survives::Nothing);
        let third = setup.boot(&again.disk);
        assert_eq!(third.value(b"k").unwrap(), "v", "killed after {nth} changes");
        if flushed {
            break;
        }
    }
    assert!(flushed);
}

/// A log segment cannot be removed for a while. Those behind it must wait for it, or the log has a hole. (Large lives,
/// seed 1.)
#[tokio::test(start_paused = true)]
async fn a_segment_that_cannot_be_removed_keeps_the_later_ones() {
    let mut setup = Setup::default();
    setup.config.commitlog_segment_size = 100;
    let rig = setup.fresh();
    for round in 0..4_u32 {
        for i in 0..4_u32 {
            rig.put(&(10 * round + i).to_be_bytes(), 1, b"v").await;
        }
        // The second removal of segments fails, and what it should have removed stays.
        let chance = if round == 1 { 1.0 } else { 0.0 };
        rig.disk.set_faults(|f| (f.name_error, f.paths) = (chance, "commitlog".into()));
        rig.engine.flush(None).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        rig.disk.set_faults(|f| f.name_error = 0.0);
    }
    rig.put(b"last", 1, b"v").await;
    let again = setup.boot(&rig.kill());
    assert_eq!(again.value(b"last").unwrap(), "v");
    assert!((0..4_u32).all(|round| again.value(&(10 * round).to_be_bytes()).is_some()));
}

/// A segment is freed before it was synced, its file stays for a while, and the log goes on to say that all before is
/// durable. Then the power takes what the file never had. (Small lives, seed 884.)
#[tokio::test(start_paused = true)]
async fn a_freed_segment_that_is_still_there_is_whole() {
    let mut setup = Setup::default();
    setup.config.commitlog_sync = CommitlogSync::Periodic(Duration::from_secs(1));
    setup.config.commitlog_segment_size = 100;
    let rig = setup.fresh();
    for i in 0..5_u32 {
        rig.put(&i.to_be_bytes(), 1, b"v").await;
    }
    rig.disk.set_faults(|f| (f.name_error, f.paths) = (1.0, "commitlog".into()));
    rig.engine.flush(None).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    rig.disk.set_faults(|f| f.name_error = 0.0);
    rig.put(b"last", 1, b"v").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    rig.tasks.abort_all();
    rig.disk.crash_with(Survives::Nothing);
    let again = setup.boot(&rig.disk);
    assert!((0..5_u32).all(|i| again.value(&i.to_be_bytes()).is_some()));
    assert_eq!(again.value(b"last").unwrap(), "v");
}
