//! Clients that compare and set, over CQL, and note what they were told and when.
//!
//! Every value is written once, so that whoever reads it says which write it was. A client swaps what it believes to be
//! there, and sometimes what cannot be; it asks any node, and holds nothing against one that did not answer.

use super::{CLIENTS, REGISTERS};
use crate::actors::Connector;
use crate::oracle::linear::{Held, Op, Step};
use crate::world::Recorder;
use helenus_client::cql::{CqlConnection, CqlError, CqlOptions, at};
use helenus_core::Level;
use helenus_node::seams::rng::Rng;
use helenus_proto::cql::{
    Consistency, ErrorKind, Parameters, Request, Response, Rows, SerialConsistency,
};
use rand::Rng as _;
use rand::rngs::SmallRng;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long a client waits for an answer. Shorter than the nodes' own patience, so that some answers come when nobody
/// waits any more.
const PATIENCE: Duration = Duration::from_secs(3);
/// What a client does between two requests, at most.
const PAUSE_MS_MAX: u64 = 200;
/// Between two tries of what has to succeed in the end.
const AGAIN: Duration = Duration::from_millis(200);
/// The values that client `n` writes begin at `n` times this.
const VALUES_EACH: i64 = 1_000_000;

const KEYSPACE: &str = "CREATE KEYSPACE IF NOT EXISTS cas WITH replication = \
    {'class': 'SimpleStrategy', 'replication_factor': 3}";
const TABLE: &str = "CREATE TABLE IF NOT EXISTS cas.registers (k int PRIMARY KEY, v bigint)";

/// How far the clients are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// The cluster comes up; the last thing that was waited for.
    Starting(String),
    /// They write.
    Ready,
    /// They were told to stop, and read what is there; the last thing that was waited for.
    Ending(String),
    /// They are done.
    Over,
    /// They were told what no node may say.
    Broken(String),
}

/// What the clients share.
pub(super) struct Shared {
    nodes: Vec<SocketAddr>,
    recorder: Arc<Recorder>,
    rng: Rng,
    stopped: watch::Receiver<bool>,
    histories: Mutex<BTreeMap<i32, Vec<Op>>>,
}

impl Shared {
    pub(super) fn new(
        nodes: Vec<SocketAddr>,
        recorder: Arc<Recorder>,
        rng: Rng,
        stopped: watch::Receiver<bool>,
    ) -> Shared {
        Shared { nodes, recorder, rng, stopped, histories: Mutex::default() }
    }

    /// What they saw, by register.
    pub(super) fn histories(&self) -> BTreeMap<i32, Vec<Op>> {
        self.histories.lock().expect("no holder of this lock panics").clone()
    }

    fn note(&self, register: i32, op: Op) {
        self.recorder.trace("client", &(register, &op));
        let mut histories = self.histories.lock().expect("no holder of this lock panics");
        histories.entry(register).or_default().push(op);
    }
}

/// What a request came to.
enum Came {
    /// This was done, or seen.
    To(Step),
    /// Nothing was done.
    Nothing,
    /// Nobody knows.
    Unknown,
}

/// The clients' whole story.
pub(super) async fn play(shared: Arc<Shared>, stage: watch::Sender<Stage>) {
    let mut links = Links::new(&shared);
    while let Err(why) = prepare(&shared, &mut links).await {
        stage.send_replace(Stage::Starting(why));
        tokio::time::sleep(AGAIN).await;
    }
    stage.send_replace(Stage::Ready);
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(client(Arc::clone(&shared), number));
    }
    while let Some(ended) = clients.join_next().await {
        if let Err(why) = ended.unwrap_or_else(|error| Err(error.to_string())) {
            stage.send_replace(Stage::Broken(why));
            return;
        }
    }
    // Now that all is mended, each register is asked until it answers.
    for register in 0..REGISTERS {
        for turn in 0.. {
            let called = shared.recorder.elapsed();
            match ask(&mut links, turn, &read(register), serial(Level::Quorum, true)).await {
                Ok(Some(answer)) => match seen(&answer) {
                    Ok(held) => {
                        let (client, returned) = (CLIENTS, Some(shared.recorder.elapsed()));
                        let step = Step::Sees(held);
                        shared.note(register, Op { client, called, returned, step });
                        break;
                    }
                    Err(why) => {
                        stage.send_replace(Stage::Broken(why));
                        return;
                    }
                },
                Ok(None) => {
                    stage.send_replace(Stage::Ending("a connection".to_owned()));
                }
                Err(error) => {
                    stage.send_replace(Stage::Ending(error.to_string()));
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
    stage.send_replace(Stage::Over);
}

/// The table is there, and each node can read it from all replicas.
async fn prepare(shared: &Shared, links: &mut Links<'_>) -> Result<(), String> {
    let connected = |answer: Result<Option<Response>, CqlError>| match answer {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err("a connection".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    connected(ask(links, 0, KEYSPACE, at(Level::One)).await)?;
    connected(ask(links, 0, TABLE, at(Level::One)).await)?;
    for nth in 0..shared.nodes.len() {
        connected(ask(links, nth, &read(0), at(Level::All)).await)?;
    }
    Ok(())
}

/// One client, until all are told to stop. `Err`: a node said what it must not.
async fn client(shared: Arc<Shared>, number: usize) -> Result<(), String> {
    let mut chance = shared.rng.stream(&format!("client/{number}"));
    let mut links = Links::new(&shared);
    let mut believed: BTreeMap<i32, Held> = BTreeMap::new();
    let mut fresh = i64::try_from(number).unwrap_or(i64::MAX) * VALUES_EACH;
    while !*shared.stopped.borrow() {
        let (register, node) = (chance.random_range(0..REGISTERS), chance.random_range(0..64));
        let held = believed.entry(register).or_default();
        let wish = match chance.random_range(0..10) {
            0..=3 => None,
            // A value that nobody writes.
            4 => Some((Some(-1), fresh)),
            _ => Some((*held, fresh)),
        };
        let statement = match wish {
            None => read(register),
            Some((from, to)) => swap(register, from, to),
        };
        let called = shared.recorder.elapsed();
        let answer = ask(&mut links, node, &statement, serial(Level::Quorum, wish.is_none())).await;
        let came = match answer {
            Ok(None) => Came::Nothing,
            Ok(Some(answer)) => Came::To(match wish {
                None => Step::Sees(seen(&answer)?),
                Some((from, to)) => swapped(&answer, from, to)?,
            }),
            Err(error) => what_came_of(&error)?,
        };
        let returned = shared.recorder.elapsed();
        let note =
            |returned, step| shared.note(register, Op { client: number, called, returned, step });
        match (came, wish) {
            (Came::To(step), _) => {
                *held = match step {
                    Step::Sees(held) => held,
                    Step::Swaps { to, .. } => Some(to),
                };
                note(Some(returned), step);
            }
            (Came::Unknown, Some((from, to))) => note(None, Step::Swaps { from, to }),
            (Came::Unknown, None) | (Came::Nothing, _) => {}
        }
        fresh += 1;
        pause(&mut chance).await;
    }
    Ok(())
}

async fn pause(chance: &mut SmallRng) {
    tokio::time::sleep(Duration::from_millis(chance.random_range(0..=PAUSE_MS_MAX))).await;
}

fn read(register: i32) -> String {
    format!("SELECT v FROM cas.registers WHERE k = {register}")
}

fn swap(register: i32, from: Held, to: i64) -> String {
    match from {
        None => {
            format!("INSERT INTO cas.registers (k, v) VALUES ({register}, {to}) IF NOT EXISTS")
        }
        Some(from) => {
            format!("UPDATE cas.registers SET v = {to} WHERE k = {register} IF v = {from}")
        }
    }
}

/// A serial read, or a write that is committed at this level.
fn serial(level: Level, read: bool) -> Parameters {
    let consistency = match read {
        true => Consistency::Serial(SerialConsistency::Serial),
        false => Consistency::Ordinary(level),
    };
    Parameters {
        consistency,
        serial_consistency: Some(SerialConsistency::Serial),
        ..Parameters::default()
    }
}

/// Connections that are made when they are needed.
struct Links<'s> {
    nodes: &'s [SocketAddr],
    open: BTreeMap<SocketAddr, CqlConnection>,
}

impl Links<'_> {
    fn new(shared: &Shared) -> Links<'_> {
        Links { nodes: &shared.nodes, open: BTreeMap::new() }
    }

    /// One to the `nth` node of a round; `None`: nobody is there.
    async fn to(&mut self, nth: usize) -> Option<CqlConnection> {
        let addr = *self.nodes.iter().cycle().nth(nth)?;
        if let Some(link) = self.open.get(&addr).filter(|link| !link.is_lost()) {
            return Some(link.clone());
        }
        let options = CqlOptions { timeout: PATIENCE, ..CqlOptions::default() };
        let link = CqlConnection::connect(&Connector, addr, options).await.ok()?;
        self.open.insert(addr, link.clone());
        Some(link)
    }
}

/// `Ok(None)`: nothing was sent.
async fn ask(
    links: &mut Links<'_>,
    nth: usize,
    statement: &str,
    parameters: Parameters,
) -> Result<Option<Response>, CqlError> {
    let Some(link) = links.to(nth).await else { return Ok(None) };
    let request = Request::Query { query: statement.to_owned(), parameters };
    let answer = link.ask(request).await;
    if matches!(answer, Err(CqlError::Deadline { .. })) {
        // Whether it is slow or gone is not worth another wait.
        links.open.remove(&link.addr());
    }
    match answer?.response {
        Response::Error(error) => Err(CqlError::Server(error)),
        response => Ok(Some(response)),
    }
}

/// What an error tells about the request. `Err`: it is none that a cluster under faults may answer with.
fn what_came_of(error: &CqlError) -> Result<Came, String> {
    match error {
        CqlError::Server(said) => match &said.kind {
            ErrorKind::Unavailable { .. } | ErrorKind::IsBootstrapping => Ok(Came::Nothing),
            ErrorKind::WriteTimeout { .. }
            | ErrorKind::ReadTimeout { .. }
            | ErrorKind::WriteFailure { .. }
            | ErrorKind::ReadFailure { .. }
            | ErrorKind::CasWriteUnknown { .. }
            | ErrorKind::Overloaded
            | ErrorKind::Server => Ok(Came::Unknown),
            _ => Err(error.to_string()),
        },
        CqlError::NotConnected { .. } | CqlError::TooMuchInFlight { .. } => Ok(Came::Nothing),
        CqlError::Protocol { .. } => Err(error.to_string()),
        _ => Ok(Came::Unknown),
    }
}

fn rows(answer: &Response) -> Result<&Rows, String> {
    match answer {
        Response::Rows(rows) => Ok(rows),
        other => Err(format!("rows were asked for, and this came: {other:?}")),
    }
}

fn number(cell: Option<&Option<bytes::Bytes>>) -> Result<Held, String> {
    let Some(Some(cell)) = cell else { return Ok(None) };
    let bytes = <[u8; 8]>::try_from(&cell[..]);
    bytes.map(|bytes| Some(i64::from_be_bytes(bytes))).map_err(|_| format!("no bigint: {cell:?}"))
}

/// What a read found.
fn seen(answer: &Response) -> Result<Held, String> {
    match rows(answer)?.rows.as_slice() {
        [] => Ok(None),
        [row] => number(row.first()),
        more => Err(format!("{} rows of one register", more.len())),
    }
}

/// What a swap did, or saw instead: `| [applied] | … | v |`, without the rest if there is no row.
fn swapped(answer: &Response, from: Held, to: i64) -> Result<Step, String> {
    let [row] = rows(answer)?.rows.as_slice() else {
        return Err(format!("a conditional write has one row: {answer:?}"));
    };
    match (row.first(), row.len()) {
        (Some(Some(applied)), _) if applied[..] == [1] => Ok(Step::Swaps { from, to }),
        (Some(Some(applied)), columns) if applied[..] == [0] => {
            let held = if columns > 1 { number(row.last())? } else { None };
            match held == from {
                true => Err(format!("refused to swap {from:?} for {to}, though that was there")),
                false => Ok(Step::Sees(held)),
            }
        }
        _ => Err(format!("a conditional write says whether it was applied: {row:?}")),
    }
}
