//! Which nodes hold the copies of a token: SimpleStrategy and NetworkTopologyStrategy.
