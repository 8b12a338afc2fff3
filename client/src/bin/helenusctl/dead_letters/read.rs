//! `deadletters show` and `deadletters export`.

use super::name;
use super::update::{Update, summary};
use crate::context::{Context, Failure};
use crate::data::Shown;
use crate::input;
use crate::out::{self, Out, cell};
use clap::Args;
use helenus_client::{Admin, AdminError, v1};
use serde::Serialize;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Letters asked for at once in an export.
const PAGE: u32 = 1000;

/// A place in a log, as it is shown and given back: `HOST-ID/SEGMENT/OFFSET`.
fn place(text: &str) -> Result<v1::DeadLetterPlace, String> {
    let parts: Vec<&str> = text.split('/').collect();
    let bad = || format!("`{text}` is no place: give what an earlier `show` ended with");
    let [node, segment, offset] = parts.as_slice() else { return Err(bad()) };
    let number = |text: &str| text.parse::<u64>().map_err(|_| bad());
    Ok(v1::DeadLetterPlace {
        node: (*node).to_owned(),
        segment: number(segment)?,
        offset: number(offset)?,
    })
}

fn place_text(place: &v1::DeadLetterPlace) -> String {
    format!("{}/{}/{}", place.node, place.segment, place.offset)
}

/// One letter as a line of JSON.
#[derive(Debug, Serialize)]
struct Letter {
    /// The node that holds it.
    coordinator: String,
    /// The node that it is owed.
    target_host_id: String,
    target_addr: String,
    /// Empty when the table was dropped since; then `table` is its id.
    keyspace: String,
    table: String,
    key: Shown,
    key_hex: String,
    created_us: i64,
    gc_grace_s: u32,
    /// Of its record in the log.
    bytes: u64,
    /// What the mutation does; absent when it cannot be decoded.
    update: Option<Update>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unreadable: Option<String>,
    /// The mutation in its canonical encoding.
    update_hex: String,
}

impl Letter {
    fn new(coordinator: &str, it: &v1::DeadLetter) -> Letter {
        let (update, unreadable) = match Update::decode(&it.update) {
            Ok(update) => (Some(update), None),
            Err(why) => (None, Some(why)),
        };
        Letter {
            coordinator: coordinator.to_owned(),
            target_host_id: it.node.clone(),
            target_addr: it.addr.clone(),
            keyspace: it.keyspace.clone(),
            table: it.table.clone(),
            key: Shown::new(&it.key, false),
            key_hex: input::hex(&it.key),
            created_us: it.created_us,
            gc_grace_s: it.gc_grace_s,
            bytes: it.bytes,
            update,
            unreadable,
            update_hex: input::hex(&it.update),
        }
    }
}

#[derive(Debug, Serialize)]
struct Page {
    host: String,
    letters: Vec<Letter>,
    /// Where to go on (`--after`); absent: there are no more.
    next: Option<String>,
}

/// Show dead letters one by one, those of each target in the order in which they were written.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl deadletters show
  helenusctl deadletters show --target 127.0.0.3:7000 --limit 5
  helenusctl deadletters show --after 5f1c0c8e-3a5b-4e0e-8c39-0d1b6d1c9f42/17/4096
  helenusctl --format json deadletters show | jq .[].letters[].key.text")]
pub(super) struct Show {
    /// Only letters for this host id or internode address.
    #[arg(long, value_name = "TARGET")]
    target: Option<String>,
    /// So many at most, 1 to 1000.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Go on where an earlier `show` of the same host ended.
    #[arg(long, value_name = "PLACE", value_parser = place)]
    after: Option<v1::DeadLetterPlace>,
}

impl Show {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let mut each = context
            .ask_each(async |admin| {
                read(&admin, self.target.as_deref(), self.after.clone(), self.limit).await
            })
            .await;
        let answers = std::mem::take(&mut each.answers);
        if context.out.json() {
            let pages = answers.iter().map(|(addr, answer)| Page {
                host: addr.to_string(),
                letters: answer
                    .letters
                    .iter()
                    .map(|it| Letter::new(&addr.to_string(), it))
                    .collect(),
                next: answer.next.as_ref().map(place_text),
            });
            context.out.show(&pages.collect::<Vec<_>>(), |_| String::new())?;
        } else {
            let texts = answers.iter().map(|(addr, it)| text(&context.out, &addr.to_string(), it));
            context.out.raw(texts.collect::<Vec<_>>().join("\n").as_bytes())?;
        }
        each.finish()
    }
}

/// Asks until there are `limit` letters or no more: an answer may hold fewer.
async fn read(
    admin: &Admin,
    target: Option<&str>,
    after: Option<v1::DeadLetterPlace>,
    limit: u32,
) -> Result<v1::ReadDeadLettersResponse, AdminError> {
    let mut all = v1::ReadDeadLettersResponse { next: after, ..Default::default() };
    loop {
        let have = u32::try_from(all.letters.len()).unwrap_or(u32::MAX);
        let request = v1::ReadDeadLettersRequest {
            target: target.unwrap_or_default().to_owned(),
            after: all.next.take(),
            limit: limit.saturating_sub(have).max(1),
        };
        let page = admin.read_dead_letters(request).await?;
        all.letters.extend(page.letters);
        (all.next, all.now_us) = (page.next, page.now_us);
        let full = u32::try_from(all.letters.len()).unwrap_or(u32::MAX) >= limit;
        if all.next.is_none() || full {
            return Ok(all);
        }
    }
}

fn text(out: &Out, host: &str, answer: &v1::ReadDeadLettersResponse) -> String {
    if answer.letters.is_empty() {
        return format!("{host}: no dead letters\n");
    }
    let columns = ["Target", "Table", "Key", "Written", ">Age", ">Bytes", "What it does"];
    let mut table = out.table(&columns);
    for it in &answer.letters {
        let age_s =
            u64::try_from(answer.now_us.saturating_sub(it.created_us)).unwrap_or(0) / 1_000_000;
        let expired = age_s >= u64::from(it.gc_grace_s);
        let age = humantime::format_duration(Duration::from_secs(age_s)).to_string();
        let of = match it.keyspace.is_empty() {
            true => format!("(dropped) {}", it.table),
            false => format!("{}.{}", it.keyspace, it.table),
        };
        table.add_row(vec![
            cell(name(&it.addr, &it.node), false),
            cell(of, it.keyspace.is_empty()),
            cell(out::printable(&it.key), false),
            cell(out::moment(it.created_us), false),
            cell(if expired { format!("{age} (too old)") } else { age }, expired),
            cell(it.bytes, false),
            cell(summary(&it.update), false),
        ]);
    }
    let more = answer.next.as_ref().map(place_text);
    let more = more.map(|place| format!("more: --after {place}\n")).unwrap_or_default();
    format!("{host}:\n{}\n{more}", table.trim_fmt())
}

/// Write the dead letters of each host to a file, one JSON object a line.
///
/// They stay where they are. A line has the target, the table, the key, when it was written, what the mutation does and its
/// encoded bytes: enough for a tool to apply it elsewhere.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl deadletters export letters.jsonl
  helenusctl deadletters export - | jq .key.text
  helenusctl --host 127.0.0.1 --host 127.0.0.2 deadletters export letters.jsonl --target 127.0.0.3:7000")]
pub(super) struct Export {
    /// The file, which must not be there yet; `-`: stdout.
    file: PathBuf,
    /// Only letters for this host id or internode address.
    #[arg(long, value_name = "TARGET")]
    target: Option<String>,
}

impl Export {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let file = &self.file;
        let to_stdout = file == Path::new("-");
        let written = match to_stdout {
            true => self.export_all(context, &mut io::stdout().lock()).await?,
            false => self.export_to_file(context).await?,
        };
        let what = if to_stdout { "stdout".to_owned() } else { file.display().to_string() };
        context.out.remark(format_args!("{written} dead letters written to {what}"));
        Ok(())
    }

    /// The file is there, whole and durable, or not at all.
    async fn export_to_file(&self, context: &Context) -> Result<u64, Failure> {
        let path = &self.file;
        let failed = |error: io::Error| Failure::Here(format!("{}: {error}", path.display()));
        let opened = File::create_new(path).map_err(failed)?;
        let mut buffered = io::BufWriter::new(&opened);
        let exported = self.export_all(context, &mut buffered).await;
        drop(buffered);
        // Whoever purges next relies on it.
        let exported = exported.and_then(|n| opened.sync_all().map(|()| n).map_err(failed));
        if exported.is_err() {
            // Half an export would look like one. Where it cannot be removed, the error says enough.
            let _ = std::fs::remove_file(path);
        }
        exported
    }

    async fn export_all(&self, context: &Context, to: &mut impl Write) -> Result<u64, Failure> {
        let mut written = 0;
        for (addr, admin) in context.admins() {
            written += self.export(&admin, &addr.to_string(), to).await?;
        }
        Ok(written)
    }

    /// The letters of one host; gives their number.
    async fn export(&self, admin: &Admin, host: &str, to: &mut impl Write) -> Result<u64, Failure> {
        let (mut written, mut after) = (0, None);
        loop {
            let target = self.target.clone().unwrap_or_default();
            let request = v1::ReadDeadLettersRequest { target, after, limit: PAGE };
            let page = admin.read_dead_letters(request).await?;
            for it in &page.letters {
                serde_json::to_writer(&mut *to, &Letter::new(host, it)).map_err(io::Error::from)?;
                to.write_all(b"\n")?;
                written += 1;
            }
            after = page.next;
            if after.is_none() {
                to.flush()?;
                return Ok(written);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use helenus_core::codec;
    use helenus_core::{Partition, TimestampMicros};

    fn letter(key: &'static [u8]) -> v1::DeadLetter {
        let put = Partition::put(TimestampMicros(70), b"hello"[..].into(), None);
        v1::DeadLetter {
            node: "n3".into(),
            keyspace: "demo".into(),
            table: "kv".into(),
            key: key.into(),
            update: codec::encode(&put),
            created_us: 1_000_000,
            gc_grace_s: 60,
            bytes: 61,
            ..Default::default()
        }
    }

    #[test]
    fn places_come_back_as_they_are_shown() {
        let shown = place_text(&place("n3/17/4096").unwrap());
        assert_eq!(shown, "n3/17/4096");
        for bad in ["", "n3", "n3/1", "n3/x/1", "n3/1/2/3"] {
            assert!(place(bad).unwrap_err().contains("is no place"), "{bad}");
        }
    }

    #[test]
    fn letters_are_shown_with_what_they_do_and_whether_they_are_too_old() {
        let answer = v1::ReadDeadLettersResponse {
            letters: vec![letter(b"young"), letter(b"\xff")],
            next: place("n3/17/4096").ok(),
            now_us: 31_000_000,
        };
        let out = Out::new(out::Format::Table);
        let shown = text(&out, "h", &answer);
        assert!(shown.contains("demo.kv") && shown.contains("put 5 bytes"), "{shown}");
        assert!(shown.contains("30s") && !shown.contains("too old"), "{shown}");
        assert!(
            shown.contains("\\xff") && shown.ends_with("more: --after n3/17/4096\n"),
            "{shown}"
        );
        let later = v1::ReadDeadLettersResponse { now_us: 61_000_000, next: None, ..answer };
        assert!(text(&out, "h", &later).contains("1m (too old)"));
    }

    #[test]
    fn a_line_of_an_export_has_all_that_is_needed_to_apply_it() {
        let line = serde_json::to_value(Letter::new("c", &letter(b"k\x00"))).unwrap();
        assert_eq!(line["key_hex"], "6b00");
        assert_eq!(line["update"]["rows"][0]["cells"][0]["value"]["text"], "hello");
        let update = input::bytes(line["update_hex"].as_str().unwrap(), true).unwrap();
        assert_eq!(update, letter(b"k").update);
        let mut broken = letter(b"k");
        broken.update = b"\x07"[..].into();
        let line = serde_json::to_value(Letter::new("c", &broken)).unwrap();
        assert!(line["unreadable"].as_str().is_some() && line["update"].is_null());
    }
}
