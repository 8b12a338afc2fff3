//! One short history with everything in it, and the power fails, or the disk errs, at every single operation.
//!
//! The history is fixed; only the place of the fault moves, and what a crash leaves. Then the fault strikes the recovery
//! as well.

use super::life::{Act, Plan, Subject, World, Wrong};
use super::node::config::{CommitlogSync, StorageConfig};
use super::node::seams::disk::Survives;
use super::run;
use helenus_core::TableOptions;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

fn plan() -> Plan {
    let options = TableOptions { gc_grace_seconds: 5, min_threshold: 3, ..TableOptions::default() };
    Plan {
        config: StorageConfig {
            commitlog_sync: CommitlogSync::Batch,
            commitlog_segment_size: 600,
            commitlog_total_space: 4_000,
            memtable_heap_space: 4_000,
            compaction_throughput: 0,
            block_cache_size: 0,
            auto_snapshot: false,
            ..StorageConfig::default()
        },
        tables: vec![run::table(1, options.clone()), run::table(2, options)],
        keys: 6,
        value_bytes_max: 40,
    }
}

/// Writes, flushes, segments that end and go, compaction with a purge, a drop and a new beginning, a kill and a stop.
fn history() -> Vec<Act> {
    let write = |table, count, wait| Act::Write { table, count, wait };
    vec![
        write(0, 3, true),
        write(1, 2, true),
        Act::Flush { wait: true },
        write(0, 4, true),
        write(1, 2, false),
        Act::Flush { wait: true },
        Act::Pass(10),
        write(0, 4, true),
        Act::Flush { wait: false },
        Act::Jobs(2),
        write(0, 1, true),
        Act::Compact { wait: true },
        Act::Settle,
        Act::Drop(1),
        write(0, 1, true),
        Act::Settle,
        Act::Create(1),
        write(1, 3, true),
        Act::Restart { clean: false },
        write(0, 3, true),
        Act::Flush { wait: false },
        write(0, 2, true),
        Act::Drop(1),
        Act::Create(1),
        write(1, 2, true),
        Act::Restart { clean: true },
        write(1, 2, true),
        Act::Compact { wait: true },
        Act::Settle,
    ]
}

fn world<'a>(subject: &'a Subject<'a>, disk_seed: u64) -> World<'a> {
    World::new(subject, plan(), SmallRng::seed_from_u64(1), disk_seed)
}

/// Until it ends or the power does.
async fn go_through(world: &mut World<'_>) -> Result<(), Wrong> {
    if world.start()? {
        for act in history() {
            if !world.is_up() {
                break;
            }
            world.perform(&act).await?;
        }
    }
    Ok(())
}

/// Recovers, goes on a little, and recovers again. Nothing lies about that should not.
async fn go_on(world: &mut World<'_>) -> Result<(), Wrong> {
    if !world.is_up() && !world.start()? {
        return Err("it does not start".to_owned());
    }
    for act in [
        Act::Settle,
        Act::Create(1),
        Act::Write { table: 0, count: 2, wait: true },
        Act::Flush { wait: true },
        Act::Settle,
    ] {
        world.perform(&act).await?;
    }
    let (counted, there) = world.log_segments();
    if counted != there {
        return Err(format!("{counted} segments of the log, {there} files"));
    }
    world.restart(true).await
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(future)
}

/// Changes and reads of the whole history.
fn length() -> (u64, u64) {
    block_on(async {
        let subject = Subject::honest();
        let mut world = world(&subject, 1);
        go_through(&mut world).await.unwrap();
        assert!(world.is_up());
        let figures = world.disk().figures();
        go_on(&mut world).await.unwrap();
        (figures.changes, figures.reads)
    })
}

/// An unoptimised build tries every seventh place only.
fn stride() -> usize {
    if cfg!(debug_assertions) { 7 } else { 1 }
}

/// Each way in which a crash can end, and chance a few times over.
fn ends() -> impl Iterator<Item = (u64, Survives)> {
    let by_chance = (2..6).map(|seed| (seed, Survives::Chance));
    Survives::ALL.into_iter().map(|survives| (1, survives)).chain(by_chance)
}

#[test]
fn the_power_fails_at_every_operation() {
    let (changes, _) = length();
    assert!(changes > 150, "{changes} changes");
    for nth in (0..changes).step_by(stride()) {
        for (seed, survives) in ends() {
            let subject = Subject::honest();
            let survived = block_on(async {
                let mut world = world(&subject, seed);
                world.disk().crash_after(nth, survives);
                go_through(&mut world).await?;
                assert!(!world.disk().is_powered());
                world.crash(survives);
                go_on(&mut world).await
            });
            survived
                .unwrap_or_else(|what| panic!("change {nth}, seed {seed}, {survives:?}: {what}"));
        }
    }
}

#[test]
fn the_process_dies_at_every_operation_and_then_the_power_fails() {
    let (changes, _) = length();
    for nth in (0..changes).step_by(stride()) {
        for survives in [Survives::Nothing, Survives::Chance] {
            for later in [0, 2, 100] {
                let subject = Subject::honest();
                let survived = block_on(async {
                    let mut world = world(&subject, nth);
                    world.disk().kill_after(nth);
                    go_through(&mut world).await?;
                    world.kill();
                    // What the dead process had not synced is believed by its successor, for a while.
                    if !world.start()? {
                        return Err("it does not start".to_owned());
                    }
                    world.perform(&Act::Jobs(later)).await?;
                    world.crash(survives);
                    go_on(&mut world).await
                });
                survived.unwrap_or_else(|what| panic!("change {nth}, then {later} jobs: {what}"));
            }
        }
    }
}

#[test]
fn the_power_fails_again_at_every_operation_of_the_recovery() {
    let (changes, _) = length();
    for nth in (0..changes).step_by(3 * stride()) {
        for again in 0_u64.. {
            let subject = Subject::honest();
            let (seed, survives) = (nth + again, Survives::Chance);
            let recovered = block_on(async {
                let mut world = world(&subject, seed);
                world.disk().crash_after(nth, survives);
                go_through(&mut world).await?;
                world.crash(survives);
                world.disk().crash_after(again, survives);
                let recovered = world.start()?;
                if recovered {
                    world.disk().call_off();
                } else {
                    world.crash(survives);
                }
                go_on(&mut world).await.map(|()| recovered)
            });
            match recovered {
                Ok(true) => break,
                Ok(false) => {}
                Err(what) => panic!("change {nth}, then {again} of the recovery: {what}"),
            }
        }
    }
}

/// The history with one error of the disk in it; then the process ends, with or without the machine.
fn with_one_error(change: Option<u64>, read: Option<u64>, power: bool) -> Result<(), Wrong> {
    let subject = Subject::honest();
    block_on(async {
        let mut world = world(&subject, 1);
        world.expect_a_strike();
        if let Some(nth) = change {
            world.disk().fail_change_after(nth);
        }
        if let Some(nth) = read {
            world.disk().fail_read_after(nth);
        }
        go_through(&mut world).await?;
        if power {
            world.crash(Survives::Nothing);
            return go_on(&mut world).await;
        }
        world.restart(false).await?;
        world.crash(Survives::Nothing);
        go_on(&mut world).await
    })
}

#[test]
fn the_disk_errs_at_every_operation() {
    let (changes, reads) = length();
    for power in [false, true] {
        for nth in (0..changes).step_by(stride()) {
            with_one_error(Some(nth), None, power)
                .unwrap_or_else(|what| panic!("change {nth}, power fails: {power}: {what}"));
        }
        for nth in (0..reads).step_by(stride()) {
            with_one_error(None, Some(nth), power)
                .unwrap_or_else(|what| panic!("read {nth}, power fails: {power}: {what}"));
        }
    }
}
