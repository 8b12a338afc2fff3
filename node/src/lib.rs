//! One Helenus server.
//!
//! `run(parts, shutdown)` is the whole of it: the same code in production, in `helenus dev` and under simulation; only
//! the [`seams`] differ. Storage, coordinator, peers, hints and the front ends live here; what they *mean* is decided
//! in `helenus-core`.

pub mod seams;
pub mod storage;
