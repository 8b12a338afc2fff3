//! The power fails at any time, and what was acknowledged is there.

use super::*;
use rand::Rng as _;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::collections::BTreeSet;

/// What a client knows: versions of each key that were acknowledged, and those that were tried.
#[derive(Default)]
struct Model {
    acknowledged: BTreeMap<u32, i64>,
    tried: BTreeMap<u32, BTreeSet<i64>>,
    next: i64,
}

impl Model {
    /// The first thing that does not hold of what the engine has, if any.
    fn violation(&self, rig: &Rig) -> Option<String> {
        let mut scanned: BTreeMap<u32, i64> = BTreeMap::new();
        for (_, key, partition) in rig.scan(64) {
            let key = u32::from_be_bytes(key.0[..].try_into().unwrap());
            scanned.insert(key, merge::version(&partition).unwrap().0);
        }
        for (key, tried) in &self.tried {
            let found = rig.partition(&key.to_be_bytes());
            let version = found.and_then(|partition| merge::version(&partition)).map(|t| t.0);
            if version != scanned.get(key).copied() {
                return Some(format!("key {key}: read says {version:?}, the scan differs"));
            }
            if version < self.acknowledged.get(key).copied() {
                return Some(format!("key {key}: {version:?} is older than what was acknowledged"));
            }
            if version.is_some_and(|version| !tried.contains(&version)) {
                return Some(format!("key {key}: nobody wrote {version:?}"));
            }
        }
        None
    }
}

/// One run of a few boots; each ends in a power failure. `Some`: what was lost.
async fn run(seed: u64, faults: Faults) -> Option<String> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut setup = Setup::default();
    setup.config.commitlog_sync = match rng.random_range(0..3) {
        0 => CommitlogSync::Group(Duration::from_micros(300)),
        _ => CommitlogSync::Batch,
    };
    setup.config.commitlog_segment_size = rng.random_range(1 << 10..16 << 10);
    setup.config.commitlog_total_space = rng.random_range(16 << 10..64 << 10);
    setup.config.memtable_heap_space = rng.random_range(2 << 10..32 << 10);
    let mut disk = SimDisk::new(seed, faults);
    let mut model = Model::default();
    for boot in 0..5 {
        let rig = match setup.try_boot(&disk) {
            Ok(rig) => rig,
            Err(error) => return Some(format!("boot {boot}: {error}")),
        };
        if let Some(violation) = model.violation(&rig) {
            return Some(format!("boot {boot}: {violation}"));
        }
        for _ in 0..rng.random_range(1..120) {
            step(&rig, &mut rng, &mut model).await;
        }
        disk = rig.crash();
    }
    None
}

async fn step(rig: &Rig, rng: &mut SmallRng, model: &mut Model) {
    match rng.random_range(0..100) {
        0..90 => {
            let mut waiting = Vec::new();
            for _ in 0..rng.random_range(1..6) {
                let key = rng.random_range(0..60_u32);
                model.next += 1;
                let version = model.next;
                model.tried.entry(key).or_default().insert(version);
                let write = if rng.random_range(0..8) == 0 {
                    delete(&key.to_be_bytes(), version, START_S)
                } else {
                    let len = rng.random_range(0..400);
                    put(&key.to_be_bytes(), version, &vec![rng.random_range(1..255); len])
                };
                // Refused when flushes do not keep up: not acknowledged, that is all.
                if let Ok(Applied::After(durable)) = rig.engine.apply(write) {
                    waiting.push((key, version, durable));
                }
            }
            // Some are never waited for: the power fails before their sync.
            if rng.random_range(0..10) > 0 {
                for (key, version, durable) in waiting {
                    if durable.await.is_ok() {
                        let newest = model.acknowledged.entry(key).or_default();
                        *newest = version.max(*newest);
                    }
                }
            }
        }
        90..94 => drop(rig.engine.flush(None)),
        94..96 => drop(rig.engine.flush(None).await),
        96..98 => drop(rig.engine.compact(None)),
        _ => tokio::time::sleep(Duration::from_micros(rng.random_range(1..3000))).await,
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_acknowledged_is_lost_when_the_power_fails() {
    for seed in 0..100 {
        if let Some(lost) = run(seed, Faults::default()).await {
            panic!("seed {seed}: {lost}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn failing_syncs_lose_nothing_acknowledged_either() {
    for seed in 1000..1060 {
        let faults = Faults { sync_error: 0.02, write_error: 0.002, ..Faults::default() };
        if let Some(lost) = run(seed, faults).await
            // Recovery itself needs a disk that works.
            && !lost.contains("simulated")
        {
            panic!("seed {seed}: {lost}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_lies_about_syncs_is_caught_by_this_very_test() {
    let mut caught = 0;
    for seed in 0..40 {
        let faults = Faults { sync_lie: 0.3, ..Faults::default() };
        caught += u32::from(run(seed, faults).await.is_some());
    }
    assert!(caught > 5, "only {caught} of 40 runs noticed");
}
