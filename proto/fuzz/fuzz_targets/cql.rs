//! Any bytes through all layers of CQL's codec: the first chooses the end and the agreement, the second the pieces in
//! which the rest comes. What must hold is what `proto/tests/cql_mutations.rs` asserts too.

#![no_main]

use helenus_proto::cql::{SegmentFormat, Side};
use libfuzzer_sys::fuzz_target;

#[path = "../../tests/samples/mod.rs"]
mod samples;

fuzz_target!(|data: &[u8]| {
    let [choice, piece, bytes @ ..] = data else { return };
    let choice = usize::from(*choice);
    let receiver = if choice & 1 == 0 { Side::Server } else { Side::Client };
    let agreement = samples::AGREEMENTS[(choice >> 2) % samples::AGREEMENTS.len()];
    let piece = if *piece == 0 { usize::MAX } else { usize::from(*piece) };
    let (version, compression) = agreement;
    // Nobody guesses a checksum: half of the time the bytes are put into segments that are right.
    if version.has_segments() && choice & 2 == 0 {
        let mut segments = bytes::BytesMut::new();
        SegmentFormat::of(compression).encode(bytes, &mut segments);
        samples::feed::feed(receiver, agreement, piece, &segments);
    } else {
        samples::feed::feed(receiver, agreement, piece, bytes);
    }
});
