//! The binaries under test, built as the test was: same target directory, same profile, same features.
//!
//! `cargo test --workspace` has built them already. `cargo test -p helenus-tests` has not, or not since the last change,
//! and would silently test yesterday's server; so Cargo is asked for a binary unless it is newer than all its sources.

use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::SystemTime;

/// The binaries, and the packages that they are of.
const BUILT: [(&str, &str); 2] = [("helenus", "helenus-node"), ("helenusctl", "helenus-client")];

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
    let packages = Packages::read();
    let is_fresh = |(name, of)| is_fresh(&dir.join(name), &packages.sources(of));
    if !BUILT.into_iter().all(is_fresh) {
        cargo(&asked(&dir));
    }
    dir
}

/// Some test of the workspace.
const TEST: &str = "ctl";

/// What Cargo is asked for when one is not fresh.
///
/// Which features a library has depends on the packages that are asked for, and on whether a test is among the targets. Here
/// are all packages and one test, so that everything is as `cargo test --workspace` builds it, or has built it: otherwise
/// half of the workspace would be built again with other features, in the middle of a run.
fn asked(dir: &Path) -> Vec<String> {
    let profile = match dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let target = dir.parent().expect("a profile's directory is in the target directory");
    let target = target.to_string_lossy();
    let mut asked = vec!["build", "--locked", "--workspace", "--test", TEST];
    asked.extend(["--profile", profile, "--target-dir", &target]);
    asked.extend(BUILT.iter().flat_map(|(name, _)| ["--bin", name]));
    asked.into_iter().map(str::to_owned).collect()
}

fn cargo(args: &[String]) -> Output {
    let mut cargo = asking_cargo(args);
    let done = cargo.output().expect("cargo, which started this test, can be started");
    assert!(done.status.success(), "{cargo:?}:\n{}", String::from_utf8_lossy(&done.stderr));
    done
}

/// Cargo, as if it was called from outside of a test. Cargo tells a test what package it is of, some build scripts (`ring`'s) ask
/// to be run again when they are told of another package, and then all that needs them would be built again.
fn asking_cargo(args: &[String]) -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(args).current_dir(env!("CARGO_MANIFEST_DIR"));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| TOLD.iter().any(|told| name.starts_with(told))) {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// How the names begin of what Cargo tells a test about its package.
const TOLD: [&str; 2] = ["CARGO_PKG_", "CARGO_MANIFEST_"];

/// The workspace as Cargo sees it. The list of sources that Cargo keeps beside a binary is no help: `cargo test` builds
/// binaries without writing it.
struct Packages {
    root: PathBuf,
    packages: Vec<Value>,
}

impl Packages {
    fn read() -> Packages {
        let args = ["metadata", "--no-deps", "--locked", "--offline", "--format-version", "1"];
        let said = cargo(&args.map(str::to_owned)).stdout;
        let said: Value = serde_json::from_slice(&said).expect("cargo metadata is JSON");
        let root = said.get("workspace_root").and_then(Value::as_str);
        let packages = said.get("packages").and_then(Value::as_array);
        match (root, packages) {
            (Some(root), Some(packages)) => {
                Packages { root: root.into(), packages: packages.clone() }
            }
            _ => panic!("cargo metadata names no packages: {said}"),
        }
    }

    /// The files and directories that a package's binary is made of: what settles all of them, and each package that it is
    /// made from.
    fn sources(&self, package: &str) -> Vec<PathBuf> {
        let mut sources = vec![self.root.join("Cargo.toml"), self.root.join("Cargo.lock")];
        sources.extend(self.made_from(package));
        sources
    }

    /// The directories of the package, and of the workspace's packages that it depends on, other than for its tests.
    fn made_from(&self, package: &str) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        let mut open = vec![package];
        while let Some(name) = open.pop() {
            let Some(package) = self.packages.iter().find(|package| package["name"] == name) else {
                panic!("{name} is not in the workspace");
            };
            let manifest = Path::new(package["manifest_path"].as_str().expect("a path"));
            if !found.insert(manifest.parent().expect("a manifest is in a directory").to_owned()) {
                continue;
            }
            let needed = package["dependencies"].as_array().expect("a list of dependencies");
            let needed = needed.iter().filter(|on| on["path"].is_string() && on["kind"] != "dev");
            open.extend(needed.filter_map(|on| on["name"].as_str()));
        }
        found
    }
}

/// In a package's directory, what none of its binaries is made of.
const APART: [&str; 4] = ["benches", "examples", "tests", "testscripts"];

/// Whether the binary is newer than all that it is made of.
fn is_fresh(binary: &Path, sources: &[PathBuf]) -> bool {
    let Some(built) = modified(binary) else { return false };
    sources.iter().all(|source| match fs::read_dir(source) {
        Err(_) => older(source, built),
        Ok(entries) => entries.flatten().all(|entry| {
            let apart = APART.iter().any(|apart| entry.file_name() == *apart);
            // A package of its own, which is a source only if it is among them.
            apart || entry.path().join("Cargo.toml").is_file() || older(&entry.path(), built)
        }),
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::time::Duration;

    /// The directories from the workspace's root.
    fn made_from(package: &str) -> Vec<String> {
        let packages = Packages::read();
        let from_root = |dir: PathBuf| {
            let dir = dir.strip_prefix(&packages.root).expect("in the workspace").to_owned();
            dir.to_str().expect("a name in ASCII").to_owned()
        };
        packages.made_from(package).into_iter().map(from_root).collect()
    }

    #[test]
    fn a_binary_is_made_of_its_package_and_what_that_needs() {
        assert_eq!(made_from("helenus-node"), ["node", "node/core", "proto"]);
        assert_eq!(made_from("helenus-client"), ["client", "node/core", "proto"]);
    }

    #[test]
    fn what_cargo_is_asked_for_is_there() {
        let packages = Packages::read();
        let is_there = |kind: &str, name: &str, of: Option<&str>| {
            let of = packages.packages.iter().filter(|p| of.is_none_or(|of| p["name"] == of));
            let mut targets = of.flat_map(|p| p["targets"].as_array().expect("a list"));
            targets.any(|target| target["name"] == name && target["kind"][0] == kind)
        };
        assert!(is_there("test", TEST, None));
        for (name, of) in BUILT {
            assert!(is_there("bin", name, Some(of)), "{name} of {of}");
        }
        let asked = asked(Path::new("anywhere/release")).join(" ");
        assert!(asked.contains("--workspace --test ctl --profile release --target-dir anywhere"));
    }

    #[test]
    fn cargo_is_not_told_of_the_tests_package() {
        let told = |name: &str| std::env::var_os(name).is_some();
        assert!(told("CARGO_PKG_NAME") && told("CARGO_MANIFEST_DIR"), "cargo runs this test");
        let cargo = asking_cargo(&[]);
        let removed: Vec<_> = cargo.get_envs().filter(|(_, value)| value.is_none()).collect();
        for name in ["CARGO_PKG_NAME", "CARGO_PKG_VERSION_MAJOR", "CARGO_MANIFEST_DIR"] {
            assert!(removed.iter().any(|(removed, _)| *removed == name), "{name}");
        }
    }

    /// A binary, built at a time, and a way to write files an hour later.
    struct Workspace(tempfile::TempDir);

    impl Workspace {
        fn new(files: &[&str]) -> Workspace {
            let workspace = Workspace(tempfile::tempdir().expect("a directory"));
            for file in files {
                workspace.write(file, SystemTime::UNIX_EPOCH);
            }
            workspace.write("binary", SystemTime::UNIX_EPOCH + Duration::from_secs(1));
            workspace
        }

        fn write(&self, file: &str, at: SystemTime) {
            let path = self.0.path().join(file);
            fs::create_dir_all(path.parent().expect("in a directory")).expect("a directory");
            File::create(path).and_then(|file| file.set_modified(at)).expect("a file");
        }

        fn later(&self, file: &str) {
            self.write(file, SystemTime::UNIX_EPOCH + Duration::from_secs(3600));
        }

        fn is_fresh(&self, sources: &[&str]) -> bool {
            let sources: Vec<_> = sources.iter().map(|name| self.0.path().join(name)).collect();
            is_fresh(&self.0.path().join("binary"), &sources)
        }
    }

    const FILES: [&str; 5] =
        ["Cargo.toml", "a/Cargo.toml", "a/src/deep/lib.rs", "a/core/Cargo.toml", "b/src/lib.rs"];
    const SOURCES: [&str; 2] = ["Cargo.toml", "a"];

    #[test]
    fn it_is_fresh_until_one_of_its_sources_changes() {
        for changed in ["Cargo.toml", "a/Cargo.toml", "a/src/deep/lib.rs", "a/build.rs"] {
            let workspace = Workspace::new(&FILES);
            assert!(workspace.is_fresh(&SOURCES));
            workspace.later(changed);
            assert!(!workspace.is_fresh(&SOURCES), "{changed}");
        }
    }

    #[test]
    fn it_stays_fresh_whatever_happens_to_other_binaries_and_to_tests() {
        let workspace = Workspace::new(&FILES);
        for other in ["b/src/lib.rs", "a/tests/cli.rs", "a/benches/x/main.rs", "a/core/src/lib.rs"]
        {
            workspace.later(other);
            assert!(workspace.is_fresh(&SOURCES), "{other}");
        }
        assert!(!workspace.is_fresh(&["a", "a/core"]), "the package in it is a source by itself");
    }

    #[test]
    fn what_is_not_there_is_not_fresh() {
        let workspace = Workspace::new(&FILES);
        assert!(!workspace.is_fresh(&["a", "gone"]));
        fs::remove_file(workspace.0.path().join("binary")).expect("it is there");
        assert!(!workspace.is_fresh(&SOURCES));
    }
}
