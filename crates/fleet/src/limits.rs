//! What a cell may use, and when it is over that: decisions without a clock.

use std::time::{Duration, Instant};

use skep_runtime::Bounds;

use crate::memory::{Memory, SLACK, Step};

/// What the engine takes for itself, before any code of an application has run, with room for what it generates
/// (9 to 15 MB were measured).
const ENGINE_MEMORY: u64 = 32 << 20;
/// The kernel's own limit is above ours, so that it acts only where looking is too slow; and it counts more, such as
/// the buffers of sockets.
const HEADROOM: u64 = 32 << 20;
/// Clocks of the CPU tick every 10 ms, and we look every few ticks.
const LEAST_CPU: Duration = Duration::from_millis(50);
/// For the code outside of any handler: Cloudflare's 1 s.
pub(crate) const START_CPU: Duration = Duration::from_secs(1);

/// What one cell may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory, heap and buffers together, beside what the engine takes for itself.
    pub memory: u64,
    /// What the engine may take beside that for Durable Objects that are awake.
    pub objects: Bounds,
    /// CPU time without giving others their turn.
    pub cpu: Duration,
    /// Requests to others that an invocation may make.
    pub subrequests: u32,
    /// How long an invocation of a visitor may go on after its response with what `waitUntil` got.
    pub after: Duration,
    /// How long its objects may go on by themselves, without an event; `None`: as long as on Cloudflare.
    pub alone: Option<Duration>,
}

impl Limits {
    /// The memory of the process at which it is ended, if it has no garbage.
    pub(crate) fn process_memory(&self) -> u64 {
        self.memory.saturating_add(ENGINE_MEMORY)
    }

    /// The memory at which the kernel ends it.
    pub(crate) fn group_memory(&self) -> u64 {
        self.process_memory().saturating_add(SLACK + HEADROOM).saturating_add(self.objects.own as u64)
    }

    /// The heap at which V8 ends it, in MiB: without this it would rather take more memory than collect garbage.
    pub(crate) fn heap_mib(&self) -> u64 {
        (self.memory >> 20).max(1)
    }
}

/// What a cell was ended for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exceeded {
    /// Memory.
    Memory,
    /// CPU time.
    Cpu,
}

impl Exceeded {
    /// The outcome of the events that were in the cell, as tails name it.
    pub fn outcome(self) -> &'static str {
        match self {
            Self::Memory => "exceededMemory",
            Self::Cpu => "exceededCpu",
        }
    }

    /// Why a script is refused that did it before any handler was called.
    pub(crate) fn at_start(self) -> &'static str {
        match self {
            Self::Memory => "Script startup exceeded memory limits.",
            Self::Cpu => "Script startup exceeded CPU time limit.",
        }
    }

    /// The exception, in Cloudflare's words.
    pub fn message(self) -> &'static str {
        match self {
            Self::Memory => "Worker exceeded memory limit.",
            Self::Cpu => "Worker exceeded CPU time limit.",
        }
    }
}

/// How much of what a process says is heard, in bytes per second and at once.
const HEARD: f64 = (1 << 20) as f64;
/// What a line costs beside its bytes.
const LINE: usize = 256;

/// Keeps one process from saying so much that nobody else is heard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    left: f64,
    since: Instant,
}

impl Pace {
    pub fn new(now: Instant) -> Self {
        Self { left: HEARD, since: now }
    }

    /// Takes note of a line; returns how long to wait before the next.
    pub fn spend(&mut self, bytes: usize, now: Instant) -> Duration {
        let earned = now.saturating_duration_since(self.since).as_secs_f64() * HEARD;
        self.since = self.since.max(now);
        self.left = (self.left + earned).min(HEARD) - (bytes + LINE) as f64;
        Duration::from_secs_f64((-self.left / HEARD).max(0.0))
    }
}

/// What can be seen of a process at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sample {
    /// CPU time of the thread that runs the code.
    pub cpu: Duration,
    /// Memory that is its own, without what its objects need to be awake.
    pub memory: u64,
    /// What is known of the requests in it.
    pub inside: Inside,
}

/// What is known of the requests in a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Inside {
    /// Which one invocation is in it; `None` if there may be several.
    pub one: Option<u64>,
    /// The least CPU time that one of them may use, where that is less than the script's limit.
    pub cap: Option<Duration>,
    /// Whether there is none: what it does, it does by itself.
    pub none: bool,
}

/// What to do about a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing.
    Fine,
    /// Ask it for a sign of life: the answer says that its code gives others their turn.
    Ask,
    /// Say by [`Watch::alarm`] whether an alarm of its objects has rung: what it does may not be what it is counted as.
    Alarm,
    /// End it.
    End(Exceeded),
}

/// Follows one process.
#[derive(Debug)]
pub(crate) struct Watch {
    limits: Limits,
    memory: Memory,
    collect: bool,
    /// The CPU time when it was last known to give others their turn.
    free: Duration,
    asked: bool,
    last: Duration,
    /// The one invocation that was in it at the last look, and what it has used so far.
    one: Option<u64>,
    used: Duration,
    /// Whether an alarm may begin something in it that nobody else sees.
    alarms: bool,
    /// Alarms were asked for when it had used half of its time.
    half: bool,
    /// What it has used since anybody waited for what it does, while it does something.
    by_itself: Duration,
    pause: Duration,
}

/// Nobody waits for the rest of a computation as for a request: after this it may take longer.
const STUCK: Duration = Duration::from_millis(60);
/// Nor for what it does when it has answered everything.
const BY_ITSELF: Duration = Duration::from_secs(1);
const SHORTEST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_millis(250);

impl Watch {
    /// Of a process that can be asked to collect its garbage, or cannot, and that has objects with alarms, or has none.
    pub fn new(limits: Limits, collects: bool, alarms: bool) -> Self {
        Self {
            limits,
            memory: Memory::new(limits.process_memory(), collects),
            collect: false,
            free: Duration::ZERO,
            asked: false,
            last: Duration::ZERO,
            one: None,
            used: Duration::ZERO,
            alarms,
            half: false,
            by_itself: Duration::ZERO,
            pause: SHORTEST,
        }
    }

    /// It gave a sign of life when it was last looked at.
    pub fn answered(&mut self) {
        self.asked = false;
        self.free = self.last;
    }

    /// It can be asked again.
    pub fn not_asked(&mut self) {
        self.asked = false;
    }

    /// Takes note of what is seen.
    pub fn note(&mut self, sample: Sample) -> Verdict {
        let before = std::mem::replace(&mut self.last, sample.cpu);
        let rests = sample.cpu <= before;
        self.pause = if rests { (self.pause * 2).min(LONGEST) } else { SHORTEST };
        match self.memory.note(sample.memory, sample.cpu) {
            Step::Fine => {}
            Step::Collect => self.collect = true,
            Step::End => return Verdict::End(Exceeded::Memory),
        }
        let one = sample.inside.one;
        let limit = sample.inside.cap.map_or(self.limits.cpu, |cap| cap.min(self.limits.cpu)).max(LEAST_CPU);
        self.used = match one.is_some() && one == self.one {
            true => self.used + sample.cpu.saturating_sub(before),
            false => {
                self.half = false;
                Duration::ZERO
            }
        };
        self.one = one;
        self.by_itself = match sample.inside.none && !rests {
            true => self.by_itself + sample.cpu.saturating_sub(before),
            false => Duration::ZERO,
        };
        if self.alarms && self.used >= if self.half { limit } else { limit / 2 } {
            return Verdict::Alarm;
        }
        if self.used >= limit {
            return Verdict::End(Exceeded::Cpu);
        }
        if !self.asked {
            // What it did before it was asked does not count: rather late than early.
            self.free = sample.cpu;
            self.asked = !rests;
            return if rests { Verdict::Fine } else { Verdict::Ask };
        }
        match sample.cpu.saturating_sub(self.free) >= limit {
            true => Verdict::End(Exceeded::Cpu),
            false => Verdict::Fine,
        }
    }

    /// Whether it is to collect its garbage; says so once.
    pub fn wants_collection(&mut self) -> bool {
        std::mem::take(&mut self.collect)
    }

    /// It has collected its garbage.
    pub fn collected(&mut self) {
        self.memory.collected();
    }

    /// Whether an alarm has rung: then a new count begins. Otherwise it has had its time, or half of it.
    pub fn alarm(&mut self, rang: bool) -> Verdict {
        if rang {
            self.used = Duration::ZERO;
        }
        match std::mem::replace(&mut self.half, !rang) && !rang {
            true => Verdict::End(Exceeded::Cpu),
            false => Verdict::Fine,
        }
    }

    /// Whether its code does not give others their turn, or nobody waits for it: it has no claim to the CPU before those that do.
    pub fn runs_last(&self) -> bool {
        self.by_itself >= BY_ITSELF || self.asked && self.last.saturating_sub(self.free) >= STUCK
    }

    /// When to look again: soon while it works, rarely while it rests.
    pub fn pause(&self) -> Duration {
        self.pause
    }

    /// Something has come in: look soon.
    pub fn wake(&mut self) {
        self.pause = SHORTEST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        memory: 128 << 20,
        objects: Bounds { own: 0, all: 0, little: 0 },
        cpu: Duration::from_secs(1),
        subrequests: 50,
        after: Duration::ZERO,
        alone: None,
    };

    fn sample(ms: u64) -> Sample {
        Sample { cpu: Duration::from_millis(ms), memory: 20 << 20, inside: Inside::default() }
    }

    #[test]
    fn a_loop_is_found_when_it_has_had_its_time() {
        let mut watch = Watch::new(LIMITS, true, false);
        assert_eq!(watch.note(sample(30)), Verdict::Ask);
        watch.answered();
        assert_eq!(watch.note(sample(30)), Verdict::Fine);
        assert_eq!(watch.note(sample(70)), Verdict::Ask);
        for ms in [110, 500, 1060] {
            assert_eq!(watch.note(sample(ms)), Verdict::Fine, "{ms}");
            assert_eq!(watch.runs_last(), ms > 130);
        }
        assert_eq!(watch.note(sample(1080)), Verdict::End(Exceeded::Cpu));
    }

    #[test]
    fn work_in_turns_may_go_on_for_ever() {
        let mut watch = Watch::new(LIMITS, true, false);
        for turn in 1..100 {
            let verdict = watch.note(sample(turn * 900));
            assert_eq!(verdict, Verdict::Ask, "{turn}");
            watch.answered();
        }
    }

    #[test]
    fn what_one_invocation_uses_with_pauses_is_counted_while_it_is_the_only_one() {
        let mut watch = Watch::new(LIMITS, true, false);
        let mut cpu = 0;
        let mut look = |one| {
            cpu += 400;
            let verdict = watch.note(Sample { inside: Inside { one, ..Inside::default() }, ..sample(cpu) });
            watch.answered();
            verdict
        };
        for one in [Some(1), Some(1), Some(2), Some(2), None, Some(2), Some(3), Some(3), Some(3)] {
            assert_ne!(look(one), Verdict::End(Exceeded::Cpu));
        }
        assert_eq!(look(Some(3)), Verdict::End(Exceeded::Cpu));
    }

    #[test]
    fn what_objects_do_by_themselves_is_counted_from_alarm_to_alarm() {
        let mut watch = Watch::new(LIMITS, true, true);
        let mut cpu = 0;
        let mut look = |watch: &mut Watch| {
            cpu += 300;
            let inside = Inside { one: Some(7), cap: None, none: true };
            let verdict = watch.note(Sample { inside, ..sample(cpu) });
            watch.answered();
            verdict
        };
        look(&mut watch);
        assert_eq!(look(&mut watch), Verdict::Ask);
        assert_eq!(look(&mut watch), Verdict::Alarm, "half of its time");
        assert_eq!(watch.alarm(true), Verdict::Fine);
        assert_eq!([look(&mut watch), look(&mut watch)], [Verdict::Ask, Verdict::Alarm]);
        assert_eq!(watch.alarm(false), Verdict::Fine);
        assert_eq!([look(&mut watch), look(&mut watch)], [Verdict::Ask, Verdict::Alarm], "all of it");
        assert_eq!(watch.alarm(false), Verdict::End(Exceeded::Cpu));
    }

    #[test]
    fn what_nobody_waits_for_runs_last_while_it_runs() {
        let mut watch = Watch::new(LIMITS, true, true);
        let mut look = |cpu, none| {
            watch.note(Sample { inside: Inside { one: None, cap: None, none }, ..sample(cpu) });
            watch.answered();
            watch.runs_last()
        };
        let looks = [(900, false), (1500, true), (2400, true), (2400, true), (3600, true), (4800, false)];
        let last = looks.map(|(cpu, none)| look(cpu, none));
        assert_eq!(last, [false, false, true, false, true, false]);
    }

    #[test]
    fn waiting_is_not_work() {
        let mut watch = Watch::new(LIMITS, true, false);
        assert_eq!(watch.note(sample(30)), Verdict::Ask);
        // It does not answer, but does nothing either: the machine is busy with others.
        for _ in 0..1000 {
            assert_eq!(watch.note(sample(40)), Verdict::Fine);
        }
        assert_eq!(watch.pause(), LONGEST);
        watch.wake();
        assert_eq!(watch.pause(), SHORTEST);
    }

    #[test]
    fn who_says_too_much_has_to_wait() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let mut waited = Duration::ZERO;
        for _ in 0..20 {
            waited += pace.spend(256 << 10, start + waited);
        }
        assert!((Duration::from_millis(3900)..Duration::from_millis(4100)).contains(&waited), "{waited:?}");
        let later = start + Duration::from_secs(60);
        assert_eq!(pace.spend(256 << 10, later), Duration::ZERO, "what it did not say it may say later");
        assert!(pace.spend(2 << 20, later) > Duration::from_secs(1), "but not all of it");
    }

    #[test]
    fn memory_counts_without_what_the_engine_needs() {
        let mut watch = Watch::new(LIMITS, false, false);
        let with = |memory| Sample { memory, ..Sample::default() };
        assert_eq!(watch.note(with(160 << 20)), Verdict::Fine);
        assert_eq!(watch.note(with((160 << 20) + 1)), Verdict::End(Exceeded::Memory));
        assert!(LIMITS.group_memory() > LIMITS.process_memory() + SLACK);
    }

    #[test]
    fn garbage_is_collected_before_memory_counts() {
        let mut watch = Watch::new(LIMITS, true, false);
        let with = |memory| Sample { memory, ..Sample::default() };
        assert_eq!((watch.note(with(20 << 20)), watch.wants_collection()), (Verdict::Fine, false));
        assert_eq!((watch.note(with(161 << 20)), watch.wants_collection()), (Verdict::Fine, true));
        assert!(!watch.wants_collection());
        watch.collected();
        assert_eq!((watch.note(with(100 << 20)), watch.wants_collection()), (Verdict::Fine, false));
    }

    #[test]
    fn a_request_with_less_time_lowers_the_limit_while_it_is_there() {
        let limits = Limits { cpu: Duration::from_secs(30), ..LIMITS };
        let mut watch = Watch::new(limits, true, false);
        let inside = Inside { one: Some(1), cap: Some(Duration::from_millis(100)), none: false };
        assert_eq!(watch.note(Sample { inside, ..sample(0) }), Verdict::Fine);
        assert_ne!(watch.note(Sample { inside, ..sample(60) }), Verdict::End(Exceeded::Cpu));
        let without = Inside { cap: None, ..inside };
        assert_ne!(watch.note(Sample { inside: without, ..sample(200) }), Verdict::End(Exceeded::Cpu));
        assert_eq!(watch.note(Sample { inside, ..sample(210) }), Verdict::End(Exceeded::Cpu));
    }
}
