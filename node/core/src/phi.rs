//! Phi accrual: how suspicious a silence is.
