//! The processes that `mpirun` has started, if it has: the one place that knows MPI.

use std::sync::Arc;

use fnet_train::team::Team;
use fnet_train::{Error, Result};

/// This process's number and their count, as the starters of OpenMPI, MPICH and Slurm tell their processes.
fn told() -> Option<(usize, usize)> {
    let number = |name: &str| std::env::var(name).ok()?.parse().ok();
    let pairs = [
        ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
        ("PMI_RANK", "PMI_SIZE"),
        ("PMIX_RANK", "SLURM_STEP_NUM_TASKS"),
    ];
    pairs.iter().find_map(|(rank, size)| Some((number(rank)?, number(size)?)))
}

/// Whether another process leads, and this one is silent.
pub fn is_led() -> bool {
    told().is_some_and(|(rank, _)| rank > 0)
}

/// Threads: as asked, else the machine's cores, shared by the processes on it, as far as this one may use them.
pub fn threads(asked: Option<usize>) -> Option<usize> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<usize>().ok();
    let local = || number("OMPI_COMM_WORLD_LOCAL_SIZE").or_else(|| number("MPI_LOCALNRANKS"));
    let allowed = std::thread::available_parallelism().map_or(1, usize::from);
    let cores = || machine_cores().unwrap_or(allowed).max(allowed);
    asked.or_else(|| Some((cores() / local()?.max(1)).clamp(1, allowed)))
}

/// Cores of the machine, whichever of them this process is bound to: the kernel lists them as ranges.
fn machine_cores() -> Option<usize> {
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online").ok()?;
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(last.parse::<usize>().ok()?.checked_sub(first.parse().ok()?)? + 1)
    };
    online.trim().split(',').map(range).sum()
}

/// Leaves of a new run under MPI where nobody says.
pub fn usual_leaves() -> Option<i64> {
    const USUAL: usize = 8;
    team().map(|team| team.size().next_power_of_two().max(USUAL) as i64)
}

/// Refuses to run as one of several processes.
pub fn alone() -> Result<()> {
    match team() {
        Some(_) => Err(Error::usage("only pretrain and finetune run on several processes")),
        None => Ok(()),
    }
}

#[cfg(not(feature = "mpi"))]
mod by_mpi {
    use super::*;

    pub struct World;

    /// Without MPI there is this process alone; several would write over each other.
    pub fn enter() -> Result<World> {
        match told() {
            Some((_, size)) if size > 1 => Err(Error::usage(format!(
                "{size} processes were started, but this program was built for one: \
                 cargo build --release --features mpi"
            ))),
            _ => Ok(World),
        }
    }

    impl World {
        pub fn leave(self, _: &Result<()>) {}
    }

    pub fn team() -> Option<Arc<dyn Team>> {
        None
    }
}

#[cfg(feature = "mpi")]
mod by_mpi {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use mpi::Threading;
    use mpi::datatype::{Partition, PartitionMut};
    use mpi::request::{Request, Scope, scope};
    use mpi::topology::SimpleCommunicator;
    use mpi::traits::{Communicator, CommunicatorCollectives};

    use super::*;

    /// A request that is not done after so many tries is asked for from time to time.
    const PATIENCE: usize = 100;
    const NAP: Duration = Duration::from_micros(50);

    /// How many processes there are; 0 before it is known.
    static SIZE: AtomicUsize = AtomicUsize::new(0);

    /// Ends MPI when it goes.
    pub struct World(Option<mpi::environment::Universe>);

    /// Begins MPI if a starter of it has begun this process.
    pub fn enter() -> Result<World> {
        if told().is_none() {
            return Ok(World(None));
        }
        let begun = mpi::initialize_with_threading(Threading::Serialized);
        let (universe, threading) = begun.ok_or_else(|| Error::usage("MPI cannot be begun"))?;
        if threading < Threading::Serialized {
            return Err(Error::usage("this MPI cannot be called by one thread after another"));
        }
        let size = universe.world().size() as usize;
        if told().is_some_and(|(_, told)| told != size) {
            return Err(Error::usage(
                "the processes were started by another MPI than this program was built with",
            ));
        }
        SIZE.store(size, Ordering::Relaxed);
        std::panic::set_hook(Box::new(|panic| {
            eprintln!("error: {panic}");
            SimpleCommunicator::world().abort(101);
        }));
        Ok(World(Some(universe)))
    }

    impl World {
        /// An error of one process ends all, with one message.
        pub fn leave(self, done: &Result<()>) {
            let (Some(universe), Err(error)) = (&self.0, done) else { return };
            let world = universe.world();
            if world.size() == 1 || matches!(error, Error::Interrupted { .. }) {
                return;
            }
            if is_led() {
                // What the leader finds, too, it says.
                std::thread::sleep(Duration::from_secs(2));
                eprintln!("error: process {}: {error}", world.rank());
            } else {
                eprintln!("error: {error}");
            }
            // What was said takes a moment to reach the terminal.
            std::thread::sleep(Duration::from_millis(300));
            world.abort(1);
        }
    }

    pub fn team() -> Option<Arc<dyn Team>> {
        (SIZE.load(Ordering::Relaxed) > 1).then(|| Arc::new(Processes) as Arc<dyn Team>)
    }

    /// All processes. Calls come from one thread at a time.
    #[derive(Debug)]
    struct Processes;

    impl Team for Processes {
        fn rank(&self) -> usize {
            SimpleCommunicator::world().rank() as usize
        }

        fn size(&self) -> usize {
            SIZE.load(Ordering::Relaxed)
        }

        fn share(&self, own: &[u8]) -> Vec<Vec<u8>> {
            let world = SimpleCommunicator::world();
            if own.is_empty() {
                wait(world.immediate_barrier());
                return vec![Vec::new(); self.size()];
            }
            let mut all = vec![0; own.len() * self.size()];
            scope(|scope| wait(world.immediate_all_gather_into(scope, own, &mut all[..])));
            all.chunks_exact(own.len()).map(<[u8]>::to_vec).collect()
        }

        fn swap(&self, send: &[u8], send_ends: &[usize], receive: &mut [u8], receive_ends: &[usize]) {
            let ((send_counts, send_starts), (counts, starts)) = (slices(send_ends), slices(receive_ends));
            let send = Partition::new(send, send_counts, send_starts);
            let mut receive = PartitionMut::new(receive, counts, starts);
            let world = SimpleCommunicator::world();
            scope(|scope| wait(world.immediate_all_to_all_varcount_into(scope, &send, &mut receive)));
        }

        fn gather(&self, own: &[u8], ends: &[usize], whole: &mut [u8]) {
            let (counts, starts) = slices(ends);
            let mut whole = PartitionMut::new(whole, counts, starts);
            let world = SimpleCommunicator::world();
            scope(|scope| wait(world.immediate_all_gather_varcount_into(scope, own, &mut whole)));
        }
    }

    /// Waits without holding on to the core, which this process's backward pass or another process may need to get on.
    fn wait<'a, D: ?Sized, S: Scope<'a>>(mut request: Request<'a, D, S>) {
        let mut tries = 0;
        while let Err(unfinished) = request.test() {
            request = unfinished;
            tries += 1;
            if tries < PATIENCE { std::thread::yield_now() } else { std::thread::sleep(NAP) }
        }
    }

    /// Lengths and starts of slices by their ends. MPI counts in 32 bits, which callers see to.
    fn slices(ends: &[usize]) -> (Vec<i32>, Vec<i32>) {
        let starts: Vec<i32> =
            std::iter::once(0).chain(ends.iter().map(|end| *end as i32)).take(ends.len()).collect();
        let counts = ends.iter().zip(&starts).map(|(end, start)| *end as i32 - start).collect();
        (counts, starts)
    }
}

pub use by_mpi::{enter, team};
