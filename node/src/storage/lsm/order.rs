//! In which order those stand that are walked side by side, in a scan or a compaction.
//!
//! Kept sorted instead of looked for at every step: whoever moves on is sifted to its new place. SSTables of one level follow
//! each other, so there it nearly always stays first, and one comparison says so.

use helenus_core::Token;

/// What walks over partitions in (token, key) order.
pub(super) trait Walker {
    /// Where it stands; `None` behind the last one.
    fn place(&self) -> Option<(Token, &[u8])>;
}

/// Numbers of walkers, in order of where they stand. Those that are at their end are not in it.
pub(super) struct Order(Vec<usize>);

impl Order {
    pub(super) fn new(walkers: &[impl Walker]) -> Order {
        let stands = |i: &usize| place(walkers, *i).is_some();
        let mut order: Vec<usize> = (0..walkers.len()).filter(stands).collect();
        order.sort_by_key(|i| place(walkers, *i));
        Order(order)
    }

    /// The first one.
    pub(super) fn first(&self) -> Option<usize> {
        self.0.first().copied()
    }

    /// How many stand where the first one does, which come first.
    pub(super) fn alike(&self, walkers: &[impl Walker]) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        let here = place(walkers, *first);
        1 + rest.iter().take_while(|i| place(walkers, **i) == here).count()
    }

    /// The first `count`.
    pub(super) fn front(&self, count: usize) -> &[usize] {
        self.0.get(..count).unwrap_or(&self.0)
    }

    /// The first `count` have moved on.
    pub(super) fn moved(&mut self, count: usize, walkers: &[impl Walker]) {
        for mut at in (0..count.min(self.0.len())).rev() {
            let Some(here) = self.0.get(at).and_then(|i| place(walkers, *i)) else {
                self.0.remove(at);
                continue;
            };
            while self.0.get(at + 1).is_some_and(|i| place(walkers, *i) < Some(here)) {
                self.0.swap(at, at + 1);
                at += 1;
            }
        }
    }
}

fn place(walkers: &[impl Walker], number: usize) -> Option<(Token, &[u8])> {
    walkers.get(number).and_then(Walker::place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Numbers(Vec<i64>);

    impl Walker for Numbers {
        fn place(&self) -> Option<(Token, &[u8])> {
            self.0.last().map(|number| (Token(*number), &b"key"[..]))
        }
    }

    proptest! {
        #[test]
        fn it_is_a_merge(lists in prop::collection::vec(prop::collection::btree_set(0_i64..40, 0..20), 0..9)) {
            let mut expected: Vec<(i64, usize)> = Vec::new();
            for number in 0..40 {
                let holders = lists.iter().filter(|list| list.contains(&number)).count();
                expected.extend((holders > 0).then_some((number, holders)));
            }
            let mut walkers: Vec<Numbers> =
                lists.into_iter().map(|list| Numbers(list.into_iter().rev().collect())).collect();
            let mut order = Order::new(&walkers);
            let mut found = Vec::new();
            while let Some(first) = order.first() {
                let alike = order.alike(&walkers);
                found.push((*walkers[first].0.last().unwrap(), alike));
                for i in order.front(alike).to_vec() {
                    walkers[i].0.pop();
                }
                order.moved(alike, &walkers);
            }
            prop_assert_eq!(found, expected);
        }
    }
}
