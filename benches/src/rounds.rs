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

/// Sends `GET path` to each of `peers` in each round.
pub async fn compare(peers: &[&Peer], path: &str, plan: Plan) -> Result<Rounds, String> {
    compare_paths(&peers.iter().map(|peer| (*peer, path)).collect::<Vec<_>>(), plan).await
}

/// As [`compare`], with a path of its own for each peer.
pub async fn compare_paths(peers: &[(&Peer, &str)], plan: Plan) -> Result<Rounds, String> {
    let mut results = vec![Vec::new(); peers.len()];
    for (peer, path) in peers {
        load::get(peer.address, path, plan.connections, plan.time / 4).await;
    }
    for round in 0..plan.rounds {
        for turn in 0..peers.len() {
            let which = (round + turn) % peers.len();
            let (Some((peer, path)), Some(result)) = (peers.get(which), results.get_mut(which)) else {
                continue;
            };
            let before = cpu_us(peer.pid());
            let load = load::get(peer.address, path, plan.connections, plan.time).await;
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

    /// The ratio of the latencies below which 99 % of the requests stayed.
    pub fn p99_ratio(&self, pair: (usize, usize)) -> Spread {
        self.pairs(pair, |sample| sample.load.percentile(0.99), |ours, theirs| ours / theirs)
    }
}
