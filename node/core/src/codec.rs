//! The canonical bytes of a partition: what travels, what is logged, what is hinted, what is digested.
