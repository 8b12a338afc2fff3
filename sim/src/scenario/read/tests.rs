use super::*;
use crate::scenario::{Op, Operand};

const AZ_PARTITION: &str = include_str!("../../../scenarios/az-partition.toml");

fn problems(text: &str) -> String {
    Scenario::parse("x.toml", text).unwrap_err().to_string()
}

/// The flagship with one line changed.
fn with(from: &str, to: &str) -> String {
    assert!(AZ_PARTITION.contains(from), "{from} is in the scenario");
    AZ_PARTITION.replacen(from, to, 1)
}

#[test]
fn the_flagship_is_read_whole() {
    let scenario = Scenario::parse("az-partition.toml", AZ_PARTITION).unwrap();
    assert_eq!(scenario.id, "az-partition");
    assert_eq!(scenario.length(), Duration::from_secs(92 * 60));
    let names: Vec<String> = scenario.cluster.nodes().into_iter().map(|n| n.name).collect();
    assert_eq!(names, ["a1", "b1", "c1", "a2", "b2", "c2", "a3", "b3", "c3"]);
    assert_eq!(scenario.scaled_bytes(scenario.cluster.hints.cap), 500_000);
    assert_eq!(scenario.scaled_value(50_000), 5_000);
    // The cut's `until` has become an event of its own, in its place.
    let heal = scenario.first(|a| matches!(a, Action::Heal { .. })).unwrap();
    assert_eq!(scenario.clock(heal).to_string(), "14:35");
    assert!(scenario.events.is_sorted_by_key(|e| e.at));
    let fill = scenario.expectations.iter().find(|e| e.id == "fill-as-predicted").unwrap();
    assert_eq!((fill.that.op, &fill.that.operand), (Op::Within(10.0), &Operand::Predicted));
}

#[test]
fn operators_repair_with_and_without_the_ledger() {
    for (command, verb) in [
        ("nodetool repair", Verb::Repair),
        ("helenusctl repair --from-ledger", Verb::RepairFromLedger),
    ] {
        let text = with("nodetool resumehandoff", command);
        let scenario = Scenario::parse("x.toml", &text).unwrap();
        let is_it = |a: &Action| matches!(a, Action::Nodetool { verb: v, .. } if *v == verb);
        let said = scenario.events.iter().find(|e| is_it(&e.action)).unwrap();
        assert_eq!(scenario.clock(said.at).to_string(), "14:45");
        assert!(command.ends_with(&verb.to_string()));
    }
    let told = problems(&with("resumehandoff", "repair --from-ledgr"));
    assert!(told.contains("takes nothing behind it"), "{told}");
}

#[test]
fn wrong_words_are_told_with_place_and_nearest_word() {
    for (from, to, told) in [
        (
            "because =",
            "becuase =",
            "unknown key in `[[expect]]` `becuase`; did you mean `because`?",
        ),
        ("do = \"cut\"", "do = \"cutt\"", "unknown action `cutt`; did you mean `cut`?"),
        ("cap = \"500MB\"", "cap = \"500Mb\"", "unknown unit `Mb`; did you mean `MB`?"),
        ("t = \"14:19\"", "t = \"16:19\"", "16:19 is outside of the run, 14:00 to 15:32"),
        ("from = \"rack:a\"", "from = \"rack:z\"", "unknown rack `z`"),
        ("set app.cl=ONE", "set appp.cl=ONE", "unknown actor `appp`; did you mean `app`?"),
        ("set app.cl=ONE", "set app.cl=ANY", "ANY is for writes only"),
        (
            "resumehandoff",
            "resumehandof",
            "unknown verb `resumehandof`; did you mean `resumehandoff`?",
        ),
        ("nodetool resumehandoff", "nodetool setcompactionthroughput 5", "is not a rate of bytes"),
        ("nodetool resumehandoff", "nodetool setcompactionthroughput", "needs a rate"),
        (
            "nodetool resumehandoff",
            "nodetool setcompactionthruput 5",
            "did you mean `setcompactionthroughput`?",
        ),
        ("value = \"50KB\"", "keys = \"frst-letter\"", "did you mean `first-letter`?"),
        ("value = \"50KB\"", "keys = \"first-letter\"", "first-letter keys need shards"),
        (
            "value = \"50KB\"",
            "shards = { a-m = { share = \"65%\", on = \"a9\" } }",
            "unknown node `a9`; did you mean",
        ),
        (
            "value = \"50KB\"",
            "shards = { a-m = { share = \"65%\", on = \"a1\" } }",
            "add up to 100 %, not 65 %",
        ),
        (
            "value = \"50KB\"",
            "shards = { a-m = { share = \"65%\", on = \"a1\" }, m-z = { share = \"35%\", on = \"a2\" } }",
            "a letter of `m-z` is in another shard already",
        ),
        (
            "value = \"50KB\"",
            "shards = { am = { share = \"100%\", on = \"a1\" } }",
            "write it as `a-m`",
        ),
        (
            "memtable_heap_space =",
            "disk = { read_latncy = \"1ms\" }\nmemtable_heap_space =",
            "did you mean `read_latency`?",
        ),
        (
            "write_cl = \"LOCAL_QUORUM\"",
            "write_cl = \"LOCAL_QUORM\"",
            "did you mean `LOCAL_QUORUM`?",
        ),
        ("from = \"stream\"", "from = \"pg\"", "`pg` is a sql, but a log is needed here"),
        ("rf = { us-east-1 = 3 }", "rf = { us-east-1 = 10 }", "holds 1 to 9 copies"),
        ("rf = { us-east-1 = 3 }", "rf = { us-east-1 = 0 }", "holds 1 to 9 copies"),
        ("scale = 100 ", "scale = 0 ", "`scale` divides, so it is 1 or more"),
        ("reads.stale{cl=QUORUM, of=acked} == 0", "reads.stole == 0", "did you mean `reads.stale`"),
        ("kind = \"sql\"", "kind = \"slq\"", "unknown kind of actor `slq`; did you mean `sql`?"),
        ("format = 1", "format = 2", "this lab reads format 1"),
    ] {
        let told_all = problems(&with(from, to));
        assert!(told_all.contains(told), "{from} -> {to}: {told_all}");
    }
}

#[test]
fn a_problem_has_its_line_and_column() {
    let text = with("do = \"cut\"", "do = \"cutt\"");
    let line = text.lines().position(|l| l.contains("cutt")).unwrap() + 1;
    assert!(problems(&text).starts_with(&format!("x.toml:{line}:6: ")), "{}", problems(&text));
}

#[test]
fn a_missing_because_is_an_error() {
    let text = with("because = \"b and c hold two replicas of every order\"\n", "");
    assert!(problems(&text).contains("`[[expect]]` needs `because`"));
}

#[test]
fn all_problems_are_named_in_one_run() {
    let text = with("do = \"cut\"", "do = \"cutt\"").replacen("500MB", "500Mb", 1);
    assert_eq!(problems(&text).lines().count(), 2);
}

#[test]
fn text_that_is_no_toml_is_told_where() {
    assert!(problems("id = ").starts_with("x.toml:1:"));
    assert!(problems("").contains("needs `id`"));
}

/// The flagship with variants behind it.
fn with_variant(variant: &str) -> String {
    let text = with("do = \"cut\"", "do = \"cut\"\nid = \"the-cut\"");
    format!("{text}\n[[variant]]\nid = \"calm\"\ntitle = \"nothing is cut\"\n{variant}\n")
}

#[test]
fn a_variant_changes_what_it_names_and_nothing_else() {
    let text = with_variant(
        "skip = \"the-cut\"\nset = { \"actors.shop.rate\" = \"10/min\", \"expect.nothing-lost.because\" = \"so\" }\n\
         breaks = [\"hints-fill\"]\n[[variant]]\nid = \"long\"\ntitle = \"a long cut\"\n\
         set = { \"at.the-cut.until\" = \"14:50\", scale = 7 }",
    );
    let plain = Scenario::parse("x.toml", &text).unwrap();
    let own = AZ_PARTITION.matches("[[variant]]").count();
    assert_eq!((plain.variants.len(), plain.chosen.len()), (own + 2, 0));
    let calm = Scenario::parse_varied("x.toml", &text, &["calm"]).unwrap();
    let is_cut = |a: &Action| matches!(a, Action::Cut { .. } | Action::Heal { .. });
    assert_eq!(calm.first(is_cut), None);
    let Some(Actor::Shop { rate, .. }) = calm.actors.get("shop") else { panic!("a shop") };
    assert_eq!(rate.to_string(), "10/min");
    assert_eq!(calm.meant_to_break(), BTreeSet::from(["hints-fill"]));
    let because = |s: &Scenario| {
        s.expectations.iter().find(|e| e.id == "nothing-lost").unwrap().because.clone()
    };
    assert_eq!(because(&calm), "so");
    assert_ne!(because(&plain), "so");
    // Everything else is the same.
    let mut back = calm.clone();
    (back.events, back.actors) = (plain.events.clone(), plain.actors.clone());
    (back.expectations, back.chosen) = (plain.expectations.clone(), Vec::new());
    assert_eq!(back, plain);

    let long = Scenario::parse_varied("x.toml", &text, &["long"]).unwrap();
    assert_eq!(long.scale, 7);
    let heal = long.first(|a| matches!(a, Action::Heal { .. })).unwrap();
    assert_eq!(long.clock(heal).to_string(), "14:50");
}

#[test]
fn what_a_variant_has_wrong_is_told_at_its_own_line() {
    for (variant, told) in [
        (
            "set = { \"actors.shpo.rate\" = \"1/min\" }",
            "`actors.shpo.rate`: `shpo`; did you mean `shop`?",
        ),
        ("set = { \"actors.shop.rat\" = \"1/min\" }", "`rat`; did you mean `rate`?"),
        ("set = { \"actors.shop.rate\" = \"1/dy\" }", "unknown unit of time `dy`"),
        ("set = { \"scale.x\" = 1 }", "`scale` is integer, so nothing lies below it"),
        ("set = { actors.shop.rate = \"1/min\" }", "a path stands in quotes"),
        (
            "set = { \"at.the-cat.until\" = \"14:50\" }",
            "unknown id in `at` `the-cat`; did you mean `the-cut`?",
        ),
        ("set = { \"at.the-cut\" = \"14:50\" }", "say what of it changes"),
        ("skip = \"the-cat\"", "unknown id of an event `the-cat`; did you mean `the-cut`?"),
        ("skip = \"the-cut\"\nbreaks = \"nothing-lsot\"", "did you mean `nothing-lost`?"),
        ("skp = \"the-cut\"", "did you mean `skip`?"),
        ("", "the variant `calm` changes nothing"),
    ] {
        let text = with_variant(variant);
        let told_all = problems(&text);
        let place = if variant.is_empty() { "calm" } else { variant };
        let line =
            text.lines().position(|l| l.contains(place.lines().last().unwrap())).unwrap() + 1;
        let place = format!("x.toml:{line}:");
        assert!(told_all.lines().any(|l| l.starts_with(&place)), "{variant}: {told_all}");
        assert!(told_all.contains(told), "{variant}: {told_all}");
    }
    let text = with_variant("skip = \"the-cut\"");
    let wrong = Scenario::parse_varied("x.toml", &text, &["clam"]).unwrap_err().to_string();
    assert!(wrong.contains("unknown variant `clam`; did you mean `calm`?"), "{wrong}");
    let without = &AZ_PARTITION[..AZ_PARTITION.find("\n[[variant]]").unwrap()];
    let none = Scenario::parse_varied("x.toml", without, &["calm"]).unwrap_err().to_string();
    assert!(none.contains("has no variants"), "{none}");
}

#[test]
fn a_series_is_read_with_its_claims_and_wrong_ones_are_told() {
    let series = "[[series]]\nid = \"s\"\nat = [\"14:00\", \"14:15\"]\nclaimed = [45, 47]\n\
                  figures = [\"storage.sstables{node=a1}\", \"reads.latency_mean{replica=b2}\"]\n";
    let scenario = Scenario::parse("x.toml", &format!("{AZ_PARTITION}\n{series}")).unwrap();
    let read = scenario.series.first().unwrap();
    assert_eq!((read.at.len(), &read.claimed), (2, &vec![45.0, 47.0]));
    assert_eq!(read.names, ["storage.sstables{node=a1}", "reads.latency_mean{replica=b2}"]);
    assert!(!scenario.asks_tables(), "nodes are not asked for what nobody wants to know");
    for (from, to, told) in [
        ("[45, 47]", "[45]", "a number for each time: 2, not 1"),
        ("[45, 47]", "[45, 4.7]", "a list of whole numbers"),
        ("14:15", "13:15", "outside of the run"),
        ("{node=a1}", "{node=a9}", "unknown node `a9`"),
        ("storage.sstables{node=a1}", "replica.missing", "only where replicas were compared"),
        ("claimed", "names = [\"one\"]\nclaimed", "one for each of the 2 figures, not 1"),
    ] {
        let told_all = problems(&format!("{AZ_PARTITION}\n{}", series.replacen(from, to, 1)));
        assert!(told_all.contains(told), "{from} -> {to}: {told_all}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in ".{0,200}") {
        drop(Scenario::parse("x", &text));
    }

    // A scenario with a piece cut out or repeated is nearer to what people get wrong than random text.
    #[test]
    fn no_damaged_scenario_panics(from in 0usize..6000, len in 0usize..300, twice: bool) {
        let chars: Vec<char> = AZ_PARTITION.chars().collect();
        let from = from.min(chars.len());
        let to = (from + len).min(chars.len());
        let middle: String = if twice { chars[from..to].iter().chain(&chars[from..to]).collect() } else { String::new() };
        let text = chars[..from].iter().collect::<String>() + &middle + &chars[to..].iter().collect::<String>();
        drop(Scenario::parse("x", &text));
    }
}
