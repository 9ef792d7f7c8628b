//! Skep and its cells are killed at random moments in the middle of writes: what was acknowledged is there
//! afterwards, and no half-written value is ever returned.
//!
//! `SKEP_CRASH_ROUNDS` says how often something is killed, `SKEP_CRASH_SEED` repeats the moments of a run.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::harness::lane::{Lane, SLOTS};
use crate::harness::random::Random;
use crate::harness::{Skep, command, copy, eventually, is_alive, project, signal, start};

const LANES: [(&str, u64); 8] =
    [("kv", 2), ("r2", 2), ("parts", 1), ("d1", 1), ("batch", 2), ("object", 1), ("sql", 1), ("queue", 2)];

/// How long is written before the kill, in milliseconds.
const SHORTEST: u64 = 20;
const LONGEST: u64 = 1000;

#[derive(Clone, Copy, Debug)]
enum Victim {
    Skep,
    Cell,
}

/// What the main thread tells those that write and read.
#[derive(Default)]
struct Moment {
    /// Something is being killed: from here on a call may fail.
    killed: AtomicBool,
    /// No more calls.
    over: AtomicBool,
}

impl Moment {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// A call has failed: that is right only once something is killed.
    fn expect(&self, failure: &str) {
        assert!(self.killed.load(Ordering::SeqCst), "before anything was killed: {failure}");
        // Where nobody listens, a call fails at once: not in a tight loop.
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Folders that outlive the killed processes.
struct Ground {
    project: tempfile::TempDir,
    state: tempfile::TempDir,
    /// For sockets: its path must be short.
    runtime: tempfile::TempDir,
}

impl Ground {
    fn new() -> Self {
        Self {
            project: copy(&project("crash")),
            state: tempfile::tempdir().unwrap(),
            runtime: tempfile::tempdir_in("/tmp").unwrap(),
        }
    }

    fn start(&self) -> Skep {
        let mut command = command(self.project.path(), self.state.path());
        command.env("XDG_RUNTIME_DIR", self.runtime.path());
        start(command).unwrap_or_else(|output| panic!("skep dev did not come up:\n{output}"))
    }

    fn run_folders(&self) -> usize {
        std::fs::read_dir(self.runtime.path()).unwrap().count()
    }
}

fn number(variable: &str) -> Option<u64> {
    Some(std::env::var(variable).ok()?.parse().unwrap_or_else(|e| panic!("{variable}: {e}")))
}

#[test]
fn what_was_acknowledged_outlives_a_kill_at_any_moment() {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = number("SKEP_CRASH_SEED").unwrap_or(clock);
    let rounds = number("SKEP_CRASH_ROUNDS").unwrap_or(6);
    println!("SKEP_CRASH_SEED={seed} SKEP_CRASH_ROUNDS={rounds}");
    let mut random = Random::new(seed);
    let mut lanes: Vec<Lane> =
        LANES.iter().flat_map(|(store, n)| (0..*n).map(|writer| Lane::new(store, writer))).collect();

    let ground = Ground::new();
    let mut skep = ground.start();
    for round in 0..rounds {
        let victim = [Victim::Skep, Victim::Skep, Victim::Cell][random.below(3) as usize];
        let pause = Duration::from_millis(SHORTEST + random.below(LONGEST - SHORTEST));
        let started = Instant::now();
        let before: u64 = lanes.iter().map(|lane| lane.count).sum();
        let family = write_and_kill(&skep, &mut lanes, victim, pause, &mut random);
        if let Victim::Skep = victim {
            skep = restart(skep, &family, &ground);
        }
        for lane in &mut lanes {
            lane.check(&skep);
        }
        let count = lanes.iter().map(|lane| lane.count).sum::<u64>() - before;
        println!(
            "{round}: {victim:?} killed after {} ms and {count} acknowledged writes; checked after {} ms",
            pause.as_millis(),
            started.elapsed().as_millis(),
        );
    }

    // An orderly end leaves no folder of sockets. After it everything is there and takes writes, and no file
    // has stayed that nothing names.
    drop(skep);
    assert_eq!(ground.run_folders(), 0);
    let skep = ground.start();
    for lane in &mut lanes {
        lane.write(&skep).unwrap();
        lane.check(&skep);
        println!("{:?}: {} acknowledged", lane.name(), lane.count);
    }
    assert!(files(&ground.state.path().join("kv")) <= 2 * SLOTS);
    assert!(files(&ground.state.path().join("r2/objects")) <= 2 * SLOTS);
}

#[test]
fn a_cell_that_dies_while_it_starts_is_started_again() {
    let ground = Ground::new();
    let skep = ground.start();
    for _ in 0..4 {
        let cell = eventually("cell", || skep.cells().first().copied());
        // It may have ended by itself in between.
        let _ = Command::new("kill").args(["-KILL", &cell.to_string()]).status();
        eventually("its end", || (!is_alive(cell)).then_some(()));
    }
    eventually("answer", || is_here(&skep).then_some(()));
    assert!(skep.output().contains("does not start any more"), "{}", skep.output());
    let folder = std::fs::read_dir(ground.runtime.path()).unwrap().next().unwrap().unwrap().path();
    let folders = || {
        std::fs::read_dir(&folder).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir()).count()
    };
    // Engines that wait have one, too.
    let own = || skep.cells().len() == 1 && folders() == skep.engines().len();
    eventually("removal of the folders of dead cells", || own().then_some(()));

    // Nor does it matter why it cannot start: here there is no folder for its sockets.
    let away = folder.with_extension("away");
    std::fs::rename(&folder, &away).unwrap();
    signal(skep.cells()[0], "KILL");
    skep.wait_for_output("No such file or directory");
    std::fs::rename(&away, &folder).unwrap();
    eventually("answer", || is_here(&skep).then_some(()));
}

/// Writes to everything and reads from it; in the middle of it the victim is killed. Returns the processes
/// that Skep had.
fn write_and_kill(
    skep: &Skep,
    lanes: &mut [Lane],
    victim: Victim,
    pause: Duration,
    random: &mut Random,
) -> Vec<u32> {
    let moment = Moment::default();
    let read: Vec<_> = lanes.iter().filter(|lane| lane.is_by_slot()).map(Lane::name).collect();
    let seed = random.next();
    std::thread::scope(|scope| {
        let (moment, _over) = (&moment, Over(&moment));
        for lane in lanes {
            scope.spawn(|| write_on(skep, lane, moment));
        }
        scope.spawn(|| read_on(skep, &read, moment, Random::new(seed)));
        std::thread::sleep(pause);
        let (family, cells) = (skep.children(), skep.cells());
        moment.killed.store(true, Ordering::SeqCst);
        match victim {
            Victim::Skep => skep.signal("KILL"),
            Victim::Cell => {
                assert_eq!(cells.len(), 1);
                signal(cells[0], "KILL");
                // Skep starts another by itself; writing goes on all the while.
                eventually("new cell", || (skep.cells() != cells && is_here(skep)).then_some(()));
            }
        }
        family
    })
}

fn write_on(skep: &Skep, lane: &mut Lane, moment: &Moment) {
    while !moment.is_over() {
        if let Err(failure) = lane.write(skep) {
            moment.expect(&failure);
        }
    }
}

/// Reads values while they are written and killed: one that is answered in full is whole.
fn read_on(skep: &Skep, lanes: &[(&'static str, u64)], moment: &Moment, mut random: Random) {
    while !moment.is_over() {
        let (store, writer) = lanes[random.below(lanes.len() as u64) as usize];
        if let Err(failure) = Lane::new(store, writer).read(skep, random.below(SLOTS)) {
            moment.expect(&failure);
        }
    }
}

/// Ends the writing, also when the test fails.
struct Over<'a>(&'a Moment);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::SeqCst);
    }
}

fn is_here(skep: &Skep) -> bool {
    skep.try_send("GET", "/", &[], None).is_ok_and(|answer| answer.text() == "here")
}

/// What a killed Skep leaves: no process, and a folder that the next start removes.
fn restart(mut dead: Skep, family: &[u32], ground: &Ground) -> Skep {
    dead.wait();
    let skep = ground.start();
    eventually("end of the processes of a killed Skep", || {
        (!family.iter().any(|pid| is_alive(*pid))).then_some(())
    });
    assert_eq!(ground.run_folders(), 1);
    skep
}

/// Content files below a store's folder.
fn files(store: &Path) -> u64 {
    let mut count = 0;
    for entry in std::fs::read_dir(store).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => count += files(&path),
            false => count += u64::from(path.extension().is_none()),
        }
    }
    count
}
