//! What the golden tests share: every script of a folder, each on a runner of its own.

use std::error::Error;
use std::path::Path;

/// What a command of a script gives: its output, or why the script is wrong.
pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

/// Runs every script of `testscripts/<folder>` in the order of their names, each on a new runner. Names the script first,
/// because a script that fails is otherwise known only by its difference.
#[expect(clippy::print_stdout, reason = "a test's output is shown when it fails")]
pub(crate) fn scripts_hold<R: goldenscript::Runner>(folder: &str, new_runner: impl Fn() -> R) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("testscripts").join(folder);
    let entries = std::fs::read_dir(&dir).expect("the folder of scripts is there");
    let mut scripts: Vec<_> =
        entries.map(|entry| entry.expect("a script is listed").path()).collect();
    scripts.sort();
    assert!(!scripts.is_empty(), "no scripts in {}", dir.display());
    for script in scripts {
        println!("{}", script.display());
        goldenscript::run(&mut new_runner(), script).expect("the script runs and says the same");
    }
}
