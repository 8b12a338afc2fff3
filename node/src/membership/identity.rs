//! Who this node is: chosen once, at its first start, and kept in its data directory.
//!
//! The file is read before anything else of the data directory is touched, because it says whose data it is.
//!
//! Invariant: a generation is durable before any peer hears of it, so no two lives of a node ever share one, whatever the
//! clock does between them.

use super::text::{self, ReadError};
use crate::config::Config;
use crate::seams::disk::Disk;
use crate::seams::rng::Rng;
use helenus_core::ring::choose_tokens;
use helenus_core::{Generation, NodeId, Token};
use rand::Rng as _;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;

/// Its name in the data directory.
const FILE: &str = "identity.toml";

/// Cassandra's bound. It keeps a node's tokens within one value of gossip.
const TOKENS_MAX: usize = 1536;

/// Who this node is, in this life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its host id, for ever.
    pub node: NodeId,
    /// Which of its lives this is: its start in seconds since the epoch, or the last generation plus one if the clock has
    /// gone back.
    pub generation: Generation,
    /// Its tokens, sorted, for ever.
    pub tokens: Vec<Token>,
    /// Whether this is its first start.
    pub first_start: bool,
    /// It has left the ring, and may not have been able to tell anybody: that is all it does in this life.
    pub left: bool,
}

/// What a node is to the ring, as far as its disk knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is, or will be, a member.
    Member,
    /// It has left.
    Left,
    /// And the others know.
    LeftAndHeard,
}

/// Why a node does not know who it is.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The data belongs to another cluster.
    #[error(
        "{file} says that this data belongs to cluster `{theirs}`, and the configuration says `cluster_name = \"{ours}\"`: \
         give this node a data_directory of its own, or correct cluster_name"
    )]
    OtherCluster {
        /// The file.
        file: String,
        /// Whose data it is.
        theirs: String,
        /// What the configuration says.
        ours: String,
    },
    /// The configuration asks for other tokens than the node has data for.
    #[error(
        "{file} says that this node owns {had}, and the configuration says {wants}: tokens cannot change once there is \
         data. Set {key} back, or start a new node with an empty data_directory"
    )]
    OtherTokens {
        /// The file.
        file: String,
        /// What it owns.
        had: String,
        /// What the configuration says.
        wants: String,
        /// The key to set back.
        key: &'static str,
    },
    /// The configuration's tokens can be nobody's.
    #[error("{key} {problem}")]
    BadTokens {
        /// The configuration key.
        key: &'static str,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The node gave all its ranges away and is no member any more.
    #[error(
        "{file} says that this node has left the ring (`helenusctl decommission`): what is here belongs to others, and has \
         missed what was written since. Remove the data directory, and it can join as a new node"
    )]
    Left {
        /// The file.
        file: String,
    },
    /// The file is not what was written.
    #[error(
        "{file} is damaged: {problem}. Without it nobody knows which data this node must hold: restore the file from a \
         backup; or, if all keyspaces have other replicas, remove the data directory and let the node start anew"
    )]
    Damaged {
        /// The file.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The disk refused.
    #[error("{file} cannot be read or written: {source}")]
    Io {
        /// The file.
        file: String,
        /// What the disk said.
        source: io::Error,
    },
}

/// The file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    cluster_name: String,
    host_id: String,
    generation: u64,
    tokens: Vec<i64>,
    /// It has left the ring for good.
    #[serde(default)]
    left: bool,
    /// And the others know.
    #[serde(default)]
    left_heard: bool,
}

const PREFACE: &str = "# Who this node is. Written by Helenus at every start: do not edit it, and do not copy it to another\n\
                       # node, or there will be two that claim to be one.\n";

impl Identity {
    /// Reads who this node is, or chooses it at the first start, and begins a new life: the new generation is durable
    /// when this returns.
    pub fn open(
        disk: &dyn Disk,
        config: &Config,
        rng: &Rng,
        wall_micros: i64,
    ) -> Result<Identity, IdentityError> {
        let shown = config.data_directory.join(FILE);
        let file = || shown.display().to_string();
        let damaged = |problem: String| IdentityError::Damaged { file: file(), problem };
        let kept = text::read(disk, Path::new(FILE)).map_err(|err| match err {
            ReadError::Damaged(problem) => damaged(problem),
            ReadError::Io(source) => IdentityError::Io { file: file(), source },
        })?;
        let wall_s = u64::try_from(wall_micros / 1_000_000).unwrap_or(0).max(1);
        let identity = match kept {
            None => first(config, rng, wall_s)?,
            Some(text) => {
                let kept: Kept = toml::from_str(&text).map_err(|e| damaged(e.to_string()))?;
                if kept.left_heard {
                    return Err(IdentityError::Left { file: file() });
                }
                let node: NodeId = kept.host_id.parse().map_err(|e| damaged(format!("{e}")))?;
                if kept.cluster_name != config.cluster_name {
                    let (theirs, ours) = (kept.cluster_name, config.cluster_name.clone());
                    return Err(IdentityError::OtherCluster { file: file(), theirs, ours });
                }
                check_tokens(&shown, &kept.tokens, config)?;
                Identity {
                    node,
                    generation: Generation(wall_s.max(kept.generation.saturating_add(1))),
                    tokens: kept.tokens.into_iter().map(Token).collect(),
                    first_start: false,
                    left: kept.left,
                }
            }
        };
        let standing = if identity.left { Standing::Left } else { Standing::Member };
        identity
            .keep(disk, &config.cluster_name, standing)
            .map_err(|source| IdentityError::Io { file: file(), source })?;
        Ok(identity)
    }

    /// Why a node that has left does not start on its data directory.
    pub(crate) fn is_left(config: &Config) -> IdentityError {
        IdentityError::Left { file: config.data_directory.join(FILE).display().to_string() }
    }

    /// Writes down what the node is to the ring, durably. One that has left never takes requests on this data directory again.
    pub(crate) fn keep(
        &self,
        disk: &dyn Disk,
        cluster_name: &str,
        standing: Standing,
    ) -> io::Result<()> {
        let kept = Kept {
            cluster_name: cluster_name.to_owned(),
            host_id: self.node.to_string(),
            generation: self.generation.0,
            tokens: self.tokens.iter().map(|token| token.0).collect(),
            left: standing != Standing::Member,
            left_heard: standing == Standing::LeftAndHeard,
        };
        let body = toml::to_string(&kept).map_err(io::Error::other)?;
        text::replace(disk, Path::new(FILE), &format!("{PREFACE}{body}"))
    }
}

fn first(config: &Config, rng: &Rng, wall_s: u64) -> Result<Identity, IdentityError> {
    let node = NodeId(rng.stream("host id").random());
    let tokens = if config.initial_token.is_empty() {
        let count = usize::from(config.num_tokens);
        if !(1..=TOKENS_MAX).contains(&count) {
            let problem = format!("is {count}: choose a number from 1 to {TOKENS_MAX}");
            return Err(IdentityError::BadTokens { key: "num_tokens", problem });
        }
        let mut chance = rng.stream("tokens");
        choose_tokens(count, |_| false, || chance.random())
    } else {
        let tokens = sorted(&config.initial_token);
        let bad = |problem| Err(IdentityError::BadTokens { key: "initial_token", problem });
        if tokens.len() > TOKENS_MAX {
            return bad(format!("has {} tokens: {TOKENS_MAX} is the most", tokens.len()));
        }
        if let Some([twice, ..]) = tokens.windows(2).find(|pair| pair.first() == pair.last()) {
            return bad(format!("has {twice} twice: leave one out"));
        }
        if tokens.contains(&i64::MIN) {
            return bad(format!("has {}, which no key has: choose a greater one", i64::MIN));
        }
        tokens.into_iter().map(Token).collect()
    };
    let generation = Generation(wall_s);
    Ok(Identity { node, generation, tokens, first_start: true, left: false })
}

fn check_tokens(file: &Path, had: &[i64], config: &Config) -> Result<(), IdentityError> {
    let file = || file.display().to_string();
    if had.is_empty() || had.len() > TOKENS_MAX {
        let problem = format!("it lists {} tokens", had.len());
        return Err(IdentityError::Damaged { file: file(), problem });
    }
    let (key, same) = if config.initial_token.is_empty() {
        ("num_tokens", usize::from(config.num_tokens) == had.len())
    } else {
        ("initial_token", sorted(&config.initial_token) == sorted(had))
    };
    if same {
        return Ok(());
    }
    let (had, wants) = if key == "num_tokens" {
        (format!("{} tokens", had.len()), format!("num_tokens = {}", config.num_tokens))
    } else {
        (format!("the tokens {had:?}"), format!("initial_token = {:?}", config.initial_token))
    };
    Err(IdentityError::OtherTokens { file: file(), had, wants, key })
}

fn sorted(tokens: &[i64]) -> Vec<i64> {
    let mut tokens = tokens.to_vec();
    tokens.sort_unstable();
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seams::disk::{Faults, SimDisk};

    const NOON: i64 = 1_763_726_400_000_000;

    fn config() -> Config {
        Config { data_directory: "/data".into(), ..Config::default() }
    }

    fn open(disk: &SimDisk, config: &Config, wall: i64) -> Result<Identity, IdentityError> {
        Identity::open(disk, config, &Rng::from_seed(5), wall)
    }

    #[test]
    fn a_node_is_the_same_after_a_power_cut_and_begins_a_new_life() {
        let disk = SimDisk::new(1, Faults::default());
        let first = open(&disk, &config(), NOON).unwrap();
        assert!(first.first_start);
        assert_eq!(first.generation, Generation(1_763_726_400));
        assert_eq!(first.tokens.len(), 16);
        disk.crash();
        let disk = disk.reopen();
        let second = open(&disk, &config(), NOON + 5_000_000).unwrap();
        assert_eq!((second.node, &second.tokens), (first.node, &first.tokens));
        assert_eq!(second.generation, Generation(1_763_726_405));
        assert!(!second.first_start);
    }

    #[test]
    fn the_generation_grows_even_when_the_clock_goes_back() {
        let disk = SimDisk::new(1, Faults::default());
        let first = open(&disk, &config(), NOON).unwrap().generation;
        assert_eq!(open(&disk, &config(), NOON).unwrap().generation.0, first.0 + 1);
        assert_eq!(open(&disk, &config(), 0).unwrap().generation.0, first.0 + 2);
        assert_eq!(open(&disk, &config(), -NOON).unwrap().generation.0, first.0 + 3);
    }

    #[test]
    fn another_clusters_data_is_refused_and_left_alone() {
        let disk = SimDisk::new(1, Faults::default());
        let first = open(&disk, &config(), NOON).unwrap();
        let other = Config { cluster_name: "carthage".to_owned(), ..config() };
        assert_eq!(
            open(&disk, &other, NOON).unwrap_err().to_string(),
            "/data/identity.toml says that this data belongs to cluster `helenus`, and the configuration says \
             `cluster_name = \"carthage\"`: give this node a data_directory of its own, or correct cluster_name"
        );
        assert_eq!(open(&disk, &config(), NOON).unwrap().generation.0, first.generation.0 + 1);
    }

    #[test]
    fn tokens_cannot_change_under_the_data() {
        let disk = SimDisk::new(1, Faults::default());
        open(&disk, &config(), NOON).unwrap();
        let more = Config { num_tokens: 256, ..config() };
        assert_eq!(
            open(&disk, &more, NOON).unwrap_err().to_string(),
            "/data/identity.toml says that this node owns 16 tokens, and the configuration says num_tokens = 256: tokens \
             cannot change once there is data. Set num_tokens back, or start a new node with an empty data_directory"
        );
        let fixed = Config { initial_token: vec![5, -3], ..config() };
        let disk = SimDisk::new(1, Faults::default());
        assert_eq!(open(&disk, &fixed, NOON).unwrap().tokens, [Token(-3), Token(5)]);
        assert!(open(&disk, &fixed, NOON).is_ok(), "the same again, in another order");
        let moved = Config { initial_token: vec![5, -4], ..config() };
        assert!(matches!(open(&disk, &moved, NOON), Err(IdentityError::OtherTokens { .. })));
    }

    #[test]
    fn impossible_tokens_are_refused_at_the_first_start() {
        let refused = |config: Config| {
            let disk = SimDisk::new(1, Faults::default());
            open(&disk, &config, NOON).unwrap_err().to_string()
        };
        assert_eq!(
            refused(Config { initial_token: vec![7, 7], ..config() }),
            "initial_token has 7 twice: leave one out"
        );
        assert_eq!(
            refused(Config { initial_token: vec![i64::MIN], ..config() }),
            "initial_token has -9223372036854775808, which no key has: choose a greater one"
        );
        assert_eq!(
            refused(Config { num_tokens: 0, ..config() }),
            "num_tokens is 0: choose a number from 1 to 1536"
        );
    }

    #[test]
    fn one_that_has_left_never_starts_again_on_its_data() {
        let disk = SimDisk::new(1, Faults::default());
        let identity = open(&disk, &config(), NOON).unwrap();
        identity.keep(&disk, &config().cluster_name, Standing::Left).unwrap();
        disk.crash();
        let disk = disk.reopen();
        // It may be that nobody knows.
        for _ in 0..2 {
            let identity = open(&disk, &config(), NOON).unwrap();
            assert!(identity.left);
        }
        identity.keep(&disk, &config().cluster_name, Standing::LeftAndHeard).unwrap();
        for _ in 0..2 {
            let refused = open(&disk, &config(), NOON).unwrap_err().to_string();
            assert!(
                refused.starts_with("/data/identity.toml says that this node has left the ring")
            );
            assert!(refused.contains("Remove the data directory"), "{refused}");
        }
    }

    #[test]
    fn a_damaged_file_stops_the_start_and_says_what_to_do() {
        let disk = SimDisk::new(1, Faults::default());
        open(&disk, &config(), NOON).unwrap();
        disk.open(Path::new(FILE), false).unwrap().write_at(30, b"x").unwrap();
        let err = open(&disk, &config(), NOON).unwrap_err().to_string();
        assert!(
            err.starts_with("/data/identity.toml is damaged: its checksum does not hold."),
            "{err}"
        );
    }

    #[test]
    fn equal_seeds_choose_equal_names() {
        let one = open(&SimDisk::new(1, Faults::default()), &config(), NOON).unwrap();
        let two = open(&SimDisk::new(2, Faults::default()), &config(), NOON).unwrap();
        assert_eq!(one, two);
    }
}
