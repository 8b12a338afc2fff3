//! Words of the command line become values here.

use crate::context::Failure;
use bytes::Bytes;
use helenus_client::Level;
use std::io::Read;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

/// Where nodes listen for clients.
const PORT: u16 = 9160;
/// More than any node takes by default, and a bound on what is read into memory.
const VALUE_BYTES_MAX: u64 = 256 << 20;

/// `500ms`, `2s`, `1h 30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; say e.g. 500ms, 10s or 3h"))
}

/// A moment, in microseconds since 1970 and never 0: `2026-01-02T03:04:05Z`.
pub(crate) fn time(text: &str) -> Result<i64, String> {
    let bad = || format!("`{text}` is not a time since 1970; say e.g. 2026-01-02T03:04:05Z");
    let time = humantime::parse_rfc3339_weak(text).map_err(|_| bad())?;
    let since = time.duration_since(std::time::UNIX_EPOCH).map_err(|_| bad())?;
    i64::try_from(since.as_micros()).ok().filter(|us| *us > 0).ok_or_else(bad)
}

/// `100`, `64KiB`, `1MB`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    text.parse::<bytesize::ByteSize>()
        .map(|size| size.as_u64())
        .map_err(|_| format!("`{text}` is not a size; say e.g. 100B, 64KiB or 1MiB"))
}

/// As [`size`], per second: `64MiB/s`, or `0` for no limit.
pub(crate) fn throughput(text: &str) -> Result<u64, String> {
    size(text.strip_suffix("/s").unwrap_or(text))
}

/// A level by Cassandra's name, in any case.
pub(crate) fn level(text: &str) -> Result<Level, String> {
    text.parse::<Level>().map_err(|error| error.to_string())
}

/// A table as `KEYSPACE.TABLE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableName {
    pub(crate) keyspace: String,
    pub(crate) table: String,
}

impl std::str::FromStr for TableName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('.') {
            Some((keyspace, table)) if !keyspace.is_empty() && !table.is_empty() => {
                Ok(TableName { keyspace: keyspace.to_owned(), table: table.to_owned() })
            }
            _ => Err(format!("`{text}` is not a table; say KEYSPACE.TABLE, e.g. demo.kv")),
        }
    }
}

/// `NAME=VALUE`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not of the form NAME=VALUE")),
    }
}

/// `NAME=COPIES`.
pub(crate) fn copies(text: &str) -> Result<(String, u32), String> {
    let (dc, copies) = pair(text)?;
    match copies.parse() {
        Ok(0) => Err(format!("`{text}`: 0 copies would store nothing; leave {dc} out")),
        Ok(copies) => Ok((dc, copies)),
        Err(_) => Err(format!("`{text}` is not of the form DC=COPIES, e.g. dc1=3")),
    }
}

/// `HOST`, `HOST:PORT`, or an IPv6 address with or without `[...]:PORT`.
pub(crate) fn host(text: &str) -> Result<SocketAddr, Failure> {
    if let Ok(addr) = text.parse::<SocketAddr>() {
        return Ok(addr);
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, PORT));
    }
    let found = match text.contains(':') {
        true => text.to_socket_addrs(),
        false => (text, PORT).to_socket_addrs(),
    };
    let bad = |why: String| {
        Failure::Usage(format!("--host {text}: {why}; say HOST or HOST:PORT, e.g. 127.0.0.1:9160"))
    };
    let mut found = found.map_err(|error| bad(error.to_string()))?;
    found.next().ok_or_else(|| bad("the name has no address".to_owned()))
}

/// Text as it is, or bytes as hexadecimal digits.
pub(crate) fn bytes(text: &str, hex: bool) -> Result<Bytes, Failure> {
    if !hex {
        return Ok(Bytes::copy_from_slice(text.as_bytes()));
    }
    let bad = || {
        Failure::Usage(format!("`{text}` is not hexadecimal: pairs of 0-9 and a-f, e.g. 00ff7a"))
    };
    let digits = text.strip_prefix("0x").unwrap_or(text).as_bytes();
    let mut out = Vec::with_capacity(digits.len() / 2);
    for pair in digits.chunks(2) {
        let [high, low] = pair else { return Err(bad()) };
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
        match (digit(*high), digit(*low)) {
            (Some(high), Some(low)) => out.push(high << 4 | low),
            _ => return Err(bad()),
        }
    }
    Ok(out.into())
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// A value from a file, or from stdin when there is none.
pub(crate) fn read_value(file: Option<&Path>) -> Result<Bytes, Failure> {
    let mut value = Vec::new();
    let read = match file {
        Some(path) => std::fs::File::open(path)
            .and_then(|file| file.take(VALUE_BYTES_MAX + 1).read_to_end(&mut value))
            .map_err(|error| format!("cannot read {}: {error}", path.display())),
        None => std::io::stdin()
            .lock()
            .take(VALUE_BYTES_MAX + 1)
            .read_to_end(&mut value)
            .map_err(|error| format!("cannot read stdin: {error}")),
    };
    match read {
        Ok(read) if u64::try_from(read).unwrap_or(u64::MAX) <= VALUE_BYTES_MAX => Ok(value.into()),
        Ok(_) => Err(Failure::Usage(format!("the value is longer than {VALUE_BYTES_MAX} bytes"))),
        Err(problem) => Err(Failure::Here(problem)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_come_with_and_without_a_port() {
        let ok = |text: &str| host(text).unwrap().to_string();
        assert_eq!(ok("127.0.0.1"), "127.0.0.1:9160");
        assert_eq!(ok("127.0.0.1:7"), "127.0.0.1:7");
        assert_eq!(ok("::1"), "[::1]:9160");
        assert_eq!(ok("[::1]:7"), "[::1]:7");
        for bad in ["127.0.0.1:x", "127.0.0.1:99999", ""] {
            let failure = host(bad).unwrap_err();
            assert_eq!(failure.exit_code(), 2, "{bad}: {failure}");
        }
    }

    #[test]
    fn hexadecimal_goes_both_ways_and_nonsense_is_refused() {
        assert_eq!(bytes("00fF7a", true).unwrap(), &b"\x00\xff\x7a"[..]);
        assert_eq!(bytes("0x01", true).unwrap(), &b"\x01"[..]);
        assert_eq!(hex(b"\x00\xff\x7a"), "00ff7a");
        assert_eq!(bytes("00ff", false).unwrap(), "00ff");
        for bad in ["0", "0g", "é", "0x1"] {
            assert!(bytes(bad, true).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_sizes_and_levels() {
        assert!("demo.kv".parse::<TableName>().is_ok());
        for bad in ["demo", ".kv", "demo.", ""] {
            assert!(bad.parse::<TableName>().unwrap_err().contains("KEYSPACE.TABLE"));
        }
        assert_eq!(size("64KiB"), Ok(65536));
        assert_eq!(size("100"), Ok(100));
        assert!(size("many").is_err());
        assert_eq!(throughput("64MiB/s"), Ok(64 << 20));
        assert_eq!(throughput("0"), Ok(0));
        assert_eq!(level("quorum"), Ok(Level::Quorum));
        assert!(level("quorun").unwrap_err().contains("QUORUM"));
        assert_eq!(copies("dc1=3"), Ok(("dc1".to_owned(), 3)));
        assert!(copies("dc1=0").is_err() && copies("dc1").is_err() && copies("=3").is_err());
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert!(duration("5").unwrap_err().contains("500ms"));
        assert_eq!(time("2026-01-02T03:04:05Z"), Ok(1_767_323_045_000_000));
        for bad in ["yesterday", "1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z"] {
            assert!(time(bad).unwrap_err().contains("is not a time"), "{bad}");
        }
    }
}
