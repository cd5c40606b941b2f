//! Several models at the same time: adapters of one trunk, which is held once and runs once over the batches of all.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use fnet_encoder::pretrained::{self, Source, TrunkSource};
use fnet_encoder::{Batch, EncoderError, Mode, Model, Trunk, Workspace};

use crate::base_model::{BaseModel, TrunkPlace};
use crate::error::{Error, Result};

/// Trunks that are open, each of them once.
#[derive(Default)]
pub struct Trunks {
    open: Vec<(TrunkPlace, Trunk)>,
}

impl Trunks {
    /// Opens a model with its head: an adapter on its trunk, which is shared with all others that it fits, unless it
    /// changes the trunk's layers; any other model on its own.
    ///
    /// # Errors
    /// If a file is missing or broken, or the trunk is not the one that the adapter was trained on.
    pub fn open(&mut self, base: &BaseModel) -> Result<Model> {
        let (Some(place), Some(folder)) = (base.trunk()?, base.folder()) else { return Ok(base.open()?.0) };
        for (_, trunk) in self.open.iter().filter(|(held, _)| *held == place) {
            match pretrained::open_adapter_on(folder, trunk) {
                Ok(model) => return Ok(model),
                Err(EncoderError::Config(_)) => {} // other layers
                // A random trunk of other sizes has other weights, too.
                Err(_) if matches!(place, TrunkPlace::Seed(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let trunk = open_trunk(folder, &place)?;
        match pretrained::open_adapter_on(folder, &trunk) {
            Ok(model) => {
                self.open.push((place, trunk));
                Ok(model)
            }
            Err(EncoderError::Config(_)) => Ok(base.open()?.0),
            Err(error) => Err(error.into()),
        }
    }
}

fn open_trunk(folder: &Path, place: &TrunkPlace) -> Result<Trunk> {
    let shipped;
    let source = match place {
        TrunkPlace::Seed(seed) => TrunkSource::Seed(*seed),
        TrunkPlace::Folder(path) => TrunkSource::Pretrained(Source::Path(path)),
        TrunkPlace::Shipped => {
            shipped = BaseModel::shipped()?;
            TrunkSource::Pretrained(shipped.source())
        }
    };
    Ok(pretrained::open_trunk(folder, source)?)
}

/// A classifier's outputs for a batch, from a model on its own.
///
/// # Errors
/// If the batch does not fit the model.
pub fn alone(model: &Model, batch: &Batch, w: &mut Workspace) -> Result<Vec<f32>> {
    Ok(model.forward(batch, Mode::Infer, w)?.logits()?.to_vec())
}

/// Where a task hands in its batches, beside other tasks.
pub struct Seat<'a> {
    index: usize,
    requests: Sender<Request<'a>>,
    answers: Receiver<Vec<f32>>,
}

enum Request<'a> {
    Batch(usize, &'a Model, Batch),
    Done(Result<()>),
}

impl<'a> Seat<'a> {
    /// The outputs for a batch, as [`Forward::logits`](fnet_encoder::Forward::logits) gives them, once all tasks at work
    /// have handed in one.
    ///
    /// # Errors
    /// If another task has failed.
    pub fn logits(&mut self, model: &'a Model, batch: &Batch) -> Result<Vec<f32>> {
        let stopped = || Error::usage("another task has failed");
        self.requests.send(Request::Batch(self.index, model, batch.clone())).map_err(|_| stopped())?;
        self.answers.recv().map_err(|_| stopped())
    }
}

/// What runs beside others.
pub type Task<'a> = Box<dyn FnOnce(Seat<'a>) -> Result<()> + Send + 'a>;

/// Tokens that run at once, at most: batches that are larger together run one after another.
const TOKENS: usize = 8_192;

/// Runs tasks at the same time, each on a thread of its own: whenever every task at work has handed in a batch, those of
/// adapters on one trunk run in one pass. What a task gets does not depend on the others.
///
/// # Errors
/// The first error of a task, or of a batch that does not fit its model; the other tasks end, too.
pub fn run(tasks: Vec<Task<'_>>) -> Result<()> {
    thread::scope(|scope| {
        let (requests, inbox) = channel();
        let mut answers: Vec<Option<Sender<Vec<f32>>>> = Vec::new();
        for (index, task) in tasks.into_iter().enumerate() {
            let (sender, receiver) = channel();
            answers.push(Some(sender));
            let requests = requests.clone();
            scope.spawn(move || {
                let seat = Seat { index, requests: requests.clone(), answers: receiver };
                // A task that panics must not leave the others waiting.
                let done = catch_unwind(AssertUnwindSafe(|| task(seat)));
                let failed = || Err(Error::usage("a task has panicked"));
                let (done, panic) = done.map_or_else(|panic| (failed(), Some(panic)), |done| (done, None));
                let _ = requests.send(Request::Done(done));
                if let Some(panic) = panic {
                    resume_unwind(panic);
                }
            });
        }
        let (mut waiting, mut working, mut failed) = (Vec::new(), answers.len(), Ok(()));
        let mut w = Workspace::new();
        while working > 0 {
            let Some(request) = wait_for(&inbox) else { break };
            match request {
                Request::Batch(index, model, batch) => waiting.push((index, model, batch)),
                Request::Done(done) => {
                    working -= 1;
                    if let (Err(error), true) = (done, failed.is_ok()) {
                        failed = Err(error);
                    }
                }
            }
            if failed.is_err() {
                // Nobody waits for an answer any more.
                answers.iter_mut().for_each(|sender| drop(sender.take()));
                waiting.clear();
            } else if waiting.len() == working
                && let Err(error) = answer(std::mem::take(&mut waiting), &answers, &mut w)
            {
                failed = Err(error);
                answers.iter_mut().for_each(|sender| drop(sender.take()));
            }
        }
        failed
    })
}

/// The next request. This thread may be the pool's only one: tasks that wait for the pool are helped on.
fn wait_for<'a>(inbox: &Receiver<Request<'a>>) -> Option<Request<'a>> {
    loop {
        match rayon::yield_now() {
            None => return inbox.recv().ok(), // no thread of the pool
            Some(rayon::Yield::Executed) => {}
            Some(rayon::Yield::Idle) => match inbox.recv_timeout(Duration::from_micros(200)) {
                Ok(request) => return Some(request),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {}
            },
        }
    }
}

/// Runs the batches, those of one trunk together.
fn answer(
    mut waiting: Vec<(usize, &Model, Batch)>,
    answers: &[Option<Sender<Vec<f32>>>],
    w: &mut Workspace,
) -> Result<()> {
    waiting.sort_by_key(|(index, _, _)| *index); // whoever came first
    let parts: Vec<(&Model, &Batch)> = waiting.iter().map(|(_, model, batch)| (*model, batch)).collect();
    let outputs = outputs(&parts, w)?;
    waiting.iter().zip(outputs).for_each(|((index, ..), output)| give(answers, *index, output));
    Ok(())
}

/// The outputs of models for a batch each, as [`Forward::logits`](fnet_encoder::Forward::logits) gives them; those of adapters
/// on one trunk run together.
///
/// # Errors
/// If a batch does not fit its model.
pub fn outputs(parts: &[(&Model, &Batch)], w: &mut Workspace) -> Result<Vec<Vec<f32>>> {
    let mut outputs = vec![Vec::new(); parts.len()];
    let mut waiting: Vec<usize> = (0..parts.len()).collect();
    while let Some(first) = waiting.pop() {
        let (model, batch) = parts[first];
        let Some(trunk) = model.trunk() else {
            outputs[first] = alone(model, batch, w)?;
            continue;
        };
        let (mut group, mut tokens) = (vec![first], batch.tokens().len());
        while let Some(other) = waiting.iter().rposition(|other| {
            let (other, batch) = parts[*other];
            let is_near = other.trunk().is_some_and(|other| other.is(&trunk));
            is_near && tokens + batch.tokens().len() <= TOKENS
        }) {
            group.push(waiting.remove(other));
            tokens += parts[group[group.len() - 1]].1.tokens().len();
        }
        let together: Vec<(&Model, &Batch)> = group.iter().map(|i| parts[*i]).collect();
        for (i, output) in group.into_iter().zip(trunk.logits(&together, w)?) {
            outputs[i] = output;
        }
    }
    Ok(outputs)
}

fn give(answers: &[Option<Sender<Vec<f32>>>], index: usize, output: Vec<f32>) {
    if let Some(sender) = &answers[index] {
        let _ = sender.send(output); // a task that has ended needs none
    }
}
