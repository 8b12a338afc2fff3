//! Runs the golden scripts of the merge (`testscripts/merge`): replicas with one-letter names hold one partition each.

mod common;

use bytes::Bytes;
use common::Outcome;
use helenus_core::merge;
use helenus_core::reconcile::{Reconciled, reconcile};
use helenus_core::{
    Bound, Cell, ClusteringKey, ColumnId, Complex, Content, Deletion, Expiry, GcSeconds, NodeId,
    Partition, RangeTombstone, Row, TimestampMicros,
};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// `ts` is a timestamp in microseconds, `at` a second of the replica's clock.
#[derive(goldenscript::Command)]
enum Command {
    /// Writes a value, as an INSERT does.
    Put {
        replica: String,
        value: String,
        #[arg(key)]
        ts: i64,
        #[arg(key)]
        at: Option<u32>,
        #[arg(key)]
        ttl: Option<u32>,
        #[arg(key)]
        row: Option<String>,
    },
    /// Deletes the partition.
    Delete {
        replica: String,
        #[arg(key)]
        ts: i64,
        #[arg(key)]
        at: Option<u32>,
    },
    /// Deletes a row.
    DeleteRow {
        replica: String,
        #[arg(key)]
        row: String,
        #[arg(key)]
        ts: i64,
    },
    /// Deletes the column `value` of a row.
    DeleteCell {
        replica: String,
        #[arg(key)]
        ts: i64,
        #[arg(key)]
        at: Option<u32>,
        #[arg(key)]
        row: Option<String>,
    },
    /// Adds an element to the collection of a row.
    AddElement {
        replica: String,
        element: String,
        #[arg(key)]
        ts: i64,
        #[arg(key)]
        row: Option<String>,
    },
    /// Deletes an element of it.
    DeleteElement {
        replica: String,
        element: String,
        #[arg(key)]
        ts: i64,
        #[arg(key)]
        row: Option<String>,
    },
    /// Deletes all its elements.
    DeleteElements {
        replica: String,
        #[arg(key)]
        ts: i64,
        #[arg(key)]
        row: Option<String>,
    },
    /// Deletes the rows between two keys, both included.
    DeleteRange {
        replica: String,
        #[arg(key)]
        from: Option<String>,
        #[arg(key)]
        to: Option<String>,
        #[arg(key)]
        ts: i64,
    },
    /// Merges what the first replica holds into the second.
    Send(String, String),
    /// What a reader of a key-value table sees.
    Get {
        replica: String,
        #[arg(key)]
        at: Option<u32>,
    },
    /// Everything that is held.
    Show(String),
    /// Turns values whose TTL has run out into tombstones.
    Expire {
        replica: String,
        #[arg(key)]
        at: u32,
    },
    /// Forgets tombstones that are older than a second, and than a timestamp.
    Purge {
        replica: String,
        #[arg(key)]
        before: u32,
        #[arg(key)]
        below: Option<i64>,
    },
    /// Reconciles the answers of all replicas.
    Reconcile,
}

#[derive(Default)]
struct Runner {
    replicas: BTreeMap<String, Partition>,
}

fn key(text: &str) -> ClusteringKey {
    ClusteringKey(Bytes::copy_from_slice(text.as_bytes()))
}

fn one_row(row: Option<&String>, content: Row) -> Partition {
    let key = key(row.map_or("", String::as_str));
    Partition { rows: vec![(key, content)], ..Partition::default() }
}

/// The column that is a collection.
const COLLECTION: ColumnId = ColumnId(1);

fn one_element(element: &str, ts: i64, content: Content) -> Row {
    let cell = Cell { timestamp: TimestampMicros(ts), content };
    let elements = vec![(Bytes::copy_from_slice(element.as_bytes()), cell)];
    Row { complex: vec![(COLLECTION, Complex { deletion: None, elements })], ..Row::default() }
}

fn seconds(at: Option<u32>) -> GcSeconds {
    GcSeconds(at.unwrap_or(0))
}

/// The write that a command stands for, if it is one, and who takes it.
fn write(command: &Command) -> Option<(&String, Partition)> {
    let deletion = |ts: i64, at: Option<u32>| Deletion {
        timestamp: TimestampMicros(ts),
        deleted_at: seconds(at),
    };
    Some(match command {
        Command::Put { replica, value, ts, at, ttl, row } => {
            let expiry =
                ttl.map(|ttl_s| Expiry { ttl_s, expires_at: GcSeconds(seconds(*at).0 + ttl_s) });
            let value = Bytes::copy_from_slice(value.as_bytes());
            let mut put = Partition::put(TimestampMicros(*ts), value, expiry);
            if let (Some((k, _)), Some(row)) = (put.rows.first_mut(), row) {
                *k = key(row);
            }
            (replica, put)
        }
        Command::Delete { replica, ts, at } => {
            (replica, Partition::delete(TimestampMicros(*ts), seconds(*at)))
        }
        Command::DeleteRow { replica, row, ts } => {
            let deleted = Row { deletion: Some(deletion(*ts, None)), ..Row::default() };
            (replica, one_row(Some(row), deleted))
        }
        Command::DeleteCell { replica, ts, at, row } => {
            let content = Content::Tombstone { deleted_at: seconds(*at) };
            let cell = Cell { timestamp: TimestampMicros(*ts), content };
            let deleted = Row { cells: vec![(ColumnId::VALUE, cell)], ..Row::default() };
            (replica, one_row(row.as_ref(), deleted))
        }
        Command::AddElement { replica, element, ts, row } => {
            let content = Content::Value { value: Bytes::new(), expiry: None };
            (replica, one_row(row.as_ref(), one_element(element, *ts, content)))
        }
        Command::DeleteElement { replica, element, ts, row } => {
            let content = Content::Tombstone { deleted_at: seconds(None) };
            (replica, one_row(row.as_ref(), one_element(element, *ts, content)))
        }
        Command::DeleteElements { replica, ts, row } => {
            let complex = Complex { deletion: Some(deletion(*ts, None)), elements: Vec::new() };
            let deleted = Row { complex: vec![(COLLECTION, complex)], ..Row::default() };
            (replica, one_row(row.as_ref(), deleted))
        }
        Command::DeleteRange { replica, from, to, ts } => {
            let bound = |text: &Option<String>| {
                text.as_ref().map_or(Bound::Open, |text| Bound::Included(key(text)))
            };
            let range = RangeTombstone {
                start: bound(from),
                end: bound(to),
                deletion: deletion(*ts, None),
            };
            (replica, Partition { ranges: vec![range], ..Partition::default() })
        }
        _ => return None,
    })
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn describe_row(row: &Row) -> String {
    let mut out = String::new();
    if let Some(deletion) = row.deletion {
        out += &format!(" deleted@{}", deletion.timestamp.0);
    }
    if let Some(liveness) = row.liveness {
        out += &format!(" there@{}", liveness.timestamp.0);
    }
    for (_, cell) in &row.cells {
        out += &match &cell.content {
            Content::Value { value, expiry: None } => format!(" `{}`", text(value)),
            Content::Value { value, expiry: Some(expiry) } => {
                format!(" `{}` until {}", text(value), expiry.expires_at.0)
            }
            Content::Tombstone { deleted_at } => format!(" null since {}", deleted_at.0),
        };
        out += &format!("@{}", cell.timestamp.0);
    }
    for (_, complex) in &row.complex {
        out += " {";
        if let Some(deletion) = complex.deletion {
            out += &format!(" all deleted@{}", deletion.timestamp.0);
        }
        for (path, cell) in &complex.elements {
            let sign = if matches!(cell.content, Content::Value { .. }) { '+' } else { '-' };
            out += &format!(" {sign}{}@{}", text(path), cell.timestamp.0);
        }
        out += " }";
    }
    out
}

fn describe(partition: &Partition) -> String {
    let mut parts = Vec::new();
    if let Some(deletion) = partition.deletion {
        parts.push(format!("all deleted@{}", deletion.timestamp.0));
    }
    for range in &partition.ranges {
        let start = match &range.start {
            Bound::Open => "(".to_owned(),
            Bound::Included(key) => format!("[{}", text(&key.0)),
            Bound::Excluded(key) => format!("({}", text(&key.0)),
        };
        let end = match &range.end {
            Bound::Open => ")".to_owned(),
            Bound::Included(key) => format!("{}]", text(&key.0)),
            Bound::Excluded(key) => format!("{})", text(&key.0)),
        };
        parts.push(format!("{start}..{end} deleted@{}", range.deletion.timestamp.0));
    }
    for (key, row) in &partition.rows {
        parts.push(format!("row {}:{}", text(&key.0), describe_row(row)).replace("row :", "row:"));
    }
    if parts.is_empty() { "nothing".to_owned() } else { parts.join("; ") }
}

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &goldenscript::Context) -> Outcome<String> {
        let mut output = String::new();
        if let Some((replica, update)) = write(command) {
            merge::merge(self.replicas.entry(replica.clone()).or_default(), update);
            return Ok(output);
        }
        let held = |name: &String| self.replicas.get(name).cloned().unwrap_or_default();
        match command {
            Command::Send(from, to) => {
                let sent = held(from);
                merge::merge(self.replicas.entry(to.clone()).or_default(), sent);
            }
            Command::Get { replica, at } => {
                let partition = held(replica);
                output = match merge::live_value(&partition, seconds(*at)) {
                    Some((value, at)) => format!("{replica} reads `{}`@{}", text(value), at.0),
                    None => format!("{replica} reads nothing"),
                };
            }
            Command::Show(replica) => {
                output = format!("{replica} holds {}", describe(&held(replica)));
            }
            Command::Expire { replica, at } => {
                merge::expire(self.replicas.entry(replica.clone()).or_default(), GcSeconds(*at));
            }
            Command::Purge { replica, before, below } => {
                let partition = self.replicas.entry(replica.clone()).or_default();
                let below = TimestampMicros(below.unwrap_or(i64::MAX));
                merge::purge(partition, GcSeconds(*before), below);
            }
            Command::Reconcile => {
                let answers = (0..).map(NodeId).zip(self.replicas.values());
                let answers = answers.map(|(node, part)| (node, Some(part.clone()))).collect();
                let Reconciled { winner, stale } = reconcile(answers);
                writeln!(output, "the answer is {}", describe(&winner))?;
                for (node, missing) in stale {
                    let name = self.replicas.keys().nth(usize::try_from(node.0)?);
                    let name = name.ok_or("reconcile named a replica that did not answer")?;
                    writeln!(output, "{name} lacks {}", describe(&missing))?;
                }
            }
            _ => return Err("the command is a write".into()),
        }
        Ok(output)
    }
}

#[test]
fn scripts_hold() {
    common::scripts_hold("merge", Runner::default);
}
