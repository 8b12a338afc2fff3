//! What an order looks like: bytes that follow from the seed and the order's number, half of them easy to compress, as
//! orders are. A reader that knows the number can tell whether it got what was written.

use crate::ledger::OrderId;
use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};

/// What the other half repeats.
const TEXT: &[u8] = b"{\"sku\":\"B000000000\",\"quantity\":1,\"price\":\"19.99\",\"currency\":\"USD\",\"gift\":false},";

/// The bytes of an order.
pub fn value(seed: u64, order: OrderId, bytes: usize) -> Bytes {
    let mut value: Vec<u8> = TEXT.iter().copied().cycle().take(bytes).collect();
    let mut rng = SmallRng::seed_from_u64(seed ^ (u64::from(order) << 24) ^ 0x0051_DE00);
    let (random, _) = value.split_at_mut(bytes.div_ceil(2));
    rng.fill_bytes(random);
    Bytes::from(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_differ_and_repeat() {
        assert_eq!(value(1, 7, 100), value(1, 7, 100));
        assert_ne!(value(1, 7, 100), value(1, 8, 100));
        assert_ne!(value(1, 7, 100), value(2, 7, 100));
        let order = value(1, 7, 101);
        assert_eq!(order.len(), 101);
        assert_eq!(&order[51..], &TEXT.repeat(2)[51..101]);
    }
}
