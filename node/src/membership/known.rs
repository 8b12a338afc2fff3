//! The members that this node knows of, kept for its next start (Cassandra's `system.peers`).
//!
//! A node that restarts while others are down must not believe that it owns the whole ring: it would serve, and store,
//! what belongs to others. So it begins with the ring as it last knew it, and everyone in it not yet alive.
//!
//! It also names those who have left: what is owed to them is given to the replicas of their data, and that must be known
//! for longer than gossip remembers them.
//!
//! CAVEAT: the file may be a little older than the ring; gossip catches up. If it is damaged the node starts without it and
//! says so, because every other node can tell it the same.

use super::text::{self, ReadError};
use crate::seams::disk::Disk;
use helenus_core::{Dc, Endpoint, NodeId, Rack, Token};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

/// Its name in the data directory.
const FILE: &str = "members.toml";

/// A member as placement sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) endpoint: Endpoint,
    pub(super) tokens: Vec<Token>,
}

/// Members that have left for good, and until when (seconds since the epoch) others are to remember it. The last
/// [`LEFT_MAX`] of them are known.
pub(super) type Left = BTreeMap<NodeId, u64>;

/// Nodes that have left and are remembered here. Who is not would be waited for if something were owed to it still.
pub(super) const LEFT_MAX: usize = 1024;

/// What a node knows when it starts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) members: Vec<Placed>,
    pub(super) left: Left,
}

#[derive(Debug, Serialize, Deserialize)]
struct File {
    #[serde(default)]
    member: Vec<Kept>,
    #[serde(default)]
    left: Vec<Gone>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Gone {
    host_id: String,
    until_s: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    host_id: String,
    internode_address: SocketAddr,
    dc: String,
    rack: String,
    tokens: Vec<i64>,
}

const PREFACE: &str = "# The members that this node last knew of. Written by Helenus.\n";

/// What was kept. The error says why nothing can be told.
pub(super) fn read(disk: &dyn Disk) -> Result<Known, String> {
    let text = text::read(disk, Path::new(FILE)).map_err(|err| match err {
        ReadError::Damaged(problem) => format!("{FILE} is damaged: {problem}"),
        ReadError::Io(err) => format!("{FILE} cannot be read: {err}"),
    })?;
    let Some(text) = text else { return Ok(Known::default()) };
    let damaged = |problem: &dyn std::fmt::Display| format!("{FILE} is damaged: {problem}");
    let file: File = toml::from_str(&text).map_err(|err| damaged(&err))?;
    let placed = file.member.into_iter().map(|kept| {
        let node: NodeId = kept.host_id.parse().map_err(|err| damaged(&err))?;
        let (dc, rack) = (Dc::from(kept.dc), Rack::from(kept.rack));
        let endpoint = Endpoint { node, internode: kept.internode_address, dc, rack };
        Ok(Placed { endpoint, tokens: kept.tokens.into_iter().map(Token).collect() })
    });
    let members = placed.collect::<Result<Vec<_>, String>>()?;
    let left = file.left.into_iter().take(LEFT_MAX).map(|gone| {
        let node: NodeId = gone.host_id.parse().map_err(|err| damaged(&err))?;
        Ok((node, gone.until_s))
    });
    Ok(Known { members, left: left.collect::<Result<Left, String>>()? })
}

/// The file's text.
pub(super) fn to_text(members: &BTreeMap<NodeId, Placed>, left: &Left) -> String {
    let member = members.values().map(|placed| Kept {
        host_id: placed.endpoint.node.to_string(),
        internode_address: placed.endpoint.internode,
        dc: placed.endpoint.dc.as_str().to_owned(),
        rack: placed.endpoint.rack.as_str().to_owned(),
        tokens: placed.tokens.iter().map(|token| token.0).collect(),
    });
    let gone =
        |(node, until_s): (&NodeId, &u64)| Gone { host_id: node.to_string(), until_s: *until_s };
    let left = left.iter().map(gone).collect();
    let body = toml::to_string(&File { member: member.collect(), left });
    format!("{PREFACE}{}", body.expect("plain strings and numbers have a form in TOML"))
}

/// Keeps the file's text.
pub(super) fn write(disk: &dyn Disk, text: &str) -> io::Result<()> {
    text::replace(disk, Path::new(FILE), text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seams::disk::{Faults, SimDisk};

    #[test]
    fn members_come_back_as_they_were_kept() {
        let disk = SimDisk::new(1, Faults::default());
        assert_eq!(read(&disk), Ok(Known::default()));
        let placed = |n: u16| Placed {
            endpoint: Endpoint {
                node: NodeId(u128::from(n)),
                internode: SocketAddr::from(([127, 0, 0, 1], n)),
                dc: Dc::from("dc \"1\"\n# crc32 0"),
                rack: Rack::from("r"),
            },
            tokens: vec![Token(i64::MIN + 1), Token(i64::from(n))],
        };
        let members = [placed(1), placed(2)].map(|p| (p.endpoint.node, p));
        let left = Left::from([(NodeId(9), 1_763_726_400)]);
        write(&disk, &to_text(&BTreeMap::from(members), &left)).unwrap();
        assert_eq!(read(&disk), Ok(Known { members: vec![placed(1), placed(2)], left }));
        write(&disk, &to_text(&BTreeMap::new(), &Left::new())).unwrap();
        assert_eq!(read(&disk), Ok(Known::default()));
    }

    #[test]
    fn a_damaged_file_says_so() {
        let disk = SimDisk::new(1, Faults::default());
        write(&disk, &to_text(&BTreeMap::new(), &Left::new())).unwrap();
        disk.open(Path::new(FILE), false).unwrap().write_at(3, b"x").unwrap();
        assert_eq!(
            read(&disk),
            Err("members.toml is damaged: its checksum does not hold".to_owned())
        );
    }
}
