//! What a seed stands for: sizes, options, weather, and what happens when.

use super::life::Plan;
use super::life::{Act, Scale, Subject, World, Wrong, files};
use super::node::config::{CommitlogSync, StorageConfig};
use super::node::seams::disk::{Faults, Survives};
use helenus_core::schema::{CompactionClass, WindowUnit};
use helenus_core::{Columns, TableDef, TableId, TableOptions, TimestampMicros};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use std::time::Duration;

/// Small and fast: everything happens within a few hundred bytes.
pub(super) const SMALL: Scale = Scale {
    boots: 8,
    steps_max: 10,
    keys: 8,
    value_bytes_max: 60,
    heap: (600, 6_000),
    log: (1_500, 12_000),
    segment: (250, 3_000),
};

/// Several blocks to an SSTable, thousands of writes.
pub(super) const LARGE: Scale = Scale {
    boots: 6,
    steps_max: 250,
    keys: 300,
    value_bytes_max: 3_000,
    heap: (40_000, 400_000),
    log: (100_000, 600_000),
    segment: (8_000, 64_000),
};

/// Options of a table. A new kind of compaction is one more choice here.
fn options(rng: &mut SmallRng) -> TableOptions {
    let min_threshold = rng.random_range(2..5);
    TableOptions {
        gc_grace_seconds: rng.random_range(0..20),
        compression: rng.random(),
        bloom_filter_fp_ppm: if rng.random() { 10_000 } else { 300_000 },
        min_threshold,
        max_threshold: min_threshold + rng.random_range(0..3),
        min_sstable_size: if rng.random() { 0 } else { 50 << 20 },
        compaction_class: match rng.random_range(0..4) {
            0 => CompactionClass::Leveled,
            1 => CompactionClass::TimeWindow,
            _ => CompactionClass::SizeTiered,
        },
        sstable_size: rng.random_range(200..20_000),
        fanout_size: rng.random_range(2..6),
        compaction_window_unit: WindowUnit::Minutes,
        tombstone_compaction_interval: rng.random_range(1..20),
        unchecked_tombstone_compaction: rng.random(),
        ..TableOptions::default()
    }
}

/// A table's definition.
pub(super) fn table(number: u128, options: TableOptions) -> TableDef {
    TableDef {
        id: TableId(number),
        keyspace: "ks".to_owned(),
        name: format!("t{number}"),
        columns: Columns::key_value(),
        options,
        altered: TimestampMicros(1),
        dropped: false,
    }
}

fn plan(rng: &mut SmallRng, scale: &Scale) -> Plan {
    let mut between = |(from, to): (u64, u64)| rng.random_range(from..to);
    let (heap, log, segment) = (between(scale.heap), between(scale.log), between(scale.segment));
    let config = StorageConfig {
        commitlog_sync: sync_mode(rng),
        commitlog_segment_size: segment,
        commitlog_total_space: log,
        memtable_heap_space: heap,
        compaction_throughput: 0,
        concurrent_compactors: rng.random_range(1..4),
        block_cache_size: if rng.random() { 0 } else { 64 << 10 },
        // A table that is dropped stays where its snapshot fails, which is right and nothing that the model knows; snapshots
        // have crash tests of their own.
        auto_snapshot: false,
        ..StorageConfig::default()
    };
    let tables = if rng.random_bool(0.6) { 1 } else { 2 };
    Plan {
        config,
        tables: (1..=tables).map(|number| table(number, options(rng))).collect(),
        keys: scale.keys,
        value_bytes_max: scale.value_bytes_max,
    }
}

fn sync_mode(rng: &mut SmallRng) -> CommitlogSync {
    match rng.random_range(0..10) {
        0..5 => CommitlogSync::Batch,
        5..7 => CommitlogSync::Group(Duration::from_micros(rng.random_range(1..3000))),
        _ => CommitlogSync::Periodic(Duration::from_millis(rng.random_range(1..10))),
    }
}

/// What else goes wrong in this life, besides the power.
fn weather(rng: &mut SmallRng, base: &Faults) -> Option<Faults> {
    if rng.random_bool(0.5) {
        return None;
    }
    let mut faults = base.clone();
    let mut on = |chance: f64, field: &mut f64| {
        if rng.random_bool(0.3) {
            *field = chance;
        }
    };
    on(0.05, &mut faults.sync_error);
    on(0.01, &mut faults.write_error);
    on(0.02, &mut faults.read_error);
    on(0.02, &mut faults.name_error);
    on(0.05, &mut faults.sync_dir_error);
    on(0.5, &mut faults.shredded_page);
    Some(faults)
}

fn survives(rng: &mut SmallRng) -> Survives {
    match rng.random_range(0..10) {
        0 => Survives::Nothing,
        1 => Survives::Everything,
        2 => Survives::Names,
        3 => Survives::Bytes,
        _ => Survives::Chance,
    }
}

fn act(rng: &mut SmallRng, tables: usize) -> Act {
    let table = if tables > 1 { rng.random_range(0..tables) } else { 0 };
    match rng.random_range(0..200) {
        0..121 => {
            let count = rng.random_range(1..5);
            Act::Write { table, count, wait: rng.random_bool(0.8) }
        }
        121..124 => Act::Haunt(table),
        124..146 => Act::Flush { wait: rng.random() },
        146..156 => Act::Compact { wait: rng.random() },
        156..172 => Act::Jobs(rng.random_range(1..6)),
        172..178 => Act::Settle,
        178..188 => Act::Pass(rng.random_range(1..20)),
        188..191 => Act::Drop(table),
        191..195 => Act::Create(table),
        195..199 => Act::Look,
        _ => Act::Restart { clean: rng.random() },
    }
}

/// A whole life. Gives the number of recoveries, or what is wrong.
pub(super) fn life(seed: u64, scale: &Scale, subject: &Subject<'_>) -> Result<u64, Wrong> {
    // One for each life: what a timer does must not depend on the life before.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let mut rng = SmallRng::seed_from_u64(seed);
        let plan = plan(&mut rng, scale);
        let tables = plan.tables.len();
        let weather = weather(&mut rng, &subject.faults);
        let world_rng = SmallRng::seed_from_u64(rng.random());
        let mut world = World::new(subject, plan.clone(), world_rng, rng.random());
        for boot in 0..scale.boots {
            let ended = one_boot(&mut world, &mut rng, scale, tables, weather.as_ref()).await;
            ended.map_err(|what| format!("boot {boot}: {what}\n{plan:?}\n{weather:?}"))?;
        }
        world.crash(survives(&mut rng));
        let last = the_end(&mut world, &mut rng).await;
        last.map_err(|what| format!("at the end: {what}\n{plan:?}\n{weather:?}"))?;
        Ok(world.rounds)
    })
}

async fn one_boot(
    world: &mut World<'_>,
    rng: &mut SmallRng,
    scale: &Scale,
    tables: usize,
    weather: Option<&Faults>,
) -> Result<(), Wrong> {
    if !world.is_up() {
        if rng.random_bool(0.15) {
            world.disk().crash_after(rng.random_range(0..25), survives(rng));
        }
        if let Some(weather) = weather.filter(|_| rng.random_bool(0.3)) {
            world.set_faults(weather.clone());
        }
        if !world.start()? {
            world.crash(survives(rng));
            return Ok(());
        }
        world.disk().call_off();
    }
    if let Some(weather) = weather {
        let full = rng.random_bool(0.1).then(|| world.disk().used_bytes() + (40 << 10));
        world.set_faults(Faults { capacity_bytes: full, ..weather.clone() });
    }
    let most = if scale.steps_max > 100 { 1_500 } else { 60 };
    let kill = rng.random_bool(0.2);
    match rng.random_range(0..10) {
        0..4 => {}
        _ if kill => world.disk().kill_after(rng.random_range(0..most)),
        _ => world.disk().crash_after(rng.random_range(0..most), survives(rng)),
    }
    for _ in 0..rng.random_range(1..=scale.steps_max) {
        if !world.is_up() {
            break;
        }
        world.perform(&act(rng, tables)).await?;
    }
    if world.is_up() && rng.random_bool(0.1) {
        world.restart(rng.random()).await?;
        if world.is_up() {
            return Ok(());
        }
    }
    if kill {
        world.kill()
    } else {
        world.crash(survives(rng))
    }
    Ok(())
}

/// The disk is quiet: everything is there. Then one bit rots.
async fn the_end(world: &mut World<'_>, rng: &mut SmallRng) -> Result<(), Wrong> {
    if !world.start()? {
        return Err("it does not start on a quiet disk".to_owned());
    }
    if rng.random_bool(0.7) {
        return Ok(());
    }
    world.restart(true).await?;
    world.perform(&Act::Settle).await?;
    world.stop().await?;
    let disk = world.disk().fork(rng.random(), Survives::Everything);
    let files = files(&disk);
    let Some(path) = files.get(rng.random_range(0..files.len().max(1))) else { return Ok(()) };
    disk.flip_bit(path).map_err(|error| error.to_string())?;
    world.open_damaged(&disk, path).map(drop)
}
