//! From TOML to a `Config`: one value at a time, then all together.

use super::keys;
use super::{CommitlogSync, Config, TlsFiles, did_you_mean};
use bytesize::ByteSize;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What is wrong, and the byte at which.
pub(super) type Problems = Vec<(usize, String)>;

/// A configuration while its file is read: what takes several keys to say is put together at the end.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) config: Config,
    pub(super) commitlog_sync: Option<SyncMode>,
    pub(super) commitlog_sync_period: Option<Duration>,
    pub(super) commitlog_sync_group_window: Option<Duration>,
    pub(super) num_tokens: Option<u16>,
    pub(super) native_transport_tls: TlsDraft,
    pub(super) rpc_tls: TlsDraft,
}

/// The files of a port, as far as they are given.
#[derive(Default)]
pub(super) struct TlsDraft {
    pub(super) certificate: Option<PathBuf>,
    pub(super) private_key: Option<PathBuf>,
    pub(super) client_ca: Option<PathBuf>,
}

/// The words of `commitlog_sync`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum SyncMode {
    Periodic,
    Batch,
    Group,
}

impl SyncMode {
    pub(super) const NAMES: [(&'static str, SyncMode); 3] =
        [("periodic", SyncMode::Periodic), ("batch", SyncMode::Batch), ("group", SyncMode::Group)];
}

const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A value that is not what its key takes.
pub(super) struct Wrong {
    at: Range<usize>,
    why: String,
}

/// A value of the file, asked for as what its key takes.
#[derive(Clone, Copy)]
pub(super) struct Value<'a>(&'a Spanned<DeValue<'a>>);

impl<'a> Value<'a> {
    fn wrong(self, why: impl Into<String>) -> Wrong {
        Wrong { at: self.0.span(), why: why.into() }
    }

    fn instead_of(self, what: &str) -> Wrong {
        let kind = match self.0.get_ref() {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.wrong(format!("this is {kind}, and must be {what}"))
    }

    fn text_like(self, what: &str) -> Result<&'a str, Wrong> {
        self.0.get_ref().as_str().ok_or_else(|| self.instead_of(what))
    }

    pub(super) fn flag(self) -> Result<bool, Wrong> {
        self.0.get_ref().as_bool().ok_or_else(|| self.instead_of("true or false"))
    }

    /// A text that is not empty.
    pub(super) fn name(self) -> Result<String, Wrong> {
        match self.text_like("a text in quotes")?.trim() {
            "" => Err(self.wrong("must not be empty")),
            name => Ok(name.to_owned()),
        }
    }

    /// A whole number within `range`.
    pub(super) fn number<N>(self, range: RangeInclusive<N>) -> Result<N, Wrong>
    where
        N: TryFrom<i64> + PartialOrd + Display,
    {
        let what = format!("a whole number from {} to {}", range.start(), range.end());
        let Some(number) = self.0.get_ref().as_integer() else {
            return Err(self.instead_of(&what));
        };
        let parsed = i64::from_str_radix(number.as_str(), number.radix()).ok();
        let fits = parsed.and_then(|n| N::try_from(n).ok()).filter(|n| range.contains(n));
        fits.ok_or_else(|| self.wrong(format!("must be {what}")))
    }

    /// A number above 0, with or without decimals.
    pub(super) fn positive(self) -> Result<f64, Wrong> {
        let value = self.0.get_ref();
        let text = match (value.as_float(), value.as_integer()) {
            (Some(float), _) => float.as_str(),
            (None, Some(integer)) if integer.radix() == 10 => integer.as_str(),
            _ => return Err(self.instead_of("a number above 0")),
        };
        let number = text.parse::<f64>().ok().filter(|n| n.is_finite() && *n > 0.0);
        number.ok_or_else(|| self.wrong("must be a number above 0"))
    }

    /// Bytes, such as `"500MiB"`; `"0"` needs no unit.
    pub(super) fn size(self) -> Result<u64, Wrong> {
        let example = r#"a size with its unit, such as "500MiB" or "64KiB""#;
        self.parse_size(self.text_like(example)?, example)
    }

    /// Bytes above 0.
    pub(super) fn some_size(self) -> Result<u64, Wrong> {
        match self.size()? {
            0 => Err(self.wrong("must be more than 0")),
            size => Ok(size),
        }
    }

    /// Bytes a second, such as `"64MiB/s"`; `"0"` is no limit.
    pub(super) fn throughput(self) -> Result<u64, Wrong> {
        let example = r#"a size a second, such as "64MiB/s", or "0" for no limit"#;
        let text = self.text_like(example)?.trim();
        if text == "0" {
            return Ok(0);
        }
        match text.split_once('/') {
            Some((size, second)) if second.trim() == "s" => self.parse_size(size, example),
            _ => Err(self.wrong(format!("must be {example}"))),
        }
    }

    fn parse_size(self, text: &str, example: &str) -> Result<u64, Wrong> {
        let text = text.trim();
        let without_unit = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if without_unit && text != "0" {
            return Err(self.wrong(format!("the unit is missing: must be {example}")));
        }
        let size =
            text.parse::<ByteSize>().map_err(|_| self.wrong(format!("must be {example}")))?;
        // Half of what fits, so that sums of sizes fit too.
        match size.as_u64() {
            size if size <= u64::MAX / 2 => Ok(size),
            _ => Err(self.wrong("is more than any disk holds")),
        }
    }

    /// A time, such as `"3h"` or `"1h 30m"`.
    pub(super) fn duration(self) -> Result<Duration, Wrong> {
        let example = r#"a time with its unit, such as "10ms", "2s" or "3h""#;
        let text = self.text_like(example)?.trim();
        match humantime::parse_duration(text) {
            // Far below what overflows when times are added up.
            Ok(time) if time <= LONGEST => Ok(time),
            Ok(_) => Err(self.wrong("is longer than any node lives")),
            Err(error) => Err(self.wrong(format!("must be {example}: {error}"))),
        }
    }

    /// A time above 0.
    pub(super) fn some_duration(self) -> Result<Duration, Wrong> {
        match self.duration()? {
            Duration::ZERO => Err(self.wrong("must be more than 0")),
            time => Ok(time),
        }
    }

    pub(super) fn address(self) -> Result<SocketAddr, Wrong> {
        let example = r#"an IP address and a port, such as "127.0.0.1:7000""#;
        let text = self.text_like(example)?;
        text.parse().map_err(|_| self.wrong(format!("must be {example}")))
    }

    /// An address that is told to others, so it must be one that they can dial.
    pub(super) fn reachable_address(self) -> Result<SocketAddr, Wrong> {
        let address = self.address()?;
        if address.ip().is_unspecified() {
            return Err(self.wrong(
                "this address is told to other nodes and to clients, so it must be one that they can dial, not the one \
                 that means \"every interface\"",
            ));
        }
        Ok(address)
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(self, choices: &[(&'static str, T)]) -> Result<T, Wrong> {
        let names = || choices.iter().map(|(name, _)| *name);
        let allowed = names().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
        let text = self.text_like(&format!("one of {allowed}"))?;
        if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == text) {
            return Ok(*choice);
        }
        let hint = did_you_mean(text, names()).map(|name| format!("; did you mean \"{name}\"?"));
        Err(self.wrong(format!("must be one of {allowed}{}", hint.unwrap_or_default())))
    }

    /// A list of distinct values.
    pub(super) fn list<T: Ord + Clone>(
        self,
        what: &str,
        item: impl Fn(Value<'a>) -> Result<T, Wrong>,
    ) -> Result<Vec<T>, Wrong> {
        let items = self.0.get_ref().as_array().ok_or_else(|| self.instead_of(what))?;
        let mut seen = BTreeSet::new();
        items
            .iter()
            .map(|value| {
                let read = item(Value(value))?;
                let new = seen.insert(read.clone());
                if new { Ok(read) } else { Err(Value(value).wrong("is in the list twice")) }
            })
            .collect()
    }
}

/// Reads a file's text. What it gives back counts only if it found no problems.
pub(super) fn read(text: &str, problems: &mut Problems) -> Config {
    let (root, broken) = DeTable::parse_recoverable(text);
    if !broken.is_empty() {
        // Behind a syntax error nothing can be trusted to be where it seems to be.
        problems.extend(broken.iter().map(|error| {
            (error.span().map_or(0, |span| span.start), error.message().replace('\n', ", "))
        }));
        return Config::default();
    }
    let mut draft = Draft::default();
    read_table(None, root.get_ref(), &mut draft, problems);
    let at = |table: Option<&str>, key: &str| {
        let inside = match table {
            None => Some(root.get_ref()),
            Some(table) => root.get_ref().get(table).and_then(|t| t.get_ref().as_table()),
        };
        inside.and_then(|t| t.get_key_value(key)).map_or(0, |(_, value)| value.span().start)
    };
    let complaints = finish(&mut draft);
    problems.extend(complaints.into_iter().map(|(table, key, why)| (at(table, key), why)));
    draft.config
}

fn read_table(
    table: Option<&str>,
    entries: &DeTable<'_>,
    draft: &mut Draft,
    problems: &mut Problems,
) {
    for (name, value) in entries {
        let (at, name) = (name.span().start, name.get_ref().as_ref());
        if let Some(key) = keys::EVERY.iter().find(|key| key.table == table && key.name == name) {
            if let Err(wrong) = (key.read)(Value(value), draft) {
                problems.push((wrong.at.start, format!("`{name}`: {}", wrong.why)));
            }
            continue;
        }
        let is_table = table.is_none() && keys::TABLES.iter().any(|known| known.name == name);
        match value.get_ref().as_table() {
            Some(entries) if is_table => read_table(Some(name), entries, draft, problems),
            None if is_table => {
                problems.push((at, format!("`{name}` is a table: write [{name}] on its own line")));
            }
            _ => problems.push((at, unknown(table, name))),
        }
    }
}

/// The message for a key that does not exist: where it belongs, or what it resembles.
fn unknown(table: Option<&str>, name: &str) -> String {
    let place = |table: Option<&str>| match table {
        Some(table) => format!("in the table [{table}]"),
        None => "at the top of the file, before any [table]".to_owned(),
    };
    let what = format!("unknown key `{name}` {}", place(table));
    if let Some(key) = keys::EVERY.iter().find(|key| key.name == name) {
        return format!("{what}; it belongs {}", place(key.table));
    }
    let tables = keys::TABLES.iter().map(|known| known.name).filter(|_| table.is_none());
    let here = keys::EVERY.iter().filter(|key| key.table == table).map(|key| key.name);
    let known: Vec<&str> = here.chain(tables).collect();
    if let Some(nearest) = did_you_mean(name, known.iter().copied()) {
        return format!("{what}; did you mean `{nearest}`?");
    }
    match did_you_mean(name, keys::EVERY.iter().map(|key| key.name)) {
        Some(nearest) => {
            let home = keys::EVERY.iter().find(|key| key.name == nearest).and_then(|key| key.table);
            format!("{what}; did you mean `{nearest}` {}?", place(home))
        }
        None => format!("{what}; known here are: {}", known.join(", ")),
    }
}

/// A complaint about the value of a key in a table.
type Complaint = (Option<&'static str>, &'static str, String);

/// What takes several keys to say, and what they may not say together.
fn finish(draft: &mut Draft) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    finish_commitlog(draft, &mut complaints);
    finish_tokens(draft, &mut complaints);
    let keys = [
        "native_transport_tls_certificate",
        "native_transport_tls_private_key",
        "native_transport_tls_client_ca",
    ];
    let files = std::mem::take(&mut draft.native_transport_tls);
    draft.config.native_transport_tls = finish_tls(files, keys, &mut complaints);
    let keys = ["rpc_tls_certificate", "rpc_tls_private_key", "rpc_tls_client_ca"];
    let files = std::mem::take(&mut draft.rpc_tls);
    draft.config.rpc_tls = finish_tls(files, keys, &mut complaints);
    let config = &draft.config;
    if config.native_transport_tls.is_some() && config.native_transport_address.is_none() {
        let key = "native_transport_tls_certificate";
        complaints.push((
            None,
            key,
            format!("`{key}` means nothing without `native_transport_address`"),
        ));
    }
    let addresses = [
        ("listen_address", Some(config.listen_address)),
        ("rpc_address", Some(config.rpc_address)),
        ("native_transport_address", config.native_transport_address),
        ("metrics_address", config.metrics_address),
    ];
    for (nth, (key, address)) in addresses.iter().enumerate() {
        let same = addresses.iter().take(nth).find(|(_, other)| {
            // Port 0 takes a free one, so two of them do not clash.
            address.is_some_and(|address| address.port() != 0) && other == address
        });
        if let (Some((other, _)), Some(address)) = (same, address) {
            complaints.push((None, key, format!("`{key}` is {address}, and so is `{other}`")));
        }
    }
    let storage = &config.storage;
    if storage.commitlog_total_space < storage.commitlog_segment_size {
        let why = "`commitlog_total_space` is less than one segment (`commitlog_segment_size`)";
        complaints.push((Some("storage"), "commitlog_total_space", why.to_owned()));
    }
    complaints
}

fn finish_commitlog(draft: &mut Draft, complaints: &mut Vec<Complaint>) {
    let (period, window) = (draft.commitlog_sync_period, draft.commitlog_sync_group_window);
    let mode = draft.commitlog_sync.unwrap_or(SyncMode::Periodic);
    let mut only_with = |key: &'static str, given: bool, its: SyncMode, word: &str| {
        if given && mode != its {
            let why = format!("`{key}` means something only with commitlog_sync = \"{word}\"");
            complaints.push((Some("storage"), key, why));
        }
    };
    only_with("commitlog_sync_period", period.is_some(), SyncMode::Periodic, "periodic");
    only_with("commitlog_sync_group_window", window.is_some(), SyncMode::Group, "group");
    draft.config.storage.commitlog_sync = match mode {
        SyncMode::Periodic => CommitlogSync::Periodic(period.unwrap_or(keys::SYNC_PERIOD)),
        SyncMode::Batch => CommitlogSync::Batch,
        SyncMode::Group => CommitlogSync::Group(window.unwrap_or(keys::SYNC_GROUP_WINDOW)),
    };
}

/// A port is encrypted, or it is not: half of what it takes is a mistake.
fn finish_tls(
    files: TlsDraft,
    [certificate_key, private_key_key, ca_key]: [&'static str; 3],
    complaints: &mut Vec<Complaint>,
) -> Option<TlsFiles> {
    let TlsDraft { certificate, private_key, client_ca } = files;
    let mut without = |key: &'static str, other: &str| {
        complaints.push((None, key, format!("`{key}` means nothing without `{other}`")));
    };
    match (certificate, private_key) {
        (Some(certificate), Some(private_key)) => {
            return Some(TlsFiles { certificate, private_key, client_ca });
        }
        (Some(_), None) => without(certificate_key, private_key_key),
        (None, Some(_)) => without(private_key_key, certificate_key),
        (None, None) if client_ca.is_some() => without(ca_key, certificate_key),
        (None, None) => {}
    }
    None
}

fn finish_tokens(draft: &mut Draft, complaints: &mut Vec<Complaint>) {
    let fixed = draft.config.initial_token.len();
    match draft.num_tokens {
        // Only a file that says two different numbers is wrong.
        Some(random) if fixed > 0 && usize::from(random) != fixed => {
            let why =
                format!("`initial_token` lists {fixed} tokens, and `num_tokens` says {random}");
            complaints.push((None, "initial_token", why));
        }
        Some(random) => draft.config.num_tokens = random,
        None if fixed > 0 => draft.config.num_tokens = u16::try_from(fixed).unwrap_or(u16::MAX),
        None => {}
    }
}
