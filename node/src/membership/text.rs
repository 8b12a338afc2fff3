//! Small text files that are replaced whole and checked when they are read: an operator can look at them, and a bit that
//! rots does not go unnoticed.
//!
//! ```text
//! any text, in lines
//! # crc32 1c291ca3        <- over all bytes before this line
//! ```
//!
//! Invariant: after a crash at any moment the file is the old one or the new one.

use crate::seams::disk::Disk;
use std::io;
use std::path::Path;

/// More than any of these files needs: 4096 nodes with 1500 tokens would.
const BYTES_MAX: u64 = 256 << 20;
const SEAL: &str = "# crc32 ";

/// Why a file could not be read.
#[derive(Debug)]
pub(super) enum ReadError {
    /// It is there, but it is not what was written.
    Damaged(String),
    /// The disk said so.
    Io(io::Error),
}

/// The text in a file, without its seal. `None`: there is no such file.
pub(super) fn read(disk: &dyn Disk, path: &Path) -> Result<Option<String>, ReadError> {
    let file = match disk.open(path, false) {
        Ok(file) => file,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(err) => return Err(ReadError::Io(err)),
    };
    let len = file.len().map_err(ReadError::Io)?;
    let bound = usize::try_from(len).ok().filter(|_| len <= BYTES_MAX);
    let Some(len) = bound else {
        return Err(ReadError::Damaged(format!("it has {len} bytes")));
    };
    let mut bytes = vec![0; len];
    let read = file.read_at(0, &mut bytes).map_err(ReadError::Io)?;
    bytes.truncate(read);
    unseal(bytes).map(Some)
}

fn unseal(bytes: Vec<u8>) -> Result<String, ReadError> {
    let damaged = |what: &str| ReadError::Damaged(what.to_owned());
    let mut text = String::from_utf8(bytes).map_err(|_| damaged("it is not text"))?;
    let body = text.rfind(SEAL).ok_or_else(|| damaged("it ends before its checksum"))?;
    let seal = text.split_off(body);
    let told = seal.strip_prefix(SEAL).map(str::trim_end);
    let told = told.and_then(|hex| u32::from_str_radix(hex, 16).ok());
    if told == Some(crc32fast::hash(text.as_bytes())) {
        Ok(text)
    } else {
        Err(damaged("its checksum does not hold"))
    }
}

/// Replaces a file. It is durable when this returns.
pub(super) fn replace(disk: &dyn Disk, path: &Path, text: &str) -> io::Result<()> {
    let sealed = format!("{text}{SEAL}{:08x}\n", crc32fast::hash(text.as_bytes()));
    let new = path.with_extension("new");
    let file = disk.open(&new, true)?;
    file.set_len(0)?;
    file.write_at(0, sealed.as_bytes())?;
    file.sync()?;
    disk.rename(&new, path)?;
    disk.sync_dir(path.parent().unwrap_or(Path::new("")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seams::disk::{Faults, SimDisk};

    const PATH: &str = "some.toml";

    fn text_of(disk: &dyn Disk) -> Option<String> {
        read(disk, Path::new(PATH)).unwrap()
    }

    #[test]
    fn what_was_replaced_survives_the_power() {
        for seed in 0..50 {
            let disk = SimDisk::new(seed, Faults::default());
            assert_eq!(text_of(&disk), None);
            replace(&disk, Path::new(PATH), "one\n").unwrap();
            disk.crash();
            let disk = disk.reopen();
            assert_eq!(text_of(&disk).as_deref(), Some("one\n"));
            replace(&disk, Path::new(PATH), "two\nlonger\n").unwrap();
            disk.crash();
            assert_eq!(text_of(&disk.reopen()).as_deref(), Some("two\nlonger\n"));
        }
    }

    #[test]
    fn a_replacement_that_the_power_cuts_short_is_the_old_file_or_the_new() {
        for seed in 0..200 {
            let disk = SimDisk::new(seed, Faults::default());
            replace(&disk, Path::new(PATH), "old\n").unwrap();
            // All of it but the last step, which is what makes the new name durable.
            let file = disk.open(Path::new("some.new"), true).unwrap();
            let sealed = format!("new\n{SEAL}{:08x}\n", crc32fast::hash(b"new\n"));
            file.write_at(0, sealed.as_bytes()).unwrap();
            file.sync().unwrap();
            disk.rename(Path::new("some.new"), Path::new(PATH)).unwrap();
            disk.crash();
            let text = text_of(&disk.reopen());
            assert!(matches!(text.as_deref(), Some("old\n" | "new\n")), "{text:?}");
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let disk = SimDisk::new(1, Faults::default());
        replace(&disk, Path::new(PATH), "cluster = 'a'\n").unwrap();
        let file = disk.open(Path::new(PATH), false).unwrap();
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        file.read_at(0, &mut bytes).unwrap();
        // The last byte is the line's end, which says nothing.
        for at in 0..bytes.len() - 1 {
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[at] ^= 1 << bit;
                // A flipped bit may make a lower-case digit of the checksum an upper-case one: the same number.
                if bad.eq_ignore_ascii_case(&bytes) && at > bytes.len() - 10 {
                    continue;
                }
                assert!(unseal(bad).is_err(), "bit {bit} of byte {at}");
            }
            assert!(unseal(bytes[..at].to_vec()).is_err(), "cut at {at}");
        }
    }
}
