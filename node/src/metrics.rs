//! Prometheus metrics: one registry a node, and the port that shows it.
