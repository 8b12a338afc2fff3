//! One process that a test started, from its start to its certain end.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// A process under test. Dropped, it is killed.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    log: PathBuf,
}

impl Process {
    /// Starts a binary; what it writes to stderr is appended to `log`.
    pub fn start<A: AsRef<OsStr>>(
        binary: &Path,
        args: impl IntoIterator<Item = A>,
        log: &Path,
    ) -> Process {
        let file = fs::OpenOptions::new().create(true).append(true).open(log);
        let mut child = Command::new(binary)
            .args(args)
            .env("NO_COLOR", "1")
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(file.expect("the test's own directory can be written"))
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", binary.display()));
        let stdout = child.stdout.take().expect("stdout is a pipe");
        Process { child, stdout: BufReader::new(stdout).lines(), log: log.to_owned() }
    }

    /// The next line on stdout; `None` when there will be no more.
    pub async fn line(&mut self) -> Option<String> {
        let line = tokio::time::timeout(crate::PATIENCE, self.stdout.next_line()).await;
        line.unwrap_or_else(|_| panic!("it says nothing; its log:\n{}", self.log()))
            .expect("its output is text")
    }

    /// The line on stdout by which it says, as JSON, that it takes requests.
    pub async fn ready(&mut self) -> serde_json::Value {
        let Some(line) = self.line().await else {
            panic!("it ended before it was ready; its log:\n{}", self.log())
        };
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in: {line}"))
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it still runs")
    }

    /// What it wrote to stderr so far.
    pub fn log(&self) -> String {
        fs::read(&self.log)
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
    }

    /// `kill -9`: it gets no chance to write or to say anything. Returns when it is gone.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("our own child can be killed");
    }

    /// Sends `signal` (a name, as `kill` takes it) and goes on; behind STOP nothing of it runs any more.
    pub async fn signal(&self, signal: &str) {
        let pid = self.pid().to_string();
        let sent = Command::new("kill").args([&format!("-{signal}"), &pid]).status().await;
        assert!(sent.is_ok_and(|status| status.success()), "cannot send {signal} to {pid}");
        if signal == "STOP" {
            // One thread takes the signal and stops the others, when it gets a processor: on a busy machine they may have
            // answered a request before.
            let all_stopped = async || are_all_stopped(&pid).then_some(());
            crate::until(|| format!("every thread of {pid} is stopped"), all_stopped).await;
        }
    }

    /// Waits until it ends by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        let ended = tokio::time::timeout(crate::PATIENCE, self.child.wait()).await;
        ended
            .unwrap_or_else(|_| panic!("it does not end; its log:\n{}", self.log()))
            .expect("our own child can be waited for")
    }

    /// Ctrl-C, and the exit status that comes of it.
    pub async fn interrupt(mut self) -> ExitStatus {
        self.signal("INT").await;
        self.ended().await
    }
}

/// Whether no thread of a process may run. Where there is no `/proc` to say so, it is taken for true.
fn are_all_stopped(pid: &str) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    // The state follows the command, which is in brackets and may hold others.
    let state = |stat: String| stat.rsplit_once(") ").map(|(_, rest)| rest.starts_with('T'));
    threads.flatten().all(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat"));
        stat.ok().and_then(state).unwrap_or(true)
    })
}

/// What a process left that ran to its end.
#[derive(Debug)]
pub struct Finished {
    /// The exit code; `None`: a signal ended it.
    pub code: Option<i32>,
    /// What it wrote.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Finished {
    /// It succeeded; its output.
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }

    /// It failed with this exit code, without a panic, saying each of these on stderr.
    pub fn failed(&self, code: i32, said: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(!self.stderr.contains("panicked at"), "{}", self.stderr);
        for words in said {
            assert!(self.stderr.contains(words), "`{words}` is not in:\n{}", self.stderr);
        }
    }
}

/// Runs a binary that ends by itself.
pub async fn run<A: AsRef<OsStr>>(binary: &Path, args: impl IntoIterator<Item = A>) -> Finished {
    run_fed(binary, args, "").await
}

/// As [`run`], with this in its standard input.
pub async fn run_fed<A: AsRef<OsStr>>(
    binary: &Path,
    args: impl IntoIterator<Item = A>,
    input: &str,
) -> Finished {
    let mut command = Command::new(binary);
    command.args(args).env("NO_COLOR", "1").kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = async {
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // It may end without having read it.
            stdin.write_all(input.as_bytes()).await.ok();
        }
        child.wait_with_output().await
    };
    let done = tokio::time::timeout(crate::PATIENCE, output).await;
    let done = done
        .unwrap_or_else(|_| panic!("{command:?} does not end"))
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Finished { code: done.status.code(), stdout: text(&done.stdout), stderr: text(&done.stderr) }
}
