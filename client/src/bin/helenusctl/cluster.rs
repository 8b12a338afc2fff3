//! `status`, `ring`, `info`, `gossipinfo`, `getendpoints`: who is there, and who holds what.

use crate::context::{Context, Failure};
use crate::input::{self, TableName};
use crate::out::{self, Out, cell};
use clap::Args;
use helenus_client::{NodeId, v1};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A host id, as operators of Cassandra know it.
fn host_id(bytes: &[u8]) -> String {
    <[u8; 16]>::try_from(bytes)
        .map_or_else(|_| input::hex(bytes), |id| NodeId(u128::from_be_bytes(id)).to_string())
}

#[derive(Debug, Serialize)]
struct Member {
    host_id: String,
    client_addr: String,
    internode_addr: String,
    dc: String,
    rack: String,
    up: bool,
    state: String,
    load_bytes: u64,
    tokens: Vec<i64>,
    owns: f64,
    phi: f64,
    schema_version: String,
}

impl From<v1::Member> for Member {
    fn from(member: v1::Member) -> Self {
        Member {
            host_id: host_id(&member.node),
            client_addr: member.client_addr,
            internode_addr: member.internode_addr,
            dc: member.dc,
            rack: member.rack,
            up: member.up,
            state: member.status,
            load_bytes: member.load_bytes,
            tokens: member.tokens,
            owns: member.owns,
            phi: member.phi,
            schema_version: member.schema_version,
        }
    }
}

impl Member {
    /// nodetool's two letters: Up or Down, and the first letter of the state.
    fn letters(&self) -> String {
        let up = if self.up { 'U' } else { 'D' };
        format!("{up}{}", self.state.chars().next().unwrap_or('?'))
    }
}

#[derive(Debug, Serialize)]
struct Cluster {
    cluster_name: String,
    schema_version: String,
    /// Who was asked: what is up and down is that node's opinion.
    asked: String,
    members: Vec<Member>,
}

impl From<v1::TopologyResponse> for Cluster {
    fn from(answer: v1::TopologyResponse) -> Self {
        Cluster {
            cluster_name: answer.cluster_name,
            schema_version: answer.schema_version,
            asked: host_id(&answer.local_node),
            members: answer.members.into_iter().map(Member::from).collect(),
        }
    }
}

impl Cluster {
    fn status(&self, out: &Out) -> String {
        let mut text = format!("Cluster: {}\n", self.cluster_name);
        let dcs: BTreeSet<&str> = self.members.iter().map(|member| member.dc.as_str()).collect();
        for dc in dcs {
            let title = format!("Datacenter: {dc}");
            text += &format!("{title}\n{}\n", "=".repeat(title.len()));
            text += "Status=Up/Down |/ State=Normal/Joining/Leaving/Shutdown\n";
            let columns =
                ["--", "Address", ">Load", ">Tokens", ">Owns", "Host ID", "Rack", "Clients"];
            let mut table = out.table(&columns);
            for member in self.members.iter().filter(|member| member.dc == dc) {
                table.add_row(vec![
                    cell(member.letters(), !member.up),
                    cell(&member.internode_addr, false),
                    cell(out::bytes(member.load_bytes), false),
                    cell(member.tokens.len(), false),
                    cell(out::percent(member.owns), false),
                    cell(&member.host_id, false),
                    cell(&member.rack, false),
                    cell(&member.client_addr, false),
                ]);
            }
            text += &format!("{}\n", table.trim_fmt());
        }
        let schemas: BTreeSet<&str> = self
            .members
            .iter()
            .filter(|member| member.up)
            .map(|member| member.schema_version.as_str())
            .collect();
        if schemas.len() > 1 {
            let versions: Vec<&str> = schemas.into_iter().collect();
            text += &format!("Nodes disagree about the schema: {}\n", versions.join(", "));
        }
        text
    }

    fn ring(&self, out: &Out) -> String {
        let mut claims: Vec<(i64, &Member)> = self
            .members
            .iter()
            .flat_map(|member| member.tokens.iter().map(move |token| (*token, member)))
            .collect();
        claims.sort_by_key(|(token, member)| (*token, &member.host_id));
        let mut table = out.table(&[">Token", "Address", "DC", "Rack", "Status", "State", ">Load"]);
        for (token, member) in claims {
            table.add_row(vec![
                cell(token, false),
                cell(&member.internode_addr, false),
                cell(&member.dc, false),
                cell(&member.rack, false),
                cell(if member.up { "Up" } else { "Down" }, !member.up),
                cell(&member.state, false),
                cell(out::bytes(member.load_bytes), false),
            ]);
        }
        table.trim_fmt()
    }
}

/// Who is up, who is down, and how much each holds.
///
/// It is the opinion of the node that is asked: during a partition, each side has its own.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl status
  helenusctl --host 127.0.0.2 status
  helenusctl --format json status | jq '.members[] | select(.up | not)'")]
pub(crate) struct Status {}

impl Status {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let cluster = Cluster::from(context.ask(async |admin| admin.topology().await).await?);
        context.out.show(&cluster, |cluster| cluster.status(&context.out))
    }
}

/// The tokens in order, and who owns the range that ends at each.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl ring
  helenusctl --format json ring | jq .members[0].tokens")]
pub(crate) struct Ring {}

impl Ring {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let cluster = Cluster::from(context.ask(async |admin| admin.topology().await).await?);
        context.out.show(&cluster, |cluster| cluster.ring(&context.out))
    }
}

#[derive(Debug, Serialize)]
struct NodeInfo {
    host: String,
    host_id: String,
    cluster_name: String,
    dc: String,
    rack: String,
    release_version: String,
    generation: u64,
    uptime_s: u64,
    load_bytes: u64,
    tokens: u32,
    storage_engine: String,
    data_directory: String,
    handoff_enabled: bool,
    handoff_paused: bool,
    /// Why the node takes no writes; absent: it does.
    poisoned: Option<String>,
}

impl NodeInfo {
    fn new(host: String, info: v1::InfoResponse) -> NodeInfo {
        NodeInfo {
            host,
            host_id: info.node,
            cluster_name: info.cluster_name,
            dc: info.dc,
            rack: info.rack,
            release_version: info.release_version,
            generation: info.generation,
            uptime_s: info.uptime_s,
            load_bytes: info.load_bytes,
            tokens: info.tokens,
            storage_engine: info.storage_engine,
            data_directory: info.data_directory,
            handoff_enabled: info.handoff_enabled,
            handoff_paused: info.handoff_paused,
            poisoned: (!info.poisoned.is_empty()).then_some(info.poisoned),
        }
    }

    fn text(&self) -> String {
        let handoff = match (self.handoff_enabled, self.handoff_paused) {
            (false, _) => "disabled",
            (true, true) => "paused",
            (true, false) => "running",
        };
        let rows = [
            ("Host", self.host.clone()),
            ("Host ID", self.host_id.clone()),
            ("Cluster", self.cluster_name.clone()),
            ("Data center", self.dc.clone()),
            ("Rack", self.rack.clone()),
            ("Version", self.release_version.clone()),
            ("Generation", self.generation.to_string()),
            ("Uptime", humantime::format_duration(Duration::from_secs(self.uptime_s)).to_string()),
            ("Load", out::bytes(self.load_bytes)),
            ("Tokens", self.tokens.to_string()),
            ("Storage engine", self.storage_engine.clone()),
            ("Data directory", self.data_directory.clone()),
            ("Hinted handoff", handoff.to_owned()),
            (
                "Takes writes",
                self.poisoned.as_ref().map_or("yes".into(), |why| format!("NO: {why}")),
            ),
        ];
        rows.map(|(name, value)| format!("{name:<15}: {value}\n")).concat()
    }
}

/// What each host says about itself.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl info
  helenusctl --host 127.0.0.1 --host 127.0.0.2 info
  helenusctl --format json info | jq .[0].uptime_s")]
pub(crate) struct Info {}

impl Info {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let mut each = context.ask_each(async |admin| admin.info().await).await;
        let infos: Vec<NodeInfo> = std::mem::take(&mut each.answers)
            .into_iter()
            .map(|(addr, info)| NodeInfo::new(addr.to_string(), info))
            .collect();
        context.out.show(&infos, |infos| {
            infos.iter().map(NodeInfo::text).collect::<Vec<_>>().join("\n")
        })?;
        each.finish()
    }
}

#[derive(Debug, Serialize)]
struct GossipEndpoint {
    host_id: String,
    generation: u64,
    heartbeat: u64,
    alive: bool,
    phi: f64,
    /// Application states by name.
    states: BTreeMap<String, GossipState>,
}

#[derive(Debug, Serialize)]
struct GossipState {
    value: String,
    version: u64,
}

/// Everything that the node has heard by gossip.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl gossipinfo
  helenusctl --host 127.0.0.2 gossipinfo
  helenusctl --format json gossipinfo | jq '.[].states.STATUS.value'")]
pub(crate) struct GossipInfo {}

impl GossipInfo {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let answer = context.ask(async |admin| admin.gossip_info().await).await?;
        let endpoints: Vec<GossipEndpoint> = answer
            .endpoints
            .into_iter()
            .map(|endpoint| GossipEndpoint {
                host_id: endpoint.node,
                generation: endpoint.generation,
                heartbeat: endpoint.heartbeat,
                alive: endpoint.alive,
                phi: endpoint.phi,
                states: endpoint
                    .states
                    .into_iter()
                    .map(|s| (s.name, GossipState { value: s.value, version: s.version }))
                    .collect(),
            })
            .collect();
        context.out.show(&endpoints, |endpoints| {
            let mut text = String::new();
            for it in endpoints {
                let alive = if it.alive { "alive" } else { "dead" };
                text += &format!("{} ({alive}, phi {:.2})\n", it.host_id, it.phi);
                text += &format!("  generation:{}\n  heartbeat:{}\n", it.generation, it.heartbeat);
                for (name, state) in &it.states {
                    text += &format!("  {name}:{}:{}\n", state.version, state.value);
                }
            }
            text
        })
    }
}

#[derive(Debug, Serialize)]
struct Endpoints {
    token: i64,
    /// In placement's order.
    replicas: Vec<Member>,
}

/// Which nodes hold a key.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl getendpoints demo.kv greeting
  helenusctl getendpoints demo.kv 00ff --hex
  helenusctl --format json getendpoints demo.kv greeting | jq .token")]
pub(crate) struct GetEndpoints {
    /// KEYSPACE.TABLE
    table: TableName,
    key: String,
    /// KEY is hexadecimal digits.
    #[arg(long)]
    hex: bool,
}

impl GetEndpoints {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let key = input::bytes(&self.key, self.hex)?;
        let keyspace = &self.table.keyspace;
        let answer =
            context.ask(async |admin| admin.get_endpoints(keyspace, key.clone()).await).await?;
        let endpoints = Endpoints {
            token: answer.token,
            replicas: answer.replicas.into_iter().map(Member::from).collect(),
        };
        context.out.show(&endpoints, |endpoints| {
            let mut table = context.out.table(&["--", "Address", "DC", "Rack", "Host ID"]);
            for member in &endpoints.replicas {
                table.add_row(vec![
                    cell(member.letters(), !member.up),
                    cell(&member.internode_addr, false),
                    cell(&member.dc, false),
                    cell(&member.rack, false),
                    cell(&member.host_id, false),
                ]);
            }
            format!("token {}\n{}", endpoints.token, table.trim_fmt())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(n: u8, up: bool) -> v1::Member {
        v1::Member {
            node: bytes::Bytes::copy_from_slice(&u128::from(n).to_be_bytes()),
            internode_addr: format!("127.0.0.{n}:7000"),
            client_addr: format!("127.0.0.{n}:9160"),
            dc: "dc1".into(),
            rack: format!("rack-{n}"),
            tokens: vec![i64::from(n) * 100, -i64::from(n)],
            up,
            status: "NORMAL".into(),
            load_bytes: 2048,
            owns: 1.0,
            ..Default::default()
        }
    }

    fn cluster() -> Cluster {
        Cluster::from(v1::TopologyResponse {
            cluster_name: "helenus".into(),
            members: vec![member(1, true), member(2, false)],
            ..Default::default()
        })
    }

    #[test]
    fn status_looks_like_nodetools() {
        let text = cluster().status(&Out::new(out::Format::Json));
        assert!(text.contains("Datacenter: dc1\n===============\n"), "{text}");
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let up = lines.iter().find(|line| line.starts_with("UN")).expect(&text);
        assert!(up.contains("127.0.0.1:7000") && up.contains("2.0 KiB") && up.contains("100.0%"));
        assert!(up.contains("00000000-0000-0000-0000-000000000001") && up.contains("rack-1"));
        assert!(lines.iter().any(|line| line.starts_with("DN")), "{text}");
    }

    #[test]
    fn the_ring_is_in_token_order() {
        let text = cluster().ring(&Out::new(out::Format::Json));
        let tokens: Vec<&str> =
            text.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!(tokens, ["-2", "-1", "100", "200"]);
    }

    #[test]
    fn programs_find_the_names_they_know() {
        let json = serde_json::to_value(cluster()).unwrap();
        assert_eq!(json["members"][1]["up"], false);
        assert_eq!(json["members"][0]["client_addr"], "127.0.0.1:9160");
        assert_eq!(json["members"][0]["tokens"][0], 100);
    }
}
