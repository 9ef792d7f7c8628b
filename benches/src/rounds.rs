//! Peers one after the other, in an order that rotates, so that a slow minute of the machine hits all.

use std::time::Duration;

use crate::load::{self, Load};
use crate::process::{Peer, cpu_us};
use crate::stats::Spread;

/// One peer in one round.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What the client saw.
    pub load: Load,
    /// Processor time of the peer's first process, in microseconds per request.
    pub own_cpu: f64,
}

/// What all peers did in all rounds: `results[peer][round]`.
#[derive(Clone, Debug)]
pub struct Rounds(Vec<Vec<Sample>>);

/// A load that all peers get.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Connections that are busy at a time.
    pub connections: usize,
    /// How long each peer has in a round.
    pub time: Duration,
    /// How many rounds.
    pub rounds: usize,
}

/// One of those that are compared: who is asked what.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Who.
    pub peer: &'a Peer,
    /// The path.
    pub path: &'a str,
    /// Header lines beside `Host`, each with its line end.
    pub headers: &'a str,
}

/// Sends `GET path` to each of `peers` in each round.
pub async fn compare(peers: &[&Peer], path: &str, plan: Plan) -> Result<Rounds, String> {
    compare_paths(&peers.iter().map(|peer| (*peer, path)).collect::<Vec<_>>(), plan).await
}

/// As [`compare`], with a path of its own for each peer.
pub async fn compare_paths(peers: &[(&Peer, &str)], plan: Plan) -> Result<Rounds, String> {
    let targets = peers.iter().map(|(peer, path)| Target { peer, path, headers: "" });
    compare_targets(&targets.collect::<Vec<_>>(), plan).await
}

/// As [`compare`], with a request of its own for each.
pub async fn compare_targets(targets: &[Target<'_>], plan: Plan) -> Result<Rounds, String> {
    let mut results = vec![Vec::new(); targets.len()];
    let send = |Target { peer, path, headers }: Target<'_>, time| {
        let address = peer.address;
        load::get_with(address, &address.to_string(), path, headers, plan.connections, time)
    };
    for target in targets {
        send(*target, plan.time / 4).await;
    }
    for round in 0..plan.rounds {
        for turn in 0..targets.len() {
            let which = (round + turn) % targets.len();
            let (Some(target), Some(result)) = (targets.get(which), results.get_mut(which)) else {
                continue;
            };
            let Target { peer, path, .. } = *target;
            let before = cpu_us(peer.pid());
            let load = send(*target, plan.time).await;
            let own_cpu = (cpu_us(peer.pid()) - before) / load.ok.max(1) as f64;
            if load.ok == 0 || load.failed > load.ok / 100 {
                return Err(format!(
                    "{} of {} requests for {path} failed on {}",
                    load.failed,
                    load.ok + load.failed,
                    peer.address
                ));
            }
            result.push(Sample { load, own_cpu });
        }
    }
    Ok(Rounds(results))
}

impl Rounds {
    /// A figure of one peer over all rounds.
    pub fn of(&self, peer: usize, figure: impl Fn(&Sample) -> f64) -> Spread {
        Spread::of(self.0.get(peer).into_iter().flatten().map(figure))
    }

    /// `combine` of the same figure of two peers, round by round.
    pub fn pairs(
        &self,
        (ours, theirs): (usize, usize),
        figure: impl Fn(&Sample) -> f64,
        combine: impl Fn(f64, f64) -> f64,
    ) -> Spread {
        let side = |peer: usize| self.0.get(peer).into_iter().flatten().map(&figure);
        Spread::of(side(ours).zip(side(theirs)).map(|(ours, theirs)| combine(ours, theirs)))
    }

    /// The ratio of requests per second of two peers.
    pub fn rate_ratio(&self, pair: (usize, usize)) -> Spread {
        self.pairs(pair, |sample| sample.load.rate(), |ours, theirs| ours / theirs)
    }

    /// The ratio of the latencies below which 99 % of the requests stay of visitors who do not wait for each other.
    pub fn p99_ratio(&self, pair: (usize, usize)) -> Spread {
        self.pairs(pair, |sample| sample.load.p99(), |ours, theirs| ours / theirs)
    }
}
