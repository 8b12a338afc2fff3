//! Repairs of just what the loss ledger names: token ranges of which a replica was owed hints that it will never get.
//!
//! A ledger is one coordinator's, so each coordinator repairs what it lost, and only towards the replicas that it was lost
//! for. What such a repair has compared without a failure leaves the ledger; losses that were recorded after its beginning
//! stay.

use super::job::Job;
use super::units::Piece;
use super::{RepairError, Repairs, Wanted, what};
use helenus_core::hint::ledger::Scope;
use helenus_core::ring::{Span, TokenRange};
use helenus_core::{TableDef, TableId, Token};
use std::sync::Arc;

/// What of the ledger a repair makes good.
#[derive(Debug)]
pub(super) struct Settles {
    scope: Scope,
    spans: Vec<Span>,
    /// Losses behind this one are not meant.
    as_of: u64,
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
        let (mut pieces, mut settles) = (Vec::new(), Vec::new());
        for target in self.membership.members().into_iter().map(|member| member.node) {
            // Losses of nobody knows which table: made good when every table is.
            let of_any = hints.to_repair(TableId(0), target);
            if wanted.keyspace.is_empty() && !of_any.ranges.is_empty() {
                let spans = of_any.ranges.iter().map(|tokens| tokens.span()).collect();
                settles.push(Settles { scope: Scope::target(target), spans, as_of: of_any.as_of });
            }
            for def in tables {
                let lost = hints.to_repair(def.id, target);
                let spans: Vec<Span> = lost.ranges.iter().map(|tokens| tokens.span()).collect();
                pieces.extend(spans.iter().map(|span| Piece {
                    table: def.id,
                    // No key has the smallest token.
                    range: TokenRange {
                        after: span.after.unwrap_or(Token::MIN),
                        until: span.until,
                    },
                    targets: vec![target],
                }));
                if !spans.is_empty() {
                    let scope = Scope::table(target, def.id);
                    settles.push(Settles { scope, spans, as_of: lost.as_of });
                }
            }
        }
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
