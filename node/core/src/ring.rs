//! Who owns which token.
//!
//! Every member claims some tokens (its virtual nodes); a token's owner is the member with the first claimed token at
//! or behind it, and behind the last one the ring begins again. So the range that a claimed token stands for excludes
//! the claimed token before it and includes itself: `(before, token]`.
//!
//! Invariants: claimed tokens are sorted and unique, members are sorted by host id and unique. A token that two
//! members claim belongs to the lower host id, whatever order the claims arrive in, so all nodes agree; the conflict
//! is reported.
//!
//! Source: Dynamo §4.2 and Cassandra's `TokenMetadata`.

use crate::types::{Endpoint, NodeId, Token};
use std::collections::{BTreeMap, BTreeSet};

/// A part of the ring: behind `after` (exclusive), up to `until` (inclusive), past the end of the token range and on
/// from its beginning if `until` is not behind `after`. Equal ends are the whole ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenRange {
    /// The token before it.
    pub after: Token,
    /// Its last token.
    pub until: Token,
}

/// A part of the ring that does not wrap: from the very first token or behind `after`, up to `until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The token before it; `None`: it begins with the first token there is.
    pub after: Option<Token>,
    /// Its last token.
    pub until: Token,
}

impl TokenRange {
    /// Whether `token` lies in it.
    pub fn contains(self, token: Token) -> bool {
        if self.after < self.until {
            self.after < token && token <= self.until
        } else {
            self.after < token || token <= self.until
        }
    }

    /// The same tokens in the order of their values: one span, or two if it wraps.
    pub fn spans(self) -> impl Iterator<Item = Span> {
        let (low, high) = if self.after < self.until {
            (None, Some(Span { after: Some(self.after), until: self.until }))
        } else {
            let low = Span { after: None, until: self.until };
            let high = Span { after: Some(self.after), until: Token::MAX };
            (Some(low), (self.after < Token::MAX).then_some(high))
        };
        low.into_iter().chain(high)
    }

    /// How much of the ring it is: above 0, at most 1.
    pub fn share(self) -> f64 {
        match self.until.0.wrapping_sub(self.after.0).cast_unsigned() {
            0 => 1.0,
            tokens => tokens as f64 / 2_f64.powi(64),
        }
    }
}

/// Two members claim the same token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "token {token} is claimed by {kept} and {lost}; {kept} keeps it, because its host id is lower"
)]
pub struct Conflict {
    /// The token.
    pub token: Token,
    /// Who owns it.
    pub kept: NodeId,
    /// Who does not.
    pub lost: NodeId,
}

/// Who owns which token.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ring {
    /// Invariant: sorted by host id, unique.
    members: Vec<Endpoint>,
    /// Claimed tokens and their owners' places in `members`. Invariant: sorted by token, unique.
    claims: Vec<(Token, usize)>,
    conflicts: Vec<Conflict>,
    /// Members that are giving their ranges away. Invariant: sorted, unique.
    leaving: Vec<NodeId>,
}

impl Ring {
    /// Builds it from what each member claims. The order does not matter, except that a host id that comes twice keeps
    /// the endpoint that came first, with both claims.
    pub fn new(members: impl IntoIterator<Item = (Endpoint, Vec<Token>)>) -> Ring {
        let mut by_node: BTreeMap<NodeId, (Endpoint, Vec<Token>)> = BTreeMap::new();
        for (endpoint, tokens) in members {
            let (_, claimed) =
                by_node.entry(endpoint.node).or_insert_with(|| (endpoint, Vec::new()));
            claimed.extend(tokens);
        }
        let mut owners: BTreeMap<Token, (usize, NodeId)> = BTreeMap::new();
        let mut conflicts = Vec::new();
        // Members come in the order of their host ids, so whoever claims first keeps the token.
        for (place, (node, (_, tokens))) in by_node.iter().enumerate() {
            for &token in tokens {
                let &mut (_, kept) = owners.entry(token).or_insert((place, *node));
                if kept != *node {
                    conflicts.push(Conflict { token, kept, lost: *node });
                }
            }
        }
        Ring {
            members: by_node.into_values().map(|(endpoint, _)| endpoint).collect(),
            claims: owners.into_iter().map(|(token, (place, _))| (token, place)).collect(),
            conflicts,
            leaving: Vec::new(),
        }
    }

    /// The same ring, of which these members are leaving. Those that are no members are passed over.
    #[must_use]
    pub fn with_leaving(mut self, nodes: impl IntoIterator<Item = NodeId>) -> Ring {
        let leaving: BTreeSet<NodeId> = nodes.into_iter().collect();
        self.leaving = leaving.into_iter().filter(|node| self.endpoint(*node).is_some()).collect();
        self
    }

    /// Members that own their tokens still and are giving them away, in the order of their host ids.
    pub fn leaving(&self) -> &[NodeId] {
        &self.leaving
    }

    /// Whether this member is leaving.
    pub fn is_leaving(&self, node: NodeId) -> bool {
        self.leaving.binary_search(&node).is_ok()
    }

    /// The ring as it will be when these members have left. Who claimed a token of theirs in vain owns it then.
    pub fn without(&self, nodes: &[NodeId]) -> Ring {
        let mut claimed: BTreeMap<NodeId, Vec<Token>> = BTreeMap::new();
        for (token, owner) in self.tokens() {
            claimed.entry(owner.node).or_default().push(token);
        }
        for conflict in &self.conflicts {
            claimed.entry(conflict.lost).or_default().push(conflict.token);
        }
        let stay = self.members.iter().filter(|member| !nodes.contains(&member.node));
        let stay = stay.map(|m| (m.clone(), claimed.remove(&m.node).unwrap_or_default()));
        let still = self.leaving.iter().copied().filter(|node| !nodes.contains(node));
        Ring::new(stay.collect::<Vec<_>>()).with_leaving(still)
    }

    /// All members in the order of their host ids, with or without tokens.
    pub fn members(&self) -> &[Endpoint] {
        &self.members
    }

    /// The member with this host id.
    pub fn endpoint(&self, node: NodeId) -> Option<&Endpoint> {
        let place = self.members.binary_search_by_key(&node, |member| member.node).ok()?;
        self.members.get(place)
    }

    /// Claimed tokens and their owners, in token order.
    pub fn tokens(&self) -> impl ExactSizeIterator<Item = (Token, &Endpoint)> {
        self.claims.iter().map(|&(token, place)| (token, self.member(place)))
    }

    /// Tokens that were claimed twice.
    pub fn conflicts(&self) -> &[Conflict] {
        &self.conflicts
    }

    /// Who owns `token`; `None` only if nobody claims any token.
    pub fn owner(&self, token: Token) -> Option<&Endpoint> {
        self.walk(token).next()
    }

    /// The ranges and their owners, in the order of their last tokens. The first one wraps.
    pub fn ranges(&self) -> impl Iterator<Item = (TokenRange, &Endpoint)> {
        let last = self.claims.last().map(|&(token, _)| token);
        let before = last.into_iter().chain(self.claims.iter().map(|&(token, _)| token));
        before
            .zip(self.tokens())
            .map(|(after, (until, owner))| (TokenRange { after, until }, owner))
    }

    /// Once around the ring from the owner of `token`: a member comes as often as it has tokens.
    pub fn walk(&self, token: Token) -> impl Iterator<Item = &Endpoint> {
        let first = self.claims.partition_point(|&(claimed, _)| claimed < token);
        let (wrapped, ahead) = self.claims.split_at(first);
        ahead.iter().chain(wrapped).map(|&(_, place)| self.member(place))
    }

    fn member(&self, place: usize) -> &Endpoint {
        self.members.get(place).expect("every claim was given a member's place")
    }
}

/// Chooses `count` tokens that are distinct, not [`Token::MIN`], and not `taken`. Chance is an argument: the same
/// draws give the same tokens.
pub fn choose_tokens(
    count: usize,
    taken: impl Fn(Token) -> bool,
    mut draw: impl FnMut() -> u64,
) -> Vec<Token> {
    let mut chosen: Vec<Token> = Vec::with_capacity(count);
    while chosen.len() < count {
        let mut token = Token(draw().cast_signed());
        // A used token is stepped over, not drawn again, so that a poor source of chance cannot hold this up.
        while token == Token::MIN || taken(token) || chosen.contains(&token) {
            token = Token(token.0.wrapping_add(1));
        }
        chosen.push(token);
    }
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Dc, Rack};
    use proptest::prelude::*;

    fn endpoint(node: u128) -> Endpoint {
        let internode = "127.0.0.1:7000".parse().unwrap();
        Endpoint { node: NodeId(node), internode, dc: Dc::from("dc1"), rack: Rack::from("r1") }
    }

    fn ring(claims: &[(u128, Vec<i64>)]) -> Ring {
        Ring::new(claims.iter().map(|(node, tokens)| {
            (endpoint(*node), tokens.iter().copied().map(Token).collect::<Vec<_>>())
        }))
    }

    #[test]
    fn an_empty_ring_owns_nothing() {
        let ring = Ring::default();
        assert_eq!(ring.owner(Token(0)), None);
        assert_eq!(ring.ranges().count(), 0);
    }

    #[test]
    fn one_token_owns_the_whole_ring() {
        let ring = ring(&[(1, vec![7])]);
        let (range, owner) = ring.ranges().next().unwrap();
        assert_eq!(owner.node, NodeId(1));
        assert_eq!(range.share(), 1.0);
        for token in [Token::MIN, Token(6), Token(7), Token(8), Token::MAX] {
            assert!(range.contains(token), "{token}");
        }
    }

    #[test]
    fn stepping_over_used_tokens_ends_even_without_chance() {
        let chosen = choose_tokens(3, |token| token == Token(6), || 5);
        assert_eq!(chosen, [Token(5), Token(7), Token(8)]);
        let start = || i64::MIN.cast_unsigned();
        assert_eq!(choose_tokens(1, |_| false, start), [Token(i64::MIN + 1)]);
    }

    fn claims() -> impl Strategy<Value = Vec<(u128, Vec<i64>)>> {
        // Few distinct tokens, so that claims collide; the ends of the token range among them.
        let token = prop_oneof![Just(i64::MIN), Just(i64::MAX), -20..20_i64, any::<i64>()];
        proptest::collection::vec((1..6_u128, proptest::collection::vec(token, 0..5)), 0..8)
    }

    proptest! {
        #[test]
        fn the_owner_is_found_by_looking_at_every_range(claims in claims(), token: i64) {
            let ring = ring(&claims);
            for token in [Token(token), Token(token % 20), Token::MIN, Token::MAX] {
                let naive: Vec<_> =
                    ring.ranges().filter(|(range, _)| range.contains(token)).collect();
                prop_assert_eq!(naive.len(), usize::from(ring.tokens().len() > 0));
                prop_assert_eq!(ring.owner(token), naive.first().map(|(_, owner)| *owner));
            }
        }

        #[test]
        fn the_order_of_arrival_does_not_matter(claims in claims()) {
            let backwards: Vec<_> = claims.iter().rev().cloned().collect();
            let (one, other) = (ring(&claims), ring(&backwards));
            prop_assert_eq!(one.members(), other.members());
            prop_assert!(one.tokens().eq(other.tokens()));
        }

        #[test]
        fn a_ring_without_somebody_is_the_ring_that_the_others_make(claims in claims(), gone in 1..6_u128) {
            let whole = ring(&claims).with_leaving([NodeId(gone), NodeId(77)]);
            prop_assert_eq!(whole.is_leaving(NodeId(gone)), whole.endpoint(NodeId(gone)).is_some());
            let others: Vec<_> = claims.iter().filter(|(node, _)| *node != gone).cloned().collect();
            let (left, expected) = (whole.without(&[NodeId(gone)]), ring(&others));
            prop_assert_eq!(left.members(), expected.members());
            prop_assert!(left.tokens().eq(expected.tokens()));
            prop_assert_eq!(left.leaving(), &[]);
        }

        #[test]
        fn spans_hold_the_same_tokens_as_their_range(after: i64, until: i64, token: i64) {
            for range in [
                TokenRange { after: Token(after), until: Token(until) },
                TokenRange { after: Token(after), until: Token(after) },
                TokenRange { after: Token::MAX, until: Token(until) },
            ] {
                for token in [Token(token), Token(after), Token(until), Token::MIN, Token::MAX] {
                    let held = range.spans().filter(|span| {
                        span.after.is_none_or(|after| after < token) && token <= span.until
                    });
                    prop_assert_eq!(held.count(), usize::from(range.contains(token)));
                }
            }
        }

        #[test]
        fn shares_add_up_to_one(claims in claims()) {
            let ring = ring(&claims);
            let sum: f64 = ring.ranges().map(|(range, _)| range.share()).sum();
            prop_assert!(ring.tokens().len() == 0 || (sum - 1.0).abs() < 1e-9, "{}", sum);
        }
    }
}
