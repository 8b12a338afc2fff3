//! Who waits for a connection's answers, and what becomes of its requests when nobody does any more.
//!
//! A read is of no use then: it is dropped at its next step. All else goes on: a write owes hints to whoever does not
//! acknowledge it, a decree that was accepted is to be committed, a change of the schema is to be made everywhere. That is so in
//! Cassandra too, where a request's thread does not look whether its client is there still.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

/// Whether somebody waits for the answers. Clones are of the same connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Audience {
    gone: Arc<AtomicBool>,
}

impl Audience {
    /// Nobody does any more. Futures that are to notice have to be polled once.
    pub(super) fn leave(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }

    /// What `work` gives; `None`: nobody waits for it, and it was dropped where it stood.
    pub(super) fn while_there<T>(
        &self,
        mut work: Pin<&mut impl Future<Output = T>>,
    ) -> impl Future<Output = Option<T>> {
        std::future::poll_fn(move |context| {
            if self.gone.load(Ordering::Relaxed) {
                return Poll::Ready(None);
            }
            work.as_mut().poll(context).map(Some)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use std::pin::pin;

    #[test]
    fn work_ends_when_nobody_waits_for_it() {
        let audience = Audience::default();
        assert_eq!(audience.while_there(pin!(async { 1 })).now_or_never(), Some(Some(1)));
        let work = pin!(std::future::pending::<()>());
        let mut waits = audience.while_there(work);
        assert_eq!((&mut waits).now_or_never(), None);
        audience.clone().leave();
        assert_eq!(waits.now_or_never(), Some(None));
    }
}
