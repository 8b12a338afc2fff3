//! Which node is where, and the link to it: made when it is first asked for, gone when nobody is there any more.
//!
//! Bounds: `PEERS_MAX` nodes and as many addresses. What is learnt past it is not remembered; what is asked for past it
//! has no link.

use super::link::{self, Link};
use super::pending::LinkId;
use super::{Lane, PEERS_MAX, Peers};
use helenus_core::NodeId;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, MutexGuard};

pub(super) type LaneLinks = [Option<Arc<Link>>; Lane::ALL.len()];

/// Who is where. Links belong to addresses, because a seed is dialled before anyone knows which node it is.
#[derive(Default)]
pub(super) struct Directory {
    pub(super) addresses: BTreeMap<NodeId, SocketAddr>,
    pub(super) links: BTreeMap<SocketAddr, LaneLinks>,
    links_made: u64,
    pub(super) closed: bool,
}

impl Directory {
    /// Takes out the links to an address that no node has any more.
    pub(super) fn unused_links(&mut self, addr: SocketAddr) -> Vec<Arc<Link>> {
        if self.addresses.values().any(|used| *used == addr) {
            return Vec::new();
        }
        self.links.remove(&addr).into_iter().flatten().flatten().collect()
    }
}

impl Peers {
    pub(super) fn directory(&self) -> MutexGuard<'_, Directory> {
        self.directory.lock().expect("nothing panics while it holds this lock")
    }

    pub(super) fn is_closed(&self) -> bool {
        self.directory().closed
    }

    pub(super) fn link_to(self: &Arc<Self>, node: NodeId, lane: Lane) -> Option<Arc<Link>> {
        let addr = {
            let directory = self.directory();
            let addr = *directory.addresses.get(&node)?;
            let links = directory.links.get(&addr);
            if let Some(Some(link)) = links.and_then(|links| links.get(lane as usize)) {
                return Some(link.clone());
            }
            addr
        };
        self.link_at(addr, lane)
    }

    /// The link to an address; the first who asks has it dialled. `None`: closed, or too many.
    pub(super) fn link_at(self: &Arc<Self>, addr: SocketAddr, lane: Lane) -> Option<Arc<Link>> {
        let link = {
            let mut directory = self.directory();
            if directory.closed
                || (directory.links.len() >= PEERS_MAX && !directory.links.contains_key(&addr))
            {
                return None;
            }
            let id = LinkId(directory.links_made);
            let slot = directory.links.entry(addr).or_default().get_mut(lane as usize)?;
            if let Some(link) = slot {
                return Some(link.clone());
            }
            let (clock, drops) = (self.clock.clone(), self.drops.clone());
            let link = Arc::new(Link::new(id, addr, lane, self.new_outbox(), clock, drops));
            *slot = Some(link.clone());
            directory.links_made += 1;
            link
        };
        self.tasks.spawn(link::run(self.clone(), link.clone()));
        Some(link)
    }

    pub(super) fn links_of(&self, node: NodeId) -> Vec<Arc<Link>> {
        let directory = self.directory();
        let links = directory.addresses.get(&node).and_then(|addr| directory.links.get(addr));
        links.into_iter().flatten().flatten().cloned().collect()
    }

    pub(super) fn close_links(&self, links: Vec<Arc<Link>>) {
        for link in links {
            link::drop_queued(self, &link, link.close());
        }
    }

    /// Remembers where a node that nobody has registered was found.
    pub(super) fn learn(&self, node: NodeId, addr: SocketAddr) {
        let mut directory = self.directory();
        if directory.addresses.len() < PEERS_MAX {
            directory.addresses.entry(node).or_insert(addr);
        }
    }
}
