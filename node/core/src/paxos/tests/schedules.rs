//! Schedules: what one proposer, three acceptors and a bad network can do to a register that is only written by
//! compare-and-set.
//!
//! A run is a walk: in each step one message is delivered, doubled or lost, a sync ends, an acceptor crashes and forgets
//! what was not synced, or a proposer begins an operation or gives up. Every update names the update that it was made upon,
//! so the register is linearizable exactly if the updates that quorums accept form one chain.

use super::super::*;
use crate::tally::Verdict;
use std::collections::{BTreeMap, BTreeSet};

const ACCEPTORS: usize = 3;
const PROPOSERS: usize = 3;
const QUORUM: usize = 2;
const STEPS: usize = 1500;
const RUNS: u64 = 800;

/// What is planted, to see that it would be noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    None,
    /// An acceptance is answered before it is on the medium.
    AcceptsUnsynced,
    /// A promise is.
    PromisesUnsynced,
    /// What another began is not finished.
    FinishesNothing,
    /// Whoever lacks the newest commit is not taught it.
    TeachesNobody,
    /// A condition that does not hold is answered without a proposal.
    RefusesUnproposed,
}

/// Small chance without a crate: splitmix64.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }
}

/// The register as a replica holds it: the newest update by timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Register {
    timestamp: i64,
    id: u64,
}

/// An update: `| id u64 | the id it was made upon u64 | timestamp i64 |`.
fn update(id: u64, upon: u64, timestamp: i64) -> Bytes {
    [id.to_be_bytes(), upon.to_be_bytes(), timestamp.to_be_bytes()].concat().into()
}

fn parts(mut update: &[u8]) -> (u64, u64, i64) {
    (update.get_u64(), update.get_u64(), update.get_i64())
}

#[derive(Debug, Clone)]
enum Request {
    Prepare(Ballot),
    Read,
    Propose(Proposal),
    Commit(Proposal),
}

#[derive(Debug, Clone)]
enum Answer {
    Prepared(Prepared),
    Read(Register),
    Accepted(Accepted),
    Committed,
}

#[derive(Debug, Clone)]
struct Message {
    proposer: usize,
    /// Which of the proposer's calls it belongs to: answers to earlier ones are late.
    call: u64,
    acceptor: usize,
    what: Result<Answer, Request>,
}

#[derive(Debug, Clone, Default)]
struct Holdings {
    state: State,
    register: Register,
}

#[derive(Default)]
struct Acceptor {
    now: Holdings,
    synced: Holdings,
    /// Answers that wait for a sync, and what was accepted.
    waiting: Vec<(Message, Option<Proposal>)>,
}

/// What a proposer waits for.
enum Waits {
    Idle,
    Promises(Ballot, Promises),
    /// The newest commit to be learnt by so many more.
    Lessons(Ballot, usize),
    /// Registers.
    Reads(Ballot, Vec<Register>),
    /// Its own proposal, or one that it finishes.
    Accepts(Proposal, Accepts, Purpose),
    Commits(Purpose, usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Its own update, made upon this one.
    Own,
    /// Another's.
    Finish,
    /// The empty one of a condition that did not hold, as this was there.
    Refuse(u64),
}

struct Proposer {
    waits: Waits,
    call: u64,
    answered: BTreeSet<usize>,
    newest: Option<Ballot>,
    /// What the register has to be for it to write; `None`: whatever it is.
    expects: Option<u64>,
    /// The last decree when the operation began: what it reads may not be older.
    began_behind: usize,
    /// The updates that had been given up by then, undecided.
    given_up: BTreeSet<u64>,
}

struct World {
    bug: Bug,
    chance: Chance,
    clock: i64,
    ids: u64,
    acceptors: Vec<Acceptor>,
    proposers: Vec<Proposer>,
    network: Vec<Message>,
    /// Who has ever accepted what: by ballot.
    accepted: BTreeMap<i64, BTreeSet<usize>>,
    /// The updates that a quorum accepted, in the order in which the first quorum was complete.
    chain: Vec<u64>,
    /// Updates whose client went away or was told that nobody knows.
    given_up: BTreeSet<u64>,
    /// Those of them that a client has then seen not to be there: they must not come up any more.
    dead: BTreeSet<u64>,
    applied: usize,
    refused: usize,
}

impl World {
    fn new(seed: u64, bug: Bug) -> World {
        let proposer = |_| Proposer {
            waits: Waits::Idle,
            call: 0,
            answered: BTreeSet::new(),
            newest: None,
            expects: None,
            began_behind: 0,
            given_up: BTreeSet::new(),
        };
        World {
            bug,
            chance: Chance(seed),
            clock: 1000,
            ids: 0,
            acceptors: (0..ACCEPTORS).map(|_| Acceptor::default()).collect(),
            proposers: (0..PROPOSERS).map(proposer).collect(),
            network: Vec::new(),
            accepted: BTreeMap::new(),
            chain: vec![0],
            given_up: BTreeSet::new(),
            dead: BTreeSet::new(),
            applied: 0,
            refused: 0,
        }
    }

    /// `Err` says how the run went wrong.
    fn run(&mut self) -> Result<(), String> {
        for _ in 0..STEPS {
            match self.chance.below(100) {
                0..=4 => self.begin(),
                5..=6 => {
                    let who = self.chance.below(PROPOSERS);
                    // The client went away, or time was up: what is under way stays under way.
                    let waits = std::mem::replace(&mut self.proposers[who].waits, Waits::Idle);
                    if let Waits::Accepts(proposal, _, Purpose::Own) = waits {
                        self.given_up.insert(parts(&proposal.update).0);
                    }
                }
                7 => {
                    let acceptor = self.chance.below(ACCEPTORS);
                    self.crash(acceptor);
                }
                8..=27 => {
                    let acceptor = self.chance.below(ACCEPTORS);
                    self.sync(acceptor)?;
                }
                action => {
                    if self.network.is_empty() {
                        continue;
                    }
                    let at = self.chance.below(self.network.len());
                    match action {
                        28..=30 => drop(self.network.swap_remove(at)),
                        31..=34 => {
                            let again = self.network[at].clone();
                            self.deliver(again)?;
                        }
                        _ => {
                            let message = self.network.swap_remove(at);
                            self.deliver(message)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self) {
        let who = self.chance.below(PROPOSERS);
        if !matches!(self.proposers[who].waits, Waits::Idle) {
            return;
        }
        // Two of three take whatever is there; the third expects something that never is.
        let never = self.chance.below(3) == 0;
        let proposer = &mut self.proposers[who];
        proposer.expects = never.then_some(u64::MAX);
        proposer.began_behind = self.chain.len() - 1;
        proposer.given_up.clone_from(&self.given_up);
        self.prepare(who);
    }

    fn prepare(&mut self, who: usize) {
        // Clocks are not the same: each is somewhere around the one that they should show.
        self.clock += 1;
        let skew = i64::try_from(self.chance.below(8)).unwrap();
        let newest = self.proposers[who].newest;
        let micros = (self.clock + skew).max(newest.map_or(0, |b| b.micros.0 + 1));
        let (node, nonce) = (NodeId(who as u128), self.chance.next());
        let ballot = Ballot { micros: TimestampMicros(micros), node, nonce };
        let promises = Promises::new(QUORUM, ACCEPTORS);
        self.call(who, Waits::Promises(ballot, promises), &Request::Prepare(ballot), None);
    }

    /// Asks all acceptors, or only these.
    fn call(&mut self, who: usize, waits: Waits, request: &Request, only: Option<&[NodeId]>) {
        let proposer = &mut self.proposers[who];
        proposer.waits = waits;
        proposer.call += 1;
        proposer.answered.clear();
        let call = proposer.call;
        for acceptor in 0..ACCEPTORS {
            if only.is_none_or(|only| only.contains(&NodeId(acceptor as u128))) {
                let what = Err(request.clone());
                self.network.push(Message { proposer: who, call, acceptor, what });
            }
        }
    }

    fn crash(&mut self, at: usize) {
        let acceptor = &mut self.acceptors[at];
        acceptor.now = acceptor.synced.clone();
        acceptor.waiting.clear();
    }

    fn sync(&mut self, at: usize) -> Result<(), String> {
        let acceptor = &mut self.acceptors[at];
        acceptor.synced = acceptor.now.clone();
        for (message, proposal) in std::mem::take(&mut acceptor.waiting) {
            self.answer(message, proposal)?;
        }
        Ok(())
    }

    fn answer(&mut self, message: Message, accepted: Option<Proposal>) -> Result<(), String> {
        let at = message.acceptor;
        self.network.push(message);
        accepted.map_or(Ok(()), |proposal| self.has_accepted(at, &proposal))
    }

    fn deliver(&mut self, message: Message) -> Result<(), String> {
        match message.what.clone() {
            Err(request) => self.serve(message, request),
            Ok(answer) => self.take(&message, answer),
        }
    }

    fn serve(&mut self, mut message: Message, request: Request) -> Result<(), String> {
        let at = message.acceptor;
        let holdings = &mut self.acceptors[at].now;
        let mut accepted = None;
        let (answer, waits) = match request {
            Request::Prepare(ballot) => {
                let answer = holdings.state.prepare(ballot);
                (Answer::Prepared(answer), self.bug != Bug::PromisesUnsynced)
            }
            Request::Read => (Answer::Read(holdings.register), false),
            Request::Propose(proposal) => {
                let answer = holdings.state.accept(&proposal);
                if answer == Accepted::Yes {
                    accepted = Some(proposal);
                }
                (Answer::Accepted(answer), self.bug != Bug::AcceptsUnsynced)
            }
            Request::Commit(proposal) => {
                let (id, _, timestamp) = parts(&proposal.update);
                holdings.register = holdings.register.max(Register { timestamp, id });
                holdings.state.commit(&proposal);
                // As in production: a commit is not waited for.
                (Answer::Committed, false)
            }
        };
        message.what = Ok(answer);
        if waits {
            self.acceptors[at].waiting.push((message, accepted));
            return Ok(());
        }
        self.answer(message, accepted)
    }

    /// The heart of it: what a quorum has accepted is decided, and was made upon what was decided before.
    fn has_accepted(&mut self, at: usize, proposal: &Proposal) -> Result<(), String> {
        let by = self.accepted.entry(proposal.ballot.micros.0).or_default();
        by.insert(at);
        if by.len() != QUORUM || proposal.update.is_empty() {
            return Ok(());
        }
        let (id, upon, _) = parts(&proposal.update);
        match self.chain.last() {
            // Once more, by another proposer.
            Some(last) if *last == id => Ok(()),
            _ if self.dead.contains(&id) => {
                Err(format!("{id} was decided after a client had seen that it was not"))
            }
            Some(last) if *last == upon && !self.chain.contains(&id) => {
                self.chain.push(id);
                Ok(())
            }
            last => Err(format!("{id} was made upon {upon} and decided behind {last:?}")),
        }
    }

    fn take(&mut self, message: &Message, answer: Answer) -> Result<(), String> {
        let who = message.proposer;
        let proposer = &mut self.proposers[who];
        if message.call != proposer.call || !proposer.answered.insert(message.acceptor) {
            return Ok(());
        }
        let node = NodeId(message.acceptor as u128);
        let waits = std::mem::replace(&mut proposer.waits, Waits::Idle);
        match (waits, answer) {
            (Waits::Promises(ballot, mut promises), Answer::Prepared(answer)) => {
                let verdict = promises.record(node, answer);
                if promises.newest().is_some_and(|b| b.supersedes(proposer.newest.as_ref())) {
                    proposer.newest = promises.newest();
                }
                match verdict {
                    Verdict::Pending => proposer.waits = Waits::Promises(ballot, promises),
                    Verdict::Lost => self.prepare(who),
                    Verdict::Met => self.promised(who, ballot, &promises),
                }
            }
            (Waits::Lessons(ballot, 1), Answer::Committed) => self.read(who, ballot),
            (Waits::Lessons(ballot, left), Answer::Committed) => {
                proposer.waits = Waits::Lessons(ballot, left - 1);
            }
            (Waits::Reads(ballot, mut found), Answer::Read(register)) => {
                found.push(register);
                if found.len() < QUORUM {
                    proposer.waits = Waits::Reads(ballot, found);
                } else {
                    return self.judge(who, ballot, &found);
                }
            }
            (Waits::Accepts(proposal, mut accepts, purpose), Answer::Accepted(answer)) => {
                if let Accepted::Refused { by } = answer
                    && by.supersedes(proposer.newest.as_ref())
                {
                    proposer.newest = Some(by);
                }
                match accepts.record(answer) {
                    None => proposer.waits = Waits::Accepts(proposal, accepts, purpose),
                    Some(Proposed::Accepted) => self.decided(who, &proposal, purpose)?,
                    // The client of its own update is told so, and goes.
                    Some(Proposed::Unknown { .. }) if purpose == Purpose::Own => {
                        self.given_up.insert(parts(&proposal.update).0);
                    }
                    Some(Proposed::Unknown { .. } | Proposed::Refused { .. }) => self.prepare(who),
                }
            }
            (Waits::Commits(purpose, left), Answer::Committed) => match (purpose, left) {
                (Purpose::Finish, 1) => self.prepare(who),
                (_, 1) => self.applied += 1,
                (_, left) => proposer.waits = Waits::Commits(purpose, left - 1),
            },
            (waits, _) => proposer.waits = waits,
        }
        Ok(())
    }

    fn promised(&mut self, who: usize, ballot: Ballot, promises: &Promises) {
        match promises.next() {
            Next::Finish(begun) if self.bug != Bug::FinishesNothing => {
                let proposal = Proposal { ballot, ..begun };
                self.propose(who, proposal, Purpose::Finish);
            }
            Next::Teach { commit, missing } if self.bug != Bug::TeachesNobody => {
                let waits = Waits::Lessons(ballot, missing.len());
                self.call(who, waits, &Request::Commit(commit), Some(&missing));
            }
            _ => self.read(who, ballot),
        }
    }

    fn read(&mut self, who: usize, ballot: Ballot) {
        self.call(who, Waits::Reads(ballot, Vec::new()), &Request::Read, None);
    }

    fn propose(&mut self, who: usize, proposal: Proposal, purpose: Purpose) {
        let accepts = Accepts::new(QUORUM, ACCEPTORS);
        let waits = Waits::Accepts(proposal.clone(), accepts, purpose);
        self.call(who, waits, &Request::Propose(proposal), None);
    }

    /// The condition, and what follows from it.
    fn judge(&mut self, who: usize, ballot: Ballot, found: &[Register]) -> Result<(), String> {
        let id = found.iter().max().map_or(0, |register| register.id);
        let micros = ballot.micros.0;
        if self.proposers[who].expects.is_some_and(|expected| expected != id) {
            if self.bug == Bug::RefusesUnproposed {
                return self.is_refused(who, id);
            }
            self.propose(who, Proposal { ballot, update: Bytes::new() }, Purpose::Refuse(id));
            return Ok(());
        }
        self.ids += 1;
        let update = update(self.ids, id, micros);
        self.propose(who, Proposal { ballot, update }, Purpose::Own);
        Ok(())
    }

    fn decided(&mut self, who: usize, proposal: &Proposal, purpose: Purpose) -> Result<(), String> {
        if let Purpose::Refuse(id) = purpose {
            return self.is_refused(who, id);
        }
        // Its own at ONE, which is the hardest for those who come after it.
        let needed = if purpose == Purpose::Own { 1 } else { QUORUM };
        let request = Request::Commit(proposal.clone());
        self.call(who, Waits::Commits(purpose, needed), &request, None);
        Ok(())
    }

    /// A client is told that the register was `id`: it must have been so at some moment since it asked, and what was begun
    /// and is no newer must not be decided any more.
    fn is_refused(&mut self, who: usize, id: u64) -> Result<(), String> {
        self.refused += 1;
        let at = self.chain.iter().position(|known| *known == id);
        let Some(at) = at else { return Err(format!("{id} was read and never decided")) };
        let began = self.proposers[who].began_behind;
        if at < began {
            return Err(format!("decree {at} was read by one who began behind decree {began}"));
        }
        let given_up = std::mem::take(&mut self.proposers[who].given_up);
        self.dead.extend(given_up.into_iter().filter(|id| !self.chain.contains(id)));
        Ok(())
    }
}

/// Runs until one goes wrong; how many had nothing to complain of, how much was applied and refused in them, and the
/// complaint.
fn runs(bug: Bug) -> (u64, usize, usize, Option<String>) {
    let (mut applied, mut refused) = (0, 0);
    for seed in 0..RUNS {
        let mut world = World::new(seed, bug);
        if let Err(complaint) = world.run() {
            return (seed, applied, refused, Some(format!("seed {seed}: {complaint}")));
        }
        applied += world.applied;
        refused += world.refused;
    }
    (RUNS, applied, refused, None)
}

#[test]
fn decrees_form_one_chain_whatever_is_lost_doubled_late_or_forgotten() {
    let (_, applied, refused, complaint) = runs(Bug::None);
    assert_eq!(complaint, None);
    // A test of nothing would pass as well.
    assert!(applied > 2000 && refused > 500, "{applied} applied, {refused} refused");
}

#[test]
fn an_acceptance_that_a_crash_forgets_is_noticed() {
    let (.., complaint) = runs(Bug::AcceptsUnsynced);
    assert!(complaint.is_some());
}

#[test]
fn a_promise_that_a_crash_forgets_is_noticed() {
    let (.., complaint) = runs(Bug::PromisesUnsynced);
    assert!(complaint.is_some());
}

#[test]
fn a_proposal_that_nobody_finishes_is_noticed() {
    let (.., complaint) = runs(Bug::FinishesNothing);
    assert!(complaint.is_some());
}

#[test]
fn a_refusal_that_leaves_what_was_begun_alive_is_noticed() {
    let (.., complaint) = runs(Bug::RefusesUnproposed);
    assert!(complaint.is_some());
}

#[test]
fn a_commit_that_a_quorum_does_not_know_is_noticed() {
    let (.., complaint) = runs(Bug::TeachesNobody);
    assert!(complaint.is_some());
}
