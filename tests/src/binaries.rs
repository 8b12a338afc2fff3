//! The binaries under test, built as the test was: same target directory, same profile.
//!
//! `cargo test --workspace` has built them already. `cargo test -p helenus-tests` has not, or not since the last change,
//! and would silently test yesterday's server; so Cargo is asked for them unless they are newer than all their sources.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// Packages and the binaries they make.
const BUILT: [(&str, &str); 2] = [("helenus-node", "helenus"), ("helenus-client", "helenusctl")];

/// Where a built binary is: `helenus` or `helenusctl`.
pub fn binary(name: &str) -> PathBuf {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    let path = DIR.get_or_init(build).join(name);
    assert!(path.is_file(), "{} was not built", path.display());
    path
}

/// Makes sure that both are there and up to date, and says where.
fn build() -> PathBuf {
    let test = std::env::current_exe().expect("a running test knows its file");
    // target/PROFILE/deps/TEST
    let dir = test.ancestors().nth(2).expect("tests are built into target/PROFILE/deps").to_owned();
    if BUILT.iter().all(|(_, name)| is_fresh(&dir.join(name))) {
        return dir;
    }
    let profile = match dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--bins", "--profile", profile, "--target-dir"]);
    cargo.arg(dir.parent().expect("a profile's directory is in the target directory"));
    for (package, _) in BUILT {
        cargo.args(["--package", package]);
    }
    cargo.current_dir(workspace());
    let done = cargo.output().expect("cargo, which started this test, can be started");
    assert!(done.status.success(), "{cargo:?}:\n{}", String::from_utf8_lossy(&done.stderr));
    dir
}

/// The repository's root.
fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate is a folder of the workspace")
}

/// What the binaries are made of. The list that Cargo keeps beside a binary is no help: `cargo test` builds binaries
/// without writing it.
const SOURCES: [&str; 9] = [
    "Cargo.toml",
    "Cargo.lock",
    "node/Cargo.toml",
    "node/src",
    "node/core/Cargo.toml",
    "node/core/src",
    "client/Cargo.toml",
    "client/src",
    "proto",
];

/// Whether the binary is newer than all that it is made of.
fn is_fresh(binary: &Path) -> bool {
    let Some(built) = modified(binary) else { return false };
    SOURCES.iter().all(|source| older(&workspace().join(source), built))
}

/// Whether a file, or every file below a directory, was changed no later than `built`.
fn older(path: &Path, built: SystemTime) -> bool {
    match fs::read_dir(path) {
        Ok(entries) => entries.flatten().all(|entry| older(&entry.path(), built)),
        Err(_) => modified(path).is_some_and(|at| at <= built),
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|meta| meta.modified()).ok()
}
