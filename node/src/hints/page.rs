//! Pages: hints on their way to their target, and what becomes of them.
//!
//! Reading and settling are apart: a page that is not acknowledged changes nothing, one that is leaves the books at once
//! and the disk by the background, in the order ledger (if some of it is lost), position, files. Whatever a crash
//! interrupts, the position says the truth or less, and less only means that a page is sent again.

use super::files::{Part, Span};
use super::gone::Gone;
use super::record::{Hint, Position};
use super::state::{Settled, State};
use super::{HintError, HintStore, Shared, at, unlink_all};
use crate::seams::background::{self, Lane};
use crate::seams::probe::{Event, HintLoss};
use helenus_core::hint::expired;
use helenus_core::{NodeId, TableId};
use std::io;
use std::sync::Arc;
use std::time::Duration;

impl HintStore {
    /// The oldest hints owed to `target` that are still worth delivering, of about `max_bytes` in all and at least one.
    /// `None`: nothing can be read now. `gc_grace_now` is the table's setting, if the table is known.
    ///
    /// Hand the page to [`HintStore::complete`] when the target has acknowledged it; drop it when it has not.
    pub async fn next_page(
        &self,
        target: NodeId,
        max_bytes: u64,
        gc_grace_now: &(dyn Fn(TableId) -> Option<u32> + Send + Sync),
    ) -> Result<Option<Page>, HintError> {
        loop {
            let Some((spans, claim)) = self.plan_page(target, max_bytes)? else { return Ok(None) };
            let (parts, failed) = self.read_page(&claim, spans, max_bytes).await?;
            if parts.is_empty()
                && let Some((seq, error)) = failed
            {
                if !claim.is_current() {
                    // Truncated meanwhile: the file is gone because it was meant to be.
                    return Ok(None);
                }
                let now_ms = self.wall_ms();
                self.lock().unreadable(target, seq, &error, now_ms);
                return Err(at(&self.shared.files.segment(target, seq), &error));
            }
            let page = self.sort_out(claim, parts, gc_grace_now);
            if !page.hints.is_empty() {
                return Ok(Some(page));
            }
            // Everything in it had expired or was damaged: on to the next.
            self.complete(page).await?;
        }
    }

    /// The hints behind a page that is on its way, read ahead so that their target need not wait for them. `None`: nothing
    /// can be read there now. The page may have nothing to deliver, if all of it expired; and it is completed after
    /// `before`, or not at all.
    pub async fn page_behind(
        &self,
        before: &Page,
        max_bytes: u64,
        gc_grace_now: &(dyn Fn(TableId) -> Option<u32> + Send + Sync),
    ) -> Result<Option<Page>, HintError> {
        let target = before.claim.target;
        let planned = {
            let mut state = self.lock();
            let last = state.targets.get(&target).and_then(|owed| owed.on_the_way.back());
            let follows = last.is_some_and(|last| last.page == before.claim.page && !last.reading);
            if follows { self.claim(&mut state, target, max_bytes) } else { None }
        };
        let Some((spans, claim)) = planned else { return Ok(None) };
        let (parts, _) = self.read_page(&claim, spans, max_bytes).await?;
        // What cannot be read is met again, and counted, when it is the next page's turn.
        Ok((!parts.is_empty()).then(|| self.sort_out(claim, parts, gc_grace_now)))
    }

    fn plan_page(
        &self,
        target: NodeId,
        max_bytes: u64,
    ) -> Result<Option<(Vec<Span>, Claim)>, HintError> {
        let mut state = self.lock();
        match state.targets.get(&target) {
            None => Ok(None),
            Some(owed) if !owed.on_the_way.is_empty() => Err(HintError::Busy { target }),
            Some(_) => Ok(self.claim(&mut state, target, max_bytes)),
        }
    }

    fn claim(
        &self,
        state: &mut State,
        target: NodeId,
        max_bytes: u64,
    ) -> Option<(Vec<Span>, Claim)> {
        let (spans, page) = state.plan_page(target, max_bytes, &self.shared.files)?;
        Some((spans, Claim { shared: Arc::clone(&self.shared), target, page }))
    }

    /// Reads what was planned, or as much of it as a page holds.
    async fn read_page(
        &self,
        claim: &Claim,
        spans: Vec<Span>,
        max_bytes: u64,
    ) -> Result<(Vec<Part>, Option<(u64, io::Error)>), HintError> {
        let (target, files) = (claim.target, self.shared.files.clone());
        let job = move || files.read_page(target, &spans, max_bytes);
        let background = &*self.shared.background;
        let (parts, failed) = background::run(background, Lane::Hints, max_bytes, job).await?;
        if let Some(last) = parts.last() {
            claim.read_until(last);
        }
        Ok((parts, failed))
    }

    /// Parts what is still worth delivering from what has expired.
    fn sort_out(
        &self,
        claim: Claim,
        parts: Vec<Part>,
        gc_grace_now: &(dyn Fn(TableId) -> Option<u32> + Send + Sync),
    ) -> Page {
        let now_ms = self.wall_ms();
        let mut page = Page::new(claim, HintLoss::Expired);
        for part in parts {
            let mut settled = Settled::nothing_of(&part);
            for hint in part.hints {
                let age = Duration::from_millis(now_ms.saturating_sub(hint.created_ms));
                if expired(age, hint.gc_grace_s, gc_grace_now(hint.table)) {
                    settled.lost += 1;
                    page.lost.push(hint);
                } else {
                    settled.delivered += 1;
                    page.bytes += (hint.key.0.len() + hint.update.len()) as u64;
                    page.hints.push(hint);
                }
            }
            page.settled.push(settled);
        }
        page
    }

    /// The oldest hints for `target` that were written before this time, as a page to complete that delivers none of them:
    /// they are lost for `loss`. It ends before the first one that is younger. `None`: the oldest of all is.
    pub(super) async fn older_page(
        &self,
        target: NodeId,
        before_ms: u64,
        loss: HintLoss,
        max_bytes: u64,
    ) -> Result<Option<Page>, HintError> {
        let Some((spans, claim)) = self.plan_page(target, max_bytes)? else { return Ok(None) };
        let Some(span) = spans.first().copied() else { return Ok(None) };
        let files = self.shared.files.clone();
        let job = move || {
            let part = files.read(target, span, max_bytes)?;
            let older = part.hints.iter().take_while(|hint| hint.created_ms < before_ms).count();
            // Read again, so that it is known where the first younger one begins.
            if older < part.hints.len() {
                files.read_some(target, span, max_bytes, older)
            } else {
                Ok(part)
            }
        };
        let read = background::run(&*self.shared.background, Lane::Hints, max_bytes, job).await?;
        let part = read.map_err(|e| at(&self.shared.files.segment(target, span.seq), &e))?;
        claim.read_until(&part);
        if part.until == span.from {
            return Ok(None);
        }
        let mut page = Page::new(claim, loss);
        page.settled.push(Settled { lost: part.hints.len() as u64, ..Settled::nothing_of(&part) });
        page.lost = part.hints;
        Ok(Some(page))
    }

    /// The target has acknowledged the page: its hints are delivered, and the position after them is made durable. A page
    /// that is not the first of those on their way settles nothing: what is before it may never arrive.
    pub async fn complete(&self, page: Page) -> Result<(), HintError> {
        let target = page.claim.target;
        let now_ms = self.wall_ms();
        let mut lost = Vec::new();
        let (position, turn, doomed, ledger) = {
            let mut state = self.lock();
            if !page.claim.settles_in(&mut state) {
                // Truncated meanwhile, and counted as that.
                return Ok(());
            }
            state.settle(target, &page.settled, (page.redirected, page.loss), now_ms);
            if !page.redirected {
                let bytes: u64 = page.hints.iter().map(Hint::record_bytes).sum();
                *state.delivered_bytes.entry(target).or_default() += bytes;
            }
            let (reason, hints) = (page.loss, page.lost);
            let gone = Gone { target, reason, hints, unread: 0, unread_bytes: 0 };
            state.record_gone(gone, now_ms, &mut lost);
            let (position, turn) = state.position(target);
            let ledger = if lost.is_empty() { None } else { state.losses().take() };
            (position, turn, std::mem::take(&mut state.doomed), ledger)
        };
        let delivered = page.hints.iter().map(|hint| hint.key.clone());
        self.tell(delivered.map(|key| match page.redirected {
            false => Event::HintDelivered { target, key },
            true => Event::HintRedirected { target, key },
        }));
        self.tell(lost);
        let files = self.shared.files.clone();
        let bytes = 64 + ledger.as_ref().map_or(0, |ledger| ledger.len() as u64);
        let job = move || {
            // First what was lost, then that it is gone: a crash between the two says it twice, not never.
            let ledger = ledger.map_or(Ok(()), |ledger| files.ledger.write(&ledger));
            let written = files.write_position(target, position, turn);
            (ledger, written, unlink_all(&files, doomed))
        };
        // Lanes run in order: the next page is read after this.
        let done = background::run(&*self.shared.background, Lane::Hints, bytes, job);
        let (ledger, written, removed) = done.await?;
        self.settle_ledger_write(ledger);
        if let Err(error) = written {
            tracing::warn!(%target, %error, "a restart will deliver some hints again");
        }
        self.settle_removals(removed);
        Ok(())
    }
}

/// A page's place among those on their way to its target, which it gives up when it is dropped.
struct Claim {
    shared: Arc<Shared>,
    target: NodeId,
    page: u64,
}

impl Claim {
    /// Whether the target's hints were not truncated since.
    fn is_current(&self) -> bool {
        let state = self.shared.lock();
        let owed = state.targets.get(&self.target);
        owed.is_some_and(|owed| owed.on_the_way.iter().any(|it| it.page == self.page))
    }

    fn read_until(&self, last: &Part) {
        let until = Position { seq: last.seq, offset: last.until };
        if let Some(owed) = self.shared.lock().targets.get_mut(&self.target) {
            owed.page_read(self.page, until);
        }
    }

    /// Whether this page's turn has come to be settled. If so, it is not on its way any more.
    fn settles_in(&self, state: &mut State) -> bool {
        let Some(owed) = state.targets.get_mut(&self.target) else { return false };
        let first = owed.on_the_way.front().is_some_and(|first| first.page == self.page);
        first && owed.on_the_way.pop_front().is_some()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Ok(mut state) = self.shared.state.lock()
            && let Some(owed) = state.targets.get_mut(&self.target)
        {
            owed.page_dropped(self.page);
        }
    }
}

/// Hints on their way to their target. Dropped undelivered, they are pending as before.
pub struct Page {
    claim: Claim,
    hints: Vec<Hint>,
    /// Those that go undelivered.
    lost: Vec<Hint>,
    /// Why they do.
    loss: HintLoss,
    settled: Vec<Settled>,
    /// Others than the target take them.
    redirected: bool,
    bytes: u64,
}

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Page")
            .field("target", &self.claim.target)
            .field("hints", &self.hints.len())
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Page {
    fn new(claim: Claim, loss: HintLoss) -> Page {
        let (hints, lost, settled) = (Vec::new(), Vec::new(), Vec::new());
        Page { claim, hints, lost, loss, settled, redirected: false, bytes: 0 }
    }

    /// Says that others take its hints in the target's stead.
    pub(super) fn redirect(&mut self) {
        self.redirected = true;
    }

    /// How many will not be delivered.
    pub(super) fn lost(&self) -> u64 {
        self.lost.len() as u64
    }

    /// Whom it is for.
    pub fn target(&self) -> NodeId {
        self.claim.target
    }

    /// The hints to deliver, oldest first. Only a page that was read ahead may have none.
    pub fn hints(&self) -> &[Hint] {
        &self.hints
    }

    /// Bytes of keys and updates.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}
