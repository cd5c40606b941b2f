//! The thread that computes: texts of many requests in common batches.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use fnet_encoder::{Batch, Model, Workspace};
use fnet_train::data::tasks::encoding::Example;
use fnet_train::predictor::Predictor;
use fnet_train::{Result, together};
use tokio::sync::oneshot;

use crate::metrics::Metrics;

/// The models that answer.
pub struct Models {
    /// Makes vectors.
    pub vectors: Predictor,
    /// Predict, by name: adapters on one trunk run together.
    pub predictors: BTreeMap<String, Predictor>,
}

/// Which model answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Asked {
    /// That of vectors.
    Vectors,
    /// A predictor.
    Predictor(String),
}

/// What a model gives for each text, or why it gives nothing.
pub type Answer = std::result::Result<Vec<Vec<f32>>, String>;

struct Job {
    asked: Asked,
    examples: VecDeque<Example>,
    done: Vec<Vec<f32>>,
    reply: oneshot::Sender<Answer>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    tokens: usize,
    closed: bool,
}

/// What waits to be computed.
pub struct Engine {
    pub models: Arc<Models>,
    queue: Mutex<Queue>,
    filled: Condvar,
    /// Positions of a batch.
    batch_tokens: usize,
    /// Positions that may wait.
    most_waiting: usize,
    pub metrics: Metrics,
}

impl Engine {
    pub fn new(models: Models, batch_tokens: usize, most_waiting: usize) -> Self {
        let (queue, filled) = (Mutex::default(), Condvar::new());
        let names: Vec<String> = models.predictors.keys().cloned().collect();
        let metrics = Metrics::new(&names);
        Self { models: Arc::new(models), queue, filled, batch_tokens, most_waiting, metrics }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The most that may wait.
    pub fn most_waiting(&self) -> usize {
        self.most_waiting
    }

    /// Puts texts into the queue; `None` if too much is waiting, or no more is taken.
    pub fn ask(&self, asked: Asked, examples: Vec<Example>) -> Option<oneshot::Receiver<Answer>> {
        let tokens: usize = examples.iter().map(Example::tokens).sum();
        let (reply, answer) = oneshot::channel();
        let mut queue = self.lock();
        if queue.closed || queue.tokens + tokens > self.most_waiting {
            return None;
        }
        queue.tokens += tokens;
        self.metrics.set_waiting(queue.tokens);
        queue.jobs.push_back(Job { asked, examples: examples.into(), done: Vec::new(), reply });
        drop(queue);
        self.filled.notify_one();
        Some(answer)
    }

    /// Takes no more; [`run`](Self::run) ends when all that waits is answered.
    pub fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
    }

    /// Computes on this thread until the engine is closed.
    pub fn run(&self) {
        let mut w = Workspace::new();
        while let Some(taken) = self.take() {
            let counts: usize = taken.iter().map(|part| part.examples.len()).sum();
            let tokens = taken.iter().flat_map(|part| &part.examples).map(Example::tokens).sum();
            self.metrics.add_batch(counts, tokens);
            let answers = self.compute(&taken, &mut w);
            for (part, answer) in taken.into_iter().zip(answers) {
                self.give(part, answer);
            }
        }
    }

    /// Waits for texts, and takes those that waited longest, up to a batch: a part of each of some jobs.
    fn take(&self) -> Option<Vec<Part>> {
        let mut queue = self.lock();
        loop {
            // Nobody waits for these any more.
            let before = queue.jobs.len();
            let Queue { jobs, tokens, .. } = &mut *queue;
            jobs.retain(|job| {
                let gone = job.reply.is_closed();
                if gone {
                    *tokens -= job.examples.iter().map(Example::tokens).sum::<usize>();
                }
                !gone
            });
            if before != queue.jobs.len() {
                self.metrics.set_waiting(queue.tokens);
            }
            if !queue.jobs.is_empty() {
                break;
            }
            if queue.closed {
                return None;
            }
            queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        let (mut parts, mut tokens) = (Vec::new(), 0);
        while let Some(mut job) = queue.jobs.pop_front() {
            let mut examples = Vec::new();
            while let Some(next) = job.examples.front().map(Example::tokens) {
                if tokens > 0 && tokens + next > self.batch_tokens {
                    break;
                }
                tokens += next;
                examples.extend(job.examples.pop_front());
            }
            if examples.is_empty() {
                queue.jobs.push_front(job);
                break;
            }
            parts.push(Part { job, examples });
            if tokens >= self.batch_tokens {
                break;
            }
        }
        queue.tokens -= tokens;
        self.metrics.set_waiting(queue.tokens);
        Some(parts)
    }

    /// The answers to the parts of a batch.
    fn compute(&self, parts: &[Part], w: &mut Workspace) -> Vec<Answer> {
        let mut answers: Vec<Answer> = parts.iter().map(|_| Ok(Vec::new())).collect();
        let of_vectors: Vec<usize> =
            (0..parts.len()).filter(|i| parts[*i].job.asked == Asked::Vectors).collect();
        if !of_vectors.is_empty() {
            let examples: Vec<Example> =
                of_vectors.iter().flat_map(|i| parts[*i].examples.iter().cloned()).collect();
            let model = &self.models.vectors;
            let made = model.raw_vectors_of(&examples, w).map_err(|e| e.to_string());
            let mut rest = made.map(|made| chunks(&made, made.len() / examples.len()).into_iter());
            for i in of_vectors {
                answers[i] = match &mut rest {
                    Ok(rest) => Ok(rest.take(parts[i].examples.len()).collect()),
                    Err(error) => Err(error.clone()),
                };
            }
        }
        if let Err(error) = self.predict(parts, &mut answers, w) {
            for (part, answer) in parts.iter().zip(&mut answers) {
                if part.job.asked != Asked::Vectors {
                    *answer = Err(error.to_string());
                }
            }
        }
        answers
    }

    fn predict(&self, parts: &[Part], answers: &mut [Answer], w: &mut Workspace) -> Result<()> {
        let mut places = Vec::new();
        let mut batches: Vec<(&Model, Batch)> = Vec::new();
        for (i, part) in parts.iter().enumerate() {
            let Asked::Predictor(name) = &part.job.asked else { continue };
            let Some(predictor) = self.models.predictors.get(name) else { continue };
            let mut batch = Batch::new();
            part.examples.iter().for_each(|example| example.push_to(&mut batch));
            places.push(i);
            batches.push((predictor.model(), batch));
        }
        let together: Vec<(&Model, &Batch)> = batches.iter().map(|(model, batch)| (*model, batch)).collect();
        let outputs = together::outputs(&together, w)?;
        for (i, (outputs, (model, _))) in places.into_iter().zip(outputs.iter().zip(&together)) {
            answers[i] = Ok(chunks(outputs, model.head().outputs()));
        }
        Ok(())
    }

    /// Gives a job what was computed of it; what is left of it waits behind all others.
    fn give(&self, part: Part, answer: Answer) {
        let mut job = part.job;
        match answer {
            Err(error) => {
                let left: usize = job.examples.iter().map(Example::tokens).sum();
                let mut queue = self.lock();
                queue.tokens -= left.min(queue.tokens);
                drop(queue);
                let _ = job.reply.send(Err(error));
            }
            Ok(made) => {
                job.done.extend(made);
                if job.examples.is_empty() {
                    let _ = job.reply.send(Ok(job.done));
                } else {
                    self.lock().jobs.push_back(job);
                }
            }
        }
    }
}

/// Some texts of a job.
struct Part {
    job: Job,
    examples: Vec<Example>,
}

fn chunks(values: &[f32], width: usize) -> Vec<Vec<f32>> {
    values.chunks_exact(width.max(1)).map(<[f32]>::to_vec).collect()
}
