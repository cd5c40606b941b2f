//! ListOps (Nangia and Bowman 2018) as Long Range Arena has it (Tay et al. 2021, section 2.2.1): nested lists of digits
//! under operators, whose value is asked. Brackets are symbols.

use fnet_encoder::Head;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::generated::Task;
use super::symbols::one_hot;
use super::{Reading, Shape, Signal, Target};
use crate::random::generator;

/// Ten digits, four operators, each with its opening bracket, and the closing bracket.
const SYMBOLS: usize = 15;
const MIN: u8 = 10;
const MAX: u8 = 11;
const MEDIAN: u8 = 12;
const CLOSE: u8 = 14;
/// How often an argument is a list, as in Long Range Arena.
const LIST_RATE: f64 = 0.25;
/// Draws by which sizes are judged, and how many must fit.
const DRAWS: usize = 10_000;
const ENOUGH: usize = 10;

/// Sizes of expressions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListOps {
    /// Fewest symbols.
    pub shortest: usize,
    /// Most symbols.
    pub longest: usize,
    /// Lists within lists, at most.
    pub depth: usize,
    /// Most arguments of a list, which has at least 2.
    pub arguments: usize,
}

impl Default for ListOps {
    /// Those of Long Range Arena.
    fn default() -> Self {
        Self { shortest: 500, longest: 2_000, depth: 10, arguments: 10 }
    }
}

impl ListOps {
    /// Refuses sizes that no expression has, or hardly any.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(self) -> Result<(), String> {
        let Self { shortest, longest, depth, arguments } = self;
        if !(2..=100).contains(&arguments) || !(2..=20).contains(&depth) {
            return Err(format!("lists of up to {arguments} arguments, {depth} deep"));
        }
        if longest > 20_000 || shortest > longest || self.hits() < ENOUGH {
            return Err(format!(
                "expressions of {shortest} to {longest} symbols, {depth} deep, of {arguments} arguments"
            ));
        }
        Ok(())
    }

    /// How many of some draws have a length in range: with hardly any, drawing would not end.
    fn hits(self) -> usize {
        let (mut random, mut symbols) = (generator(0, "sizes", 0), Vec::new());
        let mut hit = || {
            symbols.clear();
            self.list(&mut random, 1, &mut symbols).is_some() && symbols.len() >= self.shortest
        };
        (0..DRAWS).filter(|_| hit()).take(ENOUGH).count()
    }

    /// An expression and its value.
    fn draw(self, random: &mut ChaCha8Rng) -> (Vec<u8>, u32) {
        let mut symbols = Vec::new();
        loop {
            symbols.clear();
            let value = self.list(random, 1, &mut symbols);
            if let Some(value) = value.filter(|_| symbols.len() >= self.shortest) {
                return (symbols, value);
            }
        }
    }

    /// Appends a list; `None` as soon as there are too many symbols.
    fn list(self, random: &mut ChaCha8Rng, depth: usize, symbols: &mut Vec<u8>) -> Option<u32> {
        let operator = random.random_range(MIN..CLOSE);
        symbols.push(operator);
        let mut values = Vec::new();
        for _ in 0..random.random_range(2..=self.arguments) {
            let is_list = depth + 1 < self.depth && random.random_bool(LIST_RATE);
            values.push(if is_list {
                self.list(random, depth + 1, symbols)?
            } else {
                let digit = random.random_range(0..10);
                symbols.push(digit);
                u32::from(digit)
            });
            if symbols.len() >= self.longest {
                return None; // there is no room for the bracket
            }
        }
        symbols.push(CLOSE);
        Some(value(operator, &mut values))
    }
}

fn value(operator: u8, values: &mut [u32]) -> u32 {
    values.sort_unstable();
    let half = values.len() / 2;
    match operator {
        MIN => values[0],
        MAX => values[values.len() - 1],
        MEDIAN if values.len().is_multiple_of(2) => (values[half - 1] + values[half]) / 2,
        MEDIAN => values[half],
        _ => values.iter().sum::<u32>() % 10,
    }
}

impl Task for ListOps {
    const EXAMPLES: [usize; 2] = [10_000, 2_000];
    const PURPOSES: [&'static str; 2] = ["listops", "valid listops"];
    const VALIDATION_SEED: u64 = 20_180_417;

    fn shape(self) -> Shape {
        Shape {
            width: SYMBOLS,
            longest: self.longest,
            head: Head::Classification { labels: 10 },
            classes: (0..10).map(|digit| digit.to_string()).collect(),
        }
    }

    fn reading(self) -> Reading {
        Reading::ListOps(self)
    }

    fn example(self, random: &mut ChaCha8Rng, into: &mut Signal) {
        let (symbols, value) = self.draw(random);
        one_hot(symbols.into_iter().map(usize::from), SYMBOLS, into);
        into.target = Target::Class(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::signals::Source;
    use crate::data::signals::generated::Generated;

    /// The value of an expression, by a stack.
    fn evaluate(symbols: &[u8]) -> u32 {
        let mut stack: Vec<(u8, Vec<u32>)> = vec![(CLOSE, Vec::new())];
        for symbol in symbols {
            match *symbol {
                CLOSE => {
                    let (operator, mut values) = stack.pop().unwrap();
                    values.sort_unstable();
                    let n = values.len();
                    let median = f64::from(values[(n - 1) / 2] + values[n / 2]) / 2.0;
                    let result = match operator {
                        MIN => *values.iter().min().unwrap(),
                        MAX => *values.iter().max().unwrap(),
                        MEDIAN => median.floor() as u32,
                        _ => values.iter().sum::<u32>() % 10,
                    };
                    stack.last_mut().unwrap().1.push(result);
                }
                digit @ 0..10 => stack.last_mut().unwrap().1.push(u32::from(digit)),
                operator => stack.push((operator, Vec::new())),
            }
        }
        assert_eq!((stack.len(), stack[0].1.len()), (1, 1), "one whole expression");
        stack[0].1[0]
    }

    #[test]
    fn expressions_have_their_size_and_value() {
        let task = ListOps { shortest: 30, longest: 60, depth: 4, arguments: 5 };
        let mut deepest = 0;
        for index in 0..300 {
            let (symbols, value) = task.draw(&mut generator(1, "test", index));
            assert!((30..=60).contains(&symbols.len()));
            assert_eq!(evaluate(&symbols), value);
            let mut depth = 0_usize;
            for symbol in symbols {
                depth = if symbol == CLOSE { depth - 1 } else { depth + usize::from(symbol > 9) };
                deepest = deepest.max(depth);
            }
        }
        assert_eq!(deepest, 3, "lists are one less deep than their arguments");
    }

    #[test]
    fn the_usual_sizes_are_drawn_quickly_and_anew_in_each_pass() {
        let source = Generated::new(ListOps::default(), Some(3));
        let example = |pass, index| {
            let mut signal = Signal::default();
            source.read(pass, index, &mut signal).unwrap();
            signal
        };
        for index in 0..20 {
            let signal = example(0, index);
            assert!((500..=2_000).contains(&(signal.vectors.len() / SYMBOLS)));
            assert_eq!(signal.vectors.iter().sum::<f32>() as usize, signal.vectors.len() / SYMBOLS);
        }
        assert!(example(0, 0) == example(0, 0) && example(0, 0) != example(1, 0));
        let check = |task: ListOps| task.check();
        assert!(check(ListOps::default()).is_ok());
        assert!(check(ListOps { shortest: 50, longest: 60, depth: 2, arguments: 2 }).is_err());
        assert!(check(ListOps { shortest: 4, longest: 4, depth: 2, arguments: 2 }).is_ok());
        assert!(check(ListOps { arguments: 1, ..ListOps::default() }).is_err());
    }
}
