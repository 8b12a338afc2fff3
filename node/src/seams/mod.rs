//! The six places where a node touches the world. Production and simulation differ here and nowhere else.
//!
//! - `clock`: what time it is (sleeping is tokio's, whose clock the simulation drives);
//! - `rng`: chance, as streams keyed by purpose;
//! - `disk`: files;
//! - `background`: work that would hold up the node's one thread;
//! - `net`: byte streams to and from other processes;
//! - `probe`: what happened, for tests, traces and the lab.

pub mod background;
pub mod clock;
pub mod disk;
pub mod net;
pub mod probe;
pub mod rng;
