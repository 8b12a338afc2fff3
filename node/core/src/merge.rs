//! The one merge function: the join of the lattice of versions.
