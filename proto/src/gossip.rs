//! Gossip on the wire. Only the shape is checked here; what a digest or a state may claim is the step machine's
//! business, which expects liars.

use crate::{WireError, ids, v1};
use helenus_core::Generation;
use helenus_core::gossip::{Ack, Ack2, Digest, Message, StateDelta, StateKey, Syn, Versioned};
use v1::gossip::Step;

/// A gossip message as it travels.
pub fn to_wire(message: Message) -> v1::Gossip {
    let step = match message {
        Message::Syn(Syn { cluster_name, digests }) => Step::Syn(v1::GossipSyn {
            cluster_name,
            digests: digests.into_iter().map(digest_to_wire).collect(),
        }),
        Message::Ack(Ack { requests, states }) => Step::Ack(v1::GossipAck {
            requests: requests.into_iter().map(digest_to_wire).collect(),
            states: states.into_iter().map(state_to_wire).collect(),
        }),
        Message::Ack2(Ack2 { states }) => {
            Step::Ack2(v1::GossipAck2 { states: states.into_iter().map(state_to_wire).collect() })
        }
    };
    v1::Gossip { step: Some(step) }
}

/// The gossip in a message.
pub fn from_wire(gossip: v1::Gossip) -> Result<Message, WireError> {
    match gossip.step {
        Some(Step::Syn(v1::GossipSyn { cluster_name, digests })) => {
            let digests = all(digests, digest_from_wire).map_err(|err| err.inside("syn.digests"));
            Ok(Message::Syn(Syn { cluster_name, digests: digests? }))
        }
        Some(Step::Ack(v1::GossipAck { requests, states })) => {
            let requests =
                all(requests, digest_from_wire).map_err(|err| err.inside("ack.requests"));
            let states = all(states, state_from_wire).map_err(|err| err.inside("ack.states"));
            Ok(Message::Ack(Ack { requests: requests?, states: states? }))
        }
        Some(Step::Ack2(v1::GossipAck2 { states })) => {
            let states = all(states, state_from_wire).map_err(|err| err.inside("ack2.states"));
            Ok(Message::Ack2(Ack2 { states: states? }))
        }
        None => Err(WireError::new("step", "is none that this release knows")),
    }
}

fn all<W, D>(wire: Vec<W>, convert: fn(W) -> Result<D, WireError>) -> Result<Vec<D>, WireError> {
    wire.into_iter().map(convert).collect()
}

fn digest_to_wire(digest: Digest) -> v1::GossipDigest {
    v1::GossipDigest {
        node: ids::node_to_wire(digest.node),
        generation: digest.generation.0,
        max_version: digest.max_version,
    }
}

fn digest_from_wire(wire: v1::GossipDigest) -> Result<Digest, WireError> {
    Ok(Digest {
        node: ids::node_from_wire("node", &wire.node)?,
        generation: Generation(wire.generation),
        max_version: wire.max_version,
    })
}

fn state_to_wire(state: StateDelta) -> v1::GossipEndpointState {
    let values = state
        .values
        .into_iter()
        .map(|(key, Versioned { value, version })| v1::GossipValue { key: key.0, value, version });
    v1::GossipEndpointState {
        node: ids::node_to_wire(state.node),
        generation: state.generation.0,
        heartbeat_version: state.heartbeat_version,
        values: values.collect(),
    }
}

fn state_from_wire(wire: v1::GossipEndpointState) -> Result<StateDelta, WireError> {
    let values = wire.values.into_iter().map(|v1::GossipValue { key, value, version }| {
        (StateKey(key), Versioned { value, version })
    });
    Ok(StateDelta {
        node: ids::node_from_wire("node", &wire.node)?,
        generation: Generation(wire.generation),
        heartbeat_version: wire.heartbeat_version,
        values: values.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use helenus_core::NodeId;
    use proptest::prelude::*;
    use prost::Message as _;

    fn digests() -> impl Strategy<Value = Vec<Digest>> {
        let digest =
            (any::<u128>(), any::<u64>(), any::<u64>()).prop_map(|(node, g, max_version)| Digest {
                node: NodeId(node),
                generation: Generation(g),
                max_version,
            });
        proptest::collection::vec(digest, 0..5)
    }

    fn states() -> impl Strategy<Value = Vec<StateDelta>> {
        let value = (any::<u32>(), ".{0,9}", any::<u64>())
            .prop_map(|(key, value, version)| (StateKey(key), Versioned { value, version }));
        let values = proptest::collection::vec(value, 0..4);
        let state = (any::<u128>(), any::<u64>(), any::<u64>(), values).prop_map(
            |(node, generation, heartbeat_version, values)| StateDelta {
                node: NodeId(node),
                generation: Generation(generation),
                heartbeat_version,
                values,
            },
        );
        proptest::collection::vec(state, 0..4)
    }

    fn messages() -> impl Strategy<Value = Message> {
        prop_oneof![
            (".{0,9}", digests())
                .prop_map(|(cluster_name, digests)| Message::Syn(Syn { cluster_name, digests })),
            (digests(), states())
                .prop_map(|(requests, states)| Message::Ack(Ack { requests, states })),
            states().prop_map(|states| Message::Ack2(Ack2 { states })),
        ]
    }

    proptest! {
        #[test]
        fn a_message_comes_back_as_it_went(message in messages()) {
            let bytes = to_wire(message.clone()).encode_to_vec();
            // The bound on messages counts by `cost_bytes`, so it may be rough but must not be low.
            let names = if let Message::Syn(syn) = &message { syn.cluster_name.len() + 2 } else { 0 };
            prop_assert!(bytes.len() <= message.cost_bytes() + names + 20 , "{} bytes", bytes.len());
            prop_assert_eq!(from_wire(v1::Gossip::decode(bytes.as_slice()).unwrap()), Ok(message));
        }
    }

    #[test]
    fn an_error_names_the_field() {
        let digest = v1::GossipDigest { node: vec![1].into(), generation: 1, max_version: 1 };
        let syn = v1::GossipSyn { cluster_name: "c".to_owned(), digests: vec![digest] };
        let err = from_wire(v1::Gossip { step: Some(Step::Syn(syn)) }).unwrap_err();
        assert_eq!(err.to_string(), "field `syn.digests.node` has 1 bytes where an id has 16");
        let err = from_wire(v1::Gossip { step: None }).unwrap_err();
        assert_eq!(err.to_string(), "field `step` is none that this release knows");
    }
}
