//! `SELECT`: partitions become rows, page by page.
//!
//! Storage is asked for no more of a partition of rows than the page still takes, in parts of at most [`PART_BYTES`]; what an
//! aggregate counts goes by part by part. Where rows of one replica are dead on another, fewer may be alive than were asked
//! for: then it goes on behind them, asking for twice as many each time (short-read protection).

use super::Front;
use super::execute::{How, not_planned, second};
use super::failure::{Refusal, invalid};
use super::paging::Place;
use super::statements::Planned;
use super::system::is_made_up;
use super::trace::level_of;
use super::values::in_order;
use crate::coordinator::{ReadRequest, ScanRequest, Shape, Trace, page_bytes};
use bytes::Bytes;
use helenus_core::cql::plan::{BoundSelect, Carried, Fold, Keys, PartitionPart, SelectPlan};
use helenus_core::read::{Part, behind};
use helenus_core::{ClusteringKey, GcSeconds, Key, Level, TableDef, Token, token};
use helenus_proto::cql::{Columns, Response, Rows, RowsMetadata, Version};
use std::ops::{Bound, RangeBounds as _};
use std::sync::Arc;

/// Bytes of cells that end a page, however few rows they are.
const PAGE_BYTES: usize = 8 * 1024 * 1024;
/// What a cell takes beside its value.
const CELL_BYTES: usize = 32;
/// Bytes of cells that a result without paging may have.
const RESULT_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Partitions that are scanned at a time.
const SCAN_PARTITIONS: usize = 1000;
/// Bytes of a part of a partition: what a replica sends at a time.
const PART_BYTES: u32 = 1024 * 1024;

/// How far a page has come in a partition.
struct Standing<'a> {
    key: &'a Key,
    /// Rows of it that were given, on earlier pages too.
    given: u64,
    /// The last of them.
    after: Option<ClusteringKey>,
    carried: Carried,
    /// It gives no more rows, whatever else is in it.
    is_done: bool,
}

impl<'a> Standing<'a> {
    /// At the start of a partition, or behind the place where the page before ended, if that is in it.
    fn new(key: &'a Key, place: Option<&Place>) -> Standing<'a> {
        let place = place.filter(|place| place.key == *key);
        Standing {
            key,
            given: place.map_or(0, |place| place.given),
            after: place.and_then(|place| place.after.clone()),
            carried: Carried::default(),
            is_done: false,
        }
    }

    /// Where reading begins.
    fn cut(&self, bound: &BoundSelect) -> Option<ClusteringKey> {
        let after = self.after.as_ref()?;
        Some(if bound.reversed { after.clone() } else { behind(after) })
    }
}

type ResultRow = Vec<Option<Bytes>>;

/// Rows on their way.
struct Page {
    rows: Vec<ResultRow>,
    /// An aggregate, instead of rows.
    fold: Option<Fold>,
    /// Of each row, if rows of several partitions are put into one order.
    keys: Vec<ClusteringKey>,
    bytes: usize,
    /// Rows that this page still takes.
    left: usize,
    remaining: Option<u64>,
    is_paged: bool,
    /// The second that the client says it is: what has expired by then is not there.
    now: Option<GcSeconds>,
    next: Option<Place>,
}

impl Page {
    fn is_full(&self) -> bool {
        self.left == 0 || self.remaining == Some(0) || (self.is_paged && self.bytes >= PAGE_BYTES)
    }

    /// So many rows may still be taken of a partition of which so many were given.
    fn most(&self, bound: &BoundSelect, given: u64) -> u64 {
        let limit = bound.per_partition_limit.map(|limit| limit.saturating_sub(given));
        // What is sorted afterwards needs no more of any partition than of all.
        let sorted = bound.limit.filter(|_| bound.merges_partitions() && !bound.is_aggregate());
        let limits = [Some(self.left as u64), self.remaining, limit, sorted];
        limits.into_iter().flatten().min().unwrap_or(u64::MAX)
    }

    /// Takes what there is in the next part of a partition. True: the page ends here.
    fn take(
        &mut self,
        bound: &BoundSelect,
        part: &Part,
        now: GcSeconds,
        standing: &mut Standing<'_>,
    ) -> Result<bool, Refusal> {
        let most = usize::try_from(self.most(bound, standing.given)).unwrap_or(usize::MAX);
        let is_last = part.next.is_none();
        let found = bound
            .part_rows(
                standing.key,
                PartitionPart { partition: &part.partition, now: self.now.unwrap_or(now), is_last },
                standing.after.as_ref(),
                most,
                &mut standing.carried,
            )
            .map_err(|e| not_planned(&e))?;
        let count = found.rows.len();
        let cells = found.rows.iter().flatten();
        let cells = cells.map(|cell| CELL_BYTES + cell.as_ref().map_or(0, Bytes::len));
        self.bytes = self.bytes.saturating_add(cells.sum());
        if !self.is_paged && self.bytes > RESULT_BYTES_MAX {
            return Err(invalid(format!(
                "the result has more than {RESULT_BYTES_MAX} bytes: read it page by page, or ask for less"
            )));
        }
        self.left = self.left.saturating_sub(count);
        self.remaining = self.remaining.map(|left| left.saturating_sub(count as u64));
        standing.given = standing.given.saturating_add(count as u64);
        standing.after = found.last.or(standing.after.take());
        match &mut self.fold {
            None => {
                self.rows.extend(found.rows);
                self.keys.extend(found.keys);
            }
            Some(fold) => {
                self.bytes = 0;
                for row in found.rows {
                    fold.add(row).map_err(|e| not_planned(&e))?;
                }
            }
        }
        standing.is_done = is_last
            || standing.carried.is_done()
            || bound.per_partition_limit.is_some_and(|limit| standing.given >= limit);
        if !self.is_full() {
            return Ok(false);
        }
        let per_partition_left =
            bound.per_partition_limit.is_none_or(|limit| limit > standing.given);
        let goes_on = found.more || !(is_last || standing.carried.is_done());
        let after = standing.after.clone().filter(|_| goes_on && per_partition_left);
        let key = standing.key.clone();
        self.next = Some(Place { remaining: self.remaining, given: standing.given, key, after });
        Ok(true)
    }
}

/// A statement that reads tables, and how.
#[derive(Clone, Copy)]
struct Selecting<'a> {
    table: &'a TableDef,
    bound: &'a BoundSelect,
    level: Level,
    trace: &'a Trace,
}

/// Rows of several partitions in one order, as many as there may be.
fn sorted(bound: &BoundSelect, mut rows: Vec<(ClusteringKey, ResultRow)>) -> Vec<ResultRow> {
    rows.sort_by(|(a, _), (b, _)| if bound.reversed { b.cmp(a) } else { a.cmp(b) });
    let limit = bound.limit.and_then(|limit| usize::try_from(limit).ok());
    rows.truncate(limit.unwrap_or(usize::MAX));
    rows.into_iter().map(|(_, row)| row).collect()
}

impl Front {
    pub(super) async fn select(
        self: &Arc<Self>,
        planned: &Planned,
        select: &SelectPlan,
        how: How<'_>,
    ) -> Result<Response, Refusal> {
        let How { version, parameters, known_metadata, trace, .. } = how;
        let values = in_order(parameters.values, select.markers())?;
        let bound = select.bind(&values, self.moment()).map_err(|e| not_planned(&e))?;
        let place = parameters.paging_state.map(Place::decode).transpose()?;
        let size = parameters.page_size.filter(|_| !bound.is_aggregate());
        let merges = bound.merges_partitions() && !bound.is_aggregate();
        if merges && size.is_some() {
            return Err(invalid(
                "Cannot page queries with both ORDER BY and a IN restriction on the partition key; you must either remove the \
                 ORDER BY or the IN and sort client side, or disable paging for this query",
            ));
        }
        // What is sorted afterwards is cut afterwards.
        let limit = bound.limit.filter(|_| !bound.is_aggregate() && !merges);
        let fold = bound.is_aggregate().then(|| bound.fold()).transpose();
        let mut page = Page {
            rows: Vec::new(),
            fold: fold.map_err(|e| not_planned(&e))?,
            keys: Vec::new(),
            bytes: 0,
            left: size.map_or(usize::MAX, |size| usize::try_from(size.get()).unwrap_or(usize::MAX)),
            remaining: place.as_ref().map_or(limit, |place| place.remaining),
            is_paged: size.is_some(),
            now: second(parameters.now_in_seconds),
            next: None,
        };
        let table = select.table();
        if is_made_up(&table.keyspace) {
            self.read_system(table, &bound, place.as_ref(), &mut page)?;
        } else {
            let level = match level_of(table) {
                Some(level) => level,
                None => self.read_level(parameters.consistency, table, &bound.keys, &trace).await?,
            };
            let selecting = Selecting { table, bound: &bound, level, trace: &trace };
            match &bound.keys {
                Keys::Some(keys) => {
                    self.read_keys(&selecting, keys, place.as_ref(), &mut page).await?;
                }
                Keys::Scan { .. } => {
                    Box::pin(self.scan(&selecting, place.as_ref(), &mut page)).await?;
                }
            }
        }
        let Page { mut rows, fold, keys, remaining, next, .. } = page;
        if let Some(fold) = fold {
            rows = vec![bound.finish(fold).map_err(|e| not_planned(&e))?];
        }
        if merges {
            rows = sorted(&bound, keys.into_iter().zip(rows).collect());
        }
        let columns = planned.columns.clone().unwrap_or_else(|| Arc::from([]));
        let changed = version >= Version::V5
            && known_metadata.is_some_and(|known| known != *planned.metadata_id());
        let columns = if parameters.skip_metadata && !changed {
            Columns::Counted(u32::try_from(columns.len()).unwrap_or(u32::MAX))
        } else {
            Columns::Described(columns)
        };
        let next = next.filter(|_| remaining != Some(0));
        let metadata = RowsMetadata {
            columns,
            paging_state: next.map(|place| place.encode()),
            new_metadata_id: changed.then(|| planned.metadata_id().clone()),
        };
        Ok(Response::Rows(Rows { metadata, rows }))
    }

    fn read_system(
        &self,
        table: &TableDef,
        bound: &BoundSelect,
        place: Option<&Place>,
        page: &mut Page,
    ) -> Result<(), Refusal> {
        let now = self.coordinator.now_seconds();
        let at = |key: &Key| (token::of(&key.0), key.clone());
        let mut partitions = self.system_partitions(table);
        partitions.sort_by_key(|(key, _)| at(key));
        let wanted = |key: &Key| match &bound.keys {
            Keys::Some(keys) => keys.contains(key),
            Keys::Scan { from, until } => {
                (from.as_ref(), until.as_ref()).contains(&token::of(&key.0))
            }
        };
        let is_given = |key: &Key| {
            place.is_some_and(|place| {
                at(key) < at(&place.key) || (place.key == *key && place.after.is_none())
            })
        };
        let partitions = partitions.into_iter().filter(|(key, _)| wanted(key) && !is_given(key));
        for (key, partition) in partitions {
            let part = Part { partition, next: None };
            if page.take(bound, &part, now, &mut Standing::new(&key, place))? {
                break;
            }
        }
        Ok(())
    }

    /// Reads on in a partition, part by part, from a cut on. True: the page ends here.
    async fn read_on(
        self: &Arc<Self>,
        reading: &Selecting<'_>,
        standing: &mut Standing<'_>,
        mut cut: Option<ClusteringKey>,
        page: &mut Page,
    ) -> Result<bool, Refusal> {
        let Selecting { table, bound, level, trace } = *reading;
        let mut rows = 0;
        loop {
            let most = page.most(bound, standing.given).max(rows);
            let Some(filter) = bound.filter(cut.as_ref(), most, PART_BYTES) else {
                return Ok(false);
            };
            let request = ReadRequest {
                keyspace: table.keyspace.clone(),
                table: table.name.clone(),
                key: standing.key.0.clone(),
                level,
                timeout: None,
                shape: Shape::Of(table.id),
                trace: trace.clone(),
            };
            let found = self.coordinator.read_rows(request, filter).await;
            let found = found.map_err(|error| Box::new(self.failure(&error)))?;
            let part = Part { partition: found.partition, next: found.next };
            if page.take(bound, &part, found.at, standing)? {
                return Ok(true);
            }
            match part.next {
                Some(next) if !standing.is_done => cut = Some(next),
                _ => return Ok(false),
            }
            rows = most.saturating_mul(2);
        }
    }

    async fn read_keys(
        self: &Arc<Self>,
        selecting: &Selecting<'_>,
        keys: &[Key],
        place: Option<&Place>,
        page: &mut Page,
    ) -> Result<(), Refusal> {
        // Behind the key at which the page before ended, or from that key on if it was not through.
        let from = place.map_or(0, |place| {
            let order = |key: &Key| (token::of(&key.0), key.clone());
            let last = order(&place.key);
            let goes_on = place.after.is_some();
            keys.partition_point(|key| order(key) < last || (!goes_on && *key == place.key))
        });
        let keys = keys.get(from..).unwrap_or_default();
        for (nth, key) in keys.iter().enumerate() {
            let mut standing = Standing::new(key, place);
            let cut = standing.cut(selecting.bound);
            if self.read_on(selecting, &mut standing, cut, page).await? {
                // The last row of the last key: there is no page behind this one.
                let is_last = nth + 1 == keys.len();
                page.next = page.next.take().filter(|next| !is_last || next.after.is_some());
                break;
            }
        }
        Ok(())
    }

    async fn scan(
        self: &Arc<Self>,
        selecting: &Selecting<'_>,
        place: Option<&Place>,
        page: &mut Page,
    ) -> Result<(), Refusal> {
        let Selecting { table, bound, level, trace } = *selecting;
        let Keys::Scan { from, until } = &bound.keys else { return Ok(()) };
        let last = match *until {
            Bound::Unbounded => Token::MAX,
            Bound::Included(token) => token,
            Bound::Excluded(Token::MIN) => return Ok(()),
            Bound::Excluded(Token(token)) => Token(token - 1),
        };
        let mut after = match place {
            None => match *from {
                Bound::Unbounded => Bytes::new(),
                // Before every key of this token.
                Bound::Included(token) => page_bytes(token, &Key(Bytes::new())),
                Bound::Excluded(Token::MAX) => return Ok(()),
                Bound::Excluded(Token(token)) => page_bytes(Token(token + 1), &Key(Bytes::new())),
            },
            Some(place) => {
                if place.after.is_some() {
                    let mut standing = Standing::new(&place.key, Some(place));
                    let cut = standing.cut(bound);
                    if self.read_on(selecting, &mut standing, cut, page).await? {
                        return Ok(());
                    }
                }
                page_bytes(token::of(&place.key.0), &place.key)
            }
        };
        // With a small LIMIT, no more than might do; behind filters these may be too few, and then it is many.
        let mut wanted =
            page.remaining.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
        loop {
            let request = ScanRequest {
                keyspace: table.keyspace.clone(),
                table: table.name.clone(),
                level,
                limit: page.left.min(wanted).clamp(1, SCAN_PARTITIONS),
                page: after,
                node_local: false,
                shape: Shape::Of(table.id),
                until: last,
                trace: trace.clone(),
            };
            // A statement without slices has no keys to scan.
            let Some(filter) = bound.filter(None, page.most(bound, 0), PART_BYTES) else {
                return Ok(());
            };
            let found = self.coordinator.scan_rows(request, filter).await;
            let found = found.map_err(|error| Box::new(self.failure(&error)))?;
            for (key, part) in &found.partitions {
                let mut standing = Standing::new(key, None);
                if page.take(bound, part, found.at, &mut standing)? {
                    return Ok(());
                }
                if let Some(next) = part.next.clone().filter(|_| !standing.is_done)
                    && self.read_on(selecting, &mut standing, Some(next), page).await?
                {
                    return Ok(());
                }
            }
            if found.next_page.is_empty() {
                return Ok(());
            }
            after = found.next_page;
            wanted = usize::MAX;
        }
    }
}
