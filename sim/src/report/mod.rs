//! What is told at the end: for people (`text`) and for programs (`json`), both with what happened when (`timeline`).

mod json;
mod series;
mod text;
mod timeline;

pub use json::Json;
pub use series::{Column, Measured, columns};
pub use text::{Style, write_text};
pub use timeline::{Moment, timeline};
