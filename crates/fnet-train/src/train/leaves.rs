//! A step's gradient as a sum of fixed shape: the batch is cut into leaves, a power of two, whose gradients are added in a
//! binary tree. So the bytes do not depend on which process computes which leaves.

use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Instant;

use fnet_encoder::Dropout;
use half::bf16;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::team::Team;
use crate::train::trainer::{Gradient, StepOutcome};

/// One part of a step's examples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaf {
    number: usize,
    of: usize,
}

impl Leaf {
    /// All of them.
    pub const WHOLE: Self = Self { number: 0, of: 1 };

    /// Whether it is all.
    pub fn is_whole(self) -> bool {
        self.of == 1
    }

    /// Its share of so many examples.
    pub fn range(self, examples: usize) -> Range<usize> {
        examples * self.number / self.of..examples * (self.number + 1) / self.of
    }

    /// Its number, from 0.
    pub fn number(self) -> usize {
        self.number
    }

    /// Those of the same step, this one among them.
    pub fn all(self) -> impl Iterator<Item = Self> {
        (0..self.of).map(move |number| Self { number, ..self })
    }

    /// Whether this process has it.
    pub(crate) fn is_own(self, team: &dyn Team) -> bool {
        leaves_of(team.rank(), team.size(), self.of).contains(&self.number)
    }

    /// The dropout of one of its passes through the model, by that of the step.
    pub fn dropout(self, step: Dropout, pass: usize) -> Dropout {
        Dropout { key: step.key.wrapping_add((self.number as u64) << 32).wrapping_add(pass as u64), ..step }
    }
}

/// The leaves of a process, of `number`.
fn leaves_of(rank: usize, processes: usize, number: usize) -> Range<usize> {
    number * rank / processes..number * (rank + 1) / processes
}

/// How gradients travel between processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Exchange {
    /// As they are: the same bytes at any number of processes
    #[default]
    F32,
    /// Rounded, in half of the bytes: the result then depends on the number of processes
    Bf16,
}

/// A node of the tree: the leaves below it, a power of two of them.
type Node = Range<usize>;

/// The largest nodes that make up `range`, within `node`.
fn nodes_of(range: &Range<usize>, node: Node, found: &mut Vec<Node>) {
    if node.start >= range.start && node.end <= range.end {
        found.push(node);
    } else if node.start < range.end && range.start < node.end {
        let middle = node.start.midpoint(node.end);
        nodes_of(range, node.start..middle, found);
        nodes_of(range, middle..node.end, found);
    }
}

/// The sum over a node in the tree's order, from what is known of nodes below it.
fn sum<T: Clone>(
    node: Node,
    known: &mut impl FnMut(&Node) -> Option<T>,
    add: &mut impl FnMut(&mut T, T),
) -> T {
    if let Some(value) = known(&node) {
        return value;
    }
    let middle = node.start.midpoint(node.end);
    let mut left = sum(node.start..middle, known, add);
    let right = sum(middle..node.end, known, add);
    add(&mut left, right);
    left
}

/// Computes a step's gradient, alone or with others.
pub(super) struct Leaves {
    number: usize,
    exchange: Exchange,
    team: Option<Arc<dyn Team>>,
    /// Buffers of gradients that are free.
    spare: Vec<Vec<f32>>,
}

/// A stretch of trained values that travels on its own: those of a layer, or of what lies below or above all layers.
struct Part {
    /// Its first value among all parameters.
    start: usize,
    /// Where it lies among the trained values.
    trained: Range<usize>,
}

impl Leaves {
    pub fn new(number: usize, exchange: Exchange, team: Option<Arc<dyn Team>>) -> Self {
        Self { number, exchange, team, spare: Vec::new() }
    }

    /// Has `leaf` add the gradient of each part, and leaves the sum of all in `gradients`, which are zero. `trained` are the
    /// ranges of trained values: no other travels. `layers` are where layers begin, from the last to the first: as soon as
    /// the last leaf is past one, it travels, by a thread of its own.
    pub fn sum(
        &mut self,
        gradients: &mut [f32],
        trained: &[Range<usize>],
        layers: &[usize],
        leaf: &mut impl FnMut(Leaf, Gradient) -> Result<StepOutcome>,
    ) -> Result<StepOutcome> {
        let Some(team) = self.team.clone() else { return self.node(0..self.number, gradients, leaf) };
        let way = Way::new(&*team, self.number, self.exchange);
        let parts = parts(trained, layers, shortest(team.size()));
        let longest = parts.iter().map(|part| part.trained.len()).max().unwrap_or(0);
        if longest.saturating_mul(size_of::<f32>() * way.most_nodes()) > i32::MAX as usize {
            return Err(Error::usage("so large a layer cannot travel: MPI counts 2 GB at most"));
        }
        // All own subtrees but the last, as trained values.
        let Some((last, others)) = way.own().split_last() else {
            return Err(Error::usage("there are fewer leaves than processes"));
        };
        let (mut outcomes, mut sums) = (Vec::new(), Vec::new());
        for node in others {
            zero(gradients);
            outcomes.push(self.node(node.clone(), gradients, leaf)?);
            let mut sum = self.spare.pop().unwrap_or_default();
            sum.clear();
            trained.iter().for_each(|range| sum.extend_from_slice(&gradients[range.clone()]));
            sums.push(sum);
        }
        // Of the last one, all left of its last leaf, from the top down.
        let (mut lefts, mut own_outcomes, mut rest) = (Vec::new(), Vec::new(), last.clone());
        while rest.len() > 1 {
            let middle = rest.start.midpoint(rest.end);
            let mut left = self.spare.pop().unwrap_or_default();
            left.resize(gradients.len(), 0.0);
            zero(&mut left);
            own_outcomes.push(self.node(rest.start..middle, &mut left, leaf)?);
            lefts.push(left);
            rest = middle..rest.end;
        }
        zero(gradients);
        let (mut pending, mut begun) = (parts.iter().peekable(), Instant::now());
        let (mut outcome, wholes) = std::thread::scope(|scope| {
            let (send, parts_to_send) = channel::<(&Part, Vec<f32>)>();
            let travel = |(part, own): (_, Vec<f32>)| (part, way.sum_of_all(&own));
            let traveller = scope.spawn(move || parts_to_send.iter().map(travel).collect::<Vec<_>>());
            // `complete` are the last leaf's values from `from` on.
            let mut depart = |from: usize, complete: &[f32]| {
                while let Some(part) = pending.next_if(|part| part.start >= from) {
                    let mut own: Vec<f32> =
                        sums.iter().flat_map(|sum| &sum[part.trained.clone()]).copied().collect();
                    for range in ranges_of(part, trained) {
                        let start = own.len();
                        own.extend_from_slice(&complete[range.start - from..range.end - from]);
                        let sum = &mut own[start..];
                        lefts.iter().rev().for_each(|left| add_by_all(sum, &left[range.clone()]));
                    }
                    // The other thread listens until the last one, unless it has panicked, which is passed on below.
                    let _ = send.send((part, own));
                }
            };
            let done = leaf(
                Leaf { number: rest.start, of: self.number },
                Gradient { values: gradients, told: Some(&mut depart) },
            )?;
            begun = Instant::now();
            depart(0, gradients);
            drop(send);
            Ok::<_, Error>((done, traveller.join().unwrap_or_else(|panic| resume_unwind(panic))))
        })?;
        for (part, values) in wholes {
            let mut start = 0;
            for range in ranges_of(part, trained) {
                gradients[range.clone()].copy_from_slice(&values[start..][..range.len()]);
                start += range.len();
            }
        }
        let exchange = begun.elapsed();
        self.spare.extend(sums);
        self.spare.extend(lefts);
        for mut left in own_outcomes.into_iter().rev() {
            left.add(outcome);
            outcome = left;
        }
        outcomes.push(outcome);
        let mut outcome = way.outcome_of_all(&outcomes);
        outcome.drawing = outcomes.iter().map(|own| own.drawing).sum();
        outcome.exchange = exchange;
        Ok(outcome)
    }

    /// The gradient of a node in `into`, which is zero.
    fn node(
        &mut self,
        node: Node,
        into: &mut [f32],
        leaf: &mut impl FnMut(Leaf, Gradient) -> Result<StepOutcome>,
    ) -> Result<StepOutcome> {
        if node.len() == 1 {
            return leaf(Leaf { number: node.start, of: self.number }, Gradient { values: into, told: None });
        }
        let middle = node.start.midpoint(node.end);
        let mut outcome = self.node(node.start..middle, into, leaf)?;
        let mut other = self.spare.pop().unwrap_or_default();
        other.resize(into.len(), 0.0);
        zero(&mut other);
        outcome.add(self.node(middle..node.end, &mut other, leaf)?);
        add_by_all(into, &other);
        self.spare.push(other);
        Ok(outcome)
    }
}

/// Fewer values wait for the next layer's, among so many processes: each message has a price of its own.
pub(crate) fn shortest(processes: usize) -> usize {
    const OF_TWO: usize = if cfg!(test) { 100 } else { 1 << 18 };
    OF_TWO * processes / 2
}

/// The parts that travel, in the order in which a backward pass completes them.
fn parts(trained: &[Range<usize>], layers: &[usize], shortest: usize) -> Vec<Part> {
    let below = |index: usize| -> usize {
        trained.iter().map(|range| range.len().min(index.saturating_sub(range.start))).sum()
    };
    let (mut parts, mut end) = (Vec::new(), below(usize::MAX));
    for start in layers.iter().copied().chain([0]) {
        let first = below(start);
        if first < end && (end - first >= shortest || start == 0) {
            parts.push(Part { start, trained: first..end });
            end = first;
        }
    }
    parts
}

/// The trained values of a part, as ranges of all parameters.
fn ranges_of<'a>(part: &'a Part, trained: &'a [Range<usize>]) -> impl Iterator<Item = Range<usize>> + 'a {
    let (mut before, wanted) = (0, part.trained.clone());
    trained.iter().filter_map(move |range| {
        let own = before..before + range.len();
        before = own.end;
        let (first, end) = (own.start.max(wanted.start), own.end.min(wanted.end));
        (first < end).then(|| range.start + (first - own.start)..range.start + (end - own.start))
    })
}

/// How the sums of subtrees travel: each process adds up its slice of a part over all, and gives the sum to all.
struct Way<'a> {
    team: &'a dyn Team,
    number: usize,
    exchange: Exchange,
    /// The subtrees of each process.
    nodes: Vec<Vec<Node>>,
}

impl<'a> Way<'a> {
    fn new(team: &'a dyn Team, number: usize, exchange: Exchange) -> Self {
        let of_rank = |rank: usize| {
            let mut nodes = Vec::new();
            nodes_of(&leaves_of(rank, team.size(), number), 0..number, &mut nodes);
            nodes
        };
        Self { team, number, exchange, nodes: (0..team.size()).map(of_rank).collect() }
    }

    fn own(&self) -> &[Node] {
        &self.nodes[self.team.rank()]
    }

    fn most_nodes(&self) -> usize {
        self.nodes.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// The sum over all leaves of a part's values, from those of own subtrees one after another. It runs beside the pool's
    /// threads, and never waits for them.
    fn sum_of_all(&self, own: &[f32]) -> Vec<f32> {
        let (ranks, rank) = (self.team.size(), self.team.rank());
        let total = own.len() / self.own().len();
        let slice = |rank: usize| total * rank / ranks..total * (rank + 1) / ranks;
        let mut send = Vec::with_capacity(own.len());
        (0..ranks)
            .for_each(|to| own.chunks_exact(total).for_each(|sum| send.extend_from_slice(&sum[slice(to)])));
        let ends = |len: &dyn Fn(usize) -> usize| -> Vec<usize> {
            let add = |end: &mut usize, rank| {
                *end += len(rank);
                Some(*end)
            };
            (0..ranks).scan(0, add).collect()
        };
        let send_ends = ends(&|to| self.own().len() * slice(to).len());
        let own_len = slice(rank).len();
        let receive_ends = ends(&|from| self.nodes[from].len() * own_len);
        let mut received = vec![0.0; receive_ends[ranks - 1]];
        self.swap(&send, &send_ends, &mut received, &receive_ends);
        let order: Vec<&Node> = self.nodes.iter().flatten().collect();
        let mut known = |node: &Node| {
            let at = order.iter().position(|known| *known == node)?;
            Some(received[at * own_len..][..own_len].to_vec())
        };
        let own = sum(0..self.number, &mut known, &mut |left: &mut Vec<f32>, right| add(left, &right));
        let mut whole = vec![0.0; total];
        self.gather(&own, &ends(&|rank| slice(rank).len()), &mut whole);
        whole
    }

    /// Losses of all in the tree's order, from those of own subtrees.
    fn outcome_of_all(&self, own: &[StepOutcome]) -> StepOutcome {
        let mut bytes: Vec<u8> = own.iter().flat_map(|own| own.to_bytes()).collect();
        bytes.resize(self.most_nodes() * StepOutcome::BYTES, 0);
        let all = self.team.share(&bytes);
        let mut told: Vec<(&Node, StepOutcome)> = Vec::new();
        for (nodes, bytes) in self.nodes.iter().zip(&all) {
            let outcomes = bytes.chunks(StepOutcome::BYTES).map(StepOutcome::from_bytes);
            told.extend(nodes.iter().zip(outcomes));
        }
        let mut known =
            |node: &Node| told.iter().find(|(known, _)| *known == node).map(|(_, outcome)| *outcome);
        sum(0..self.number, &mut known, &mut |left, right| left.add(right))
    }

    fn swap(&self, send: &[f32], send_ends: &[usize], into: &mut [f32], ends: &[usize]) {
        match self.exchange {
            Exchange::F32 => {
                let into = bytemuck::cast_slice_mut(into);
                self.team.swap(cast(send), &scaled(send_ends, 4), into, &scaled(ends, 4));
            }
            Exchange::Bf16 => {
                let mut halves = vec![0_u16; into.len()];
                let received = bytemuck::cast_slice_mut(&mut halves);
                self.team.swap(cast(&halved(send)), &scaled(send_ends, 2), received, &scaled(ends, 2));
                widen(&halves, into);
            }
        }
    }

    fn gather(&self, own: &[f32], ends: &[usize], whole: &mut [f32]) {
        match self.exchange {
            Exchange::F32 => {
                self.team.gather(cast(own), &scaled(ends, 4), bytemuck::cast_slice_mut(whole));
            }
            Exchange::Bf16 => {
                let mut halves = vec![0_u16; whole.len()];
                let whole_halves = bytemuck::cast_slice_mut(&mut halves);
                self.team.gather(cast(&halved(own)), &scaled(ends, 2), whole_halves);
                widen(&halves, whole);
            }
        }
    }
}

/// Values per task.
const CHUNK: usize = 1 << 14;

fn zero(values: &mut [f32]) {
    values.par_chunks_mut(CHUNK).for_each(|part| part.fill(0.0));
}

/// By the pool's threads.
fn add_by_all(into: &mut [f32], other: &[f32]) {
    let parts = into.par_chunks_mut(CHUNK).zip(other.par_chunks(CHUNK));
    parts.for_each(|(into, other)| add(into, other));
}

fn add(into: &mut [f32], other: &[f32]) {
    into.iter_mut().zip(other).for_each(|(a, b)| *a += b);
}

fn cast<T: bytemuck::NoUninit>(values: &[T]) -> &[u8] {
    bytemuck::cast_slice(values)
}

fn scaled(ends: &[usize], bytes: usize) -> Vec<usize> {
    ends.iter().map(|end| end * bytes).collect()
}

fn halved(values: &[f32]) -> Vec<u16> {
    values.iter().map(|value| bf16::from_f32(*value).to_bits()).collect()
}

fn widen(halves: &[u16], into: &mut [f32]) {
    into.iter_mut().zip(halves).for_each(|(into, half)| *into = bf16::from_bits(*half).to_f32());
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::sync::{Barrier, Mutex};

    use fnet_encoder::Loss;

    use super::*;

    /// Threads of this process as a team.
    #[derive(Debug)]
    struct Threads {
        rank: usize,
        common: Arc<Common>,
    }

    #[derive(Debug)]
    struct Common {
        barrier: Barrier,
        boards: Vec<Mutex<Vec<u8>>>,
    }

    impl Threads {
        fn all(size: usize) -> Vec<Self> {
            let boards = (0..size).map(|_| Mutex::default()).collect();
            let common = Arc::new(Common { barrier: Barrier::new(size), boards });
            (0..size).map(|rank| Self { rank, common: common.clone() }).collect()
        }
    }

    impl Team for Threads {
        fn rank(&self) -> usize {
            self.rank
        }

        fn size(&self) -> usize {
            self.common.boards.len()
        }

        fn share(&self, own: &[u8]) -> Vec<Vec<u8>> {
            *self.common.boards[self.rank].lock().unwrap() = own.to_vec();
            self.common.barrier.wait();
            let all = self.common.boards.iter().map(|board| board.lock().unwrap().clone()).collect();
            self.common.barrier.wait();
            all
        }

        fn swap(&self, send: &[u8], send_ends: &[usize], receive: &mut [u8], receive_ends: &[usize]) {
            // A board holds the ends, then the bytes.
            let mut board: Vec<u8> = send_ends.iter().flat_map(|end| (*end as u64).to_le_bytes()).collect();
            board.extend_from_slice(send);
            for (rank, board) in self.share(&board).iter().enumerate() {
                let (ends, bytes) = board.split_at(8 * self.size());
                let end = |i: usize| u64::from_le_bytes(ends[8 * i..][..8].try_into().unwrap()) as usize;
                let start = if self.rank == 0 { 0 } else { end(self.rank - 1) };
                let to = if rank == 0 { 0 } else { receive_ends[rank - 1] };
                receive[to..receive_ends[rank]].copy_from_slice(&bytes[start..end(self.rank)]);
            }
        }

        fn gather(&self, own: &[u8], _: &[usize], whole: &mut [u8]) {
            whole.copy_from_slice(&self.share(own).concat());
        }
    }

    const VALUES: usize = 1_000;

    /// Where two layers begin.
    const LAYERS: [usize; 2] = [600, 300];

    /// Gradients whose sum depends on its order. Every third leaf tells nothing, as one without examples.
    fn leaf(leaf: Leaf, gradient: Gradient) -> Result<StepOutcome> {
        let Gradient { values, told } = gradient;
        for (i, gradient) in values.iter_mut().enumerate().filter(|(i, _)| i % 3 != 1) {
            *gradient +=
                ((i * 31 + leaf.number * 17) as f32).sin() * 10_f32.powi((i + leaf.number) as i32 % 9 - 4);
        }
        if let Some(told) = told.filter(|_| leaf.number % 3 < 2) {
            LAYERS.iter().for_each(|start| told(*start, &values[*start..]));
        }
        let loss = Loss { sum: 1.0 / (leaf.number + 3) as f64, count: leaf.number, correct: 1 };
        Ok(StepOutcome { loss, tokens: 5, ..StepOutcome::default() })
    }

    fn trained() -> Vec<Range<usize>> {
        vec![0..400, 450..VALUES]
    }

    fn alone(number: usize) -> (Vec<f32>, StepOutcome) {
        let mut gradients = vec![0.0; VALUES];
        let mut leaves = Leaves::new(number, Exchange::F32, None);
        let outcome = leaves.sum(&mut gradients, &trained(), &LAYERS, &mut leaf).unwrap();
        (gradients, outcome)
    }

    #[test]
    fn any_number_of_processes_has_the_same_bytes() {
        for number in [1, 2, 8, 16] {
            let (expected, told) = alone(number);
            assert_eq!((told.loss.count, told.tokens), (number * (number - 1) / 2, 5 * number));
            for size in (1..=number).filter(|size| [1, 2, 3, 4, 5, 8, 13].contains(size)) {
                let (send, receive): (Sender<_>, Receiver<_>) = channel();
                for team in Threads::all(size) {
                    let send = send.clone();
                    std::thread::spawn(move || {
                        let mut leaves = Leaves::new(number, Exchange::F32, Some(Arc::new(team)));
                        let mut gradients = vec![0.0; VALUES];
                        // Twice, for buffers are used again.
                        leaves.sum(&mut gradients, &trained(), &LAYERS, &mut leaf).unwrap();
                        let outcome = leaves.sum(&mut gradients, &trained(), &LAYERS, &mut leaf).unwrap();
                        send.send((gradients, outcome)).unwrap();
                    });
                }
                drop(send);
                let all: Vec<_> = receive.iter().collect();
                assert_eq!(all.len(), size);
                for (gradients, outcome) in all {
                    for range in trained() {
                        assert!(
                            gradients[range.clone()] == expected[range],
                            "{number} leaves, {size} processes"
                        );
                    }
                    assert_eq!((outcome.loss, outcome.tokens), (told.loss, told.tokens));
                }
            }
        }
    }

    #[test]
    fn rounded_gradients_are_near() {
        let (expected, _) = alone(4);
        let (send, receive) = channel();
        for team in Threads::all(2) {
            let send = send.clone();
            std::thread::spawn(move || {
                let mut gradients = vec![0.0; VALUES];
                let mut leaves = Leaves::new(4, Exchange::Bf16, Some(Arc::new(team)));
                leaves.sum(&mut gradients, &trained(), &LAYERS, &mut leaf).unwrap();
                send.send(gradients).unwrap();
            });
        }
        drop(send);
        let all: Vec<Vec<f32>> = receive.iter().collect();
        assert!(trained().into_iter().all(|range| all[0][range.clone()] == all[1][range]));
        let largest = expected.iter().fold(0.0_f32, |most, v| most.max(v.abs()));
        for range in trained() {
            let pairs = all[0][range.clone()].iter().zip(&expected[range]);
            pairs.for_each(|(got, expected)| assert!((got - expected).abs() <= 0.02 * largest));
        }
    }

    #[test]
    fn examples_fall_into_leaves_once() {
        for (examples, of) in [(0, 4), (1, 8), (7, 4), (32, 8)] {
            let ranges = (0..of).flat_map(|number| Leaf { number, of }.range(examples));
            assert!(ranges.eq(0..examples));
        }
        assert_eq!(Leaf::WHOLE.range(5), 0..5);
    }
}
