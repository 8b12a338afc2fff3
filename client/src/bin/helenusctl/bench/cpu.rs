//! CPU time of processes, from Linux's /proc.

use crate::context::Failure;
use std::time::Duration;

/// The kernel reports in ticks of USER_HZ, which is 100 on every architecture Linux still runs on (`man 5 proc`).
const TICKS_PER_SECOND: u64 = 100;

/// CPU time used so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Usage {
    /// This process.
    pub(crate) own: Duration,
    /// The servers, in the order they were named.
    pub(crate) servers: Vec<(u32, Duration)>,
}

impl Usage {
    /// Reads /proc now.
    pub(crate) fn read(pids: &[u32]) -> Result<Usage, Failure> {
        // Where there is no /proc the client's own share is unknown, which matters only to those who ask for servers'.
        let own = process("self").unwrap_or_default();
        let servers = pids
            .iter()
            .map(|pid| match process(&pid.to_string()) {
                Ok(used) => Ok((*pid, used)),
                Err(why) => Err(Failure::Usage(format!(
                    "--pid {pid}: {why}; name running processes of this machine"
                ))),
            })
            .collect::<Result<_, _>>()?;
        Ok(Usage { own, servers })
    }

    /// What was used between `earlier` and this.
    pub(crate) fn since(&self, earlier: &Usage) -> Usage {
        let servers = self.servers.iter().zip(&earlier.servers);
        Usage {
            own: self.own.saturating_sub(earlier.own),
            servers: servers
                .map(|((pid, now), (_, then))| (*pid, now.saturating_sub(*then)))
                .collect(),
        }
    }

    /// What was used in another stretch of time, of the same processes, joins this.
    pub(crate) fn add(&mut self, other: &Usage) {
        self.own += other.own;
        for ((_, sum), (_, more)) in self.servers.iter_mut().zip(&other.servers) {
            *sum += *more;
        }
    }
}

fn process(pid: &str) -> Result<Duration, String> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    used(&stat).ok_or_else(|| format!("{path} is not what proc(5) describes"))
}

/// utime + stime. The command's name comes second and may hold anything, parentheses and spaces included.
fn used(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis(user.saturating_add(system) * 1000 / TICKS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_command_does_not_matter() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 5 0 0";
        assert_eq!(used(stat), Some(Duration::from_secs(3)));
        assert_eq!(used("7 (helenus"), None);
        assert_eq!(used("7 (helenus) S 1"), None);
    }

    #[test]
    fn a_pid_that_is_not_there_is_bad_input() {
        let failure = Usage::read(&[u32::MAX]).unwrap_err();
        assert_eq!(failure.exit_code(), 2, "{failure}");
    }
}
