//! Messages with passwords, and how they are printed: without.

use crate::v1::{AlterRoleRequest, CreateRoleRequest};
use std::fmt;

impl fmt::Debug for CreateRoleRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CreateRoleRequest { name, password: _, can_login } = self;
        let mut shown = f.debug_struct("CreateRoleRequest");
        shown.field("name", name).field("can_login", can_login).finish_non_exhaustive()
    }
}

impl fmt::Debug for AlterRoleRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AlterRoleRequest { name, password: _, can_login } = self;
        let mut shown = f.debug_struct("AlterRoleRequest");
        shown.field("name", name).field("can_login", can_login).finish_non_exhaustive()
    }
}
