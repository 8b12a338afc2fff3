//! `hintledger`: which writes a replica will never get by a hint.

use crate::context::{Context, Failure};
use crate::out::{self, Out, cell};
use clap::Args;
use helenus_client::v1;
use serde::Serialize;

#[derive(Debug, Serialize)]
struct Ledger {
    host: String,
    as_of: u64,
    rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    host_id: String,
    addr: String,
    keyspace: String,
    table: String,
    reason: String,
    hints: u64,
    bytes: u64,
    first_us: i64,
    last_us: i64,
    ranges: Vec<Range>,
}

#[derive(Debug, Serialize)]
struct Range {
    first_token: i64,
    last_token: i64,
    hints: u64,
    bytes: u64,
    first_us: i64,
    last_us: i64,
}

impl From<v1::HintLosses> for Row {
    fn from(it: v1::HintLosses) -> Self {
        let ranges = it.ranges.into_iter().map(|range| Range {
            first_token: range.first_token,
            last_token: range.last_token,
            hints: range.count,
            bytes: range.bytes,
            first_us: range.first_us,
            last_us: range.last_us,
        });
        let ranges: Vec<Range> = ranges.collect();
        Row {
            host_id: it.node,
            addr: it.addr,
            keyspace: it.keyspace,
            table: it.table,
            reason: it.reason,
            hints: ranges.iter().map(|range| range.hints).fold(0, u64::saturating_add),
            bytes: ranges.iter().map(|range| range.bytes).fold(0, u64::saturating_add),
            first_us: ranges.iter().map(|range| range.first_us).min().unwrap_or_default(),
            last_us: ranges.iter().map(|range| range.last_us).max().unwrap_or_default(),
            ranges,
        }
    }
}

impl Row {
    fn target(&self) -> &str {
        match (self.addr.is_empty(), self.host_id.is_empty()) {
            (false, _) => &self.addr,
            (true, false) => &self.host_id,
            (true, true) => "(any)",
        }
    }

    fn table(&self) -> String {
        match (self.keyspace.is_empty(), self.table.is_empty()) {
            (true, true) => "(any)".to_owned(),
            (true, false) => format!("(dropped) {}", self.table),
            (false, _) => format!("{}.{}", self.keyspace, self.table),
        }
    }
}

impl Ledger {
    fn new(host: String, answer: v1::HintLedgerResponse) -> Ledger {
        let rows = answer.rows.into_iter().map(Row::from).collect();
        Ledger { host, as_of: answer.as_of, rows }
    }

    fn text(&self, out: &Out, ranges: bool) -> String {
        let mut text = format!("{}:\n", self.host);
        if self.rows.is_empty() {
            return text + "no hint was lost that is not repaired\n";
        }
        let place = if ranges { "Tokens" } else { ">Ranges" };
        let columns = ["Target", "Table", "Reason", place, ">Hints", ">Bytes", "First", "Last"];
        let mut table = out.table(&columns);
        for row in &self.rows {
            let mut line = |place: String, hints: u64, bytes: u64, first: i64, last: i64| {
                table.add_row(vec![
                    cell(row.target(), false),
                    cell(row.table(), false),
                    cell(&row.reason, false),
                    cell(place, false),
                    cell(hints, false),
                    cell(out::bytes(bytes), false),
                    cell(out::moment(first), false),
                    cell(out::moment(last), false),
                ]);
            };
            if ranges {
                for it in &row.ranges {
                    let place = format!("{}..={}", it.first_token, it.last_token);
                    line(place, it.hints, it.bytes, it.first_us, it.last_us);
                }
            } else {
                let count = row.ranges.len().to_string();
                line(count, row.hints, row.bytes, row.first_us, row.last_us);
            }
        }
        text += &format!("{}\n", table.trim_fmt());
        text
    }
}

/// Show which hints each host will never deliver, and where a repair must look.
///
/// Every hint that was refused, evicted, expired or lost is counted here, by target, table, reason and token range, until
/// it is repaired. A restart forgets none that is older than the last flush. Ranges cover all that was lost, and may cover
/// more.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl hintledger
  helenusctl hintledger --target 127.0.0.3:7000 --ranges
  helenusctl hintledger --target 127.0.0.3:7000 --forget
  helenusctl --format json hintledger | jq .[].rows[].ranges")]
pub(crate) struct HintLedger {
    /// Only hints for this host id or internode address.
    #[arg(long, value_name = "TARGET")]
    target: Option<String>,
    /// One line for each token range.
    #[arg(long)]
    ranges: bool,
    /// Show it, and forget what is shown: the target was repaired by other means, or is to be rebuilt.
    #[arg(long, requires = "target")]
    forget: bool,
}

impl HintLedger {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let target = self.target.unwrap_or_default();
        let forget = self.forget;
        let mut each = context
            .ask_each(async |admin| {
                let shown = admin.hint_ledger(&target).await?;
                if forget {
                    let (target, as_of) = (target.clone(), shown.as_of);
                    let settle =
                        v1::SettleHintLedgerRequest { target, as_of, ..Default::default() };
                    admin.settle_hint_ledger(settle).await?;
                }
                Ok(shown)
            })
            .await;
        let ledgers: Vec<Ledger> = std::mem::take(&mut each.answers)
            .into_iter()
            .map(|(addr, answer)| Ledger::new(addr.to_string(), answer))
            .collect();
        context.out.show(&ledgers, |ledgers| {
            let text = |it: &Ledger| it.text(&context.out, self.ranges);
            ledgers.iter().map(text).collect::<Vec<_>>().join("\n")
        })?;
        each.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_shown_by_its_sums_or_by_its_ranges() {
        let range = |first: i64| v1::HintLossRange {
            first_token: first,
            last_token: first + 9,
            count: 2,
            bytes: 512,
            first_us: 1,
            last_us: 2,
        };
        let lost = v1::HintLosses {
            addr: "127.0.0.3:7000".into(),
            keyspace: "shop".into(),
            table: "orders".into(),
            reason: "node_cap_reached".into(),
            ranges: vec![range(-50), range(70)],
            ..Default::default()
        };
        let unknown = v1::HintLosses { ranges: vec![range(1)], ..Default::default() };
        let answer = v1::HintLedgerResponse { rows: vec![lost, unknown], as_of: 3 };
        let ledger = Ledger::new("h".into(), answer);
        let out = Out::new(out::Format::Table);
        let sums = ledger.text(&out, false);
        assert!(sums.contains("shop.orders") && sums.contains("1.0 KiB"), "{sums}");
        assert!(sums.contains("(any)"), "{sums}");
        let ranges = ledger.text(&out, true);
        assert!(ranges.contains("-50..=-41") && ranges.contains("70..=79"), "{ranges}");
    }
}
