//! Wide partitions: in pieces on the disk, and read piece by piece.

use super::integrity::roomy;
use super::*;
use crate::seams::disk::Disk;
use crate::storage::conformance::rows::{NOW, check_parts, round, row_key, rows};
use crate::storage::conformance::{table, write};
use crate::storage::{ScrubOptions, VerifyOptions};
use helenus_core::read::{Part, RowFilter, Slice};
use helenus_core::token;

const ROWS: u32 = 1_500;
const WIDE: TableId = TableId(1);

fn fresh() -> Rig {
    let rig = Setup { tables: vec![table(WIDE)], ..roomy() }.fresh();
    rig.engine.set_auto_compaction(None, false);
    rig
}

impl Rig {
    async fn apply_rows(&self, update: Partition) {
        self.write(write("wide", update)).await.unwrap();
    }

    async fn apply_round(&self, nth: u32) {
        for update in round(nth, ROWS) {
            self.apply_rows(update).await;
        }
    }

    fn rows(&self, start: u32, reversed: bool, rows: u32) -> Part {
        let slice = if reversed {
            Slice { start: Default::default(), end: Some(row_key(start)) }
        } else {
            Slice { start: row_key(start), end: None }
        };
        let (slices, static_row, bytes) = (vec![slice], false, u32::MAX);
        let filter = RowFilter { slices, reversed, static_row, rows, bytes };
        let (token, key) = (token::of(b"wide"), Key(Bytes::from_static(b"wide")));
        self.engine.read_rows(WIDE, token, &key, &filter, NOW).unwrap()
    }

    fn blocks_read(&self) -> u64 {
        self.engine.table_figures()[&WIDE].blocks_read
    }

    fn whole(&self) -> Partition {
        let key = Key(Bytes::from_static(b"wide"));
        self.engine.read(WIDE, token::of(b"wide"), &key).unwrap().unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn parts_are_the_same_wherever_the_rows_are() {
    let rig = fresh();
    rig.apply_round(0).await;
    check_parts(&rig.engine, "wide", ROWS);
    rig.engine.flush(None).await.unwrap();
    check_parts(&rig.engine, "wide", ROWS);
    rig.apply_round(1).await;
    rig.engine.flush(None).await.unwrap();
    rig.apply_round(2).await;
    check_parts(&rig.engine, "wide", ROWS);
    let before = rig.whole();
    rig.engine.compact(Some(WIDE)).await.unwrap();
    assert_eq!(rig.whole(), before);
    check_parts(&rig.engine, "wide", ROWS);
    // Neighbours are found beside it.
    for name in ["a", "b", "c", "d"] {
        rig.write(write(name, Partition::put(TimestampMicros(1), Bytes::new(), None)))
            .await
            .unwrap();
    }
    rig.engine.flush(None).await.unwrap();
    rig.engine.compact(Some(WIDE)).await.unwrap();
    assert_eq!(rig.whole(), before);
    for name in ["a", "b", "c", "d"] {
        let key = Key(Bytes::from_static(name.as_bytes()));
        let found = rig.engine.read(WIDE, token::of(name.as_bytes()), &key).unwrap();
        assert!(found.is_some());
    }
    let page = rig.engine.range(WIDE, &RangeStart::First, Token::MAX, 10).unwrap();
    assert_eq!(page.partitions.len(), 5);
    let found = page.partitions.into_iter().find(|(_, key, _)| key.0 == "wide").unwrap();
    assert_eq!(found.2, before);
    let report = rig.engine.verify(VerifyOptions::default()).await.unwrap();
    assert_eq!((report.partitions, report.problems.len()), (5, 0), "{report:?}");
    let report =
        rig.engine.scrub(ScrubOptions { all: true, ..ScrubOptions::default() }).await.unwrap();
    assert_eq!((report.partitions_kept, report.reordered, report.partitions_lost), (5, 0, 0));
    assert_eq!(rig.whole(), before);
    check_parts(&rig.engine, "wide", ROWS);
}

#[tokio::test(start_paused = true)]
async fn a_page_costs_the_blocks_that_it_lies_in() {
    let rig = fresh();
    for from in (0..ROWS).step_by(100) {
        rig.apply_rows(rows(from..from + 100, 1)).await;
    }
    rig.engine.flush(None).await.unwrap();
    for (start, reversed) in
        [(0, false), (700, false), (700, true), (ROWS - 10, false), (ROWS, true)]
    {
        let before = rig.blocks_read();
        let part = rig.rows(start, reversed, 10);
        assert_eq!(part.partition.rows.len(), 10);
        let first = if reversed { start - 10 } else { start };
        assert_eq!(part.partition.rows[0].0, row_key(first));
        let blocks = rig.blocks_read() - before;
        assert!(blocks <= 2, "10 rows from {start} on lie in {blocks} blocks");
    }
    // All of it, in pages of 100: each block a few times, and not once for each page.
    let (before, mut next, mut pages) = (rig.blocks_read(), 0, 0);
    loop {
        let part = rig.rows(next, false, 100);
        (next, pages) = (next + 100, pages + 1);
        if part.next.is_none() {
            break;
        }
    }
    let (blocks, all) = (rig.blocks_read() - before, u64::from(ROWS) * 120 / (16 << 10));
    // Behind the last row there may be more, until somebody has looked.
    assert_eq!(pages, 16);
    assert!(
        blocks > all / 2 && blocks < 4 * all + 30,
        "{blocks} blocks for {pages} pages of {all}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_damaged_piece_costs_its_rows_and_no_others() {
    let rig = fresh();
    for from in (0..ROWS).step_by(100) {
        rig.apply_rows(rows(from..from + 100, 1)).await;
    }
    rig.engine.flush(None).await.unwrap();
    let dir = PathBuf::from("data/storage/tables").join(WIDE.to_string());
    let name = rig.disk.list(&dir).unwrap().into_iter().find(|n| n.ends_with(".sst")).unwrap();
    let file = rig.disk.open(&dir.join(name), false).unwrap();
    let at = file.len().unwrap() / 2;
    let mut byte = [0];
    file.read_at(at, &mut byte).unwrap();
    file.write_at(at, &[byte[0] ^ 1]).unwrap();
    assert_eq!(rig.rows(0, false, 10).partition.rows.len(), 10, "the first piece is whole");
    let key = Key(Bytes::from_static(b"wide"));
    let whole = rig.engine.read(WIDE, token::of(b"wide"), &key);
    assert!(matches!(whole, Err(StorageError::Corrupt { .. })), "{whole:?}");
    let report = rig.engine.verify(VerifyOptions::default()).await.unwrap();
    assert_eq!(report.problems.len(), 1, "{report:?}");
    let report = rig.engine.scrub(ScrubOptions::default()).await.unwrap();
    assert_eq!((report.partitions_kept, report.lost.len()), (1, 1));
    let kept = rig.whole().rows.len();
    assert!(kept < ROWS as usize && kept > ROWS as usize - 500, "{kept} rows are left");
}
