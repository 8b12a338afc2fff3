//! Damaged frames through all layers of CQL's codec: segments, envelopes, messages, in both versions and all
//! compressions, and before STARTUP, when envelopes are bare.
//!
//! Each round takes real messages and damages them at one layer, with everything outside that layer made right again,
//! so that checksums and lengths do not hide what is within. Nothing may panic, and what is read must be what is read
//! of it when written again. `HELENUS_FUZZ_SECONDS` goes on for so long; `HELENUS_FUZZ_SEED` repeats one round.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that cannot go on says where"
)]

mod samples;

use bytes::{BufMut, BytesMut};
use helenus_proto::cql::*;
use samples::feed::{Outcome, feed, feed_handshake};
use samples::*;

const ROUNDS: u64 = 20_000;

/// SplitMix64: a round is its seed.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap_or(0)
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }
}

/// Tells how to repeat the round in which a test panics.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!(
                "repeat with: HELENUS_FUZZ_SEED={} cargo test -p helenus-proto --test cql_mutations",
                self.0
            );
        }
    }
}

/// One to four changes, of the kinds that break parsers.
fn damage(chance: &mut Chance, bytes: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..=chance.below(4) {
        let at = chance.below(bytes.len() + 1);
        let end = (at + 1 + chance.below(16)).min(bytes.len());
        match chance.below(9) {
            0 => bytes.truncate(at),
            1 => {
                let bit = chance.below(8);
                bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << bit);
            }
            2 => {
                let to = chance.next().to_le_bytes()[0];
                bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = to);
            }
            3 => drop(bytes.drain(at..end)),
            4 => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            5 => {
                // A number where a length or a count may be.
                let number =
                    chance.pick(&[0_i32, -1, -2, -3, 1, 255, 65_535, 131_072, i32::MAX, i32::MIN]);
                let wide = number.to_be_bytes();
                let number = if chance.below(2) == 0 { &wide[..] } else { &wide[2..] };
                let end = (at + number.len()).min(bytes.len());
                bytes.splice(at..end, number.iter().copied());
            }
            6 => {
                let from = chance.below(other.len() + 1);
                let to = (from + chance.below(64)).min(other.len());
                bytes.splice(at..end, other[from..to].iter().copied());
            }
            7 => {
                // Types within types, and lists within lists.
                let number = chance.pick(&[0x20_u16, 0x21, 0x22, 0x30, 0x31]).to_be_bytes();
                let nested = number.repeat(1 + chance.below(200));
                bytes.splice(at..at, nested);
            }
            _ => bytes.extend((0..chance.below(40)).map(|_| chance.next().to_le_bytes()[0])),
        }
    }
}

fn envelope(version: Version, flags: u8, opcode: Opcode, body: &[u8]) -> Vec<u8> {
    let answers = if opcode.sender() == Side::Server { 0x80 } else { 0 };
    let mut out = vec![version.code() | answers, flags, 0, 1, opcode.code()];
    out.put_u32(u32::try_from(body.len()).unwrap());
    out.extend_from_slice(body);
    out
}

/// The test's own segments, so that a compressed payload can be damaged under a checksum that is right.
fn segment(sent: &[u8], uncompressed: Option<usize>, self_contained: bool) -> Vec<u8> {
    let flag = u64::from(self_contained);
    let (header, bytes) = match uncompressed {
        None => (sent.len() as u64 | (flag << 17), 3),
        Some(length) => (sent.len() as u64 | ((length as u64) << 17) | (flag << 34), 5),
    };
    let mut crc24 = 0x0087_5060_u32;
    for byte in &header.to_le_bytes()[..bytes] {
        crc24 ^= u32::from(*byte) << 16;
        for _ in 0..8 {
            crc24 = (crc24 << 1) ^ if crc24 & 0x80_0000 == 0 { 0 } else { 0x0197_4F0B };
        }
    }
    let mut out = header.to_le_bytes()[..bytes].to_vec();
    out.extend_from_slice(&crc24.to_le_bytes()[..3]);
    out.extend_from_slice(sent);
    let crc32 = crc32fast::hash(&[&[0xFA, 0x2D, 0x55, 0xCA], sent].concat());
    out.extend_from_slice(&crc32.to_le_bytes());
    out
}

/// What can be damaged, for one end and one agreement. Made once: rounds are many.
struct Sample {
    receiver: Side,
    version: Version,
    compression: Option<Compression>,
    /// Whether STARTUP was answered; before, nothing is compressed or in segments.
    agreed: bool,
    /// As a socket would deliver it.
    socket: Vec<u8>,
    envelopes: Vec<Envelope>,
    /// Of segments; none in v4, nor before STARTUP.
    payloads: Vec<Vec<u8>>,
}

fn samples() -> Vec<Sample> {
    let handshakes = [Version::V4, Version::V5].map(|version| (version, None, false));
    let connections = AGREEMENTS.map(|(version, compression)| (version, compression, true));
    let all = handshakes.into_iter().chain(connections);
    let sides = all.flat_map(|of| [Side::Server, Side::Client].map(|receiver| (receiver, of)));
    sides.map(|(receiver, of)| Sample::new(receiver, of)).collect()
}

/// What the other end sends.
fn sent_to(
    receiver: Side,
    (version, compression, agreed): (Version, Option<Compression>, bool),
) -> BytesMut {
    match (receiver, agreed) {
        (Side::Server, true) => client_bytes(version, compression),
        (Side::Client, true) => server_bytes(version, compression),
        (Side::Server, false) => {
            let mut client = Outbound::new();
            calls(version).iter().for_each(|call| client.call(version, 1, call).unwrap());
            client.take()
        }
        (Side::Client, false) => {
            let mut server = Outbound::new();
            for Reply { extras, response } in &replies(version) {
                server.reply(version, 1, extras, response).unwrap();
            }
            server.take()
        }
    }
}

impl Sample {
    fn new(
        receiver: Side,
        of @ (version, compression, agreed): (Version, Option<Compression>, bool),
    ) -> Sample {
        let socket = sent_to(receiver, of);
        let mut inbound = Inbound::new(receiver, BODY_BYTES_MAX_DEFAULT);
        if agreed {
            inbound.agree(version, compression);
        }
        let (mut rest, mut envelopes) = (socket.clone(), Vec::new());
        while let Some(envelope) = inbound.decode(&mut rest).expect("nothing is damaged yet") {
            envelopes.push(envelope);
        }
        let (mut rest, mut payloads) = (socket.clone(), Vec::new());
        if agreed && version.has_segments() {
            let format = SegmentFormat::of(compression);
            while let Some(segment) = format.decode(&mut rest).expect("nothing is damaged yet") {
                payloads.push(segment.payload.to_vec());
            }
        }
        let socket = socket.to_vec();
        Sample { receiver, version, compression, agreed, socket, envelopes, payloads }
    }

    fn has_segments(&self) -> bool {
        self.agreed && self.version.has_segments()
    }

    /// What a socket would deliver if it were damaged at one of the layers.
    fn damaged(&self, chance: &mut Chance) -> Vec<u8> {
        match (chance.pick(&[0, 0, 0, 1, 1, 2, 3]), self.has_segments()) {
            (0, _) => self.damaged_body(chance),
            (1, true) => self.damaged_payload(chance),
            (2, false) => self.damaged_body_block(chance),
            (2, true) => self.damaged_payload_block(chance),
            // Whatever the socket says; without segments, envelopes and compressed bodies are damaged like that.
            _ => {
                let mut bytes = self.socket.clone();
                damage(chance, &mut bytes, &self.socket);
                bytes
            }
        }
    }

    /// The length that says that an lz4 segment is stored as it is.
    fn stored(&self) -> Option<usize> {
        (self.compression == Some(Compression::Lz4)).then_some(0)
    }

    /// A damaged message, in an envelope and a segment that are right.
    fn damaged_body(&self, chance: &mut Chance) -> Vec<u8> {
        let Envelope { header, body } = chance.pick(&self.envelopes);
        let mut body = body.to_vec();
        damage(chance, &mut body, &self.socket);
        body.truncate(PAYLOAD_BYTES_MAX - HEADER_BYTES);
        // It is not compressed any more.
        let flags = header.flags.byte() & !Flags::COMPRESSED.byte();
        let bytes = envelope(self.version, flags, header.opcode, &body);
        if self.has_segments() { segment(&bytes, self.stored(), true) } else { bytes }
    }

    /// Damaged envelopes, in segments that are right.
    fn damaged_payload(&self, chance: &mut Chance) -> Vec<u8> {
        let mut payload = chance.pick(&self.payloads);
        damage(chance, &mut payload, &self.socket);
        payload.truncate(PAYLOAD_BYTES_MAX);
        let (head, tail) = payload.split_at(chance.below(payload.len() + 1));
        match chance.below(2) {
            0 => segment(&payload, self.stored(), chance.below(4) > 0),
            _ => [head, tail].map(|part| segment(part, self.stored(), false)).concat(),
        }
    }

    /// A damaged compressed payload, its checksum being right, and its size right or wrong.
    fn damaged_payload_block(&self, chance: &mut Chance) -> Vec<u8> {
        let payload = chance.pick(&self.payloads);
        let mut block = lz4_flex::block::compress(&payload);
        damage(chance, &mut block, &self.socket);
        block.truncate(PAYLOAD_BYTES_MAX);
        let claimed = match chance.below(3) {
            0 => chance.below(1 << 17),
            _ => payload.len(),
        };
        segment(&block, Some(claimed), true)
    }

    /// A damaged compressed body.
    fn damaged_body_block(&self, chance: &mut Chance) -> Vec<u8> {
        let Envelope { header, body } = chance.pick(&self.envelopes);
        let mut block = match self.compression {
            Some(Compression::Snappy) => snap::raw::Encoder::new().compress_vec(&body).unwrap(),
            _ => {
                let size = u32::try_from(body.len()).unwrap().to_be_bytes();
                [&size[..], &lz4_flex::block::compress(&body)].concat()
            }
        };
        damage(chance, &mut block, &self.socket);
        let flags = header.flags.byte() | Flags::COMPRESSED.byte();
        envelope(self.version, flags, header.opcode, &block)
    }
}

fn round(samples: &[Sample], seed: u64) -> Outcome {
    let _replay = Replay(seed);
    let mut chance = Chance(seed);
    let sample = &samples[chance.below(samples.len())];
    let bytes = sample.damaged(&mut chance);
    let piece = chance.pick(&[1, 7, 100, usize::MAX, usize::MAX]);
    // Byte by byte a long answer would take long, and teach nothing new.
    let piece = if bytes.len() > 10_000 { piece.max(100) } else { piece };
    match sample.agreed {
        true => feed(sample.receiver, (sample.version, sample.compression), piece, &bytes),
        false => feed_handshake(sample.receiver, piece, &bytes),
    }
}

#[expect(clippy::disallowed_methods, reason = "a deadline of the test's own")]
fn goes_on(seconds: Option<u64>, began: &mut Option<std::time::Instant>) -> bool {
    let Some(seconds) = seconds else { return false };
    let began = began.get_or_insert_with(std::time::Instant::now);
    began.elapsed().as_secs() < seconds
}

#[test]
fn damaged_frames_are_refused_and_never_panic() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let samples = samples();
    if let Some(seed) = number("HELENUS_FUZZ_SEED") {
        println!("seed {seed}: {:?}", round(&samples, seed));
        return;
    }
    let seconds = number("HELENUS_FUZZ_SECONDS");
    let (mut began, mut total, mut seed) = (None, Outcome::default(), 0);
    while seed < ROUNDS || goes_on(seconds, &mut began) {
        let Outcome { messages, malformed, faults } = round(&samples, seed);
        total.messages += messages;
        total.malformed += malformed;
        total.faults += faults;
        seed += 1;
    }
    println!("{seed} rounds: {total:?}");
    // Otherwise the damage would be of one kind, and two of the layers untested.
    let rounds = usize::try_from(ROUNDS).unwrap();
    for seen in [total.messages, total.malformed, total.faults] {
        assert!(seen > rounds / 20, "{total:?}");
    }
}

#[test]
fn the_tests_own_segments_are_read_as_they_are_written() {
    for (format, plain) in [(SegmentFormat::Plain, None), (SegmentFormat::Lz4, Some(0))] {
        let mut socket = BytesMut::from(&segment(b"payload", plain, true)[..]);
        let read = format.decode(&mut socket).unwrap().unwrap();
        assert_eq!((read.self_contained, &read.payload[..]), (true, &b"payload"[..]));
        let mut out = BytesMut::new();
        format.encode(b"payload", &mut out);
        assert_eq!(out, segment(b"payload", plain, true));
    }
}
