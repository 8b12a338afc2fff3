//! Who is in the ring and who is alive: gossip and the failure detector, driven.
