//! The scenarios that come with the lab.

/// A scenario's text and the name it goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Embedded {
    /// Its name on the command line.
    pub id: &'static str,
    /// Its file, as problems are reported under.
    pub file: &'static str,
    /// Its text.
    pub text: &'static str,
}

/// All of them; the first is what runs when none is named.
pub const LIBRARY: [Embedded; 3] = [
    Embedded {
        id: "az-partition",
        file: "sim/scenarios/az-partition.toml",
        text: include_str!("../../scenarios/az-partition.toml"),
    },
    Embedded {
        id: "hot-partition",
        file: "sim/scenarios/hot-partition.toml",
        text: include_str!("../../scenarios/hot-partition.toml"),
    },
    Embedded {
        id: "power-loss",
        file: "sim/scenarios/power-loss.toml",
        text: include_str!("../../scenarios/power-loss.toml"),
    },
];
