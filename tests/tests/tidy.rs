//! The repository's own rules, as tests: what a reviewer would otherwise have to remember.
//!
//! Rules that clippy or rustc can check are in `Cargo.toml` and `clippy.toml`; these are the others.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use helenus_tests::{binary, run};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines before a file's own tests. Past the first it asks to be two rooms, past the second it must be.
const LINES_WARN: usize = 600;
const LINES_MAX: usize = 900;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Every file of the repository that is text, by its path from the root.
fn files() -> Vec<(String, String)> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let listed = git.current_dir(root()).output().expect("git lists the repository's files");
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let names = String::from_utf8(listed.stdout).unwrap();
    let names: BTreeSet<&str> = names.split('\0').filter(|name| !name.is_empty()).collect();
    // A file that was removed is still listed until the removal is committed; one that is not text has no lines to judge.
    let read = |name: &str| Some((name.to_owned(), fs::read_to_string(root().join(name)).ok()?));
    let files: Vec<_> = names.into_iter().filter_map(read).collect();
    assert!(files.len() > 100, "{} files: is this the repository?", files.len());
    files
}

fn with_extension(extension: &str) -> Vec<(String, String)> {
    let ends = format!(".{extension}");
    files().into_iter().filter(|(name, _)| name.ends_with(&ends)).collect()
}

/// One test fails with all that is wrong, not with the first.
fn none(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

#[test]
fn nothing_is_left_for_later() {
    // Put together here, so that this file does not break its own rule.
    let words =
        [["to", "do!("], ["unimple", "mented!("], ["db", "g!("], ["FIX", "ME"], ["XX", "X:"]];
    let words = words.map(|parts| parts.concat());
    let ignored = ["#[ig", "nore]"].concat();
    let mut broken = Vec::new();
    for (name, text) in with_extension("rs") {
        for (line, nth) in text.lines().zip(1..) {
            for word in words.iter().filter(|word| line.contains(word.as_str())) {
                broken.push(format!("{name}:{nth}: {word}"));
            }
            if line.contains(&ignored) {
                broken.push(format!("{name}:{nth}: a test that is not run must say why"));
            }
        }
    }
    none("done, or an issue, but not in the code", &broken);
}

#[test]
fn every_source_file_opens_with_what_it_is_for() {
    let opens = |text: &str| {
        let first = text.lines().next().unwrap_or_default();
        first.strip_prefix("//! ").is_some_and(|words| words.split_whitespace().count() >= 3)
    };
    // A module's tests in a file of their own are still that module's.
    let own = |name: &String| !name.ends_with("/tests.rs");
    let broken = with_extension("rs").into_iter().filter(|(name, text)| own(name) && !opens(text));
    none(
        "the first line is `//! ` and a sentence",
        &broken.map(|(name, _)| name).collect::<Vec<_>>(),
    );
}

#[test]
fn no_file_is_too_long_to_read() {
    let mut broken = Vec::new();
    for (name, text) in with_extension("rs") {
        let before_tests = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
        match before_tests.lines().count() {
            lines if lines > LINES_MAX => broken.push(format!("{name}: {lines} lines")),
            lines if lines > LINES_WARN => println!("{name}: {lines} lines ask to be two rooms"),
            _ => {}
        }
    }
    none(&format!("at most {LINES_MAX} lines before the tests"), &broken);
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() {
    let homes = ["work", "root", "home", "Users"].map(|home| format!("/{home}/"));
    let mut broken = Vec::new();
    for (name, text) in files() {
        for (line, nth) in text.lines().zip(1..) {
            let absolute = |home: &String| {
                line.match_indices(home.as_str()).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    before.is_none_or(|c| !(c.is_alphanumeric() || "._-/}>".contains(c)))
                })
            };
            if homes.iter().any(absolute)
                && !name.ends_with(".lock")
                && name != "tests/tests/tidy.rs"
            {
                broken.push(format!("{name}:{nth}: {}", line.trim()));
            }
        }
    }
    none("paths are relative to the repository", &broken);
}

#[test]
fn the_changelog_has_a_place_for_the_next_change() {
    let changelog = fs::read_to_string(root().join("CHANGELOG.md")).unwrap();
    let sections: Vec<&str> = changelog.lines().filter(|line| line.starts_with("## ")).collect();
    assert_eq!(sections.first(), Some(&"## Unreleased"));
}

#[test]
fn every_decision_record_is_in_the_index_and_every_page_in_the_summary() {
    let mut broken = Vec::new();
    for (folder, index) in
        [("docs/adr/", "docs/adr/README.md"), ("docs/src/", "docs/src/SUMMARY.md")]
    {
        let listed = fs::read_to_string(root().join(index)).unwrap_or_default();
        for (name, _) in with_extension("md") {
            let Some(page) = name.strip_prefix(folder).filter(|_| name != index) else { continue };
            if !listed.contains(&format!("({page})")) && !listed.contains(&format!("(./{page})")) {
                broken.push(format!("{name} is not in {index}"));
            }
        }
    }
    none("what is not in the index is not found", &broken);
}

/// The text without its fenced code, where brackets mean something else.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let mut prose = String::new();
    for line in text.lines() {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        if !fenced && !fence {
            prose.push_str(line);
            prose.push('\n');
        }
    }
    prose
}

/// `(target)` of every `[words](target)`.
fn links(text: &str) -> Vec<String> {
    let targets = prose(text);
    let targets = targets.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target.split(' ').next().unwrap_or_default().to_owned()).collect()
}

/// The anchors that headings get: lower case, spaces to hyphens, no other punctuation.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text);
    let headings = headings.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let words = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        words.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_between_pages_leads_somewhere() {
    let mut broken = Vec::new();
    for (name, text) in with_extension("md") {
        let here = root().join(&name);
        for link in links(&text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target =
                if path.is_empty() { here.clone() } else { here.with_file_name("").join(path) };
            if !target.exists() {
                broken.push(format!("{name}: ({link})"));
            } else if !anchor.is_empty() && target.extension().is_some_and(|e| e == "md") {
                let there = fs::read_to_string(&target).unwrap();
                if !anchors(&there).contains(anchor) {
                    broken.push(format!("{name}: ({link}): no such heading"));
                }
            }
        }
    }
    none("links lead to files that exist", &broken);
}

/// `cargo metadata`, with the graph that was really resolved.
fn metadata() -> Value {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version", "1", "--locked"]).current_dir(root());
    let said = cargo.output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    serde_json::from_slice(&said.stdout).unwrap()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap()
}

#[test]
fn no_crate_knows_one_above_it() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("helenus-core", &[][..]),
        ("helenus-proto", &["helenus-core"]),
        ("helenus-node", &["helenus-core", "helenus-proto"]),
        ("helenus-client", &["helenus-core", "helenus-proto"]),
        ("helenus-sim", &["helenus-core", "helenus-proto", "helenus-node", "helenus-client"]),
        ("helenus-tests", &["helenus-core", "helenus-proto", "helenus-client"]),
    ]);
    let metadata = metadata();
    let members: BTreeSet<&str> = metadata["workspace_members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_str().unwrap())
        .collect();
    let packages = metadata["packages"].as_array().unwrap();
    let mut broken = Vec::new();
    for package in packages.iter().filter(|p| members.contains(text(p, "id"))) {
        let name = text(package, "name");
        let Some(may) = allowed.get(name) else {
            broken.push(format!("{name} has no place in the order of rooms: give it one here"));
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap() {
            let on = text(dependency, "name");
            // A crate's tests are bound as it is: what they import, it is read with.
            if on.starts_with("helenus-") && on != name && !may.contains(&on) {
                broken.push(format!("{name} -> {on}"));
            }
        }
    }
    none("nothing points upward, and the client knows no server", &broken);
}

#[test]
fn the_core_can_name_no_clock_no_chance_and_no_runtime() {
    let metadata = metadata();
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let by_id: BTreeMap<&str, &Value> = nodes.iter().map(|node| (text(node, "id"), node)).collect();
    let names: BTreeMap<&str, &str> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| (text(p, "id"), text(p, "name")))
        .collect();
    let core = names.iter().find(|(_, name)| **name == "helenus-core").unwrap().0;
    let mut reached = BTreeSet::new();
    let mut left = vec![*core];
    while let Some(id) = left.pop() {
        if !reached.insert(id) {
            continue;
        }
        for dependency in by_id[id]["deps"].as_array().unwrap() {
            // `null`: what it is built with; not its tests, not its build script.
            if dependency["dep_kinds"].as_array().unwrap().iter().any(|kind| kind["kind"].is_null())
            {
                left.push(text(dependency, "pkg"));
            }
        }
    }
    let banned = [
        "tokio",
        "mio",
        "tonic",
        "rand",
        "getrandom",
        "fastrand",
        "tracing",
        "log",
        "chrono",
        "time",
        "sled",
        "turmoil",
    ];
    let found = reached.iter().map(|id| names[id].to_owned());
    none(
        "node/core is pure",
        &found.filter(|name| banned.contains(&name.as_str())).collect::<Vec<_>>(),
    );
}

/// The commands that a page tells its reader to type, without prompts and comments.
fn commands(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut fence: Option<bool> = None;
    for line in page.lines() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            let shell = ["", "sh", "bash", "console", "shell"].contains(&language.trim());
            fence = if fence.is_some() { None } else { Some(shell) };
            continue;
        }
        if fence == Some(true) {
            let line = line.trim().trim_start_matches("$ ");
            let line = line.split(" # ").next().unwrap_or_default().trim();
            found.push(line.to_owned());
        }
    }
    found
}

/// Whether `help` names an option.
fn knows(help: &str, option: &str) -> bool {
    let option = option.split('=').next().unwrap_or_default();
    let words = help.split(|c: char| c.is_whitespace() || ",[]<>=".contains(c));
    words.into_iter().any(|word| word == option)
}

/// What is wrong with a command of ours, if anything: a verb or an option that the binary does not know.
async fn unknown(name: &str, words: &[&str]) -> Option<String> {
    let binary = binary(name);
    let top = run(&binary, ["--help"]).await.ok();
    let is_verb = |help: &str, word: &str| {
        let first = |line: &str| line.split_whitespace().next() == Some(word);
        !word.starts_with('-') && help.lines().any(first)
    };
    let verb = words.iter().position(|word| is_verb(&top, word));
    let verb = verb.and_then(|at| words.get(at..)).and_then(|rest| rest.split_first());
    let help = match verb {
        Some((verb, rest)) => {
            let mut help = run(&binary, [verb, "--help"]).await.ok();
            // Some verbs have verbs of their own: `hints await`.
            if let Some(below) = rest.first().filter(|word| is_verb(&help, word)) {
                help += &run(&binary, [verb, below, "--help"]).await.ok();
            }
            help + &top
        }
        None => top,
    };
    if verb.is_none() && !words.iter().any(|word| word.starts_with("--")) {
        return Some(format!("{name} {}: no verb that it knows", words.join(" ")));
    }
    let option = words.iter().find(|word| word.starts_with("--") && !knows(&help, word));
    option.map(|option| format!("{name} {}: no option {option}", words.join(" ")))
}

/// What `cargo` is told to run must be there.
fn unknown_to_cargo(words: &[&str], metadata: &Value) -> Option<String> {
    let packages = metadata["packages"].as_array().unwrap();
    let value = |names: &[&str]| {
        let at = words.iter().position(|word| names.contains(word))?;
        words.get(at + 1).copied()
    };
    let ours = words.iter().take_while(|word| **word != "--");
    if let Some(package) = value(&["-p", "--package"])
        && !packages.iter().any(|p| text(p, "name") == package)
    {
        return Some(format!("cargo {}: no package {package}", words.join(" ")));
    }
    let binary = value(&["--bin"]).filter(|_| ours.clone().any(|word| *word == "--bin"))?;
    let mut targets = packages.iter().flat_map(|p| p["targets"].as_array().unwrap());
    let known = targets.any(|t| {
        text(t, "name") == binary
            && t["kind"].as_array().is_some_and(|k| k.iter().any(|k| k == "bin"))
    });
    (!known).then(|| format!("cargo {}: no binary {binary}", words.join(" ")))
}

#[tokio::test]
async fn every_command_that_a_page_shows_exists() {
    let metadata = metadata();
    let mut broken = Vec::new();
    let mut seen = 0;
    for (name, page) in with_extension("md") {
        let commands = commands(&page);
        let mut copied = Vec::new();
        for command in &commands {
            let words: Vec<&str> = command.split_whitespace().collect();
            let Some((program, rest)) = words.split_first() else { continue };
            let program =
                Path::new(program).file_name().and_then(|p| p.to_str()).unwrap_or_default();
            let problem = match program {
                "cargo" => unknown_to_cargo(rest, &metadata),
                "helenus" | "helenusctl" => {
                    let until_pipe: Vec<&str> = rest
                        .iter()
                        .copied()
                        .take_while(|word| !["|", ">", "&", "&&"].contains(word))
                        .collect();
                    unknown(program, &until_pipe).await
                }
                "helenus-lab" => unknown_scenario(rest, &copied),
                "cp" => {
                    copied.extend(rest.last().copied());
                    continue;
                }
                _ => continue,
            };
            seen += 1;
            broken.extend(problem.map(|problem| format!("{name}: {problem}")));
        }
    }
    println!("{seen} commands");
    none("a reader can type what the pages show", &broken);
}

/// The lab is not built here; what it is told to run must at least be there.
/// `copied` are the files that the page has had its reader make.
fn unknown_scenario(words: &[&str], copied: &[&str]) -> Option<String> {
    let [verb, rest @ ..] = words else { return None };
    let scenario = rest.first().filter(|word| *verb == "run" && !word.starts_with('-'))?;
    let file: PathBuf = root().join("sim/scenarios").join(format!("{scenario}.toml"));
    let there = file.is_file() || root().join(scenario).is_file() || copied.contains(scenario);
    if !there {
        return Some(format!("helenus-lab {}: no such scenario", words.join(" ")));
    }
    let text = fs::read_to_string(file).unwrap_or_default();
    let mut chosen = rest.windows(2).filter(|pair| pair.first() == Some(&"--variant"));
    let is_known = |id: &str| text.contains(&format!("[[variant]]\nid = \"{id}\"\n"));
    let unknown = chosen.find(|pair| !pair.last().is_some_and(|id| is_known(id)));
    unknown.map(|pair| format!("helenus-lab {}: no such variant", pair.join(" ")))
}
