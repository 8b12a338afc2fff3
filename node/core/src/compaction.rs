//! Which SSTables to compact next.
