//! Envelopes: a header of nine bytes and a body. (§2; before v5 they were called frames.)
//!
//! ```text
//! | version u8 | flags u8 | stream i16 | opcode u8 | length i32 | body |
//! ```
//!
//! The first bit of `version` is the direction: 0 asks, 1 answers. [`EnvelopeDecoder`] splits a stream of bytes and
//! says of whatever is wrong which answer the peer is owed and whether the stream can be followed any further.

use super::compression;
use super::error::{ErrorKind, ErrorResponse};
use super::version::{Compression, Version};
use super::write::{EncodeError, Writer};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::fmt;
use std::ops::BitOr;

/// Bytes of an envelope's header.
pub const HEADER_BYTES: usize = 9;

/// The longest body that is accepted unless configured otherwise: Cassandra's `native_transport_max_frame_size`.
pub const BODY_BYTES_MAX_DEFAULT: usize = 16 << 20;

const ANSWERS: u8 = 0x80;
const V6: u8 = 6;

/// What an envelope says of its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(u8);

impl Flags {
    /// None.
    pub const NONE: Flags = Flags(0);
    /// The body is compressed. v4 only: v5 compresses segments, and ignores this.
    pub const COMPRESSED: Flags = Flags(0x01);
    /// A request asks to be traced; a response's body begins with the trace's id.
    pub const TRACING: Flags = Flags(0x02);
    /// A custom payload precedes the message.
    pub const CUSTOM_PAYLOAD: Flags = Flags(0x04);
    /// Warnings precede a response.
    pub const WARNINGS: Flags = Flags(0x08);
    /// The client accepts versions that are not finished.
    pub const USE_BETA: Flags = Flags(0x10);

    /// Flags from the byte of a header. Unknown ones are kept and mean nothing.
    pub const fn from_byte(byte: u8) -> Flags {
        Flags(byte)
    }

    /// The byte of a header.
    pub const fn byte(self) -> u8 {
        self.0
    }

    /// Whether all of `other` are set.
    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Flags {
    type Output = Flags;

    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

/// Which message a body holds.
#[expect(missing_docs, reason = "the specification's words")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Opcode {
    Error = 0x00,
    Startup = 0x01,
    Ready = 0x02,
    Authenticate = 0x03,
    Options = 0x05,
    Supported = 0x06,
    Query = 0x07,
    Result = 0x08,
    Prepare = 0x09,
    Execute = 0x0A,
    Register = 0x0B,
    Event = 0x0C,
    Batch = 0x0D,
    AuthChallenge = 0x0E,
    AuthResponse = 0x0F,
    AuthSuccess = 0x10,
}

impl Opcode {
    /// All of them, in the order of their codes.
    pub const EVERY: [Opcode; 16] = [
        Opcode::Error,
        Opcode::Startup,
        Opcode::Ready,
        Opcode::Authenticate,
        Opcode::Options,
        Opcode::Supported,
        Opcode::Query,
        Opcode::Result,
        Opcode::Prepare,
        Opcode::Execute,
        Opcode::Register,
        Opcode::Event,
        Opcode::Batch,
        Opcode::AuthChallenge,
        Opcode::AuthResponse,
        Opcode::AuthSuccess,
    ];

    /// The code on the wire.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The opcode with this code.
    pub fn from_code(code: u8) -> Option<Opcode> {
        Opcode::EVERY.into_iter().find(|opcode| opcode.code() == code)
    }

    /// Which side sends it.
    pub const fn sender(self) -> Side {
        match self {
            Opcode::Startup
            | Opcode::Options
            | Opcode::Query
            | Opcode::Prepare
            | Opcode::Execute
            | Opcode::Register
            | Opcode::Batch
            | Opcode::AuthResponse => Side::Client,
            _ => Side::Server,
        }
    }
}

/// An end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Asks.
    Client,
    /// Answers.
    Server,
}

impl Side {
    /// The other end.
    pub const fn other(self) -> Side {
        match self {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Client => "REQUEST",
            Side::Server => "RESPONSE",
        })
    }
}

/// An envelope's header, but for the length of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The version in which the body is written.
    pub version: Version,
    /// What precedes the message in the body.
    pub flags: Flags,
    /// Chosen by the client, and returned with the answer; -1 on events.
    pub stream: i16,
    /// Which message the body holds; also tells the direction.
    pub opcode: Opcode,
}

/// One message, not yet understood.
///
/// The body shares the buffer it was read into: copy what must outlive the request by long, or it holds on to the
/// buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Whose, and which message.
    pub header: Header,
    /// The message.
    pub body: Bytes,
}

/// The answer that the peer is owed for an envelope that cannot be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Owed {
    /// The version to answer in.
    pub version: Version,
    /// The stream to answer on.
    pub stream: i16,
    /// What to say.
    pub error: ErrorResponse,
}

/// An envelope cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeFault {
    /// A version that is not spoken here. The answer is in the highest that is, which tells the client what to try.
    #[error(
        "Invalid or unsupported protocol version ({given}); supported versions are ({})",
        Version::names()
    )]
    UnsupportedVersion {
        /// The version, without the direction's bit.
        given: u8,
    },
    /// v6, which nobody has finished, from a client that did not even ask for unfinished versions.
    #[error("Beta version of the protocol used (6/v6-beta), but USE_BETA flag is unset")]
    Beta,
    /// Another version than STARTUP's.
    #[error(
        "Invalid message version. Got {given} but previous messages on this connection had version {agreed}"
    )]
    VersionChanged {
        /// This envelope's version.
        given: Version,
        /// STARTUP's.
        agreed: Version,
        /// Its stream.
        stream: i16,
    },
    /// The direction's bit is the sender's own, or the opcode is one that only the receiver sends.
    #[error("Wrong protocol direction (expected {expected}) for opcode {opcode}")]
    Direction {
        /// What the receiver takes.
        expected: Side,
        /// The opcode's code.
        opcode: u8,
        /// Its version.
        version: Version,
        /// Its stream.
        stream: i16,
    },
    /// The opcode is no message's.
    #[error("Unknown opcode {opcode}")]
    UnknownOpcode {
        /// The opcode's code.
        opcode: u8,
        /// Its version.
        version: Version,
        /// Its stream.
        stream: i16,
    },
    /// The body's length is negative, so nobody knows where the next envelope begins.
    #[error("Invalid value for envelope header body length field: {length}")]
    NegativeLength {
        /// The length.
        length: i32,
        /// Its version.
        version: Version,
        /// Its stream.
        stream: i16,
    },
    /// The body is longer than allowed. It is skipped, not kept.
    #[error("Request is too big: length {length} exceeds maximum allowed length {max}.")]
    TooLong {
        /// The body's length: as it is sent, or as it would be when decompressed.
        length: usize,
        /// What is allowed.
        max: usize,
        /// Its version.
        version: Version,
        /// Its stream.
        stream: i16,
    },
    /// The body is compressed, but cannot be decompressed.
    #[error("The body on stream {stream} cannot be decompressed: {problem}")]
    Compression {
        /// What is wrong.
        problem: compression::BadBlock,
        /// Its version.
        version: Version,
        /// Its stream.
        stream: i16,
    },
}

impl EnvelopeFault {
    /// The answer that the client is owed.
    pub fn owed(&self) -> Owed {
        let (version, stream) = match *self {
            EnvelopeFault::UnsupportedVersion { .. } | EnvelopeFault::Beta => (Version::HIGHEST, 0),
            EnvelopeFault::VersionChanged { agreed, stream, .. } => (agreed, stream),
            EnvelopeFault::Direction { version, stream, .. }
            | EnvelopeFault::UnknownOpcode { version, stream, .. }
            | EnvelopeFault::NegativeLength { version, stream, .. }
            | EnvelopeFault::TooLong { version, stream, .. }
            | EnvelopeFault::Compression { version, stream, .. } => (version, stream),
        };
        // Drivers retry nothing on either; Invalid does not make them doubt the connection.
        let kind = match self {
            EnvelopeFault::TooLong { .. } => ErrorKind::Invalid,
            _ => ErrorKind::Protocol,
        };
        Owed { version, stream, error: ErrorResponse { kind, message: self.to_string() } }
    }

    /// Whether the envelopes after this one can still be told apart, so that only this one is lost. Otherwise: answer
    /// what is owed, and close.
    pub fn connection_survives(&self) -> bool {
        match self {
            EnvelopeFault::UnsupportedVersion { .. }
            | EnvelopeFault::Beta
            | EnvelopeFault::VersionChanged { .. }
            | EnvelopeFault::Direction { .. }
            | EnvelopeFault::NegativeLength { .. } => false,
            EnvelopeFault::UnknownOpcode { .. }
            | EnvelopeFault::TooLong { .. }
            | EnvelopeFault::Compression { .. } => true,
        }
    }
}

/// Splits a stream of bytes into envelopes. Never holds more than what it was given, and asks for no memory.
#[derive(Debug)]
pub struct EnvelopeDecoder {
    receiver: Side,
    body_bytes_max: usize,
    agreed: Option<Version>,
    /// Bytes that are still to come of a body that is not wanted.
    skip: usize,
    /// The envelope that the input begins with, if its header is there and its body is not; and the body's length.
    begun: Option<(Header, usize)>,
}

impl EnvelopeDecoder {
    /// A decoder at the `receiver`'s end, that takes bodies of up to `body_bytes_max` bytes.
    pub fn new(receiver: Side, body_bytes_max: usize) -> EnvelopeDecoder {
        EnvelopeDecoder { receiver, body_bytes_max, agreed: None, skip: 0, begun: None }
    }

    /// From here on only this version is accepted.
    pub fn agree(&mut self, version: Version) {
        self.agreed = Some(version);
    }

    /// Whether it waits for the rest of a body that it skips.
    pub(crate) fn is_skipping(&self) -> bool {
        self.skip > 0
    }

    /// After [`decode`](EnvelopeDecoder::decode) gave `None`: skips the envelope that `input` begins with, what is there of
    /// it and what is to come, and gives its header. `None`: not even the header is there, or it is skipped already.
    pub fn skip_begun(&mut self, input: &mut BytesMut) -> Option<Header> {
        let (header, length) = self.begun.take()?;
        input.advance(HEADER_BYTES);
        self.skip_body(input, length);
        Some(header)
    }

    fn skip_body(&mut self, input: &mut BytesMut, length: usize) {
        let here = length.min(input.len());
        input.advance(here);
        self.skip = length - here;
    }

    /// Takes the next envelope off the front of `input`; `None` if more bytes are needed. After a fault that the
    /// connection does not survive, `input` is empty and the connection is to be closed.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Envelope>, EnvelopeFault> {
        let skipped = self.skip.min(input.len());
        input.advance(skipped);
        self.skip -= skipped;
        if self.skip > 0 {
            return Ok(None);
        }
        self.begun = None;
        let decoded = self.decode_next(input);
        if decoded.as_ref().is_err_and(|fault| !fault.connection_survives()) {
            input.clear();
        }
        decoded
    }

    fn decode_next(&mut self, input: &mut BytesMut) -> Result<Option<Envelope>, EnvelopeFault> {
        // The version comes first: in v1 and v2 a whole request may be shorter than our header.
        let mut header = &input[..];
        let Ok(first) = header.try_get_u8() else { return Ok(None) };
        let version = Version::from_code(first & !ANSWERS);
        let Ok(flags) = header.try_get_u8() else {
            let settled = version.is_some() || first & !ANSWERS == V6;
            return if settled { Ok(None) } else { Err(unsupported(first)) };
        };
        let flags = Flags::from_byte(flags);
        let Some(version) = version else {
            let beta = first & !ANSWERS == V6 && !flags.contains(Flags::USE_BETA);
            return Err(if beta { EnvelopeFault::Beta } else { unsupported(first) });
        };
        let (Ok(stream), Ok(code), Ok(length)) =
            (header.try_get_i16(), header.try_get_u8(), header.try_get_i32())
        else {
            return Ok(None);
        };
        if let Some(agreed) = self.agreed.filter(|agreed| *agreed != version) {
            return Err(EnvelopeFault::VersionChanged { given: version, agreed, stream });
        }
        let expected = self.receiver.other();
        let sender = if first & ANSWERS == 0 { Side::Client } else { Side::Server };
        if sender != expected {
            return Err(EnvelopeFault::Direction { expected, opcode: code, version, stream });
        }
        let Ok(length) = usize::try_from(length) else {
            return Err(EnvelopeFault::NegativeLength { length, version, stream });
        };
        let refused = match Opcode::from_code(code) {
            None => EnvelopeFault::UnknownOpcode { opcode: code, version, stream },
            Some(opcode) if opcode.sender() != expected => {
                return Err(EnvelopeFault::Direction { expected, opcode: code, version, stream });
            }
            Some(_) if length > self.body_bytes_max => {
                EnvelopeFault::TooLong { length, max: self.body_bytes_max, version, stream }
            }
            Some(opcode) => {
                let header = Header { version, flags, stream, opcode };
                if input.len() - HEADER_BYTES < length {
                    self.begun = Some((header, length));
                    return Ok(None);
                }
                input.advance(HEADER_BYTES);
                let body = input.split_to(length).freeze();
                return Ok(Some(Envelope { header, body }));
            }
        };
        input.advance(HEADER_BYTES);
        self.skip_body(input, length);
        Err(refused)
    }
}

fn unsupported(first: u8) -> EnvelopeFault {
    EnvelopeFault::UnsupportedVersion { given: first & !ANSWERS }
}

/// Appends an envelope to `out`, its body written in place by `body`. With `compression` (v4) the body is compressed if
/// that makes it shorter. If it cannot be written, `out` is as before.
pub fn write_envelope(
    out: &mut BytesMut,
    header: Header,
    compression: Option<Compression>,
    body: impl FnOnce(&mut Writer<'_>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = out.len();
    let written = write_parts(out, header, compression, body);
    if written.is_err() {
        out.truncate(start);
    }
    written
}

fn write_parts(
    out: &mut BytesMut,
    header: Header,
    compression: Option<Compression>,
    body: impl FnOnce(&mut Writer<'_>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let Header { version, mut flags, stream, opcode } = header;
    let direction = if opcode.sender() == Side::Server { ANSWERS } else { 0 };
    let start = out.len();
    out.put_bytes(0, HEADER_BYTES);
    body(&mut Writer::new(out))?;
    if let Some(compression) = compression.filter(|_| opcode != Opcode::Startup)
        && compression::compress_tail(compression, out, start + HEADER_BYTES)
    {
        flags = flags | Flags::COMPRESSED;
    }
    let length = out.len() - start - HEADER_BYTES;
    let too_long = |_| EncodeError::TooLong { what: "a body", length, max: i32::MAX as usize };
    let length = i32::try_from(length).map_err(too_long)?;
    if let Some(mut at) = out.get_mut(start..) {
        at.put_u8(version.code() | direction);
        at.put_u8(flags.byte());
        at.put_i16(stream);
        at.put_u8(opcode.code());
        at.put_i32(length);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
