//! Repairs of just what the loss ledger names: token ranges of which a replica was owed hints that it will never get.
//!
//! A ledger is one coordinator's, so each coordinator repairs what it lost, and only towards the replicas that it was lost
//! for. What such a repair has compared without a failure leaves the ledger; losses that were recorded after its beginning
//! stay.

use super::job::Job;
use super::units::Piece;
use super::{RepairError, Repairs, Wanted, what};
use crate::hints::HintStore;
use helenus_core::hint::ledger::{Scope, ToRepair, Tokens};
use helenus_core::ring::{Span, TokenRange};
use helenus_core::{NodeId, TableDef, Token};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What of the ledger a repair makes good.
#[derive(Debug)]
pub(super) struct Settles {
    scope: Scope,
    spans: Vec<Span>,
    /// Losses behind this one are not meant.
    as_of: u64,
}

impl Settles {
    /// All that is lost in this scope now.
    fn of(hints: &HintStore, scope: Scope) -> Settles {
        let ToRepair { ranges, as_of } = hints.to_repair(scope);
        Settles { scope, spans: ranges.into_iter().map(Tokens::span).collect(), as_of }
    }
}

impl Repairs {
    pub(super) fn start_from_ledger(
        self: &Arc<Self>,
        wanted: &Wanted,
        tables: &[TableDef],
    ) -> Result<Arc<Job>, RepairError> {
        if wanted.primary_range || wanted.range.is_some() {
            let why =
                "the ledger says which ranges: a token range and the primary ranges exclude it";
            return Err(RepairError::Invalid(why.to_owned()));
        }
        let hints = &self.coordinator.hints;
        let (mut pieces, mut settles) = (Vec::new(), Vec::<Settles>::new());
        let ledger = hints.ledger();
        let named = ledger.rows().filter_map(|(scope, ..)| scope.target);
        let members = self.membership.members().into_iter().map(|member| member.node);
        let targets: BTreeSet<NodeId> = members.chain(named).collect();
        for target in targets {
            let gone = self.membership.has_left(target);
            // What was lost of nobody knows which table is made good when every table is.
            if wanted.keyspace.is_empty() {
                settles.push(Settles::of(hints, Scope::target(target)));
            }
            for def in tables {
                let lost = Settles::of(hints, Scope::table(target, def.id));
                pieces.extend(lost.spans.iter().map(|span| Piece {
                    table: def.id,
                    // No key has the smallest token.
                    range: TokenRange {
                        after: span.after.unwrap_or(Token::MIN),
                        until: span.until,
                    },
                    // Of one that has left, any of those who hold its data now may be the one that lacks it.
                    targets: if gone { Vec::new() } else { vec![target] },
                }));
                settles.push(lost);
            }
        }
        settles.retain(|lost| !lost.spans.is_empty());
        let what = format!("{}, from the ledger", what(wanted));
        self.start_pieces(&pieces, what, wanted.preview, settles)
    }

    /// A hint is lost before its write has ended: what other replicas have of it now is waited for, or it would be compared
    /// too early and forgotten.
    pub(super) async fn let_writes_end(&self, job: &Job) {
        if !job.settles.is_empty() {
            tokio::time::sleep(self.coordinator.config.write_request_timeout).await;
        }
    }

    /// What was repaired leaves the ledger.
    pub(super) async fn settle(&self, job: &Job) {
        if job.preview || job.has_failed() {
            return;
        }
        for Settles { scope, spans, as_of } in &job.settles {
            let settled = self.coordinator.hints.settle_losses(&[*scope], spans, *as_of).await;
            if let Err(error) = settled {
                tracing::warn!(repair = job.id, %error, "what was repaired is still in the loss ledger: repair it again");
            }
        }
    }
}
