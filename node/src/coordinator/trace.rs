//! A request's trace: its story, told while it happens, by the coordinator and by the replicas that it asked.
//!
//! A [`Trace`] goes with the request. Mostly there is none, and then telling it something costs a look at an `Option`: the
//! words are made only for whoever listens. The other end is a [`Story`], from which the events are taken: those that
//! come after the answer (a straggler's acknowledgement, or the hint that it is owed) too, until nobody works on the request
//! any more. Replicas send their notes with their answers (`crate::replica::Notes`), so a replica that never answers tells
//! nothing.
//!
//! Bounds: [`EVENTS_MAX`] events of a request, [`STORIES_MAX`] stories at a time; what is beyond is counted.
//!
//! CAVEAT: a replica's notes say how long after the message's arrival something was done. When that was by the
//! coordinator's clock is a guess: the way there is taken to be as long as the way back, as NTP does.

pub(super) mod words;

use crate::replica;
use crate::seams::clock::Clock;
use helenus_core::NodeId;
use helenus_proto::v1::message::Body;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;

/// Events that are kept of one request.
const EVENTS_MAX: usize = 512;
/// Requests that are traced at a time, those included of which only a straggler is waited for.
const STORIES_MAX: usize = 128;
/// Bytes of what an event says.
const ACTIVITY_BYTES_MAX: usize = 1024;

/// Whose words an event is in: the room of the house.
pub(crate) mod room {
    /// This one.
    pub(crate) const COORDINATOR: &str = "coordinator";
    /// What a replica did.
    pub(crate) const REPLICA: &str = "replica";
    /// The front end for CQL.
    pub(crate) const CQL: &str = "cql";
}

/// What tracing counts.
#[derive(Debug, Clone, Default)]
pub struct TraceMetrics {
    sessions: Counter,
    refused: Counter,
    events_dropped: Counter,
    unwritten: Counter,
}

impl TraceMetrics {
    pub(crate) fn register(registry: &mut Registry) -> TraceMetrics {
        let metrics = TraceMetrics::default();
        for (name, help, counter) in [
            ("traces", "Requests that were traced", &metrics.sessions),
            (
                "traces_refused",
                "Requests that were not traced because too many others were",
                &metrics.refused,
            ),
            (
                "trace_events_dropped",
                "Events left out of traces that had too many",
                &metrics.events_dropped,
            ),
            (
                "trace_writes_failed",
                "Writes of a trace that no replica acknowledged",
                &metrics.unwritten,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        metrics
    }

    /// A part of a trace could not be written.
    pub(crate) fn unwritten(&self) {
        self.unwritten.inc();
    }
}

/// What happened, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// Since the trace began, by the coordinator's clock.
    pub(crate) at: Duration,
    /// Which node tells it.
    pub(crate) source: NodeId,
    /// Since that node has known of the request, by its own clock.
    pub(crate) source_elapsed: Duration,
    /// In whose words.
    pub(crate) room: &'static str,
    /// In words.
    pub(crate) activity: String,
}

/// Where a request's events go, if anywhere.
#[derive(Debug, Clone, Default)]
pub struct Trace(Option<Arc<Session>>);

/// The same story, or none.
impl PartialEq for Trace {
    fn eq(&self, other: &Trace) -> bool {
        match (&self.0, &other.0) {
            (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
            (None, None) => true,
            _ => false,
        }
    }
}

impl Eq for Trace {}

struct Session {
    node: NodeId,
    clock: Arc<dyn Clock>,
    began: Duration,
    events: mpsc::Sender<Event>,
    told: AtomicUsize,
    dropped: Counter,
    /// When each node was asked last.
    asked: Mutex<BTreeMap<NodeId, Duration>>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("began", &self.began).finish_non_exhaustive()
    }
}

/// A request's events, as they come.
pub(crate) struct Story {
    clock: Arc<dyn Clock>,
    began: Duration,
    events: mpsc::Receiver<Event>,
    _place: StoryPlace,
}

/// Counts the stories that are being told.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stories(Arc<AtomicUsize>);

/// A place among them, given back when dropped.
#[derive(Debug)]
struct StoryPlace(Stories);

impl Drop for StoryPlace {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Story {
    /// Begins one at `node`; `None`: too many are being told.
    pub(crate) fn begin(
        node: NodeId,
        clock: &Arc<dyn Clock>,
        stories: &Stories,
        metrics: &TraceMetrics,
    ) -> Option<(Trace, Story)> {
        let place = StoryPlace(stories.clone());
        if stories.0.fetch_add(1, Ordering::Relaxed) >= STORIES_MAX {
            metrics.refused.inc();
            return None;
        }
        metrics.sessions.inc();
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let began = clock.now();
        let session = Session {
            node,
            clock: Arc::clone(clock),
            began,
            events: sender,
            told: AtomicUsize::new(0),
            dropped: metrics.events_dropped.clone(),
            asked: Mutex::default(),
        };
        let story = Story { clock: Arc::clone(clock), began, events, _place: place };
        Some((Trace(Some(Arc::new(session))), story))
    }

    /// How long it has taken so far.
    pub(crate) fn elapsed(&self) -> Duration {
        self.clock.now().saturating_sub(self.began)
    }

    /// What was told and not taken yet.
    pub(crate) fn so_far(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }

    /// The next events, when there are some; empty: the story is over, nobody is left who could tell more.
    pub(crate) async fn more(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        self.events.recv_many(&mut events, EVENTS_MAX).await;
        events
    }
}

impl Trace {
    /// Whether anybody listens.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The coordinator tells something.
    pub(crate) fn tell(&self, activity: impl FnOnce() -> String) {
        self.tell_in(room::COORDINATOR, activity);
    }

    /// This node tells something, in the words of one of its rooms.
    pub(crate) fn tell_in(&self, room: &'static str, activity: impl FnOnce() -> String) {
        let Some(session) = &self.0 else { return };
        let at = session.elapsed();
        session.put(Event {
            at,
            source: session.node,
            source_elapsed: at,
            room,
            activity: activity(),
        });
    }

    /// As [`Trace::tell`]: `node` is sent a message now.
    pub(crate) fn asks(&self, node: NodeId, activity: impl FnOnce() -> String) {
        let Some(session) = &self.0 else { return };
        self.tell(activity);
        let at = session.elapsed();
        session.asked.lock().expect("no holder of this lock panics").insert(node, at);
    }

    /// An answer of `node` has come, and with it perhaps its notes.
    pub(crate) fn hears<E>(&self, node: NodeId, answer: &mut Result<Body, E>) {
        let (Some(session), Ok(body)) = (&self.0, answer) else { return };
        let now = session.elapsed();
        let asked =
            session.asked.lock().expect("no holder of this lock panics").get(&node).copied();
        let notes = replica::notes_of(body);
        let elapsed = |us: u64| Duration::from_micros(us);
        let took = notes.iter().map(|note| elapsed(note.elapsed_us)).max().unwrap_or_default();
        // Half of what it did not take itself was the way there.
        let asked = asked.unwrap_or(now);
        let there = asked + now.saturating_sub(asked).saturating_sub(took) / 2;
        for note in notes.into_iter().take(replica::NOTES_MAX) {
            let source_elapsed = elapsed(note.elapsed_us);
            session.put(Event {
                at: there.saturating_add(source_elapsed).min(now),
                source: node,
                source_elapsed,
                room: room::REPLICA,
                activity: note.activity,
            });
        }
    }
}

impl Session {
    fn elapsed(&self) -> Duration {
        self.clock.now().saturating_sub(self.began)
    }

    fn put(&self, mut event: Event) {
        if event.activity.len() > ACTIVITY_BYTES_MAX {
            let mut end = ACTIVITY_BYTES_MAX;
            while !event.activity.is_char_boundary(end) {
                end -= 1;
            }
            event.activity.truncate(end);
            event.activity.push('…');
        }
        let has_room = self.told.fetch_add(1, Ordering::Relaxed) < EVENTS_MAX;
        // Whoever listened may have gone: the node is stopping.
        if !has_room || self.events.try_send(event).is_err() {
            self.dropped.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seams::clock::SystemClock;
    use helenus_proto::v1;

    /// A clock that stands until it is set.
    struct Hand(Mutex<Duration>);

    impl Clock for Hand {
        fn now(&self) -> Duration {
            *self.0.lock().unwrap()
        }

        fn wall_micros(&self) -> i64 {
            0
        }
    }

    const HERE: NodeId = NodeId(1);
    const THERE: NodeId = NodeId(2);

    fn begin(stories: &Stories, metrics: &TraceMetrics) -> Option<(Trace, Story)> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        Story::begin(HERE, &clock, stories, metrics)
    }

    #[test]
    fn what_a_replica_did_lies_between_question_and_answer() {
        let hand = Arc::new(Hand(Mutex::default()));
        let set = |micros| *hand.0.lock().unwrap() = Duration::from_micros(micros);
        let clock: Arc<dyn Clock> = hand.clone();
        let (trace, mut story) =
            Story::begin(HERE, &clock, &Stories::default(), &TraceMetrics::default()).unwrap();
        set(100);
        trace.asks(THERE, || "asking".to_owned());
        set(300);
        let note = |elapsed_us| v1::TraceNote { elapsed_us, activity: elapsed_us.to_string() };
        // It took 40 of the 200, and 80 were the way there.
        let ack = v1::Ack { trace: vec![note(0), note(40)], ..v1::Ack::default() };
        trace.hears(THERE, &mut Ok::<_, ()>(Body::Ack(ack)));
        // One that says that it took longer than we have waited.
        let ack = v1::Ack { trace: vec![note(9_000)], ..v1::Ack::default() };
        trace.hears(THERE, &mut Ok::<_, ()>(Body::Ack(ack)));
        trace.tell(|| "done".to_owned());
        let at: Vec<(NodeId, u128, String)> = story
            .so_far()
            .into_iter()
            .map(|event| (event.source, event.at.as_micros(), event.activity))
            .collect();
        let told = |node, at, activity: &str| (node, at, activity.to_owned());
        let expected = [
            told(HERE, 100, "asking"),
            told(THERE, 180, "0"),
            told(THERE, 220, "40"),
            told(THERE, 300, "9000"),
            told(HERE, 300, "done"),
        ];
        assert_eq!(at, expected);
    }

    #[tokio::test]
    async fn the_story_ends_when_nobody_can_tell_more_of_it() {
        let (trace, mut story) = begin(&Stories::default(), &TraceMetrics::default()).unwrap();
        trace.tell(|| "one".to_owned());
        assert_eq!(story.so_far().len(), 1);
        let straggler = trace.clone();
        assert_eq!(straggler, trace);
        drop(trace);
        straggler.tell(|| "late".to_owned());
        let late = story.more().await;
        assert_eq!(late.len(), 1);
        drop(straggler);
        assert!(story.more().await.is_empty());
    }

    #[test]
    fn events_and_stories_beyond_the_bounds_are_counted() {
        let (stories, metrics) = (Stories::default(), TraceMetrics::default());
        let (trace, mut story) = begin(&stories, &metrics).unwrap();
        for _ in 0..EVENTS_MAX + 7 {
            trace.tell(|| "é".repeat(ACTIVITY_BYTES_MAX));
        }
        let told = story.so_far();
        assert_eq!((told.len(), metrics.events_dropped.get()), (EVENTS_MAX, 7));
        assert!(
            told.iter().all(|event| event.activity.len() <= ACTIVITY_BYTES_MAX + '…'.len_utf8())
        );
        let others: Vec<_> = (1..STORIES_MAX).map(|_| begin(&stories, &metrics).unwrap()).collect();
        assert!(begin(&stories, &metrics).is_none());
        assert!(begin(&stories, &metrics).is_none());
        assert_eq!((metrics.sessions.get(), metrics.refused.get()), (STORIES_MAX as u64, 2));
        drop(others);
        assert!(begin(&stories, &metrics).is_some());
    }

    #[test]
    fn an_untraced_request_makes_no_words() {
        let none = Trace::default();
        none.tell(|| panic!("nobody listens"));
        none.asks(THERE, || panic!("nobody listens"));
        assert!(!none.is_on());
        assert_eq!(none, Trace::default());
    }
}
