//! `helenus dev`: a local cluster in one process.
