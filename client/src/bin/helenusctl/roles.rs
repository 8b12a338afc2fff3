//! `role create`, `alter`, `drop`, `list`: who may log in over CQL.
//!
//! A password is typed without being shown, or read from standard input; never an argument, which every user of the machine
//! could see among its processes.

use crate::context::{Context, Failure};
use crate::out::cell;
use clap::{Args, Subcommand};
use helenus_client::v1;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use serde::Serialize;
use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};

/// More than a node takes: it says how long one may be.
const PASSWORD_BYTES_MAX: u64 = 64 * 1024;

/// The roles that CQL clients log in as, where `authenticator = "PasswordAuthenticator"`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl role create ada
  helenusctl role create ada --password-stdin < password.txt
  helenusctl role alter ada --password
  helenusctl role alter ada --login false
  helenusctl role drop ada
  helenusctl role list")]
pub(crate) struct Role {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a role, and ask for its password.
    Create {
        /// The role.
        name: String,
        /// Read the password from standard input instead: its first line.
        #[arg(long)]
        password_stdin: bool,
        /// Nobody may log in as it, until it is altered.
        #[arg(long)]
        no_login: bool,
    },
    /// Give a role another password, or let nobody log in as it.
    Alter {
        /// The role.
        name: String,
        /// Ask for another password.
        #[arg(long, conflicts_with = "password_stdin", required_unless_present_any = ["password_stdin", "login"])]
        password: bool,
        /// Read another password from standard input: its first line.
        #[arg(long)]
        password_stdin: bool,
        /// Whether anybody may log in as it.
        #[arg(long, value_name = "true|false", action = clap::ArgAction::Set)]
        login: Option<bool>,
    },
    /// End a role. Those who have logged in as it stay connected until they go.
    Drop {
        /// The role.
        name: String,
    },
    /// Show all roles.
    List,
}

#[derive(Debug, Serialize)]
struct Done {
    role: String,
    done: bool,
}

#[derive(Debug, Serialize)]
struct Shown {
    role: String,
    login: bool,
    password: bool,
}

impl From<v1::Role> for Shown {
    fn from(v1::Role { name, can_login, has_password }: v1::Role) -> Self {
        Shown { role: name, login: can_login, password: has_password }
    }
}

impl Role {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let (name, what) = match self.verb {
            Verb::List => return list(context).await,
            Verb::Create { name, password_stdin, no_login } => {
                let password = Some(password(&name, password_stdin)?);
                let create = async |admin: helenus_client::Admin| {
                    admin.create_role(&name, password.clone(), !no_login).await
                };
                context.ask(create).await?;
                (name, "created")
            }
            Verb::Alter { name, password: typed, password_stdin, login } => {
                let given = typed || password_stdin;
                let password = given.then(|| password(&name, password_stdin)).transpose()?;
                let alter = async |admin: helenus_client::Admin| {
                    admin.alter_role(&name, password.clone(), login).await
                };
                context.ask(alter).await?;
                (name, "altered")
            }
            Verb::Drop { name } => {
                context.ask(async |admin| admin.drop_role(&name).await).await?;
                (name, "dropped")
            }
        };
        let done = Done { role: name, done: true };
        context.out.show(&done, |done| format!("role {}: {what}", done.role))
    }
}

async fn list(context: &Context) -> Result<(), Failure> {
    let answer = context.ask(async |admin| admin.list_roles().await).await?;
    let roles: Vec<Shown> = answer.roles.into_iter().map(Shown::from).collect();
    let out = &context.out;
    out.show(&roles, |roles| {
        let mut table = out.table(&["Role", "Login", "Password"]);
        for role in roles {
            let yes = |flag: bool| cell(if flag { "yes" } else { "no" }, false);
            table.add_row(vec![cell(&role.role, false), yes(role.login), yes(role.password)]);
        }
        table.trim_fmt()
    })
}

/// The password that somebody types, or that stands in standard input.
fn password(role: &str, from_stdin: bool) -> Result<String, Failure> {
    let stdin = std::io::stdin();
    if from_stdin {
        return line();
    }
    if !stdin.is_terminal() {
        let why = "there is nobody to type a password; give it with --password-stdin";
        return Err(Failure::Usage(why.to_owned()));
    }
    let password = typed(&format!("Password for role {role}: "))?;
    if password != typed("Again: ")? {
        return Err(Failure::Usage("these are two different passwords".to_owned()));
    }
    Ok(password)
}

/// The first line of standard input.
fn line() -> Result<String, Failure> {
    let mut line = String::new();
    let mut stdin = std::io::stdin().lock().take(PASSWORD_BYTES_MAX);
    let read = stdin.read_line(&mut line);
    read.map_err(|error| Failure::Here(format!("cannot read the password: {error}")))?;
    let password = line.strip_suffix('\n').unwrap_or(&line);
    let password = password.strip_suffix('\r').unwrap_or(password);
    if password.is_empty() {
        return Err(Failure::Usage("the password is empty".to_owned()));
    }
    Ok(password.to_owned())
}

/// A line that is typed and not shown.
fn typed(prompt: &str) -> Result<String, Failure> {
    let mut stderr = std::io::stderr();
    write!(stderr, "{prompt}").and_then(|()| stderr.flush())?;
    let hidden = Hidden::begin()?;
    let line = line();
    drop(hidden);
    writeln!(stderr)?;
    line
}

/// The terminal shows nothing of what is typed until this is dropped.
struct Hidden(Termios);

impl Hidden {
    fn begin() -> Result<Hidden, Failure> {
        let cannot =
            |error| Failure::Here(format!("the terminal cannot hide what is typed: {error}"));
        let before = tcgetattr(std::io::stdin()).map_err(cannot)?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(std::io::stdin(), OptionalActions::Flush, &quiet).map_err(cannot)?;
        Ok(Hidden(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // If it cannot, there is no terminal any more.
        tcsetattr(std::io::stdin(), OptionalActions::Flush, &self.0).ok();
    }
}
