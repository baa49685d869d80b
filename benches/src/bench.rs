//! One run: who takes part, on which cores, and the rounds in which all take turns.

use std::time::Instant;

use crate::child::Child;
use crate::client::Client;
use crate::connection::BUFFER;
use crate::failure::{Result, Tried};
use crate::options::{ClientCore, Options};
use crate::routes::Routes;
use crate::server::{Contender, Setting};
use crate::table::Row;

/// The least buffer that a task of an async server gets, what people write into such servers.
const BUFFER_MIN: usize = 4096;

pub(crate) struct Bench {
    pub(crate) options: Options,
    pub(crate) contenders: Vec<Contender>,
    pub(crate) routes: Routes,
    pub(crate) rows: Vec<Row>,
    pub(crate) notes: Vec<String>,
    /// Those that this process may use.
    pub(crate) cores: Vec<usize>,
    started: Instant,
}

impl Bench {
    /// Leaves out whoever does not work here, and notes why.
    pub(crate) fn new(options: Options) -> Result<Bench> {
        let cores = core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
        let mut bench = Bench {
            contenders: Vec::new(),
            routes: Routes::new(),
            rows: Vec::new(),
            notes: Vec::new(),
            cores,
            started: Instant::now(),
            options,
        };
        for contender in bench.options.contenders.clone() {
            match bench.probe(&contender) {
                Ok(()) => bench.contenders.push(contender),
                Err(error) if contender.name == "least" => return Err(error),
                Err(error) => bench.notes.push(format!("{} is left out: {error}", contender.title)),
            }
        }
        if cfg!(not(feature = "glommio")) {
            bench.notes.push("glommio is left out: built without its feature".to_owned());
        }
        Ok(bench)
    }

    /// The contenders take turns, A B C A B C, each in a fresh process; `measure` gives one sample for each row.
    pub(crate) fn interleave(
        &mut self,
        what: &str,
        rounds: usize,
        mut rows: Vec<Row>,
        mut measure: impl FnMut(&mut Bench, &Contender) -> Result<Vec<f64>>,
    ) {
        let mut failed = vec![false; self.contenders.len()];
        for round in 0..rounds {
            if round > 0 && self.started.elapsed() > self.options.limit {
                self.notes.push(format!("{what}: {round} of {rounds} rounds, there was no time for more"));
                break;
            }
            eprintln!("{:4} s  {what}, round {} of {rounds}", self.started.elapsed().as_secs(), round + 1);
            for (index, contender) in self.contenders.clone().iter().enumerate() {
                let samples = if failed[index] { Ok(Vec::new()) } else { measure(self, contender) };
                let samples = samples.unwrap_or_else(|error| {
                    failed[index] = true;
                    self.notes.push(format!("{}, {what}: {error}", contender.title));
                    Vec::new()
                });
                for (place, row) in rows.iter_mut().enumerate() {
                    row.add(index, samples.get(place).copied());
                }
            }
        }
        self.rows.append(&mut rows);
    }

    pub(crate) fn row(&self, label: impl Into<String>, unit: crate::table::Unit, show: crate::table::Show) -> Row {
        Row::new(label, unit, show, self.contenders.len())
    }

    /// Pins this thread, the client's, and says how a server beside it is to be run. One with several threads gets a
    /// second core where there is one that neither has.
    pub(crate) fn place(&self, client: ClientCore, message_bytes: usize) -> Result<Setting> {
        let mut cores = Vec::new();
        if let Some(&server) = self.cores.last() {
            let client = if client == ClientCore::Same { server } else { self.cores[0] };
            if !core_affinity::set_for_current(core_affinity::CoreId { id: client }) {
                return Err(format!("pinning the client to core {client}: the system refuses"));
            }
            cores.push(server);
            cores.extend(self.cores.iter().copied().find(|&core| core != server && core != client));
        }
        // More than a message: a read that does not fill it tells the kinder of the runtimes that all has been read.
        let buffer = (message_bytes + 1).next_power_of_two().clamp(BUFFER_MIN, BUFFER);
        Ok(Setting { port: 0, cores, tables: 1, buffer })
    }

    fn probe(&mut self, contender: &Contender) -> Result<()> {
        let setting = self.place(ClientCore::Same, 64)?;
        let child = Child::start(contender, &setting)?;
        let echoed = Client::new(child.address, 64).and_then(|mut client| client.open(1, &mut self.routes));
        echoed.map_err(|error| format!("{error}; {}", child.complaint()))
    }
}

/// Raises the soft limit of descriptors to the hard one, for this process and its children, and says what it is.
pub(crate) fn raise_descriptor_limit() -> Result<usize> {
    let limit = esockets::sys::descriptor_limit().tried(|| "asking for the limit of descriptors".to_owned())?;
    esockets::sys::set_descriptor_limit(limit.hard).tried(|| format!("raising it to {}", limit.hard))?;
    Ok(limit.hard as usize)
}
