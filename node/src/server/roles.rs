//! Roles, for operators. Passwords come in and never go out, and nor do their hashes.

use super::admin::Answer;
use crate::auth::{Auth, Role, RoleError};
use crate::coordinator::RequestError;
use helenus_proto::v1;
use tonic::{Response, Status};

fn status(error: RoleError) -> Status {
    let message = error.to_string();
    match error {
        RoleError::Invalid(_) => Status::invalid_argument(message),
        RoleError::Exists(_) => Status::already_exists(message),
        RoleError::Missing(_) => Status::not_found(message),
        RoleError::Overloaded | RoleError::Request(RequestError::Overloaded(_)) => {
            Status::resource_exhausted(message)
        }
        RoleError::Stopped(_) | RoleError::Request(RequestError::Unavailable { .. }) => {
            Status::unavailable(message)
        }
        RoleError::Request(RequestError::Timeout { .. }) => {
            Status::deadline_exceeded(format!("{message}; whether it was changed is not known"))
        }
        RoleError::Request(_) | RoleError::Unhashed(_) => Status::internal(message),
    }
}

pub(super) async fn create(auth: &Auth, request: v1::CreateRoleRequest) -> Answer<v1::Done> {
    let v1::CreateRoleRequest { name, password, can_login } = request;
    auth.create(&name, password, can_login).await.map_err(status)?;
    Ok(Response::new(v1::Done {}))
}

pub(super) async fn alter(auth: &Auth, request: v1::AlterRoleRequest) -> Answer<v1::Done> {
    let v1::AlterRoleRequest { name, password, can_login } = request;
    auth.alter(&name, password, can_login).await.map_err(status)?;
    Ok(Response::new(v1::Done {}))
}

pub(super) async fn drop(auth: &Auth, request: v1::DropRoleRequest) -> Answer<v1::Done> {
    auth.drop(&request.name).await.map_err(status)?;
    Ok(Response::new(v1::Done {}))
}

pub(super) async fn list(auth: &Auth) -> Answer<v1::ListRolesResponse> {
    let roles = auth.list().await.map_err(status)?.into_iter();
    let roles = roles.map(|Role { name, can_login, salted_hash }| v1::Role {
        name,
        can_login,
        has_password: salted_hash.is_some(),
    });
    Ok(Response::new(v1::ListRolesResponse { roles: roles.collect() }))
}
