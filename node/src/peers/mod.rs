//! Links to peers: batched streams, calls with deadlines, the message filter.
