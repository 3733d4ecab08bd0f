//! What flags, environment and the configuration file say, as one value.

/// What the operator is told. Read once at the start, by the binary.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {}
