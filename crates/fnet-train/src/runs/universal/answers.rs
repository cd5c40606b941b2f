//! What a table says, in words.

use super::Substrate;
use super::report::score;
use super::table::{Cell, Universal, distinct};
use crate::progress::duration;
use crate::runs::mean::mean;
use crate::train::recipe::Recipe;

impl Universal {
    /// Answers to the questions that the table is made for, a line each: what wins on each task, what freezing costs and
    /// saves, whether pretraining on text helps, which mixer is the best substrate.
    pub fn answers(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.tasks().iter().filter_map(|task| self.best_of(task)).collect();
        let recipes = distinct(self.cells.iter().map(|cell| cell.recipe));
        let frozen = recipes.iter().filter(|recipe| **recipe != Recipe::Full);
        lines.extend(frozen.filter_map(|recipe| self.against_full(*recipe)));
        lines.extend(recipes.iter().filter_map(|recipe| self.pretraining_helps(*recipe)));
        lines.extend(recipes.iter().filter_map(|recipe| self.mixers_by(*recipe)));
        let seeds = self.cells.iter().map(|cell| cell.scores.len()).max().unwrap_or(0);
        if seeds == 1 {
            lines.push("One seed each: small differences may be chance.".into());
        }
        let failures = self.cells.iter().map(|cell| cell.failures.len()).sum::<usize>();
        if failures > 0 {
            lines.push(format!("{failures} runs failed, see below."));
        }
        lines
    }

    /// What is best on a task, and the best in which everything but norms, input and output is frozen.
    fn best_of(&self, task: &str) -> Option<String> {
        let best = |cells: &mut dyn Iterator<Item = &Cell>| {
            let scored = cells.filter_map(|cell| Some((cell.row(), score(cell), cell.score()?.0, cell)));
            scored.max_by(|a, b| a.2.total_cmp(&b.2)).map(|(row, score, _, cell)| {
                let time = cell.mean_seconds().map_or(String::new(), |s| format!(" in {}", took(s)));
                (row.clone(), format!("{row} has {score}{time}"))
            })
        };
        let (row, first) = best(&mut self.of_task(task))?;
        let frozen = |cell: &&Cell| cell.recipe != Recipe::Full;
        let second = best(&mut self.of_task(task).filter(frozen)).filter(|second| second.0 != row);
        let second = second.map_or(String::new(), |(_, text)| format!("; of what is frozen, {text}"));
        let floor = self.floor(task).map_or(String::new(), |floor| format!(" (floor {floor:.3})"));
        Some(format!("{task}{floor}: {first}{second}."))
    }

    /// A frozen recipe against training everything, on the same trunks.
    fn against_full(&self, recipe: Recipe) -> Option<String> {
        let pairs: Vec<(&Cell, &Cell)> = self
            .pairs(recipe, |cell, other| other.recipe == Recipe::Full && other.substrate == cell.substrate);
        let (difference, range) = differences(&pairs)?;
        let ratio = |of: fn(&Cell) -> Option<f64>| {
            let ratios: Vec<f64> =
                pairs.iter().filter_map(|(a, b)| Some((of(a)?.max(1e-3) / of(b)?.max(1e-3)).ln())).collect();
            mean(&ratios).map_or("an unknown part".into(), |ratio| times(ratio.0.exp()))
        };
        let seconds = ratio(Cell::mean_seconds);
        let memory = ratio(Cell::mean_memory);
        let values = ratio(|cell| Some(cell.values[0]).filter(|values| *values > 0.0));
        let near = pairs.iter().filter(|(a, b)| is_near(a, b)).count();
        let near = if near > 0 {
            format!(" In {near} of {} cells the two are as good within the spread.", pairs.len())
        } else {
            String::new()
        };
        Some(format!(
            "{} has on average {difference} {}, {range}, in {seconds} of the time, {memory} of the memory and {values} of \
             the trained values.{near}",
            recipe.name(),
            "compared with training everything"
        ))
    }

    /// Trunks pretrained on text against random ones.
    fn pretraining_helps(&self, recipe: Recipe) -> Option<String> {
        let pairs = self.pairs(recipe, |cell, other| {
            let is_random = matches!(other.substrate, Substrate::Random(_));
            let is_pretrained = matches!(cell.substrate, Substrate::Pretrained(_));
            is_pretrained
                && is_random
                && other.recipe == cell.recipe
                && other.substrate.mixer() == cell.substrate.mixer()
        });
        let (difference, range) = differences(&pairs)?;
        Some(format!(
            "Pretraining the trunk on text changes {} by {difference} on average, {range}.",
            recipe.name()
        ))
    }

    /// Mean scores of random trunks of each mixer over the tasks that all of them have.
    fn mixers_by(&self, recipe: Recipe) -> Option<String> {
        let cells = || {
            let own = |cell: &&Cell| cell.recipe == recipe && matches!(cell.substrate, Substrate::Random(_));
            self.cells.iter().filter(own)
        };
        let mixers = distinct(cells().filter_map(|cell| cell.substrate.mixer()));
        if mixers.len() < 2 {
            return None;
        }
        let of = |mixer: &str, task: &str| {
            cells().find(|cell| cell.task == task && cell.substrate.mixer() == Some(mixer))?.score()
        };
        let mut tasks = self.tasks();
        tasks.retain(|task| mixers.iter().all(|mixer| of(mixer, task).is_some()));
        let average = |mixer: &str| {
            let scores: Vec<f64> = tasks.iter().filter_map(|task| Some(of(mixer, task)?.0)).collect();
            Some(mean(&scores)?.0)
        };
        let averages = mixers.iter().filter_map(|mixer| Some((*mixer, average(mixer)?)));
        let mut averages: Vec<(&str, f64)> = averages.collect();
        averages.sort_by(|a, b| b.1.total_cmp(&a.1));
        let averages: Vec<String> =
            averages.iter().map(|(mixer, score)| format!("{mixer} {score:.3}")).collect();
        (!averages.is_empty()).then(|| {
            let all = averages.join(", ");
            format!("Random trunks with {}, mean score over {} tasks: {all}.", recipe.name(), tasks.len())
        })
    }

    /// Cells of a recipe, each with another one of the same task.
    fn pairs(&self, recipe: Recipe, is_other: impl Fn(&Cell, &Cell) -> bool) -> Vec<(&Cell, &Cell)> {
        let own = self.cells.iter().filter(|cell| cell.recipe == recipe && cell.score().is_some());
        own.filter_map(|cell| {
            let mut others = self.of_task(&cell.task).filter(|other| other.score().is_some());
            others.find(|other| is_other(cell, other)).map(|other| (cell, other))
        })
        .collect()
    }
}

/// The mean difference of pairs' scores, and where it is least and greatest.
fn differences(pairs: &[(&Cell, &Cell)]) -> Option<(String, String)> {
    let all = pairs.iter().filter_map(|(a, b)| Some((a.score()?.0 - b.score()?.0, *a)));
    let mut all: Vec<(f64, &Cell)> = all.collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let values: Vec<f64> = all.iter().map(|difference| difference.0).collect();
    let name =
        |(difference, cell): &(f64, &Cell)| format!("{difference:+.3} on {} ({})", cell.task, cell.substrate);
    let range = format!("from {} to {}", name(all.first()?), name(all.last()?));
    Some((format!("{:+.3}", mean(&values)?.0), range))
}

/// Whether two means are as near as their spreads.
fn is_near(a: &Cell, b: &Cell) -> bool {
    let near = |a: (f64, Option<f64>), b: (f64, Option<f64>)| {
        let spread = a.1.zip(b.1).map(|(a, b)| a + b);
        spread.is_some_and(|spread| (a.0 - b.0).abs() <= spread)
    };
    a.score().zip(b.score()).is_some_and(|(a, b)| near(a, b))
}

/// A duration, of a few seconds with their tenths.
fn took(seconds: f64) -> String {
    if seconds < 9.95 { format!("{seconds:.1} s") } else { duration(seconds) }
}

fn times(ratio: f64) -> String {
    if ratio < 0.1 { format!("{ratio:.3}") } else { format!("{ratio:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(task: &str, substrate: Substrate, recipe: Recipe, scores: &[f64], seconds: f64) -> Cell {
        let (n, mut cell) = (scores.len(), Cell::new(task, substrate, recipe));
        (cell.scores, cell.seconds, cell.memory) = (scores.to_vec(), vec![seconds; n], vec![1e6; n]);
        cell.values = [if recipe == Recipe::Full { 100.0 } else { 10.0 }, 100.0];
        cell.floor = Some(0.1);
        cell
    }

    #[test]
    fn answers_are_those_of_the_cells() {
        let [fourier, text] = [Substrate::Random, Substrate::Pretrained].map(|of| of("fourier".to_string()));
        let attention = Substrate::Random("attention".into());
        let cells = vec![
            cell("digits", fourier.clone(), Recipe::Fpt, &[0.6, 0.6], 5.0),
            cell("digits", fourier, Recipe::Full, &[0.9, 0.9], 10.0),
            cell("digits", text, Recipe::Fpt, &[0.7, 0.7], 5.0),
            cell("digits", attention, Recipe::Fpt, &[0.5, 0.5], 5.0),
        ];
        let universal = Universal { cells };
        let answers = universal.answers();
        assert_eq!(
            answers,
            [
                "digits (floor 0.100): fourier · full has 0.900 ± 0.000 in 10 s; of what is frozen, fourier, \
                 text · fpt has 0.700 ± 0.000 in 5.0 s.",
                "fpt has on average -0.300 compared with training everything, from -0.300 on digits (fourier) to -0.300 on \
                 digits (fourier), in 0.50 of the time, 1.00 of the memory and 0.10 of the trained values.",
                "Pretraining the trunk on text changes fpt by +0.100 on average, from +0.100 on digits (fourier, text) to \
                 +0.100 on digits (fourier, text).",
                "Random trunks with fpt, mean score over 1 tasks: fourier 0.600, attention 0.500.",
            ]
        );
        let way = universal.relative(&universal.cells[0]).unwrap();
        assert!((way - 0.625).abs() < 1e-9);
        assert!(Universal::default().answers().is_empty());
    }
}
