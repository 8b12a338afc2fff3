//! Spans, positions and identities of repair's messages.

use helenus_core::ring::Span;
use helenus_core::{Key, NodeId, Token};
use helenus_proto::{ids, v1};

pub(super) use crate::replica::table_of as table;

pub(super) fn node(bytes: &[u8]) -> Result<NodeId, String> {
    ids::node_from_wire("to", bytes).map_err(|e| e.to_string())
}

pub(super) fn span(span: v1::TokenSpan) -> Span {
    Span { after: span.after_token.map(Token), until: Token(span.until_token) }
}

pub(super) fn span_to_wire(span: Span) -> v1::TokenSpan {
    v1::TokenSpan { after_token: span.after.map(|t| t.0), until_token: span.until.0 }
}

pub(super) fn position(position: v1::RepairPosition) -> (Token, Key) {
    (Token(position.token), Key(position.key))
}

pub(super) fn position_to_wire((token, key): (Token, Key)) -> v1::RepairPosition {
    v1::RepairPosition { token: token.0, key: key.0 }
}
