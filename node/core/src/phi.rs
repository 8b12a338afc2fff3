//! Phi accrual: how suspicious a silence is.
//!
//! A peer's heartbeats arrive at intervals; the detector remembers the last thousand. If arrivals were a Poisson
//! process with that mean, a silence of `t` would have the probability `exp(-t / mean)`, and phi is its negative
//! decimal logarithm: `t / (mean * ln 10)`. Phi 8 means: one chance in 10^8 that the peer lives. With Cassandra's
//! threshold of 8 that is a silence of `8 * ln 10`, or about 18.4 mean intervals.
//!
//! ```text
//!            heartbeat           silence               phi > threshold
//!  unknown ------------> alive ----------------------------------------> dead
//!                          ^                                               |
//!                          +----------------- heartbeat ------------------+
//! ```
//!
//! Invariants: a peer that was never heard is not alive; only [`Detector::interpret`] and [`Detector::convict`] take
//! life away, only [`Detector::report`] gives it; a peer's window holds at most `samples_max` intervals.
//!
//! CAVEAT: heartbeats travel by gossip, so a peer that this node cannot reach but a third node can stays alive here.
//! CAVEAT: the exponential is a model. Real intervals are steadier, so phi understates suspicion; Cassandra's threshold
//! was tuned on it all the same, and operators know its numbers.
//!
//! Source: Hayashibara et al., "The phi accrual failure detector" (2004); Cassandra's `FailureDetector`, whose model is
//! the exponential one of CASSANDRA-2597 rather than the paper's normal distribution.

use crate::types::NodeId;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Cassandra's parameters, by Cassandra's defaults.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parameters {
    /// `phi_convict_threshold`: a peer whose phi is above it is held for dead. Default 8.
    pub threshold: f64,
    /// Intervals remembered per peer. Default 1000.
    pub samples_max: usize,
    /// What stands in for the mean until intervals were measured. Large, because a false alarm costs more than a late
    /// one. Default 2 s, which is two gossip rounds.
    pub initial_interval: Duration,
    /// A longer interval was an outage, not a rhythm: it is not remembered. Default 2 s.
    pub max_interval: Duration,
    /// When the detector itself was not run for longer than this, the silence may be its own: it convicts nobody until
    /// as much time has passed again. Default 5 s.
    pub max_local_pause: Duration,
}

impl Default for Parameters {
    fn default() -> Self {
        Parameters {
            threshold: 8.0,
            samples_max: 1000,
            initial_interval: Duration::from_secs(2),
            max_interval: Duration::from_secs(2),
            max_local_pause: Duration::from_secs(5),
        }
    }
}

/// The intervals between one peer's heartbeats.
#[derive(Debug)]
struct Window {
    /// Invariant: not empty, at most `samples_max` long. Nanoseconds.
    intervals: VecDeque<u64>,
    /// Invariant: the sum of `intervals`.
    sum: u64,
    last: Duration,
    alive: bool,
}

impl Window {
    fn opened(now: Duration, parameters: &Parameters) -> Window {
        let first = nanos(parameters.initial_interval);
        Window { intervals: VecDeque::from([first]), sum: first, last: now, alive: true }
    }

    fn add(&mut self, now: Duration, parameters: &Parameters) {
        let interval = now.saturating_sub(self.last);
        self.last = self.last.max(now);
        if interval > parameters.max_interval {
            return;
        }
        let interval = nanos(interval);
        // One leaves before another enters, so the bound holds at every moment. The window is never left empty.
        while self.intervals.len() >= parameters.samples_max.max(1) {
            self.sum -= self.intervals.pop_front().unwrap_or(0);
        }
        self.intervals.push_back(interval);
        self.sum += interval;
    }

    fn mean(&self) -> f64 {
        // A window full of simultaneous arrivals has the mean 0, and no silence divides by that.
        (self.sum as f64 / self.intervals.len() as f64).max(1.0)
    }

    fn phi(&self, now: Duration) -> f64 {
        let silence = nanos(now.saturating_sub(self.last)) as f64;
        silence / self.mean() / std::f64::consts::LN_10
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 2)
}

/// One node's opinion of its peers. Times are monotonic.
#[derive(Debug)]
pub struct Detector {
    parameters: Parameters,
    peers: BTreeMap<NodeId, Window>,
    last_interpreted: Option<Duration>,
    /// When the last local pause was noticed.
    last_pause: Option<Duration>,
    pauses: u64,
}

impl Detector {
    /// Knows nobody yet.
    pub fn new(parameters: Parameters) -> Detector {
        Detector {
            parameters,
            peers: BTreeMap::new(),
            last_interpreted: None,
            last_pause: None,
            pauses: 0,
        }
    }

    /// A heartbeat of `node` arrived. True when it was not held alive before.
    pub fn report(&mut self, node: NodeId, now: Duration) -> bool {
        match self.peers.get_mut(&node) {
            Some(window) => {
                window.add(now, &self.parameters);
                !std::mem::replace(&mut window.alive, true)
            }
            None => {
                self.peers.insert(node, Window::opened(now, &self.parameters));
                true
            }
        }
    }

    /// The suspicion of `node`, on a scale where each unit is a factor of ten. `None`: it was never heard.
    pub fn phi(&self, node: NodeId, now: Duration) -> Option<f64> {
        self.peers.get(&node).map(|window| window.phi(now))
    }

    /// Whether `node` was heard and is not convicted.
    pub fn is_alive(&self, node: NodeId) -> bool {
        self.peers.get(&node).is_some_and(|window| window.alive)
    }

    /// Convicts whoever has been silent for too long and names the newly convicted, in order. To be called at a steady
    /// pace, such as once a gossip round: that is how the detector notices that it was itself asleep.
    pub fn interpret(&mut self, now: Duration) -> Vec<NodeId> {
        let slept = now.saturating_sub(self.last_interpreted.replace(now).unwrap_or(now));
        if slept > self.parameters.max_local_pause {
            self.last_pause = Some(now);
            self.pauses += 1;
        }
        let pause = self.parameters.max_local_pause;
        if self.last_pause.is_some_and(|paused| now.saturating_sub(paused) < pause) {
            return Vec::new();
        }
        let threshold = self.parameters.threshold;
        let silent = |window: &Window| window.alive && window.phi(now) > threshold;
        let mut convicted = Vec::new();
        for (node, window) in self.peers.iter_mut().filter(|(_, window)| silent(window)) {
            window.alive = false;
            convicted.push(*node);
        }
        convicted
    }

    /// Holds `node` for dead without waiting for a silence: it said that it is shutting down. True when it was alive.
    pub fn convict(&mut self, node: NodeId) -> bool {
        self.peers.get_mut(&node).is_some_and(|window| std::mem::replace(&mut window.alive, false))
    }

    /// Forgets `node`.
    pub fn remove(&mut self, node: NodeId) {
        self.peers.remove(&node);
    }

    /// How often this node found that it had itself been asleep for longer than `max_local_pause`.
    pub fn local_pauses(&self) -> u64 {
        self.pauses
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PEER: NodeId = NodeId(7);

    fn seconds(s: f64) -> Duration {
        Duration::from_secs_f64(s)
    }

    #[test]
    fn conviction_comes_after_eighteen_and_a_half_means() {
        let mut detector = Detector::new(Parameters::default());
        for second in 0..2000 {
            detector.report(PEER, seconds(f64::from(second)));
            assert_eq!(detector.interpret(seconds(f64::from(second))), []);
        }
        // The initial two seconds have left the window by now: the mean is one second exactly.
        let last = 1999.0;
        let mut silence = 0.0;
        while detector.interpret(seconds(last + silence)).is_empty() {
            silence += 0.25;
            assert!(silence < 60.0, "never convicted");
        }
        assert_eq!(silence, 18.5, "the first quarter second past 8 ln 10 = 18.42");
        assert!(!detector.is_alive(PEER));
        assert!(detector.report(PEER, seconds(last + 20.0)), "a heartbeat brings it back");
        assert!(detector.is_alive(PEER));
    }

    #[test]
    fn one_who_was_never_heard_is_not_alive() {
        let detector = Detector::new(Parameters::default());
        assert!(!detector.is_alive(PEER));
        assert_eq!(detector.phi(PEER, seconds(1.0)), None);
    }

    #[test]
    fn simultaneous_heartbeats_divide_by_nothing() {
        let mut detector = Detector::new(Parameters { samples_max: 3, ..Parameters::default() });
        for _ in 0..10 {
            detector.report(PEER, seconds(1.0));
        }
        let phi = detector.phi(PEER, seconds(2.0)).unwrap();
        assert!(phi.is_finite() && phi > 8.0);
    }

    proptest! {
        // A second route to the mean: the plain average of the intervals that count.
        #[test]
        fn phi_is_the_silence_over_the_plain_mean(
            gaps in proptest::collection::vec(0u64..4_000, 1..60), silence in 0u64..100_000,
        ) {
            let parameters = Parameters { samples_max: 10, ..Parameters::default() };
            let mut detector = Detector::new(parameters);
            let mut now = Duration::from_millis(5);
            let mut intervals = vec![2_000];
            detector.report(PEER, now);
            for gap in gaps {
                now += Duration::from_millis(gap);
                detector.report(PEER, now);
                if gap <= 2_000 {
                    intervals.push(gap);
                }
            }
            let kept = &intervals[intervals.len().saturating_sub(10)..];
            let mean = kept.iter().sum::<u64>() as f64 / kept.len() as f64;
            prop_assume!(mean > 0.0);
            let phi = detector.phi(PEER, now + Duration::from_millis(silence)).unwrap();
            prop_assert!((phi - silence as f64 / mean / 10f64.ln()).abs() < 1e-6 * (1.0 + phi));
        }

        #[test]
        fn no_order_of_times_panics(
            steps in proptest::collection::vec((0u8..4, any::<u64>()), 0..50)
        ) {
            let mut detector = Detector::new(Parameters { samples_max: 0, ..Parameters::default() });
            for (what, nanos) in steps {
                let now = Duration::from_nanos(nanos);
                match what {
                    0 => { detector.report(PEER, now); }
                    1 => { detector.interpret(now); }
                    2 => { detector.phi(PEER, now); }
                    _ => { detector.convict(PEER); }
                }
            }
        }
    }
}
