//! `put`, `get`, `delete`, `scan`.

use crate::context::{Context, Failure};
use crate::input::{self, TableName};
use crate::out;
use bytes::Bytes;
use clap::Args;
use helenus_client::{
    Answer, Client, Level, Options, Routing, Scan as Pages, Table, TimestampMicros,
};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// What every operation on data may be told.
#[derive(Debug, Args)]
struct How {
    /// ANY, ONE, TWO, THREE, QUORUM, ALL, LOCAL_ONE, LOCAL_QUORUM or EACH_QUORUM.
    #[arg(long, short, value_name = "LEVEL", default_value = "QUORUM", value_parser = input::level)]
    level: Level,

    /// Say which replicas answered.
    #[arg(long)]
    trace: bool,

    /// Let this node coordinate, and no other; else a replica of the key does.
    #[arg(long, value_name = "HOST")]
    coordinator: Option<String>,
}

impl How {
    fn options(&self) -> Result<Options, Failure> {
        let mut options = Options::new().level(self.level);
        options.trace = self.trace;
        if let Some(host) = &self.coordinator {
            options.routing = Some(Routing::Pinned(input::host(host)?));
        }
        Ok(options)
    }
}

/// Keys and values as they are shown.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    /// The text itself, or hexadecimal digits: see `encoding`.
    text: String,
    encoding: &'static str,
}

impl Shown {
    pub(crate) fn new(bytes: &[u8], hex: bool) -> Shown {
        match std::str::from_utf8(bytes) {
            Ok(text) if !hex => Shown { text: text.to_owned(), encoding: "utf-8" },
            _ => Shown { text: input::hex(bytes), encoding: "hex" },
        }
    }
}

/// Who coordinated and who answered, by address where the topology knows it.
#[derive(Debug, Serialize)]
struct Answered {
    coordinator: String,
    responders: Vec<String>,
    attempts: u32,
    warnings: Vec<String>,
}

impl Answered {
    fn new(client: &Client, answer: Answer) -> Answered {
        let topology = client.topology();
        let name =
            |node| topology.addr_of(node).map_or_else(|| format!("{node}"), |a| a.to_string());
        Answered {
            coordinator: answer.coordinator.to_string(),
            responders: answer.responders.into_iter().map(name).collect(),
            attempts: answer.attempts,
            warnings: answer.warnings,
        }
    }

    /// A line for people. Replicas are named only if somebody asked.
    fn line(&self, traced: bool) -> String {
        let mut line = format!("coordinator {}", self.coordinator);
        if traced {
            line += &format!("; answered by {}", self.responders.join(", "));
        }
        if self.attempts > 1 {
            line += &format!("; {} attempts", self.attempts);
        }
        line
    }
}

fn open(client: &Client, name: &TableName) -> Table {
    client.table(&name.keyspace, &name.table)
}

#[derive(Debug, Serialize)]
struct Acknowledged {
    timestamp_us: i64,
    #[serde(flatten)]
    answered: Answered,
}

/// Write a value.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl put demo.kv greeting 'hello, Troy'
  helenusctl put demo.kv greeting hi --level all --trace
  helenusctl put demo.kv session-7 token --ttl 30m
  helenusctl put demo.kv photo --file troy.jpg
  date | helenusctl put demo.kv now
  helenusctl put demo.kv 00ff 0102 --hex")]
pub(crate) struct Put {
    /// KEYSPACE.TABLE
    table: TableName,
    key: String,
    /// The value; without it (and without --file) it is read from stdin.
    #[arg(conflicts_with = "file")]
    value: Option<String>,
    /// Take the value from this file.
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// KEY and VALUE are hexadecimal digits.
    #[arg(long)]
    hex: bool,
    /// The value's version, in microseconds since 1970; else this machine's clock.
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true)]
    timestamp: Option<i64>,
    /// The value disappears after this long, e.g. 30m; else the table's default.
    #[arg(long, value_name = "DURATION", value_parser = input::duration)]
    ttl: Option<Duration>,
    #[command(flatten)]
    how: How,
}

impl Put {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let key = input::bytes(&self.key, self.hex)?;
        let value = match &self.value {
            Some(value) => input::bytes(value, self.hex)?,
            None => input::read_value(self.file.as_deref())?,
        };
        let mut options = self.how.options()?;
        options.timestamp = self.timestamp.map(TimestampMicros);
        options.ttl = self.ttl;
        let client = context.client().await?;
        let written = open(&client, &self.table).put_with(key, value, &options).await?;
        let answered = Answered::new(&client, written.answer);
        show_written(context, "written", written.timestamp, answered, self.how.trace)
    }
}

fn show_written(
    context: &Context,
    verb: &str,
    timestamp: TimestampMicros,
    answered: Answered,
    traced: bool,
) -> Result<(), Failure> {
    if !context.out.json() {
        context.out.warnings(&answered.warnings);
    }
    let acknowledged = Acknowledged { timestamp_us: timestamp.0, answered };
    context.out.show(&acknowledged, |it| {
        let (version, moment) = (it.timestamp_us, out::moment(it.timestamp_us));
        format!("{verb} as version {version} ({moment})\n{}", it.answered.line(traced))
    })
}

/// Delete a value.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl delete demo.kv greeting
  helenusctl delete demo.kv greeting --level all --trace
  helenusctl delete demo.kv 00ff --hex")]
pub(crate) struct Delete {
    /// KEYSPACE.TABLE
    table: TableName,
    key: String,
    /// KEY is hexadecimal digits.
    #[arg(long)]
    hex: bool,
    /// Hide everything up to this version, in microseconds since 1970; else up to now by this machine's clock.
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true)]
    timestamp: Option<i64>,
    #[command(flatten)]
    how: How,
}

impl Delete {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let key = input::bytes(&self.key, self.hex)?;
        let mut options = self.how.options()?;
        options.timestamp = self.timestamp.map(TimestampMicros);
        let client = context.client().await?;
        let written = open(&client, &self.table).delete_with(key, &options).await?;
        let answered = Answered::new(&client, written.answer);
        show_written(context, "deleted", written.timestamp, answered, self.how.trace)
    }
}

#[derive(Debug, Serialize)]
struct Found {
    found: bool,
    key: Shown,
    value: Option<Shown>,
    /// Of the value, or of the tombstone that hides it.
    timestamp_us: Option<i64>,
    deleted: bool,
    #[serde(flatten)]
    answered: Answered,
}

/// Read a value.
///
/// The value goes to stdout, its version to stderr. Exit code 1 if the key is not there.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl get demo.kv greeting
  helenusctl get demo.kv greeting --level one --trace
  helenusctl get demo.kv greeting --coordinator 127.0.0.3
  helenusctl get demo.kv photo --raw > troy.jpg
  helenusctl --format json get demo.kv greeting")]
pub(crate) struct Get {
    /// KEYSPACE.TABLE
    table: TableName,
    key: String,
    /// KEY is hexadecimal digits, and so is the value printed.
    #[arg(long)]
    hex: bool,
    /// Print the value's bytes as they are, without a newline.
    #[arg(long, conflicts_with = "hex")]
    raw: bool,
    #[command(flatten)]
    how: How,
}

impl Get {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let key = input::bytes(&self.key, self.hex)?;
        let client = context.client().await?;
        let options = self.how.options()?;
        let got = open(&client, &self.table).get_with(key.clone(), &options).await?;
        let found = Found {
            found: got.value.is_some(),
            key: Shown::new(&key, self.hex),
            value: got.value.as_ref().map(|versioned| Shown::new(&versioned.value, self.hex)),
            timestamp_us: got.value.as_ref().map(|v| v.timestamp).or(got.deleted).map(|t| t.0),
            deleted: got.deleted.is_some(),
            answered: Answered::new(&client, got.answer),
        };
        if context.out.json() {
            context.out.show(&found, |_| String::new())?;
        } else {
            context.out.warnings(&found.answered.warnings);
            if let Some(versioned) = &got.value {
                self.print(context, &versioned.value)?;
            }
            context.out.remark(describe(&found, self.how.trace));
        }
        match (got.value, got.deleted) {
            (Some(_), _) => Ok(()),
            (None, Some(_)) => Err(Failure::NotFound(format!("`{}` was deleted", self.key))),
            (None, None) => Err(Failure::NotFound(format!("`{}` is not there", self.key))),
        }
    }

    fn print(&self, context: &Context, value: &Bytes) -> Result<(), Failure> {
        if self.raw {
            return context.out.raw(value);
        }
        let line = if self.hex { input::hex(value) } else { out::printable(value) };
        context.out.raw(format!("{line}\n").as_bytes())
    }
}

fn describe(found: &Found, traced: bool) -> String {
    let line = found.answered.line(traced);
    match found.timestamp_us {
        Some(version) => {
            let what = if found.deleted { "deleted as " } else { "" };
            format!("{what}version {version} ({}); {line}", out::moment(version))
        }
        None => line,
    }
}

#[derive(Debug, Serialize)]
struct Line {
    key: Shown,
    value: Shown,
    timestamp_us: i64,
}

/// Read a table in token order.
///
/// One line a key: the key, its version, the value, with tabs between; with --format json one object a line.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl scan demo.kv
  helenusctl scan demo.kv --limit 0 --keys > keys.txt
  helenusctl scan demo.kv --local --coordinator 127.0.0.2    # only what that node itself stores
  helenusctl --format json scan demo.kv | jq .key.text")]
pub(crate) struct Scan {
    /// KEYSPACE.TABLE
    table: TableName,
    /// Stop after so many keys; 0: go on to the end.
    #[arg(long, value_name = "KEYS", default_value_t = 100)]
    limit: u64,
    /// Keys asked for at once; 0: as the node likes.
    #[arg(long, value_name = "KEYS", default_value_t = 0)]
    page_size: u32,
    /// Read only what the coordinator itself stores, and ask no other node. Needs --coordinator.
    #[arg(long, requires = "coordinator")]
    local: bool,
    /// Print hexadecimal digits.
    #[arg(long)]
    hex: bool,
    /// Print only the keys.
    #[arg(long)]
    keys: bool,
    #[command(flatten)]
    how: How,
}

impl Scan {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client().await?;
        let table = open(&client, &self.table);
        let options = self.how.options()?;
        let mut pages = Pages { limit: self.page_size, from: None, node_local: self.local };
        let mut left = if self.limit == 0 { u64::MAX } else { self.limit };
        let mut responders: BTreeMap<String, u64> = BTreeMap::new();
        while left > 0 {
            if pages.limit == 0 || u64::from(pages.limit) > left {
                // A page is no longer than what is still wanted; the node's own page size still applies.
                pages.limit = u32::try_from(left).unwrap_or(self.page_size);
            }
            let page = table.scan_with(&pages, &options).await?;
            let answered = Answered::new(&client, page.answer);
            context.out.warnings(&answered.warnings);
            for responder in answered.responders {
                *responders.entry(responder).or_default() += 1;
            }
            for entry in page.entries {
                let line = Line {
                    key: Shown::new(&entry.key, self.hex),
                    value: Shown::new(&entry.value.value, self.hex),
                    timestamp_us: entry.value.timestamp.0,
                };
                context.out.show(&line, |line| self.line(&entry.key, &entry.value.value, line))?;
                left = left.saturating_sub(1);
            }
            pages.from = page.next;
            if pages.from.is_none() {
                return self.finish(context, &responders, false);
            }
        }
        self.finish(context, &responders, true)
    }

    fn line(&self, key: &[u8], value: &[u8], line: &Line) -> String {
        let show = |bytes| if self.hex { input::hex(bytes) } else { out::printable(bytes) };
        match self.keys {
            true => show(key),
            false => format!("{}\t{}\t{}", show(key), line.timestamp_us, show(value)),
        }
    }

    fn finish(
        &self,
        context: &Context,
        responders: &BTreeMap<String, u64>,
        more: bool,
    ) -> Result<(), Failure> {
        if self.how.trace {
            let pages = responders.iter().map(|(node, pages)| format!("{node} ({pages} pages)"));
            let names = match responders.is_empty() {
                true => "replicas that the coordinator does not name for a scan".to_owned(),
                false => pages.collect::<Vec<_>>().join(", "),
            };
            context.out.remark(format_args!("answered by {names}"));
        }
        if more && !context.out.json() {
            context
                .out
                .remark(format_args!("there may be more: --limit {} was reached", self.limit));
        }
        Ok(())
    }
}
