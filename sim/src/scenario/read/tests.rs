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
    assert_eq!(scenario.length(), Duration::from_secs(80 * 60));
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
fn wrong_words_are_told_with_place_and_nearest_word() {
    for (from, to, told) in [
        (
            "because =",
            "becuase =",
            "unknown key in `[[expect]]` `becuase`; did you mean `because`?",
        ),
        ("do = \"cut\"", "do = \"cutt\"", "unknown action `cutt`; did you mean `cut`?"),
        ("cap = \"500MB\"", "cap = \"500Mb\"", "unknown unit `Mb`; did you mean `MB`?"),
        ("t = \"14:19\"", "t = \"16:19\"", "16:19 is outside of the run, 14:00 to 15:20"),
        ("from = \"rack:a\"", "from = \"rack:z\"", "unknown rack `z`"),
        ("set app.cl=ONE", "set appp.cl=ONE", "unknown actor `appp`; did you mean `app`?"),
        ("set app.cl=ONE", "set app.cl=ANY", "ANY is for writes only"),
        (
            "resumehandoff",
            "resumehandof",
            "unknown verb `resumehandof`; did you mean `resumehandoff`?",
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
