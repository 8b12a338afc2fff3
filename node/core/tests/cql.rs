//! Runs the golden scripts of CQL, the language: `testscripts/cql/<claim>`.

mod common;

use common::Outcome;
use goldenscript::{Command, Context, Runner};
use helenus_core::cql;
use std::fmt::Write as _;

struct Script;

/// A tree without what is not said: fields that are `None`, `false`, empty or `Always` are left out.
fn pruned(tree: &str) -> String {
    let mut tree = tree.to_owned();
    for nothing in [": None", ": false", ": []", ": Always"] {
        let mut from = 0;
        while let Some(at) = tree[from..].find(nothing).map(|at| from + at) {
            let end = at + nothing.len();
            let name = tree[..at].rfind(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            let start = name.map_or(0, |before| before + 1);
            let end = if tree[end..].starts_with(", ") { end + 2 } else { end };
            tree.replace_range(start..end, "");
            from = start;
        }
    }
    tree.replace(",  }", " }").replace("{  }", "{}")
}

impl Runner for Script {
    type Command = Command;

    /// `parse "SELECT …" "…"`: the tree of each statement and its markers, or what is wrong with it.
    fn run(&mut self, command: &Command, _: &Context) -> Outcome<String> {
        let mut args = command.consume_args();
        let mut out = String::new();
        if command.name != "parse" {
            return Err(format!("no such command: {}", command.name).into());
        }
        while let Some(text) = args.next_pos() {
            match cql::parse(text) {
                Err(error) => writeln!(out, "{error}")?,
                Ok(parsed) => {
                    writeln!(out, "{}", pruned(&format!("{:?}", parsed.statement)))?;
                    if !parsed.markers.is_empty() {
                        let name = |marker: &cql::ast::Marker| match &marker.name {
                            Some(name) => format!(":{name}"),
                            None => "?".to_owned(),
                        };
                        let names: Vec<_> = parsed.markers.iter().map(name).collect();
                        writeln!(out, "  markers: {}", names.join(" "))?;
                    }
                }
            }
        }
        args.reject_next()?;
        Ok(out)
    }
}

#[test]
fn every_claim_holds() {
    common::scripts_hold("cql", || Script);
}
