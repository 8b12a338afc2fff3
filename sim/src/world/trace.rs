//! The trace: a hash over everything that happened, (simulated ns, node, what). The same seed and the same build give
//! the same hash; when they do not, the traces written out say which event is the first that differs.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;
use xxhash_rust::xxh3::Xxh3;

/// Grows by one event at a time.
pub struct Trace {
    hash: Xxh3,
    events: u64,
    line: String,
    out: Option<std::io::BufWriter<std::fs::File>>,
    /// The first error of `out`: the run goes on, and its end tells.
    out_error: Option<std::io::Error>,
}

impl std::fmt::Debug for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trace").field("events", &self.events).finish_non_exhaustive()
    }
}

impl Trace {
    /// Hashes, and writes every event to `out` too when there is one.
    pub fn new(out: Option<std::fs::File>) -> Trace {
        Trace {
            hash: Xxh3::new(),
            events: 0,
            line: String::new(),
            out: out.map(std::io::BufWriter::new),
            out_error: None,
        }
    }

    /// Adds an event.
    pub fn add(&mut self, at: Duration, node: &str, what: &dyn std::fmt::Debug) {
        self.line.clear();
        // Writing to a string cannot fail.
        let _infallible = writeln!(self.line, "{} {node} {what:?}", at.as_nanos());
        self.hash.update(self.line.as_bytes());
        self.events += 1;
        if let Some(out) = &mut self.out
            && let Err(error) = out.write_all(self.line.as_bytes())
        {
            self.out_error = Some(error);
            self.out = None;
        }
    }

    /// The hash so far.
    pub fn digest(&self) -> u64 {
        self.hash.digest()
    }

    /// How many events it is over.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Ends the file that the events were written to.
    pub fn finish(&mut self) -> std::io::Result<()> {
        match (self.out_error.take(), self.out.take()) {
            (Some(error), _) => Err(error),
            (None, Some(mut out)) => out.flush(),
            (None, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_node_and_content_all_count() {
        let of = |at, node: &str, what: &str| {
            let mut trace = Trace::new(None);
            trace.add(Duration::from_nanos(at), node, &what);
            trace.digest()
        };
        let base = of(1, "a1", "x");
        assert_eq!(base, of(1, "a1", "x"));
        for other in [of(2, "a1", "x"), of(1, "a2", "x"), of(1, "a1", "y")] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn events_are_written_out_one_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace");
        let mut trace = Trace::new(Some(std::fs::File::create(&path).unwrap()));
        trace.add(Duration::from_nanos(7), "b1", &"hello");
        trace.finish().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "7 b1 \"hello\"\n");
    }
}
