//! Who watches, and judges: every read as it ends, every replica when it is compared, every figure when the run is
//! over. All of it is plain functions over the ledger, so that a verdict can be had again from the same data.

mod figures;
mod firsts;
mod judge;
pub mod linear;
mod reads;
mod replicas;
mod storage;

pub(crate) use figures::percentile;
pub use figures::{Lens, Span};
pub use firsts::{First, firsts};
pub use judge::{Judged, judge};
pub use reads::verdict;
pub(crate) use replicas::is_overflow;
pub use replicas::{Copy, Places};
