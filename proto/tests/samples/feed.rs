//! Bytes of a stranger through all layers of the codec, and what must hold of whatever comes out.

use bytes::BytesMut;
use helenus_proto::cql::*;

/// What came of some bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Messages that were read.
    pub(crate) messages: usize,
    /// Bodies that were refused.
    pub(crate) malformed: usize,
    /// Envelopes and segments that were refused.
    pub(crate) faults: usize,
}

/// Of a body: small enough that some claims are above it.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Feeds `bytes` to the `receiver` in pieces of `piece` bytes. Panics if the codec does, if it does not come to an end,
/// or if a message that it reads is not the same when written and read again.
pub(crate) fn feed(
    receiver: Side,
    (version, compression): (Version, Option<Compression>),
    piece: usize,
    bytes: &[u8],
) -> Outcome {
    let mut inbound = Inbound::new(receiver, BODY_BYTES_MAX);
    inbound.agree(version, compression);
    feed_to(inbound, receiver, piece, bytes)
}

/// As [`feed`], before anything is agreed: what anybody can send who reaches the port.
pub(crate) fn feed_handshake(receiver: Side, piece: usize, bytes: &[u8]) -> Outcome {
    feed_to(Inbound::new(receiver, BODY_BYTES_MAX), receiver, piece, bytes)
}

fn feed_to(mut inbound: Inbound, receiver: Side, piece: usize, bytes: &[u8]) -> Outcome {
    let (mut outcome, mut socket) = (Outcome::default(), BytesMut::new());
    for part in bytes.chunks(piece.max(1)) {
        socket.extend_from_slice(part);
        loop {
            let before = outcome.messages + outcome.malformed + outcome.faults;
            assert!(before <= bytes.len(), "more messages than bytes");
            match inbound.decode(&mut socket) {
                Ok(None) => break,
                Ok(Some(envelope)) => match check(receiver, &envelope) {
                    true => outcome.messages += 1,
                    false => outcome.malformed += 1,
                },
                Err(fault) => {
                    outcome.faults += 1;
                    assert!(!fault.to_string().is_empty());
                    if let Some(Owed { version, stream, error }) = fault.owed() {
                        let answered = Outbound::new().error(version, stream, &error);
                        assert_eq!(answered, Ok(()), "what is owed can be said");
                    }
                    if !fault.connection_survives() {
                        return outcome;
                    }
                }
            }
        }
    }
    outcome
}

/// Whether the message can be read; then what is read is also what is read of it when it is written.
fn check(receiver: Side, envelope: &Envelope) -> bool {
    let Header { version, stream, .. } = envelope.header;
    match receiver {
        Side::Server => {
            let Ok(call) = Call::decode(envelope) else { return false };
            let mut out = Outbound::new();
            out.call(version, stream, &call).expect("what was read can be written");
            let again = read_back(Side::Server, out);
            assert_eq!(Call::decode(&again), Ok(call));
        }
        Side::Client => {
            let Ok(reply) = Reply::decode(envelope) else { return false };
            // v4 has no such error, and gets another one for it.
            if matches!(
                &reply.response,
                Response::Error(ErrorResponse { kind: ErrorKind::CasWriteUnknown { .. }, .. })
            ) {
                return true;
            }
            let mut out = Outbound::new();
            let written = out.reply(version, stream, &reply.extras, &reply.response);
            written.expect("what was read can be written");
            let again = read_back(Side::Client, out);
            assert_eq!(Reply::decode(&again), Ok(reply));
        }
    }
    true
}

fn read_back(receiver: Side, mut out: Outbound) -> Envelope {
    let mut inbound = Inbound::new(receiver, usize::MAX);
    inbound.decode(&mut out.take()).expect("what was written can be read").expect("and is whole")
}
