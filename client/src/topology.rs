//! What the client knows of the cluster: its nodes, and which of them hold a key. And, from that, whom to ask.
//!
//! The ring and the placement are the server's own code (`helenus_core`), so both sides agree on replicas by
//! construction. Everything here is a pure function of what a node said; [`crate::client`] asks it.

use crate::link::Readiness;
use crate::options::Routing;
use helenus_core::placement::Placement;
use helenus_core::ring::Ring;
use helenus_core::{Dc, Endpoint, NodeId, Rack, Replication, Token, token};
use helenus_proto::{WireError, ids, v1};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;

/// A node that clients can talk to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its host id.
    pub node: NodeId,
    /// Where clients reach it.
    pub addr: SocketAddr,
    /// Its data centre.
    pub dc: Dc,
    /// Its rack.
    pub rack: Rack,
    /// Whether the node that was asked believes it to be up. The client itself trusts its own connections instead.
    pub up: bool,
}

/// A snapshot of the cluster.
#[derive(Debug, Default)]
pub struct Topology {
    cluster_name: String,
    schema_version: String,
    /// In order of address, so that every client walks them alike.
    hosts: BTreeMap<SocketAddr, Host>,
    by_node: BTreeMap<NodeId, SocketAddr>,
    placements: BTreeMap<String, Placement>,
    /// Members that were left out, each with the reason.
    skipped: Vec<String>,
}

impl Topology {
    /// What two answers of one node amount to. Members that make no sense (no address, a bad id) are left out and
    /// named in [`Topology::skipped`]; the others still serve.
    pub(crate) fn from_wire(
        topology: v1::TopologyResponse,
        schema: v1::DescribeResponse,
    ) -> Topology {
        let mut out = Topology {
            cluster_name: topology.cluster_name,
            // The version that the keyspaces below have, not the one the members gossip about.
            schema_version: schema.schema_version,
            ..Topology::default()
        };
        let mut claims = Vec::new();
        for member in topology.members {
            // Who left the ring holds nothing and answers nobody.
            if member.status == "LEFT" {
                continue;
            }
            let joining = member.status == "JOINING";
            let name = member.client_addr.clone();
            match host(member) {
                Ok((host, endpoint, mut tokens)) => {
                    // It serves clients already, and its ranges are not its own yet.
                    if joining {
                        tokens.clear();
                    }
                    out.by_node.insert(host.node, host.addr);
                    out.hosts.insert(host.addr, host);
                    claims.push((endpoint, tokens));
                }
                Err(problem) => out.skipped.push(format!("`{name}`: {problem}")),
            }
        }
        let ring = Ring::new(claims);
        for keyspace in schema.keyspaces {
            if let Some(replication) = replication(keyspace.rf, &keyspace.per_dc) {
                let placement = Placement::new(&ring, &replication);
                out.placements.insert(keyspace.name, placement);
            }
        }
        out
    }

    /// Before anything is known: the contact points, as bare addresses.
    pub(crate) fn of_contacts(contacts: &[SocketAddr]) -> Topology {
        let host = |addr: &SocketAddr| Host {
            node: NodeId(0),
            addr: *addr,
            dc: Dc::from(""),
            rack: Rack::from(""),
            up: true,
        };
        let hosts = contacts.iter().map(|addr| (*addr, host(addr))).collect();
        Topology { hosts, ..Topology::default() }
    }

    /// The cluster's name.
    pub fn cluster_name(&self) -> &str {
        &self.cluster_name
    }

    /// The version of the schema that the replicas are computed from.
    pub fn schema_version(&self) -> &str {
        &self.schema_version
    }

    /// All nodes, in order of their address.
    pub fn hosts(&self) -> impl ExactSizeIterator<Item = &Host> {
        self.hosts.values()
    }

    /// The node at an address.
    pub fn host(&self, addr: SocketAddr) -> Option<&Host> {
        self.hosts.get(&addr)
    }

    /// Where clients reach a node.
    pub fn addr_of(&self, node: NodeId) -> Option<SocketAddr> {
        self.by_node.get(&node).copied()
    }

    /// Members that were left out because what the node said about them made no sense, each with the reason.
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// Whether the keyspace was known when this snapshot was taken.
    pub fn knows_keyspace(&self, keyspace: &str) -> bool {
        self.placements.contains_key(keyspace)
    }

    /// The replicas of a key, in placement's order; none when the keyspace is unknown.
    pub fn replicas(&self, keyspace: &str, key: &[u8]) -> Vec<&Host> {
        self.replicas_of(keyspace, token::of(key)).collect()
    }

    fn replicas_of(&self, keyspace: &str, token: Token) -> impl Iterator<Item = &Host> {
        let replicas = self.placements.get(keyspace).map_or(&[][..], |p| p.replicas(token));
        replicas
            .iter()
            .filter_map(|replica| self.by_node.get(&replica.node))
            .filter_map(|addr| self.hosts.get(addr))
    }
}

fn host(member: v1::Member) -> Result<(Host, Endpoint, Vec<Token>), WireError> {
    let addr = |field: &'static str, text: &str| {
        text.parse::<SocketAddr>().map_err(|_| {
            WireError::new(field, format!("is `{text}`, which is no address and port"))
        })
    };
    let node = ids::node_from_wire("members.node", &member.node)?;
    let (dc, rack) = (Dc::from(member.dc), Rack::from(member.rack));
    let host = Host {
        node,
        addr: addr("members.client_addr", &member.client_addr)?,
        dc: dc.clone(),
        rack: rack.clone(),
        up: member.up,
    };
    let internode = addr("members.internode_addr", &member.internode_addr)?;
    let tokens = member.tokens.into_iter().map(Token).collect();
    Ok((host, Endpoint { node, internode, dc, rack }, tokens))
}

fn replication(rf: u32, per_dc: &BTreeMap<String, u32>) -> Option<Replication> {
    if let Some(rf) = NonZeroU32::new(rf) {
        return Some(Replication::Simple { rf });
    }
    let per_dc: BTreeMap<Dc, NonZeroU32> = per_dc
        .iter()
        .filter_map(|(dc, rf)| Some((Dc::from(dc.as_str()), NonZeroU32::new(*rf)?)))
        .collect();
    if per_dc.is_empty() { None } else { Some(Replication::NetworkTopology { per_dc }) }
}

/// Whose key, and who takes their turn: what routing depends on beside the topology.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) routing: Routing,
    pub(crate) local_dc: Option<&'a Dc>,
    pub(crate) keyspace: &'a str,
    /// Absent: a scan.
    pub(crate) key: Option<&'a [u8]>,
    /// Grows by one with each operation; rotates among equals.
    pub(crate) turn: u64,
}

/// The next node to ask, `tried` left out. Among what is left the order is: a connection that is up before one that is
/// not, then the local data centre before others, then replicas before other nodes, then whose turn it is.
///
/// A pinned operation has one candidate: asking another node instead would answer another question.
pub(crate) fn next_host(
    topology: &Topology,
    ask: Ask<'_>,
    tried: &[SocketAddr],
    readiness: impl Fn(SocketAddr) -> Readiness,
) -> Option<SocketAddr> {
    if let Routing::Pinned(addr) = ask.routing {
        return (!tried.contains(&addr)).then_some(addr);
    }
    let is_local = |host: &Host| ask.local_dc.is_none_or(|dc| host.dc == *dc);
    let rank = |host: &Host, replica: bool, place: usize, count: usize| -> Rank {
        (readiness(host.addr), !is_local(host), !replica, rotated(place, count, ask.turn))
    };
    let token = match (ask.routing, ask.key) {
        (Routing::TokenAware, Some(key)) => Some(token::of(key)),
        _ => None,
    };
    let replica = token.and_then(|token| {
        let count = topology.replicas_of(ask.keyspace, token).count();
        topology
            .replicas_of(ask.keyspace, token)
            .enumerate()
            .filter(|(_, host)| !tried.contains(&host.addr))
            .map(|(place, host)| (rank(host, true, place, count), host.addr))
            .min()
    });
    // Nothing beats a replica that is near and connected, so the others need no look.
    if let Some(((Readiness::Up, false, ..), addr)) = replica {
        return Some(addr);
    }
    let count = topology.hosts.len();
    let other = topology
        .hosts
        .values()
        .enumerate()
        .filter(|(_, host)| !tried.contains(&host.addr))
        .map(|(place, host)| (rank(host, false, place, count), host.addr))
        .min();
    replica.into_iter().chain(other).min().map(|(_, addr)| addr)
}

/// Readiness, not local, not a replica, place in the rotation: smaller is better.
type Rank = (Readiness, bool, bool, usize);

/// Where `place` of `count` comes when the turn is `turn`.
fn rotated(place: usize, count: usize, turn: u64) -> usize {
    let count = count.max(1);
    let start = usize::try_from(turn % u64::try_from(count).unwrap_or(1)).unwrap_or(0);
    (place + count - start) % count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(n: usize) -> SocketAddr {
        format!("127.0.0.{n}:9160").parse().unwrap()
    }

    fn member(n: usize, dc: &str) -> v1::Member {
        // Equal slices of the ring, so that the owner of a token is easy to name.
        let token = i64::MIN / 6 * (7 - 2 * i64::try_from(n).unwrap());
        v1::Member {
            node: ids::node_to_wire(NodeId(n as u128)),
            client_addr: addr(n).to_string(),
            internode_addr: format!("127.0.0.{n}:7000"),
            dc: dc.into(),
            rack: format!("r{n}"),
            tokens: vec![token],
            up: true,
            status: "NORMAL".into(),
            ..Default::default()
        }
    }

    fn schema(rf: u32) -> v1::DescribeResponse {
        let keyspace = v1::Keyspace { name: "shop".into(), rf, ..Default::default() };
        v1::DescribeResponse { schema_version: "v1".into(), keyspaces: vec![keyspace] }
    }

    fn topology(members: Vec<v1::Member>, rf: u32) -> Topology {
        Topology::from_wire(v1::TopologyResponse { members, ..Default::default() }, schema(rf))
    }

    fn six() -> Topology {
        topology((1..=6).map(|n| member(n, if n % 2 == 1 { "a" } else { "b" })).collect(), 3)
    }

    fn ask<'a>(key: &'a [u8], turn: u64) -> Ask<'a> {
        let routing = Routing::TokenAware;
        Ask { routing, local_dc: None, keyspace: "shop", key: Some(key), turn }
    }

    fn order(
        topology: &Topology,
        ask: Ask<'_>,
        readiness: impl Fn(SocketAddr) -> Readiness,
    ) -> Vec<SocketAddr> {
        let mut tried = Vec::new();
        while let Some(addr) = next_host(topology, ask, &tried, &readiness) {
            tried.push(addr);
        }
        tried
    }

    #[test]
    fn replicas_come_first_and_take_turns() {
        let topology = six();
        let replicas: Vec<_> = topology.replicas("shop", b"k").iter().map(|h| h.addr).collect();
        assert_eq!(replicas.len(), 3);
        for turn in 0..6 {
            let order = order(&topology, ask(b"k", turn), |_| Readiness::Up);
            assert_eq!(order.len(), 6, "every node is a candidate once");
            assert_eq!(order[0], replicas[usize::try_from(turn).unwrap() % 3]);
            assert!(order[..3].iter().all(|addr| replicas.contains(addr)), "{order:?}");
        }
    }

    #[test]
    fn a_connected_node_comes_before_a_replica_that_is_down() {
        let topology = six();
        let replicas: Vec<_> = topology.replicas("shop", b"k").iter().map(|h| h.addr).collect();
        let order = order(&topology, ask(b"k", 0), |addr| {
            if replicas.contains(&addr) { Readiness::Down } else { Readiness::Up }
        });
        assert!(order[..3].iter().all(|addr| !replicas.contains(addr)), "{order:?}");
        assert!(order[3..].iter().all(|addr| replicas.contains(addr)), "{order:?}");
    }

    #[test]
    fn the_local_data_centre_comes_first() {
        let topology = six();
        let local = Dc::from("b");
        for key in [&b"k"[..], b"l", b"m", b"n"] {
            let ask = Ask { local_dc: Some(&local), ..ask(key, 1) };
            let order = order(&topology, ask, |_| Readiness::Up);
            let dcs: Vec<_> =
                order.iter().map(|addr| topology.host(*addr).unwrap().dc.as_str()).collect();
            assert_eq!(dcs, ["b", "b", "b", "a", "a", "a"]);
        }
    }

    #[test]
    fn round_robin_ignores_the_key() {
        let topology = six();
        for turn in 0..12 {
            let ask = Ask { routing: Routing::RoundRobin, ..ask(b"k", turn) };
            let first = next_host(&topology, ask, &[], |_| Readiness::Up).unwrap();
            assert_eq!(first, addr(usize::try_from(turn).unwrap() % 6 + 1));
        }
    }

    #[test]
    fn pinned_is_pinned() {
        let topology = six();
        let ask = Ask { routing: Routing::Pinned(addr(9)), ..ask(b"k", 0) };
        assert_eq!(next_host(&topology, ask, &[], |_| Readiness::Down), Some(addr(9)));
        assert_eq!(next_host(&topology, ask, &[addr(9)], |_| Readiness::Up), None);
    }

    #[test]
    fn an_unknown_keyspace_still_finds_a_node() {
        let topology = six();
        let ask = Ask { keyspace: "nope", ..ask(b"k", 4) };
        assert_eq!(next_host(&topology, ask, &[], |_| Readiness::Up), Some(addr(5)));
        assert!(!topology.knows_keyspace("nope"));
        assert!(topology.replicas("nope", b"k").is_empty());
    }

    #[test]
    fn members_that_make_no_sense_are_left_out_and_named() {
        let mut bad_id = member(2, "a");
        bad_id.node = bytes::Bytes::from_static(b"xx");
        let mut no_addr = member(3, "a");
        no_addr.client_addr = "nowhere".into();
        let mut left = member(4, "a");
        left.status = "LEFT".into();
        let topology = topology(vec![member(1, "a"), bad_id, no_addr, left], 3);
        assert_eq!(topology.hosts().map(|h| h.addr).collect::<Vec<_>>(), [addr(1)]);
        assert_eq!(topology.skipped().len(), 2, "who left is no mistake");
        assert!(topology.skipped()[0].contains("members.node"), "{:?}", topology.skipped());
        assert!(topology.skipped()[1].contains("nowhere"), "{:?}", topology.skipped());
    }

    #[test]
    fn a_joining_node_is_no_replica_yet() {
        let mut joining = member(2, "a");
        joining.status = "JOINING".into();
        let topology = topology(vec![member(1, "a"), joining], 2);
        assert_eq!(topology.hosts().len(), 2);
        assert_eq!(topology.replicas("shop", b"k").len(), 1);
    }

    #[test]
    fn nothing_known_means_nobody_to_ask() {
        let topology = Topology::default();
        assert_eq!(next_host(&topology, ask(b"k", 3), &[], |_| Readiness::Up), None);
    }
}
