//! The versions of the protocol that are spoken here, and how a connection that speaks one may compress.

use std::fmt;

/// A version of the native protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Version {
    /// Cassandra 2.2 and later. Envelopes follow each other bare, and each body may be compressed.
    V4 = 4,
    /// Cassandra 4.0 and later. Envelopes travel in segments with checksums, and whole segments may be compressed.
    V5 = 5,
}

impl Version {
    /// All of them, oldest first.
    pub const EVERY: [Version; 2] = [Version::V4, Version::V5];

    /// The newest; what a client is answered in whose own version is not spoken here.
    pub const HIGHEST: Version = Version::V5;

    /// The number in an envelope's first byte, without the direction's bit.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The version with this number, if it is spoken here.
    pub fn from_code(code: u8) -> Option<Version> {
        Version::EVERY.into_iter().find(|version| version.code() == code)
    }

    /// As SUPPORTED's `PROTOCOL_VERSIONS` lists it: `4/v4`.
    pub const fn name(self) -> &'static str {
        match self {
            Version::V4 => "4/v4",
            Version::V5 => "5/v5",
        }
    }

    /// Whether envelopes travel in segments once the handshake is done.
    pub const fn has_segments(self) -> bool {
        matches!(self, Version::V5)
    }

    /// All names in one line, as in the answer to a version that is not spoken.
    pub(crate) fn names() -> String {
        Version::EVERY.map(Version::name).join(", ")
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.code())
    }
}

/// An algorithm that STARTUP may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compression {
    /// LZ4's block format.
    Lz4,
    /// Snappy's raw format; of bodies only, so not in v5.
    Snappy,
}

/// STARTUP asks for a compression that this connection cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompressionRefused {
    /// No algorithm has this name.
    #[error("Unknown compression algorithm: `{given}`; use one of {}", Compression::names().join(", "))]
    Unknown {
        /// The name.
        given: String,
    },
    /// v5 compresses segments, and snappy is not defined for them.
    #[error("Snappy compression is not supported in protocol {version}; use lz4, or protocol v4")]
    SnappyInSegments {
        /// The connection's version.
        version: Version,
    },
}

impl Compression {
    /// All of them, the preferred first.
    pub const EVERY: [Compression; 2] = [Compression::Lz4, Compression::Snappy];

    /// The name in STARTUP and SUPPORTED.
    pub const fn name(self) -> &'static str {
        match self {
            Compression::Lz4 => "lz4",
            Compression::Snappy => "snappy",
        }
    }

    /// The names, as SUPPORTED's `COMPRESSION` lists them.
    pub fn names() -> [&'static str; 2] {
        Compression::EVERY.map(Compression::name)
    }

    /// What STARTUP's `COMPRESSION` asks for, in upper or lower case.
    pub fn from_startup(version: Version, given: &str) -> Result<Compression, CompressionRefused> {
        let found =
            Compression::EVERY.into_iter().find(|known| known.name().eq_ignore_ascii_case(given));
        match found {
            None => Err(CompressionRefused::Unknown { given: given.to_owned() }),
            Some(Compression::Snappy) if version.has_segments() => {
                Err(CompressionRefused::SnappyInSegments { version })
            }
            Some(compression) => Ok(compression),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
