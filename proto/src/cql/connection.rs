//! One end of a connection: bytes of a socket to envelopes, and messages to bytes for a socket.
//!
//! Both halves begin bare, as the handshake is, and switch when [`Inbound::agree`] and [`Outbound::agree`] are told what
//! STARTUP settled. In v5 the segments begin *after* the answer to STARTUP (READY or AUTHENTICATE, not an ERROR), so a
//! server says `inbound.agree(..)` when it has read STARTUP, and `outbound.agree(..)` when it has written that answer;
//! a client says both when it has read it.

use super::compression::{self, BadBlock};
use super::envelope::{
    Envelope, EnvelopeDecoder, EnvelopeFault, Flags, Header, Owed, Side, write_envelope,
};
use super::error::ErrorResponse;
use super::request::Call;
use super::response::{Extras, ROWS, Response};
use super::rows::{RowsMetadata, RowsWriter};
use super::segment::{PAYLOAD_BYTES_MAX, Segment, SegmentFault, SegmentFormat};
use super::version::{Compression, Version};
use super::write::{EncodeError, Writer};
use bytes::{Buf, BytesMut};

/// What came from a socket cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// An envelope is wrong.
    #[error(transparent)]
    Envelope(#[from] EnvelopeFault),
    /// A segment is wrong.
    #[error(transparent)]
    Segment(#[from] SegmentFault),
}

impl Fault {
    /// The answer that the peer is owed; none after a bad segment.
    pub fn owed(&self) -> Option<Owed> {
        match self {
            Fault::Envelope(fault) => Some(fault.owed()),
            Fault::Segment(_) => None,
        }
    }

    /// Whether only this envelope is lost. Otherwise: answer what is owed, and close.
    pub fn connection_survives(&self) -> bool {
        match self {
            Fault::Envelope(fault) => fault.connection_survives(),
            Fault::Segment(_) => false,
        }
    }
}

/// Takes envelopes out of what a socket delivers.
#[derive(Debug)]
pub struct Inbound {
    envelopes: EnvelopeDecoder,
    body_bytes_max: usize,
    /// Of bodies, in v4.
    compression: Option<Compression>,
    /// Set once envelopes travel in segments.
    segments: Option<SegmentFormat>,
    /// Of segments: what is not taken yet, and whether the last one was self-contained.
    payload: BytesMut,
    self_contained: bool,
}

impl Inbound {
    /// The receiving half of the `receiver`, that takes bodies of up to `body_bytes_max` bytes.
    pub fn new(receiver: Side, body_bytes_max: usize) -> Inbound {
        Inbound {
            envelopes: EnvelopeDecoder::new(receiver, body_bytes_max),
            body_bytes_max,
            compression: None,
            segments: None,
            payload: BytesMut::new(),
            self_contained: true,
        }
    }

    /// From the next byte on the connection speaks this.
    pub fn agree(&mut self, version: Version, compression: Option<Compression>) {
        self.envelopes.agree(version);
        if version.has_segments() {
            self.segments = Some(SegmentFormat::of(compression));
        } else {
            self.compression = compression;
        }
    }

    /// Bytes that were taken out of the socket, and are of an envelope that is not whole.
    pub fn held(&self) -> usize {
        self.payload.len()
    }

    /// After [`decode`](Inbound::decode) gave `None`: gives up the envelope of which a part is there, and skips the rest of it
    /// when it comes. Gives its header, so that it can be answered; `None`: there is none yet, or it is given up already.
    pub fn skip_begun(&mut self, socket: &mut BytesMut) -> Option<Header> {
        match self.segments {
            None => self.envelopes.skip_begun(socket),
            Some(_) => self.envelopes.skip_begun(&mut self.payload),
        }
    }

    /// Takes the next envelope out of `socket`, its body decompressed; `None` if more bytes are needed. After a fault
    /// that the connection does not survive there is no next one.
    pub fn decode(&mut self, socket: &mut BytesMut) -> Result<Option<Envelope>, Fault> {
        let envelope = match self.segments {
            None => self.envelopes.decode(socket)?,
            Some(format) => self.decode_segments(format, socket)?,
        };
        Ok(envelope.map(|envelope| self.decompressed(envelope)).transpose()?)
    }

    fn decode_segments(
        &mut self,
        format: SegmentFormat,
        socket: &mut BytesMut,
    ) -> Result<Option<Envelope>, Fault> {
        loop {
            if let Some(envelope) = self.envelopes.decode(&mut self.payload)? {
                return Ok(Some(envelope));
            }
            let partial = !self.payload.is_empty() || self.envelopes.is_skipping();
            if partial && self.self_contained {
                return Err(SegmentFault::NotSelfContained { left: self.payload.len() }.into());
            }
            let Some(Segment { self_contained, payload }) = format.decode(socket)? else {
                return Ok(None);
            };
            if partial && self_contained {
                return Err(SegmentFault::Interrupted.into());
            }
            self.self_contained = self_contained;
            if self.payload.is_empty() {
                self.payload = payload;
            } else {
                self.payload.extend_from_slice(&payload);
            }
        }
    }

    fn decompressed(&self, envelope: Envelope) -> Result<Envelope, EnvelopeFault> {
        let Header { version, flags, stream, .. } = envelope.header;
        // v5 compresses segments; the flag is left over from v4.
        if !flags.contains(Flags::COMPRESSED) || version.has_segments() {
            return Ok(envelope);
        }
        let decompressed = match self.compression {
            None => Err(BadBlock::NotAgreed),
            Some(by) => compression::decompress_body(by, &envelope.body, self.body_bytes_max),
        };
        match decompressed {
            Ok(body) => Ok(Envelope { body, ..envelope }),
            Err(BadBlock::TooLong { claimed, max }) => {
                Err(EnvelopeFault::TooLong { length: claimed, max, version, stream })
            }
            Err(problem) => Err(EnvelopeFault::Compression { problem, version, stream }),
        }
    }
}

/// Makes the bytes for a socket.
///
/// In v5, envelopes wait until a segment is full or [`take`](Outbound::take) is called, so that many small answers
/// travel as one segment. Nothing here bounds how much may wait: whoever fills it, takes it.
#[derive(Debug)]
pub struct Outbound {
    out: BytesMut,
    compression: Option<Compression>,
    segments: Option<SegmentFormat>,
    /// Whole envelopes for the next segment; together they fit it.
    pending: BytesMut,
}

impl Default for Outbound {
    fn default() -> Outbound {
        Outbound::new()
    }
}

impl Outbound {
    /// The sending half of either side.
    pub fn new() -> Outbound {
        Outbound {
            out: BytesMut::new(),
            compression: None,
            segments: None,
            pending: BytesMut::new(),
        }
    }

    /// From the next message on the connection speaks this.
    pub fn agree(&mut self, version: Version, compression: Option<Compression>) {
        if version.has_segments() {
            self.segments = Some(SegmentFormat::of(compression));
        } else {
            self.compression = compression;
        }
    }

    /// Appends a request.
    pub fn call(&mut self, version: Version, stream: i16, call: &Call) -> Result<(), EncodeError> {
        let opcode = call.request.opcode();
        let header = Header { version, flags: call.flags(), stream, opcode };
        self.envelope(header, |to| call.write(to, version))
    }

    /// Appends a response. On an error nothing is appended; the client still waits for an answer.
    pub fn reply(
        &mut self,
        version: Version,
        stream: i16,
        extras: &Extras,
        response: &Response,
    ) -> Result<(), EncodeError> {
        let header = Header { version, flags: extras.flags(), stream, opcode: response.opcode() };
        self.envelope(header, |to| {
            extras.write(to)?;
            response.write(to, version)
        })
    }

    /// Appends an ERROR without extras.
    pub fn error(
        &mut self,
        version: Version,
        stream: i16,
        error: &ErrorResponse,
    ) -> Result<(), EncodeError> {
        let opcode = super::Opcode::Error;
        let header = Header { version, flags: Flags::NONE, stream, opcode };
        self.envelope(header, |to| error.write(to, version))
    }

    /// Appends a result's rows, whose cells `fill` writes to where they stay. On an error nothing is appended.
    pub fn rows(
        &mut self,
        version: Version,
        stream: i16,
        extras: &Extras,
        metadata: &RowsMetadata,
        fill: impl FnOnce(&mut RowsWriter<'_, '_>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let opcode = super::Opcode::Result;
        let header = Header { version, flags: extras.flags(), stream, opcode };
        self.envelope(header, |to| {
            extras.write(to)?;
            to.int(ROWS);
            let mut rows = RowsWriter::begin(to, version, metadata)?;
            fill(&mut rows)?;
            rows.finish()
        })
    }

    /// All bytes that are ready for the socket, and those that waited for a segment to fill.
    pub fn take(&mut self) -> BytesMut {
        if let Some(format) = self.segments {
            format.encode(&self.pending, &mut self.out);
            self.pending.clear();
        }
        self.out.split()
    }

    /// Bytes that wait for [`take`](Outbound::take).
    pub fn len(&self) -> usize {
        self.out.len() + self.pending.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn envelope(
        &mut self,
        header: Header,
        body: impl FnOnce(&mut Writer<'_>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let Some(format) = self.segments else {
            return write_envelope(&mut self.out, header, self.compression, body);
        };
        let before = self.pending.len();
        write_envelope(&mut self.pending, header, None, body)?;
        if self.pending.len() > PAYLOAD_BYTES_MAX {
            // What waited goes first, and a long one travels alone, over as many segments as it needs.
            let waited = self.pending.split_to(before);
            format.encode(&waited, &mut self.out);
            if self.pending.len() > PAYLOAD_BYTES_MAX {
                format.encode(&self.pending, &mut self.out);
                self.pending.advance(self.pending.len());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
