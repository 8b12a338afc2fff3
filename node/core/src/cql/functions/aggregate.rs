//! `count`, `min`, `max`, `sum` and `avg`.
//!
//! Nulls do not count. Of no values at all, `count`, `sum` and `avg` are 0, `min` and `max` null. A sum has the type of
//! what is summed, and one of integers wraps around; an average has that type too, so one of integers is cut off, but
//! what is summed up for it does not wrap.

use super::number::{
    Number, Rounding, aligned, divide_rounded, lowest_8, lowest_16, lowest_32, single, too_large,
};
use super::{FunctionError, unsupported};
use crate::cql::decimal::Decimal;
use crate::cql::types::CqlType;
use bytes::Bytes;
use num_bigint::BigInt;
use std::cmp::Ordering;

/// The longest sum of decimals, in bits.
const DIGIT_BITS_MAX: u64 = 1 << 20;

/// Which aggregate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AggregateKind {
    /// `count(*)` and `count(column)`.
    Count,
    /// `min(column)`.
    Min,
    /// `max(column)`.
    Max,
    /// `sum(column)`.
    Sum,
    /// `avg(column)`.
    Avg,
}

/// The type of an aggregate of values of type `ty`; `None`: there is no such aggregate.
pub fn aggregate_type(kind: AggregateKind, ty: &CqlType) -> Option<CqlType> {
    match kind {
        AggregateKind::Count => Some(CqlType::Bigint),
        AggregateKind::Min | AggregateKind::Max if ty.is_counter() => Some(CqlType::Bigint),
        AggregateKind::Min | AggregateKind::Max => {
            (ty.has_order() && !ty.is_multicell()).then(|| ty.clone())
        }
        AggregateKind::Sum | AggregateKind::Avg if ty.is_counter() => Some(CqlType::Bigint),
        AggregateKind::Sum | AggregateKind::Avg => ty.is_numeric().then(|| ty.clone()),
    }
}

/// An aggregate in the making: values go in one by one, and the result comes out.
#[derive(Debug, Clone)]
pub struct Aggregate {
    kind: AggregateKind,
    ty: CqlType,
    /// How many values there were that are not null.
    count: i64,
    /// The least or the greatest so far.
    best: Option<Bytes>,
    sum: Sum,
}

#[derive(Debug, Clone)]
enum Sum {
    /// Of integers of up to 64 bits: 2^63 of them fit.
    Whole(i128),
    Varint(BigInt),
    Floating(Compensated),
    Decimal(Decimal),
}

/// A sum of floats that keeps what rounding loses (Kahan), as Cassandra sums them; except that Cassandra takes what was
/// lost off with the wrong sign at the end, which shows in the last digit.
#[derive(Debug, Clone, Copy, Default)]
struct Compensated {
    sum: f64,
    lost: f64,
    simple: f64,
    /// The sum of 2^-64 of each number: finite even where the sum is not, and an average then comes from it.
    scaled: f64,
}

/// 2^-64.
const SCALE: f64 = 1.0 / 18_446_744_073_709_551_616.0;

impl Compensated {
    fn add(&mut self, n: f64) {
        self.simple += n;
        self.scaled += n * SCALE;
        let n = n - self.lost;
        let rounded = self.sum + n;
        self.lost = (rounded - self.sum) - n;
        self.sum = rounded;
    }

    fn total(self) -> f64 {
        let total = self.sum - self.lost;
        // Infinities make nonsense of the compensation.
        if total.is_nan() && self.simple.is_infinite() { self.simple } else { total }
    }

    fn average(self, count: f64) -> f64 {
        let total = self.total();
        let overflowed = !total.is_finite() && self.scaled.is_finite();
        if overflowed { self.scaled / count / SCALE } else { total / count }
    }
}

impl Aggregate {
    /// Begins an aggregate over values of type `ty`. For `count(*)` any type will do, and any value for a row.
    pub fn new(kind: AggregateKind, ty: &CqlType) -> Result<Aggregate, FunctionError> {
        if aggregate_type(kind, ty).is_none() {
            return Err(unsupported("an aggregate", &[ty]));
        }
        let sum = match ty {
            CqlType::Varint => Sum::Varint(BigInt::ZERO),
            CqlType::Float | CqlType::Double => Sum::Floating(Compensated::default()),
            CqlType::Decimal => Sum::Decimal(Decimal { unscaled: BigInt::ZERO, scale: 0 }),
            _ => Sum::Whole(0),
        };
        Ok(Aggregate { kind, ty: ty.clone(), count: 0, best: None, sum })
    }

    /// Takes the next value in. `None` is null.
    pub fn add(&mut self, value: Option<&[u8]>) -> Result<(), FunctionError> {
        let Some(bytes) = value else {
            return Ok(());
        };
        match self.kind {
            AggregateKind::Count => {}
            AggregateKind::Min => self.choose(bytes, Ordering::Less),
            AggregateKind::Max => self.choose(bytes, Ordering::Greater),
            AggregateKind::Sum | AggregateKind::Avg => {
                let Some(number) = Number::read(&self.ty, bytes)? else {
                    return Ok(());
                };
                self.sum_up(&number)?;
            }
        }
        self.count = self.count.saturating_add(1);
        Ok(())
    }

    fn choose(&mut self, bytes: &[u8], wanted: Ordering) {
        let better = self.best.as_ref().is_none_or(|best| self.ty.compare(bytes, best) == wanted);
        if better {
            self.best = Some(Bytes::copy_from_slice(bytes));
        }
    }

    fn sum_up(&mut self, number: &Number) -> Result<(), FunctionError> {
        match (&mut self.sum, number) {
            (Sum::Varint(sum), Number::Varint(n)) => *sum += n,
            (Sum::Decimal(sum), Number::Decimal(n)) => {
                let (a, b, scale) = aligned(sum, n, "sum")?;
                *sum = Decimal { unscaled: a + b, scale };
                // Scales that drift apart from value to value would make it longer with each.
                if sum.unscaled.bits() > DIGIT_BITS_MAX {
                    return Err(too_large("sum"));
                }
            }
            (Sum::Floating(sum), n) => sum.add(n.to_f64()?),
            (Sum::Whole(sum), n) => *sum = sum.saturating_add(n.to_i64().into()),
            (Sum::Varint(_) | Sum::Decimal(_), _) => {
                return Err(unsupported("an aggregate", &[&self.ty]));
            }
        }
        Ok(())
    }

    /// The result, of type [`aggregate_type`].
    pub fn finish(self) -> Result<Option<Bytes>, FunctionError> {
        match self.kind {
            AggregateKind::Count => Ok(Some(Number::Bigint(self.count).to_bytes())),
            AggregateKind::Min | AggregateKind::Max => Ok(self.best),
            AggregateKind::Sum => Ok(Some(self.result(false)?.to_bytes())),
            AggregateKind::Avg => Ok(Some(self.result(self.count > 0)?.to_bytes())),
        }
    }

    /// The sum, or the average.
    fn result(&self, average: bool) -> Result<Number, FunctionError> {
        let divisor = if average { self.count } else { 1 };
        Ok(match &self.sum {
            Sum::Varint(sum) => Number::Varint(sum / divisor),
            Sum::Decimal(sum) if average => {
                let divisor = BigInt::from(divisor);
                let unscaled = divide_rounded(&sum.unscaled, &divisor, Rounding::HalfEven);
                Number::Decimal(Decimal { unscaled, scale: sum.scale })
            }
            Sum::Decimal(sum) => Number::Decimal(sum.clone()),
            Sum::Floating(sum) => {
                // Not exact past 2^53 values, which nobody reads.
                let divisor = Number::Bigint(divisor).to_f64()?;
                let total = if average { sum.average(divisor) } else { sum.total() };
                if self.ty == CqlType::Float {
                    Number::Float(single(total))
                } else {
                    Number::Double(total)
                }
            }
            Sum::Whole(sum) => {
                let low = lowest_64(sum / i128::from(divisor));
                match self.ty {
                    CqlType::Tinyint => Number::Tinyint(lowest_8(lowest_32(low))),
                    CqlType::Smallint => Number::Smallint(lowest_16(lowest_32(low))),
                    CqlType::Int => Number::Int(lowest_32(low)),
                    CqlType::Bigint | CqlType::Counter => Number::Bigint(low),
                    _ => return Err(too_large("an aggregate")),
                }
            }
        })
    }
}

#[expect(clippy::cast_possible_truncation, reason = "sums wrap around, as in Java")]
fn lowest_64(n: i128) -> i64 {
    n as i64
}
