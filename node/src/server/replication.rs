//! How a keyspace is replicated, as a request says it.

use helenus_core::{Dc, Replication};
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use tonic::Status;

/// Copies of each partition.
pub(super) fn copies(replication: &Replication) -> u32 {
    match replication {
        Replication::Simple { rf } => rf.get(),
        Replication::NetworkTopology { per_dc } => per_dc.values().map(|rf| rf.get()).sum(),
    }
}

/// RF 0 cannot exist, and a keyspace has one kind of replication.
pub(super) fn replication(rf: u32, per_dc: BTreeMap<String, u32>) -> Result<Replication, Status> {
    let copies = |rf: u32, place: &str| {
        NonZeroU32::new(rf).ok_or_else(|| {
            Status::invalid_argument(format!(
                "a replication factor of 0{place} would keep no copy of anything: give at least 1"
            ))
        })
    };
    match (rf, per_dc.is_empty()) {
        (rf, true) => Ok(Replication::Simple { rf: copies(rf, "")? }),
        (0, false) => {
            let per_dc = per_dc.into_iter().map(|(dc, rf)| {
                let rf = copies(rf, &format!(" in data centre {dc}"))?;
                Ok((Dc::from(dc), rf))
            });
            Ok(Replication::NetworkTopology { per_dc: per_dc.collect::<Result<_, Status>>()? })
        }
        (_, false) => Err(Status::invalid_argument(
            "give either one replication factor or one per data centre, not both",
        )),
    }
}
