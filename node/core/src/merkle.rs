//! Merkle trees over a part of the ring: where two replicas differ, found by comparing hashes instead of data.
//!
//! A span of tokens is cut into 2^depth leaves of equal width. A leaf's hash is the sum of the hashes of its partitions
//! (token, key and digest of the canonical bytes), an inner node's the hash of its two children, and what is empty has no
//! node. Two trees are walked down from their roots, only where they differ, and the leaves that differ are the token
//! ranges to stream.
//!
//! A sum, because it can be taken in pieces: a replica hashes a bounded step of its partitions ([`Leaves::add`]), answers
//! with the sums ([`Leaves::encode`]) and forgets them; whoever compares adds the steps up ([`Leaves::absorb`]). A replica
//! keeps nothing between two steps, so nothing is left over when one of the two dies.
//!
//! **What is hashed** is what a partition *means* at one moment that all replicas are told ([`comparable`]): expired values
//! are tombstones, tombstones older than `gc_grace` are nothing. So replicas that have compacted at different times hash
//! alike, and repair does not carry a tombstone that one replica may forget back to one that already has.
//!
//! Bounds: as there is no node for what is empty, a tree has at most `depth + 1` nodes a partition, and never more than
//! 2^(depth + 1); [`depth_within`] chooses the depth for a memory bound.
//!
//! CAVEAT: the hashes are xxh3 and the sums are not keyed: they find what differs by accident, not what someone made to
//! collide.
//!
//! Source: Merkle 1987; Dynamo §4.7; Cassandra's `MerkleTree` (a tree a range, hashes of partitions mixed into leaves).

#[cfg(test)]
mod tests;

use crate::codec::{self, CodecError};
use crate::merge;
use crate::ring::Span;
use crate::types::{GcSeconds, NodeId, Token};
use crate::varint;
use bytes::Bytes;
use std::borrow::Cow;
use std::collections::BTreeMap;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// The deepest tree: 262,144 leaves.
pub const DEPTH_MAX: u8 = 18;
/// What a node takes in memory.
const NODE_BYTES: u64 = 32;
/// The only encoding of leaves that there has been.
const VERSION: u8 = 1;
/// The fewest bytes that a leaf takes in an encoding: a gap and a sum.
const LEAF_BYTES: usize = 17;

/// The depth at which `trees` trees, were they full, take at most `bytes` together; 0 if not even that.
pub fn depth_within(bytes: u64, trees: u64) -> u8 {
    let nodes = bytes / NODE_BYTES / trees.max(1);
    // 2^(depth + 1) nodes.
    let depth = nodes.checked_ilog2().unwrap_or(0).saturating_sub(1);
    u8::try_from(depth).unwrap_or(DEPTH_MAX).min(DEPTH_MAX)
}

/// The bytes that a replica's copy of a partition is compared by: its canonical encoding as of `now`, or `None` if by then
/// nothing of it counts. `now` and `gc_grace_seconds` must be the same on all replicas that are compared.
pub fn comparable(
    encoded: &[u8],
    now: GcSeconds,
    gc_grace_seconds: u32,
) -> Result<Option<Cow<'_, [u8]>>, CodecError> {
    // Nearly all there is: a put that has no end, or not yet. It is in this form already.
    let put = codec::peek_put(encoded);
    if put.is_some_and(|put| put.expiry.is_none_or(|expiry| expiry.expires_at > now)) {
        return Ok(Some(Cow::Borrowed(encoded)));
    }
    let partition = codec::decode(Bytes::copy_from_slice(encoded))?;
    Ok(merge::for_read(partition, now, gc_grace_seconds).map(|partition| {
        let mut bytes = Vec::new();
        codec::encode_into(&partition, &mut bytes);
        Cow::Owned(bytes)
    }))
}

/// Which tokens a tree is over, and how finely they are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    span: Span,
    /// Invariant: at most [`DEPTH_MAX`], and no leaf is narrower than one token.
    depth: u8,
}

impl Shape {
    /// `None`: there is no token in the span. A depth that is too large is cut.
    pub fn new(span: Span, depth: u8) -> Option<Shape> {
        let width = Shape { span, depth: 0 }.width()?;
        let finest = u8::try_from(width.ilog2()).unwrap_or(DEPTH_MAX);
        Some(Shape { span, depth: depth.min(finest).min(DEPTH_MAX) })
    }

    /// The tokens.
    pub fn span(self) -> Span {
        self.span
    }

    /// There are 2^depth leaves.
    pub fn depth(self) -> u8 {
        self.depth
    }

    fn first(self) -> i128 {
        self.span.after.map_or(i128::from(i64::MIN), |after| i128::from(after.0) + 1)
    }

    /// Tokens in the span.
    fn width(self) -> Option<u128> {
        u128::try_from(i128::from(self.span.until.0) - self.first() + 1).ok().filter(|w| *w > 0)
    }

    /// The leaf that a token belongs to; `None`: the token is not in the span.
    fn leaf_of(self, token: Token) -> Option<u32> {
        let width = self.width()?;
        let offset = u128::try_from(i128::from(token.0) - self.first()).ok()?;
        // 64 and 18 bits: no overflow.
        (offset < width).then_some(())?;
        u32::try_from((offset << self.depth) / width).ok()
    }

    /// The token before leaf `index`, as a number: it may be below the smallest.
    fn before(self, index: u32) -> i128 {
        let width = self.width().unwrap_or(0);
        let offset = (u128::from(index) * width).div_ceil(1 << self.depth);
        self.first() + i128::try_from(offset).unwrap_or(0) - 1
    }

    /// The tokens of leaves `from` to `until` (exclusive).
    fn leaves(self, from: u32, until: u32) -> Span {
        let token = |number: i128| i64::try_from(number).ok().map(Token);
        Span {
            after: token(self.before(from)),
            until: token(self.before(until)).unwrap_or(self.span.until),
        }
    }

    /// The tokens of some leaves, neighbours as one. `leaves` is sorted and unique.
    fn spans(self, leaves: impl IntoIterator<Item = u32>) -> Vec<Span> {
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for leaf in leaves {
            match runs.last_mut() {
                Some((_, until)) if *until == leaf => *until += 1,
                _ => runs.push((leaf, leaf + 1)),
            }
        }
        runs.into_iter().map(|(from, until)| self.leaves(from, until)).collect()
    }
}

/// A partition that is not in the span of the tree it was added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("token {token} is outside the tree's range")]
pub struct Outside {
    /// Its token.
    pub token: Token,
}

/// Bytes that are no leaves of this tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("hashes of a token range cannot be read: {what}")]
pub struct BadLeaves {
    /// What does not hold.
    pub what: &'static str,
}

/// The hashes of some partitions by leaf: a tree in the making, or a step of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaves {
    shape: Shape,
    sums: BTreeMap<u32, u128>,
    partitions: u64,
}

impl Leaves {
    /// None yet.
    pub fn new(shape: Shape) -> Leaves {
        Leaves { shape, sums: BTreeMap::new(), partitions: 0 }
    }

    /// Partitions that were added.
    pub fn partitions(&self) -> u64 {
        self.partitions
    }

    /// Adds a partition, in any order, once. `bytes` are what [`comparable`] made of it.
    pub fn add(&mut self, token: Token, key: &[u8], bytes: &[u8]) -> Result<(), Outside> {
        let leaf = self.shape.leaf_of(token).ok_or(Outside { token })?;
        let mut hash = Xxh3::new();
        hash.update(&token.0.to_le_bytes());
        hash.update(&(key.len() as u64).to_le_bytes());
        hash.update(key);
        hash.update(&codec::digest_encoded(bytes));
        self.plus(leaf, hash.digest128());
        self.partitions += 1;
        Ok(())
    }

    fn plus(&mut self, leaf: u32, sum: u128) {
        let held = self.sums.entry(leaf).or_default();
        *held = held.wrapping_add(sum);
    }

    /// Compact bytes, in proportion to the leaves that are not empty. Integers are little-endian, varints as in [`varint`]:
    ///
    /// ```text
    /// | version u8 = 1 | partitions varint | count varint | then each: gap varint | sum 16 |
    /// ```
    ///
    /// A gap is how many leaves lie between this leaf and the one before it.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16 + self.sums.len() * (LEAF_BYTES + 1));
        bytes.push(VERSION);
        varint::put(&mut bytes, self.partitions);
        varint::put(&mut bytes, self.sums.len() as u64);
        let mut next = 0;
        for (&leaf, sum) in &self.sums {
            varint::put(&mut bytes, u64::from(leaf - next));
            bytes.extend_from_slice(&sum.to_le_bytes());
            next = leaf + 1;
        }
        bytes
    }

    /// Adds what another step hashed. Nothing is added if anything in it is wrong.
    pub fn absorb(&mut self, bytes: &[u8]) -> Result<(), BadLeaves> {
        let mut rest = bytes;
        let bad = |what| BadLeaves { what };
        if take::<1>(&mut rest) != Some([VERSION]) {
            return Err(bad("another version wrote them"));
        }
        let partitions = varint::take(&mut rest).ok_or(bad("they end early"))?;
        let count = varint::take(&mut rest).ok_or(bad("they end early"))?;
        // Before anything is allocated by it.
        let count = usize::try_from(count).ok().filter(|n| *n <= rest.len() / LEAF_BYTES);
        let mut found = Vec::with_capacity(count.ok_or(bad("more are announced than came"))?);
        let mut next = 0_u64;
        for _ in 0..found.capacity() {
            let gap = varint::take(&mut rest).ok_or(bad("they end early"))?;
            let sum = take::<16>(&mut rest).ok_or(bad("they end early"))?;
            let leaf = next.checked_add(gap).filter(|leaf| leaf >> self.shape.depth == 0);
            let leaf = leaf.and_then(|leaf| u32::try_from(leaf).ok());
            let leaf = leaf.ok_or(bad("a leaf is behind the last one"))?;
            found.push((leaf, u128::from_le_bytes(sum)));
            next = u64::from(leaf) + 1;
        }
        if !rest.is_empty() {
            return Err(bad("something follows them"));
        }
        let partitions = self.partitions.checked_add(partitions);
        self.partitions = partitions.ok_or(bad("there cannot be so many partitions"))?;
        for (leaf, sum) in found {
            self.plus(leaf, sum);
        }
        Ok(())
    }

    /// The tree over them.
    pub fn into_tree(self) -> Tree {
        let mut levels = vec![self.sums.into_iter().collect::<Vec<_>>()];
        for _ in 0..self.shape.depth {
            let below = levels.last().map(Vec::as_slice).unwrap_or_default();
            levels.push(parents(below));
        }
        levels.reverse();
        Tree { shape: self.shape, partitions: self.partitions, levels }
    }
}

/// The level above: every node that has a child.
fn parents(nodes: &[(u32, u128)]) -> Vec<(u32, u128)> {
    let pairs = nodes.chunk_by(|(left, _), (right, _)| left / 2 == right / 2);
    let parent = |children: &[(u32, u128)]| {
        let mut bytes = [0; 32];
        let (left, right) = bytes.split_at_mut(16);
        for (index, hash) in children {
            let half = if index.is_multiple_of(2) { &mut *left } else { &mut *right };
            half.copy_from_slice(&hash.to_le_bytes());
        }
        (children.first().map_or(0, |(index, _)| index / 2), xxh3_128(&bytes))
    };
    pairs.map(parent).collect()
}

/// The hashes of all that one replica holds of a span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    shape: Shape,
    partitions: u64,
    /// Nodes that are not empty, by level from the root on. Invariant: `depth + 1` levels, each sorted by index, unique.
    levels: Vec<Vec<(u32, u128)>>,
}

impl Tree {
    /// Partitions in it.
    pub fn partitions(&self) -> u64 {
        self.partitions
    }

    /// Equal for equal trees, and differs, but for a collision of hashes, where anything does.
    pub fn root(&self) -> Option<u128> {
        self.node(0, 0)
    }

    /// `None`: it is empty.
    fn node(&self, level: u8, index: u32) -> Option<u128> {
        let nodes = self.levels.get(usize::from(level))?;
        let at = nodes.binary_search_by_key(&index, |(index, _)| *index).ok()?;
        nodes.get(at).map(|(_, hash)| *hash)
    }

    fn leaf(&self, index: u32) -> Option<u128> {
        self.node(self.shape.depth, index)
    }

    /// The token ranges of the leaves that differ: sorted, disjoint, neighbours as one. Every partition that only one of
    /// the two has, or has otherwise, is in one of them.
    pub fn difference(&self, other: &Tree) -> Vec<Span> {
        self.shape.spans(self.differing_leaves(other))
    }

    fn differing_leaves(&self, other: &Tree) -> Vec<u32> {
        assert_eq!(self.shape, other.shape, "only trees over the same leaves can be compared");
        let mut found = Vec::new();
        self.descend(other, 0, 0, &mut found);
        found
    }

    /// Depth first, left before right, so `found` is sorted.
    fn descend(&self, other: &Tree, level: u8, index: u32, found: &mut Vec<u32>) {
        if self.node(level, index) == other.node(level, index) {
            return;
        }
        if level == self.shape.depth {
            return found.push(index);
        }
        self.descend(other, level + 1, 2 * index, found);
        self.descend(other, level + 1, 2 * index + 1, found);
    }
}

/// What one replica is to send another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// Who sends.
    pub from: NodeId,
    /// Who receives.
    pub to: NodeId,
    /// What it holds of these. Invariant: sorted, disjoint, not empty.
    pub spans: Vec<Span>,
}

/// What makes replicas equal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Where any two of them differ: sorted, disjoint.
    pub differing: Vec<Span>,
    /// In the order of sender and receiver.
    pub transfers: Vec<Transfer>,
}

/// Compares all pairs of replicas, and says who must send what to whom so that each has all: for every leaf, a replica
/// gets what it lacks from *one* of those that have it alike, the first in the order of `trees`; and nothing is sent from
/// where there is nothing. Replicas are named once each.
pub fn plan(trees: &[(NodeId, Tree)]) -> Plan {
    let Some((_, first)) = trees.first() else { return Plan::default() };
    let shape = first.shape;
    // What differs from the first differs between some pair, and two that equal the first equal each other.
    let mut leaves: Vec<u32> =
        trees.iter().flat_map(|(_, tree)| first.differing_leaves(tree)).collect();
    leaves.sort_unstable();
    leaves.dedup();
    let mut sends: BTreeMap<(NodeId, NodeId), Vec<u32>> = BTreeMap::new();
    for &leaf in &leaves {
        let mut senders: Vec<(NodeId, u128)> = Vec::new();
        for (node, tree) in trees {
            if let Some(hash) = tree.leaf(leaf)
                && senders.iter().all(|(_, known)| *known != hash)
            {
                senders.push((*node, hash));
            }
        }
        for (to, tree) in trees {
            let has = tree.leaf(leaf);
            for (from, _) in senders.iter().filter(|(_, hash)| Some(*hash) != has) {
                sends.entry((*from, *to)).or_default().push(leaf);
            }
        }
    }
    let transfers = sends
        .into_iter()
        .map(|((from, to), leaves)| Transfer { from, to, spans: shape.spans(leaves) })
        .collect();
    Plan { differing: shape.spans(leaves), transfers }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}
