//! `create-keyspace`, `drop-keyspace`, `create-table`, `drop-table`, `describe`.

use crate::context::{Context, Failure};
use crate::input::{self, TableName};
use clap::Args;
use helenus_client::{NewReplication, v1};
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Debug, Serialize)]
struct Changed {
    changed: bool,
    schema_version: String,
    /// Live nodes that did not confirm the change in time.
    pending_nodes: Vec<String>,
    warnings: Vec<String>,
}

fn show(context: &Context, answer: v1::SchemaChanged, what: &str) -> Result<(), Failure> {
    let v1::SchemaChanged { changed, schema_version, pending_nodes, warnings } = answer;
    if !context.out.json() {
        context.out.warnings(&warnings);
        if !pending_nodes.is_empty() {
            let nodes = pending_nodes.join(", ");
            context.out.remark(format_args!(
                "warning: not confirmed yet by {nodes}; they will learn it by gossip"
            ));
        }
    }
    let changed = Changed { changed, schema_version, pending_nodes, warnings };
    context.out.show(&changed, |it| {
        let done =
            if it.changed { what.to_owned() } else { "nothing to do: it is so already".into() };
        format!("{done} (schema {})", it.schema_version)
    })
}

/// Create a keyspace.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl create-keyspace shop --rf 3
  helenusctl create-keyspace shop --dc dc1=3 --dc dc2=2
  helenusctl create-keyspace shop --rf 3 --hint-overflow fail-write
  helenusctl create-keyspace shop --rf 3 --if-not-exists")]
pub(crate) struct CreateKeyspace {
    name: String,
    /// Copies in all (SimpleStrategy); or see --dc.
    #[arg(long, value_name = "COPIES", required_unless_present = "dc", conflicts_with = "dc", value_parser = clap::value_parser!(u32).range(1..))]
    rf: Option<u32>,
    /// Copies in one data centre (NetworkTopologyStrategy); once for each.
    #[arg(long, value_name = "DC=COPIES", value_parser = input::copies)]
    dc: Vec<(String, u32)>,
    /// What happens to a hint for one of its writes when there is no room: drop-newest, drop-oldest, dead-letter, fail-write or
    /// throttle.
    /// Without it, what each node's configuration says.
    #[arg(long, value_name = "POLICY", default_value = "", hide_default_value = true)]
    hint_overflow: String,
    /// Do nothing if it exists.
    #[arg(long)]
    if_not_exists: bool,
}

impl CreateKeyspace {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let per_dc: BTreeMap<String, u32> = self.dc.iter().cloned().collect();
        if per_dc.len() != self.dc.len() {
            return Err(Failure::Usage("--dc names a data centre twice".to_owned()));
        }
        let replication = match self.rf {
            Some(rf) => NewReplication::Simple(rf),
            None => NewReplication::PerDc(per_dc),
        };
        let answer = context
            .ask(async |admin| {
                let replication = replication.clone();
                let overflow = &self.hint_overflow;
                let name = &self.name;
                admin
                    .create_keyspace_with_overflow(name, replication, overflow, self.if_not_exists)
                    .await
            })
            .await?;
        show(context, answer, &format!("created keyspace {}", self.name))
    }
}

/// Drop a keyspace with all its tables and their data.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl drop-keyspace shop
  helenusctl drop-keyspace shop --if-exists")]
pub(crate) struct DropKeyspace {
    name: String,
    /// Do nothing if it does not exist.
    #[arg(long)]
    if_exists: bool,
}

impl DropKeyspace {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let answer = context
            .ask(async |admin| admin.drop_keyspace(&self.name, self.if_exists).await)
            .await?;
        show(context, answer, &format!("dropped keyspace {}", self.name))
    }
}

/// Create a key-value table.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl create-table shop.orders
  helenusctl create-table shop.orders --if-not-exists
  helenusctl create-table shop.carts --with gc_grace_seconds=3600 --with default_time_to_live=86400
  helenusctl create-table shop.audit --with read_repair=NONE")]
pub(crate) struct CreateTable {
    /// KEYSPACE.TABLE
    table: TableName,
    /// An option under Cassandra's name; may be given more than once.
    #[arg(long, value_name = "NAME=VALUE", value_parser = input::pair)]
    with: Vec<(String, String)>,
    /// Do nothing if it exists.
    #[arg(long)]
    if_not_exists: bool,
}

impl CreateTable {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let TableName { keyspace, table } = &self.table;
        let options: BTreeMap<String, String> = self.with.iter().cloned().collect();
        if options.len() != self.with.len() {
            return Err(Failure::Usage("--with gives an option twice".to_owned()));
        }
        let answer = context
            .ask(async |admin| {
                admin.create_table(keyspace, table, self.if_not_exists, options.clone()).await
            })
            .await?;
        show(context, answer, &format!("created table {keyspace}.{table}"))
    }
}

/// Drop a table with its data.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl drop-table shop.orders
  helenusctl drop-table shop.orders --if-exists")]
pub(crate) struct DropTable {
    /// KEYSPACE.TABLE
    table: TableName,
    /// Do nothing if it does not exist.
    #[arg(long)]
    if_exists: bool,
}

impl DropTable {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let TableName { keyspace, table } = &self.table;
        let answer = context
            .ask(async |admin| admin.drop_table(keyspace, table, self.if_exists).await)
            .await?;
        show(context, answer, &format!("dropped table {keyspace}.{table}"))
    }
}

#[derive(Debug, Serialize)]
struct Schema {
    schema_version: String,
    keyspaces: Vec<Keyspace>,
}

#[derive(Debug, Serialize)]
struct Keyspace {
    name: String,
    /// SimpleStrategy's copies; absent with `per_dc`.
    rf: Option<u32>,
    per_dc: BTreeMap<String, u32>,
    /// Empty: what each node's configuration says.
    hint_overflow: String,
    tables: Vec<Table>,
}

#[derive(Debug, Serialize)]
struct Table {
    name: String,
    id: String,
    options: BTreeMap<String, String>,
}

impl From<v1::DescribeResponse> for Schema {
    fn from(answer: v1::DescribeResponse) -> Self {
        let keyspaces = answer.keyspaces.into_iter().map(|keyspace| Keyspace {
            name: keyspace.name,
            rf: (keyspace.rf > 0).then_some(keyspace.rf),
            per_dc: keyspace.per_dc,
            hint_overflow: keyspace.hint_overflow,
            tables: keyspace
                .tables
                .into_iter()
                .map(|table| Table {
                    name: table.name,
                    id: input::hex(&table.id),
                    options: table.options,
                })
                .collect(),
        });
        Schema { schema_version: answer.schema_version, keyspaces: keyspaces.collect() }
    }
}

impl Schema {
    fn text(&self) -> String {
        let mut out = String::new();
        for keyspace in &self.keyspaces {
            let replication = match keyspace.rf {
                Some(rf) => format!("SimpleStrategy, {rf} copies"),
                None => {
                    let per_dc = keyspace.per_dc.iter().map(|(dc, rf)| format!("{dc}: {rf}"));
                    format!("NetworkTopologyStrategy, {}", per_dc.collect::<Vec<_>>().join(", "))
                }
            };
            out += &format!("keyspace {} ({replication})\n", keyspace.name);
            if !keyspace.hint_overflow.is_empty() {
                out += &format!("  hint_overflow = {}\n", keyspace.hint_overflow);
            }
            for table in &keyspace.tables {
                out += &format!("  table {}.{} (id {})\n", keyspace.name, table.name, table.id);
                for (name, value) in &table.options {
                    out += &format!("    {name} = {value}\n");
                }
            }
        }
        if self.keyspaces.is_empty() {
            out += "no keyspaces; create one with `helenusctl create-keyspace NAME --rf 3`\n";
        }
        out + &format!("schema {}", self.schema_version)
    }
}

/// Show keyspaces, tables and their options.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl describe
  helenusctl describe shop
  helenusctl --format json describe | jq .keyspaces[].name")]
pub(crate) struct Describe {
    /// Only this keyspace.
    keyspace: Option<String>,
}

impl Describe {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let keyspace = self.keyspace.unwrap_or_default();
        let answer = context.ask(async |admin| admin.describe(&keyspace).await).await?;
        context.out.show(&Schema::from(answer), Schema::text)
    }
}
