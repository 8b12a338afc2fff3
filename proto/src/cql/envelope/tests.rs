//! Tests of `envelope`: headers byte by byte, and what a peer is owed for bad ones.

use super::*;

/// STARTUP of v4 as the specification draws it.
const STARTUP: &[u8] =
    b"\x04\x00\x00\x07\x01\x00\x00\x00\x16\x00\x01\x00\x0bCQL_VERSION\x00\x053.0.0";

fn decoder() -> EnvelopeDecoder {
    EnvelopeDecoder::new(Side::Server, 1000)
}

fn fault(bytes: &[u8]) -> EnvelopeFault {
    decoder().decode(&mut BytesMut::from(bytes)).expect_err("this is no envelope")
}

#[test]
fn a_startup_is_read_and_written_byte_for_byte() {
    let mut input = BytesMut::from(STARTUP);
    let envelope = decoder().decode(&mut input).unwrap().unwrap();
    assert!(input.is_empty());
    let header =
        Header { version: Version::V4, flags: Flags::NONE, stream: 7, opcode: Opcode::Startup };
    assert_eq!(envelope.header, header);
    assert_eq!(envelope.body, STARTUP[9..]);
    let mut out = BytesMut::from(&b"before"[..]);
    let written = write_envelope(&mut out, header, Some(Compression::Lz4), |to| {
        to.raw(&STARTUP[9..]);
        Ok(())
    });
    written.unwrap();
    assert_eq!(out, [b"before", STARTUP].concat());
}

#[test]
fn what_cannot_be_written_leaves_the_buffer_as_it_was() {
    let header =
        Header { version: Version::V4, flags: Flags::NONE, stream: 7, opcode: Opcode::Ready };
    let mut out = BytesMut::from(&b"before"[..]);
    let failed = write_envelope(&mut out, header, None, |to| {
        to.raw(b"something");
        to.string("a name", &"x".repeat(65_536))
    });
    assert_eq!(failed, Err(EncodeError::TooLong { what: "a name", length: 65_536, max: 65_535 }));
    assert_eq!(out, &b"before"[..]);
}

#[test]
fn a_version_that_is_not_spoken_is_answered_as_cassandra_does() {
    // 0x42 is what the Python and Node drivers try first.
    for (given, bytes) in
        [(66, &b"\x42"[..]), (66, b"\x42\0\0\0\x05\0\0\0\0"), (3, b"\x03"), (1, b"\x01\0\0\x05")]
    {
        let fault = fault(bytes);
        assert_eq!(fault, EnvelopeFault::UnsupportedVersion { given });
        assert!(!fault.connection_survives());
        let owed = fault.owed();
        assert_eq!((owed.version, owed.stream), (Version::V5, 0));
        assert_eq!(owed.error.kind, ErrorKind::Protocol);
        let text = format!(
            "Invalid or unsupported protocol version ({given}); supported versions are (4/v4, 5/v5)"
        );
        assert_eq!(owed.error.message, text);
    }
}

#[test]
fn v6_is_told_that_it_is_beta_unless_the_client_knows() {
    assert_eq!(decoder().decode(&mut BytesMut::from(&b"\x06"[..])), Ok(None), "flags to come");
    let beta = fault(b"\x06\x00");
    assert_eq!(
        beta.owed().error.message,
        "Beta version of the protocol used (6/v6-beta), but USE_BETA flag is unset"
    );
    assert_eq!(fault(b"\x06\x10"), EnvelopeFault::UnsupportedVersion { given: 6 });
}

#[test]
fn faults_say_on_which_stream_and_whether_to_go_on() {
    let cases: [(&[u8], &str, bool); 6] = [
        (
            b"\x84\0\0\x07\x05\0\0\0\0",
            "Wrong protocol direction (expected REQUEST) for opcode 5",
            false,
        ),
        (
            b"\x04\0\0\x07\x02\0\0\0\0",
            "Wrong protocol direction (expected REQUEST) for opcode 2",
            false,
        ),
        (b"\x04\0\0\x07\x04\0\0\0\0", "Unknown opcode 4", true),
        (b"\x04\0\0\x07\xff\0\0\0\0", "Unknown opcode 255", true),
        (
            b"\x04\0\0\x07\x05\xff\xff\xff\xff",
            "Invalid value for envelope header body length field: -1",
            false,
        ),
        (
            b"\x04\0\0\x07\x05\0\0\x03\xe9",
            "Request is too big: length 1001 exceeds maximum allowed length 1000.",
            true,
        ),
    ];
    for (bytes, text, survives) in cases {
        let fault = fault(bytes);
        assert_eq!(fault.to_string(), text);
        assert_eq!(fault.connection_survives(), survives, "{text}");
        assert_eq!((fault.owed().version, fault.owed().stream), (Version::V4, 7));
    }
}

#[test]
fn the_version_does_not_change_within_a_connection() {
    let mut decoder = decoder();
    decoder.agree(Version::V5);
    let fault = decoder.decode(&mut BytesMut::from(STARTUP)).unwrap_err();
    let (given, agreed) = (Version::V4, Version::V5);
    assert_eq!(fault, EnvelopeFault::VersionChanged { given, agreed, stream: 7 });
    assert!(!fault.connection_survives());
    assert_eq!(fault.owed().version, Version::V5);
}

#[test]
fn a_body_that_is_too_long_is_skipped_in_whatever_pieces_it_comes() {
    let long = [b"\x04\0\0\x01\x07\0\0\x07\xd0".to_vec(), vec![4; 2000]].concat();
    let unknown = [b"\x04\0\0\x02\x04\0\0\0\x05".to_vec(), vec![4; 5]].concat();
    let bytes = [&long[..], &unknown, STARTUP].concat();
    for piece in [1, 7, 10, 1000, 5000] {
        let (mut decoder, mut input) = (decoder(), BytesMut::new());
        let (mut faults, mut envelopes, mut held) = (Vec::new(), Vec::new(), 0);
        for part in bytes.chunks(piece) {
            input.extend_from_slice(part);
            loop {
                match decoder.decode(&mut input) {
                    Ok(Some(envelope)) => envelopes.push(envelope.header.stream),
                    Ok(None) => break,
                    Err(fault) => faults.push(fault.owed().stream),
                }
            }
            held = held.max(input.len());
        }
        assert_eq!((faults, envelopes), (vec![1, 2], vec![7]), "in pieces of {piece}");
        assert!(held <= STARTUP.len(), "{held} bytes were held");
    }
}

#[test]
fn every_opcode_has_its_own_code_and_one_sender() {
    for code in 0..=255 {
        let opcode = Opcode::from_code(code);
        assert_eq!(opcode.is_some(), code <= 0x10 && code != 0x04);
        assert!(opcode.is_none_or(|opcode| opcode.code() == code));
    }
    let asked = Opcode::EVERY.into_iter().filter(|opcode| opcode.sender() == Side::Client);
    assert_eq!(asked.count(), 8);
}
