//! Which protocol version two nodes speak, if any.
