//! Runs the golden scripts of the failure detector (`testscripts/phi`).

mod common;

use common::Outcome;
use helenus_core::NodeId;
use helenus_core::phi::{Detector, Parameters};
use std::time::Duration;

/// Times are in seconds.
#[derive(goldenscript::Command)]
enum Command {
    /// Starts over.
    New {
        #[arg(key)]
        threshold: f64,
    },
    /// So often, time passes, then the peers are heard and the detector is run.
    Heartbeats {
        nodes: Vec<u128>,
        #[arg(key)]
        count: Option<u32>,
        #[arg(key)]
        every: Option<f64>,
    },
    /// The detector is run at intervals, in silence.
    Interpret {
        #[arg(key)]
        every: f64,
        #[arg(key)]
        until: f64,
    },
    /// The peer said goodbye.
    Convict(u128),
    /// What the detector thinks of the peer.
    Show(u128),
}

struct Runner {
    detector: Detector,
    now: f64,
}

impl Runner {
    fn now(&self) -> Duration {
        Duration::from_secs_f64(self.now)
    }

    /// Runs the detector, and says whom it convicted.
    fn interpret(&mut self) -> String {
        let now = self.now();
        let mut output = String::new();
        for node in self.detector.interpret(now) {
            let phi = self.detector.phi(node, now).expect("a convicted peer was heard once");
            output += &format!("at {}: convicted {} at phi {phi:.2}\n", self.now, node.0);
        }
        output
    }
}

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &goldenscript::Context) -> Outcome<String> {
        let mut output = String::new();
        match command {
            Command::New { threshold } => {
                let parameters = Parameters { threshold: *threshold, ..Parameters::default() };
                *self = Runner { detector: Detector::new(parameters), now: 0.0 };
            }
            Command::Heartbeats { nodes, count, every } => {
                let mut risen = 0;
                for _ in 0..count.unwrap_or(1) {
                    self.now += every.unwrap_or(1.0);
                    for node in nodes {
                        risen += u32::from(self.detector.report(NodeId(*node), self.now()));
                    }
                    output += &self.interpret();
                }
                output += &format!("at {}: became alive {risen} times", self.now);
            }
            Command::Interpret { every, until } => {
                while self.now + every <= *until {
                    self.now += every;
                    output += &self.interpret();
                }
                output += &format!("at {}: done", self.now);
            }
            Command::Convict(node) => {
                output = format!("was alive: {}", self.detector.convict(NodeId(*node)));
            }
            Command::Show(node) => {
                let phi = self.detector.phi(NodeId(*node), self.now());
                let phi = phi.map_or("never heard".to_owned(), |phi| format!("phi {phi:.2}"));
                let alive = self.detector.is_alive(NodeId(*node));
                let verdict = if alive { "alive" } else { "not alive" };
                output = format!("at {}: {verdict}, {phi}", self.now);
            }
        }
        Ok(output)
    }
}

#[test]
fn phi_scripts_hold() {
    common::scripts_hold("phi", || Runner {
        detector: Detector::new(Parameters::default()),
        now: 0.0,
    });
}
