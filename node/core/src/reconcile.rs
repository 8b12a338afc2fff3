//! Answers of several replicas become one answer, and who is behind by what.
