//! `bench`: a load generator that does not flatter.
//!
//! *Closed loop* (`--in-flight`): so many clients, each of which asks again when it has its answer. It finds the most
//! that the cluster can do; its latencies are those of clients that politely wait.
//!
//! *Open loop* (`--rate`): operations fall due on a schedule that knows nothing of the answers, as users do. Latency
//! counts **from the moment an operation was due**, not from when it was sent: a stall of a second is felt by everything
//! that fell due in it, and the percentiles say so. (Measuring from the send is what is called coordinated omission.)
//!
//! Two protocols (`--protocol grpc,cql`) take turns within one run, so that what else the machine does befalls both.

mod cpu;
mod keys;
mod load;
mod report;
mod target;

use crate::context::{Context, Failure};
use crate::input::{self, TableName};
use clap::Args;
use futures_util::{StreamExt, stream};
use helenus_client::cql::CqlOptions;
use helenus_client::{Client, Level, Options, RetryPolicy};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use keys::{Distribution, Keys, Values};
use load::{Load, Measured, Pace, Until};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use report::{Comparison, Report};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use target::{CqlTable, Protocol, Target};

/// In open loop: operations that may be under way at once. What falls due beyond that waits, and its waiting is counted
/// as latency.
const OPEN_IN_FLIGHT: usize = 4096;
/// Turns of each protocol when there are two.
const ROUNDS: u32 = 5;
/// Zipf's constants take a sum over all keys.
const KEYS_MAX: u64 = 1_000_000_000;

/// Measure throughput, latency and CPU per operation.
///
/// Closed loop with --in-flight, open loop with --rate. In open loop latency counts from the moment an operation was
/// due, so that stalls are not hidden. Every figure is about what was measured after the warm-up.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl bench                                     # QUORUM writes, 64 in flight, 10 s
  helenusctl bench --in-flight 512 --read-share 0.5 --load
  helenusctl bench --rate 5000 --duration 1m --distribution zipfian --read-share 0.95 --load
  helenusctl bench --level one --value-size 50KB --ops 100000
  helenusctl bench --pid $(pidof helenus | tr ' ' ',') # CPU per operation, servers and client
  helenusctl bench --protocol grpc,cql --in-flight 512 # both in turn, and how they compare
  helenusctl --format json bench | jq .ops_per_s")]
pub(crate) struct Bench {
    /// KEYSPACE.TABLE; it must exist.
    #[arg(default_value = "demo.kv")]
    table: TableName,

    /// What to speak. Two take turns, the duration or the number of operations being that of each.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "grpc")]
    protocol: Vec<Protocol>,

    /// The port on which the nodes speak CQL; their addresses are those of gRPC.
    #[arg(long, value_name = "PORT", default_value_t = 9042)]
    native_transport_port: u16,

    /// Closed loop: operations under way at once. With --rate: the most that may be [default: 64; with --rate 4096].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536))]
    in_flight: Option<u32>,

    /// Open loop: operations per second that fall due.
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    rate: Option<f64>,

    /// The level of reads and writes.
    #[arg(long, short, value_name = "LEVEL", default_value = "QUORUM", value_parser = input::level)]
    level: Level,

    /// Share of reads, 0 to 1; the rest are writes.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    read_share: f64,

    /// Bytes per value; half of them compress.
    #[arg(long, value_name = "SIZE", default_value = "100B", value_parser = input::size)]
    value_size: u64,

    /// Different keys.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=KEYS_MAX))]
    keys: u64,

    /// Which keys are asked for.
    #[arg(long, value_enum, default_value_t = Distribution::Uniform)]
    distribution: Distribution,

    /// Write every key once before anything is measured, so that reads find something.
    #[arg(long)]
    load: bool,

    /// How long to measure [default: 10s, unless --ops is given].
    #[arg(long, value_name = "DURATION", value_parser = input::duration, conflicts_with = "ops")]
    duration: Option<Duration>,

    /// Measure so many operations instead of so long.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    ops: Option<u64>,

    /// Run so long before measuring.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = input::duration)]
    warm_up: Duration,

    /// Retry as applications do (gRPC only); else every refusal is counted as an error.
    #[arg(long)]
    retry: bool,

    /// The same seed asks for the same keys in the same order.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Servers on this machine whose CPU is to be counted; may be given more than once.
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pid: Vec<u32>,
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err(format!("`{text}` is not a share between 0 and 1")),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.001..=10_000_000.0).contains(&rate) => Ok(rate),
        _ => Err(format!("`{text}` is not a rate per second between 0.001 and 10000000")),
    }
}

impl Bench {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        if self.retry && self.protocol.contains(&Protocol::Cql) {
            return Err(Failure::Usage("--retry: only the client of gRPC retries".to_owned()));
        }
        // Before any load: a misspelt pid should not cost a minute.
        cpu::Usage::read(&self.pid)?;
        let retry = if self.retry { RetryPolicy::STANDARD } else { RetryPolicy::NEVER };
        let builder = context.builder().retry(retry).in_flight_max(OPEN_IN_FLIGHT.max(65536));
        let client = builder.connect().await?;
        let values = Values::new(self.value_size, SmallRng::seed_from_u64(self.seed))
            .map_err(Failure::Usage)?;
        if self.load {
            self.write_all(context, &client, &values).await?;
        }
        let mut runs: Vec<(Target, Option<Measured>)> = Vec::new();
        for &protocol in &self.protocol {
            if runs.iter().all(|(target, _)| target.protocol() != protocol) {
                runs.push((self.target(protocol, context, &client).await?, None));
            }
        }
        self.measure(context, &mut runs, &values).await?;
        let measured = runs
            .into_iter()
            .filter_map(|(target, sum)| Some(Report::new(&self, target.protocol(), sum?)));
        let comparison = Comparison::of(measured.collect());
        let nothing = comparison.runs().iter().any(|report| report.ops == 0);
        match comparison.runs() {
            [only] => context.out.show(only, |report| report.text(&context.out))?,
            _ => context.out.show(&comparison, |both| both.text(&context.out))?,
        }
        match nothing {
            true => Err(Failure::Here("no operation succeeded".to_owned())),
            false => Ok(()),
        }
    }

    /// Runs the load: for one protocol at a stretch, for two in turns.
    async fn measure(
        &self,
        context: &Context,
        runs: &mut [(Target, Option<Measured>)],
        values: &Values,
    ) -> Result<(), Failure> {
        let rounds = if runs.len() > 1 { ROUNDS } else { 1 };
        for round in 0..rounds {
            for (target, sum) in &mut *runs {
                let load = self.prepare(target.clone(), values.clone(), round, rounds);
                let bar = self.progress(context, &load);
                let measured = load.run(&self.pid, &bar).await?;
                bar.finish_and_clear();
                let interrupted = measured.interrupted;
                match sum {
                    Some(sum) => sum.add(measured)?,
                    None => *sum = Some(measured),
                }
                if interrupted {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn target(
        &self,
        protocol: Protocol,
        context: &Context,
        client: &Client,
    ) -> Result<Target, Failure> {
        match protocol {
            Protocol::Grpc => Ok(Target::Grpc {
                table: client.table(&self.table.keyspace, &self.table.table),
                options: Options::new().level(self.level),
            }),
            Protocol::Cql => {
                let defaults = CqlOptions::default();
                let options = CqlOptions {
                    in_flight_max: self.in_flight(),
                    timeout: context.timeout().unwrap_or(defaults.timeout),
                    ..defaults
                };
                let port = self.native_transport_port;
                let table =
                    CqlTable::connect(client, &self.table, self.level, port, options).await?;
                Ok(Target::Cql(Rc::new(table)))
            }
        }
    }

    fn in_flight(&self) -> usize {
        let said = self.in_flight.and_then(|n| usize::try_from(n).ok());
        said.unwrap_or(if self.rate.is_some() { OPEN_IN_FLIGHT } else { 64 })
    }

    /// The load of one round of so many. The rounds of both protocols ask for the same keys.
    fn prepare(&self, target: Target, values: Values, round: u32, rounds: u32) -> Load {
        let in_flight = self.in_flight();
        Load {
            target,
            pace: match self.rate {
                Some(rate) => Pace::Open { rate, in_flight },
                None => Pace::Closed { in_flight },
            },
            warm_up: self.warm_up / rounds,
            until: match self.ops {
                Some(ops) => Until::Ops(ops.div_ceil(u64::from(rounds))),
                None => Until::Elapsed(self.duration.unwrap_or(Duration::from_secs(10)) / rounds),
            },
            read_share: self.read_share,
            keys: Keys::new(self.keys, self.distribution),
            values,
            seed: self.seed.wrapping_add(u64::from(round)),
            stop: Arc::default(),
        }
    }

    /// Writes every key once, `in_flight` at a time. One that fails is tried again as applications do; one that fails
    /// for good ends the bench, because its reads would measure something else than they say.
    async fn write_all(
        &self,
        context: &Context,
        client: &Client,
        values: &Values,
    ) -> Result<(), Failure> {
        let table = client.table(&self.table.keyspace, &self.table.table);
        let options = Options::new().level(self.level);
        let bar = bar(context, Some(self.keys), "{msg} {bar:40} {pos}/{len} keys, {eta} left");
        bar.set_message("loading");
        let mut rng = SmallRng::seed_from_u64(self.seed);
        let writes = stream::iter(0..self.keys).map(|index| {
            let value = values.pick(&mut rng);
            table.put_with(Keys::key(index), value, &options)
        });
        let mut writes = writes.buffer_unordered(self.in_flight().min(512));
        while let Some(written) = writes.next().await {
            written?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn progress(&self, context: &Context, load: &Load) -> ProgressBar {
        match load.until {
            Until::Ops(ops) => bar(context, Some(ops), "{msg} {bar:40} {pos}/{len} operations"),
            Until::Elapsed(duration) => {
                let all = load.warm_up + duration;
                let ms = u64::try_from(all.as_millis()).unwrap_or(u64::MAX);
                bar(context, Some(ms), "{msg} {bar:40} {elapsed}")
            }
        }
    }
}

/// On stderr, and only for those who watch.
fn bar(context: &Context, len: Option<u64>, template: &str) -> ProgressBar {
    let target = match context.out.watched() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(len, target).with_style(style)
}
