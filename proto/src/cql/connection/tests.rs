//! Tests of `connection`: when segments begin, and what they must not do.

use super::super::envelope::HEADER_BYTES;
use super::super::{Call, Opcode, Reply, Request, Startup};
use super::*;
use bytes::BufMut;

fn startup(compression: &str) -> Call {
    let option = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let options = [option("CQL_VERSION", "3.0.0"), option("compression", compression)];
    Request::Startup(Startup { options: options.into() }).into()
}

fn server(version: Version, compression: Option<Compression>) -> Inbound {
    let mut inbound = Inbound::new(Side::Server, 1000);
    inbound.agree(version, compression);
    inbound
}

/// OPTIONS on this stream.
fn options(version: Version, stream: u8) -> Vec<u8> {
    vec![version.code(), 0, 0, stream, Opcode::Options.code(), 0, 0, 0, 0]
}

/// Segments of these bytes: one, or as many parts as they need.
fn payload(parts: &[&[u8]]) -> BytesMut {
    let mut out = BytesMut::new();
    SegmentFormat::Plain.encode(&parts.concat(), &mut out);
    out
}

#[test]
fn segments_begin_after_the_answer_to_startup_and_not_before() {
    let (version, compression) = (Version::V5, Some(Compression::Lz4));
    let (mut client_out, mut client_in) = (Outbound::new(), Inbound::new(Side::Client, 1000));
    let (mut server_out, mut server_in) = (Outbound::new(), Inbound::new(Side::Server, 1000));
    client_out.call(version, 0, &Request::Options.into()).unwrap();
    client_out.call(version, 1, &startup("lz4")).unwrap();
    let mut socket = client_out.take();
    assert_eq!(socket[0], 0x05, "bare");
    assert_eq!(server_in.decode(&mut socket).unwrap().unwrap().header.opcode, Opcode::Options);
    let envelope = server_in.decode(&mut socket).unwrap().unwrap();
    let Request::Startup(startup) = Call::decode(&envelope).unwrap().request else {
        panic!("STARTUP became something else")
    };
    assert_eq!(startup.compression(version), Ok(compression));
    server_in.agree(version, compression);
    server_out.reply(version, 1, &Extras::default(), &Response::Ready).unwrap();
    server_out.agree(version, compression);
    server_out.reply(version, -1, &Extras::default(), &Response::Void).unwrap();
    let mut socket = server_out.take();
    assert_eq!(socket[..HEADER_BYTES], [0x85, 0, 0, 1, 2, 0, 0, 0, 0], "bare");
    let ready = client_in.decode(&mut socket).unwrap().unwrap();
    assert_eq!(Reply::decode(&ready).unwrap().response, Response::Ready);
    client_in.agree(version, compression);
    client_out.agree(version, compression);
    let void = client_in.decode(&mut socket).unwrap().unwrap();
    assert_eq!(Reply::decode(&void).unwrap().response, Response::Void);
    client_out.call(version, 2, &Request::Options.into()).unwrap();
    let mut socket = client_out.take();
    assert_eq!(socket.len(), 8 + HEADER_BYTES + 4);
    assert_eq!(server_in.decode(&mut socket).unwrap().unwrap().header.stream, 2);
}

#[test]
fn snappy_is_not_for_v5_and_an_unknown_compression_for_none() {
    let asked = |given: &str| {
        let Request::Startup(startup) = startup(given).request else { panic!("no STARTUP") };
        // As it is when it was read: in capital letters.
        let option = |(name, value): (String, String)| (name.to_uppercase(), value);
        Startup { options: startup.options.into_iter().map(option).collect() }
    };
    assert_eq!(asked("SNAPPY").compression(Version::V4), Ok(Some(Compression::Snappy)));
    assert_eq!(asked("").compression(Version::V4), Ok(None));
    assert_eq!(
        asked("snappy").compression(Version::V5).unwrap_err().to_string(),
        "Snappy compression is not supported in protocol v5; use lz4, or protocol v4"
    );
    assert_eq!(
        asked("zstd").compression(Version::V5).unwrap_err().to_string(),
        "Unknown compression algorithm: `zstd`; use one of lz4, snappy"
    );
}

#[test]
fn a_self_contained_segment_ends_with_an_envelope() {
    let (one, two) = (options(Version::V5, 1), options(Version::V5, 2));
    let mut socket = payload(&[&one, &two[..5]]);
    let mut inbound = server(Version::V5, None);
    assert_eq!(inbound.decode(&mut socket).unwrap().unwrap().header.stream, 1);
    let fault = inbound.decode(&mut socket).unwrap_err();
    assert_eq!(fault, SegmentFault::NotSelfContained { left: 5 }.into());
    assert!(!fault.connection_survives() && fault.owed().is_none());
}

#[test]
fn a_body_that_is_too_long_is_skipped_through_its_segments() {
    let mut long = vec![5, 0, 0, 9, Opcode::Query.code()];
    long.put_u32(200_000);
    long.resize(HEADER_BYTES + 200_000, 0);
    let mut socket = payload(&[&long]);
    socket.extend_from_slice(&payload(&[&options(Version::V5, 2)]));
    let mut inbound = server(Version::V5, None);
    let fault = inbound.decode(&mut socket).unwrap_err();
    assert!(fault.connection_survives(), "{fault}");
    assert_eq!(fault.owed().unwrap().stream, 9);
    assert_eq!(inbound.decode(&mut socket).unwrap().unwrap().header.stream, 2);
    // Cut off by another segment, it is no envelope.
    let mut socket = payload(&[&long]);
    socket.truncate(6 + PAYLOAD_BYTES_MAX + 4);
    let mut inbound = server(Version::V5, None);
    assert!(inbound.decode(&mut socket).is_err());
    let mut next = payload(&[&options(Version::V5, 2)]);
    assert_eq!(inbound.decode(&mut next), Err(SegmentFault::Interrupted.into()));
}

#[test]
fn a_compressed_body_without_agreement_is_refused_and_the_next_is_read() {
    let mut socket = BytesMut::from(&[4, 1, 0, 3, Opcode::Query.code(), 0, 0, 0, 1, 9][..]);
    socket.extend_from_slice(&options(Version::V4, 4));
    let mut inbound = server(Version::V4, None);
    let fault = inbound.decode(&mut socket).unwrap_err();
    assert_eq!(
        fault.to_string(),
        "The body on stream 3 cannot be decompressed: STARTUP asked for no compression on this connection"
    );
    assert!(fault.connection_survives());
    assert_eq!(inbound.decode(&mut socket).unwrap().unwrap().header.stream, 4);
}

#[test]
fn a_body_that_is_too_long_when_decompressed_is_refused() {
    let block = lz4_flex::block::compress_prepend_size(&[0; 1001]);
    // That function's size is little-endian; CQL's is not.
    let body = [&1001_u32.to_be_bytes()[..], &block[4..]].concat();
    let mut socket = BytesMut::from(&[4, 1, 0, 3, Opcode::Query.code()][..]);
    socket.put_u32(u32::try_from(body.len()).unwrap());
    socket.extend_from_slice(&body);
    let fault = server(Version::V4, Some(Compression::Lz4)).decode(&mut socket).unwrap_err();
    let (version, stream) = (Version::V4, 3);
    assert_eq!(fault, EnvelopeFault::TooLong { length: 1001, max: 1000, version, stream }.into());
}

#[test]
fn a_compression_flag_in_v5_means_nothing() {
    let mut bytes = options(Version::V5, 1);
    bytes[1] = Flags::COMPRESSED.byte();
    let mut socket = payload(&[&bytes]);
    let envelope = server(Version::V5, None).decode(&mut socket).unwrap().unwrap();
    assert_eq!(envelope.header.stream, 1);
}

#[test]
fn an_envelope_that_is_there_in_part_can_be_given_up_and_the_next_is_read() {
    const BODY: usize = 300_000;
    let mut long = vec![0, 0, 0, 9, Opcode::Query.code()];
    long.put_u32(300_000);
    long.resize(HEADER_BYTES + BODY, 7);
    for version in [Version::V4, Version::V5] {
        long[0] = version.code();
        let next = options(version, 4);
        let sent = match version {
            Version::V5 => [payload(&[&long]), payload(&[&next])].concat(),
            _ => [&long[..], &next].concat(),
        };
        let mut inbound = Inbound::new(Side::Server, BODY);
        inbound.agree(version, None);
        let mut socket = BytesMut::new();
        assert_eq!(inbound.skip_begun(&mut socket), None, "there is nothing");
        let (begun, rest) = sent.split_at(HEADER_BYTES - 1);
        socket.extend_from_slice(begun);
        assert_eq!(inbound.decode(&mut socket), Ok(None));
        assert_eq!(inbound.skip_begun(&mut socket), None, "there is no header");
        let (part, rest) = rest.split_at(150_000);
        socket.extend_from_slice(part);
        assert_eq!(inbound.decode(&mut socket), Ok(None));
        let held = inbound.held() + socket.len();
        assert!(held > 140_000, "{held}");
        let header = inbound.skip_begun(&mut socket).unwrap();
        assert_eq!((header.version, header.stream, header.opcode), (version, 9, Opcode::Query));
        // But what is there of a segment that is not whole.
        let held = inbound.held() + socket.len();
        assert!(held < 30_000, "{held} bytes are kept of it");
        assert_eq!(inbound.skip_begun(&mut socket), None, "it is given up already");
        let (part, rest) = rest.split_at(100_000);
        socket.extend_from_slice(part);
        assert_eq!(inbound.decode(&mut socket), Ok(None));
        assert_eq!(inbound.skip_begun(&mut socket), None);
        socket.extend_from_slice(rest);
        assert_eq!(inbound.decode(&mut socket).unwrap().unwrap().header.stream, 4);
        assert_eq!(inbound.decode(&mut socket), Ok(None));
        assert_eq!(inbound.held() + socket.len(), 0);
    }
}
