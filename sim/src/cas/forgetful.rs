//! A store that is broken on purpose, so that the judge has something to find: nodes that come back without what they
//! logged last.
//!
//! Before a node starts, its commit log is cut behind a whole record, as if what followed had never reached the disk: promises,
//! acceptances and commits that it has answered. That is a node which answers before it syncs, the one thing that an acceptor
//! must not do ([`helenus_core::paxos`], ADR 16). The cut is clean, and the marks that say what had been synced go with the
//! rest, or the node would know and refuse to start: a disk that merely lies about its syncs is found out by the store itself.
//!
//! Bound: at most what the newest segment of the log holds is forgotten.
//!
//! The nodes are production's all the same. What is tampered with is their disk, while they are off.

use crate::world::Software;
use helenus_node::seams::disk::{Disk, File};
use helenus_node::{Parts, StartError};
use std::io;
use std::path::Path;
use std::rc::Rc;

/// Where a node's commit log is on its disk.
const LOG: &str = "data/commitlog";
/// A segment begins with so many bytes of its own.
const SEGMENT_HEADER_BYTES: u64 = 48;
/// And a record with so many, of which the first four are the length of the rest, little-endian.
const RECORD_HEADER_BYTES: u64 = 12;

/// The same software, on nodes that have forgotten the last `records` records of their logs whenever they start.
pub fn forgetful(software: Software, records: usize) -> Software {
    Rc::new(move |parts: Parts| match forget(&*parts.disk, Path::new(LOG), records) {
        Ok(()) => software(parts),
        Err(error) => {
            let message = format!("{LOG} cannot be tampered with: {error}");
            Box::pin(std::future::ready(Err(StartError::DataDirectory { message })))
        }
    })
}

fn forget(disk: &dyn Disk, log: &Path, records: usize) -> io::Result<()> {
    let names = match disk.list(log) {
        // It starts for the first time.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        names => names?,
    };
    // Names sort as the segments do.
    let Some(newest) = names.iter().rfind(|name| name.starts_with("commitlog-")) else {
        return Ok(());
    };
    let file = disk.open(&log.join(newest), false)?;
    let begins = beginnings(&*file)?;
    let Some(cut) = begins.get(begins.len().saturating_sub(records)) else { return Ok(()) };
    file.set_len(*cut)?;
    file.sync()
}

/// Where each record begins, up to where there is no whole one.
fn beginnings(file: &dyn File) -> io::Result<Vec<u64>> {
    let (mut at, end) = (SEGMENT_HEADER_BYTES, file.len()?);
    let mut begins = Vec::new();
    loop {
        let mut length = [0; 4];
        if file.read_at(at, &mut length)? < length.len() {
            return Ok(begins);
        }
        let length = u64::from(u32::from_le_bytes(length));
        let next = at.saturating_add(RECORD_HEADER_BYTES).saturating_add(length);
        if length == 0 || next > end {
            return Ok(begins);
        }
        begins.push(at);
        at = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use helenus_node::seams::disk::{Faults, SimDisk};

    #[test]
    fn the_log_ends_behind_a_whole_record() {
        let disk = SimDisk::new(1, Faults::default());
        let log = Path::new(LOG);
        forget(&disk, log, 3).expect("there is no log yet");
        disk.create_dir(log).expect("a directory");
        let segment = log.join("commitlog-0000000000000002.log");
        let file = disk.open(&segment, true).expect("a segment");
        let mut bytes = vec![7; 48];
        let mut ends = vec![bytes.len() as u64];
        for length in [5_u32, 1, 300, 2] {
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.resize(bytes.len() + 8 + length as usize, 9);
            ends.push(bytes.len() as u64);
        }
        // A torn one is no whole one.
        bytes.extend_from_slice(&[200, 0, 0, 0, 1]);
        file.write_at(0, &bytes).expect("room");
        let older =
            disk.open(&log.join("commitlog-0000000000000001.log"), true).expect("a segment");
        older.write_at(0, &bytes).expect("room");
        forget(&disk, log, 1).expect("a log");
        assert_eq!(file.len().expect("a length"), ends[3]);
        forget(&disk, log, 2).expect("a log");
        assert_eq!(file.len().expect("a length"), ends[1]);
        forget(&disk, log, 99).expect("a log");
        assert_eq!(file.len().expect("a length"), ends[0]);
        assert_eq!(older.len().expect("a length"), bytes.len() as u64);
    }
}
