//! The workers of a run: started together, led through one stage after the other, their records merged.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use thiserror::Error;

use crate::clock::Clock;
use crate::halt::Halt;
use crate::live::{Counts, Live, Seen};
use crate::plan::{Plan, Share};
use crate::protocol::http::{Lengths, Responses};
use crate::recorder::Recorder;
use crate::signals::Signals;
use crate::stage::Stage;
use crate::unshared;
use crate::worker::Worker;

/// All workers of a run. They wait for a stage, run it, hand over what they recorded, and wait again; dropped, they
/// close their connections and end.
pub(crate) struct Crew {
    clock: Clock,
    halt: Arc<Halt>,
    lengths: Arc<Lengths>,
    lives: Vec<Arc<Live>>,
    orders: Vec<Sender<Order>>,
    records: Receiver<Recorder>,
    threads: Vec<JoinHandle<()>>,
    latency_ns_max: u64,
    /// Whether somebody looks at latencies while they are measured.
    is_watched: bool,
}

/// Why a crew cannot work.
#[derive(Debug, Error)]
pub(crate) enum CrewError {
    /// A thread, its descriptor table or its poll was refused.
    #[error("cannot start worker {worker}: {error}")]
    Start {
        /// The worker's number.
        worker: usize,
        /// What the kernel said.
        error: io::Error,
    },
    /// A thread ended although it was not told to: a defect of this program, which it has printed.
    #[error("a worker thread broke down, see above; please report it")]
    Broken,
}

impl Crew {
    /// Starts the plan's workers; when it returns, each is ready. If it `is_watched`, they show their latencies, too.
    ///
    /// # Errors
    /// The first worker that could not start; the others are ended.
    pub(crate) fn start(plan: &Plan, is_watched: bool) -> Result<Crew, CrewError> {
        let (record, records) = channel();
        let (clock, halt) = (Clock::start(), Arc::new(Halt::none()));
        let latency_ns_max = plan.latency_ns_max();
        let mut crew = Crew {
            clock,
            halt,
            lengths: Arc::default(),
            lives: vec![],
            orders: vec![],
            records,
            threads: vec![],
            latency_ns_max,
            is_watched,
        };
        crew.hire_all(plan, &record)?;
        Ok(crew)
    }

    /// Runs `stage` on all workers at once, from `lead` from now on, and merges their records. `watch` is called every
    /// tenth of a second or so with what can be seen. When `signals` come, or no connection is left, the stage is broken
    /// off.
    ///
    /// # Errors
    /// A worker that broke down.
    pub(crate) fn run(
        &mut self,
        (stage, lead): (Stage, Duration),
        signals: &Signals,
        mut watch: impl FnMut(Seen, &Counts),
    ) -> Result<Recorder, CrewError> {
        let order = Order { stage, begin_ns: self.clock.now_ns() + lead.as_nanos() as u64 };
        self.halt.clear();
        for orders in &self.orders {
            orders.send(order).map_err(|_| CrewError::Broken)?;
        }
        let mut merged = Recorder::new(self.latency_ns_max);
        let mut missing = self.orders.len();
        while missing > 0 {
            match self.records.recv_timeout(WATCH_TIME) {
                Ok(recorder) => {
                    merged.merge(&recorder);
                    missing -= 1;
                }
                Err(RecvTimeoutError::Timeout) => {
                    let seen = self.seen();
                    let is_lonely = stage != Stage::Connect && stage.churn().is_none() && seen.open == 0;
                    if signals.came() {
                        self.halt.set(self.clock.now_ns());
                    } else if is_lonely {
                        // Looked at a little later, but over since the last connection was lost.
                        self.halt.set(seen.emptied_ns.max(order.begin_ns));
                    }
                    if self.threads.iter().any(JoinHandle::is_finished) {
                        return Err(CrewError::Broken);
                    }
                    watch(seen, &self.times());
                }
                Err(RecvTimeoutError::Disconnected) => return Err(CrewError::Broken),
            }
        }
        watch(self.seen(), &self.times());
        Ok(merged)
    }

    /// Closes all connections, and starts the plan's workers anew, by the same clock.
    ///
    /// # Errors
    /// As [`start`](Crew::start).
    pub(crate) fn renew(&mut self, plan: &Plan) -> Result<(), CrewError> {
        self.dismiss();
        let (record, records) = channel();
        (self.halt, self.lives, self.records) = (Arc::new(Halt::none()), Vec::new(), records);
        self.hire_all(plan, &record)
    }

    /// What can be seen of all workers now.
    pub(crate) fn seen(&self) -> Seen {
        let mut seen = Seen::default();
        self.lives.iter().for_each(|live| live.add_to(&mut seen));
        seen
    }

    /// The latencies of all workers, since they began.
    pub(crate) fn times(&self) -> Counts {
        let mut times = Counts::default();
        self.lives.iter().for_each(|live| live.add_times_to(&mut times));
        times
    }

    /// Closes all connections and waits for the workers' end; `watch` is called as in [`run`](Crew::run).
    pub(crate) fn close(mut self, mut watch: impl FnMut(Seen, &Counts)) {
        self.halt.set(self.clock.now_ns());
        // Without anyone to give orders, the workers close their connections and end; so do the records, then.
        self.orders.clear();
        while let Err(RecvTimeoutError::Timeout) = self.records.recv_timeout(WATCH_TIME) {
            watch(self.seen(), &self.times());
        }
    }

    fn hire_all(&mut self, plan: &Plan, record: &Sender<Recorder>) -> Result<(), CrewError> {
        for share in plan.shares() {
            let worker = share.worker;
            self.hire(plan.clone(), share, record.clone()).map_err(|error| CrewError::Start { worker, error })?;
        }
        Ok(())
    }

    /// Ends the workers.
    fn dismiss(&mut self) {
        self.halt.set(self.clock.now_ns());
        // Without anyone to give orders, the workers close their connections and end.
        self.orders.clear();
        for thread in self.threads.drain(..) {
            // A thread that panicked has printed why.
            let _ = thread.join();
        }
    }

    fn hire(&mut self, plan: Plan, share: Share, record: Sender<Recorder>) -> io::Result<()> {
        let (clock, halt, live) = (self.clock, Arc::clone(&self.halt), Arc::new(Live::new(self.is_watched)));
        let responses = Responses::sharing(Arc::clone(&self.lengths));
        self.lives.push(Arc::clone(&live));
        let (order, orders) = channel();
        let (ready, started) = channel();
        let (name, has_own_table) = (format!("loadgen-{}", share.worker), plan.layout.own_tables);
        // What it is given holds no descriptor: a plan, numbers, and channels, which are memory.
        let begin = move |table: io::Result<()>| {
            if let Some(core) = share.core {
                // A refusal is no reason not to measure: the kernel chooses the core then.
                core_affinity::set_for_current(core_affinity::CoreId { id: core });
            }
            match table.and_then(|()| Worker::new(plan, share, clock, (halt, live), responses)) {
                Ok(worker) => {
                    // The one who started this thread waits for it.
                    let _ = ready.send(Ok(()));
                    work(worker, clock, &orders, &record);
                }
                Err(error) => drop(ready.send(Err(error))),
            }
        };
        let thread = if has_own_table {
            unshared::spawn(name, begin)
        } else {
            std::thread::Builder::new().name(name).spawn(move || begin(Ok(())))
        };
        self.threads.push(thread?);
        self.orders.push(order);
        started.recv().unwrap_or_else(|_| Err(io::Error::other("its thread ended at once")))
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.dismiss();
    }
}

/// What all workers are to do next, and when its window opens.
#[derive(Debug, Clone, Copy)]
struct Order {
    stage: Stage,
    begin_ns: u64,
}

fn work(mut worker: Worker, clock: Clock, orders: &Receiver<Order>, record: &Sender<Recorder>) {
    while let Ok(order) = orders.recv() {
        // What is idle between an early order and the window is none of the stage's time.
        let early_ns = order.begin_ns.saturating_sub(clock.now_ns()).saturating_sub(LEAD.as_nanos() as u64);
        std::thread::sleep(Duration::from_nanos(early_ns));
        if record.send(worker.run(order.stage, order.begin_ns)).is_err() {
            break;
        }
    }
    worker.close();
}

/// Between the order and the opening of its window: time for every worker to wake up.
pub(crate) const LEAD: Duration = Duration::from_millis(20);

/// The same before a window that opens at a given moment: so that who gives the order may be late by as much.
pub(crate) const LEAD_TIMED: Duration = Duration::from_millis(300);

/// How often the crew looks up while its workers work.
const WATCH_TIME: Duration = Duration::from_millis(100);
