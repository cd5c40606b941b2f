//! What examples are labelled with, as numbers.

use std::path::Path;

use super::{Asked, Purpose, Scale, Target};
use crate::error::{Error, Result};

/// Classes and targets of a file's examples.
pub(super) struct Labelled {
    pub targets: Vec<Target>,
    pub classes: Vec<String>,
    pub asked: Asked,
}

/// The targets of labels as they are written. `order` is that of a file that names its classes; `place` says where a
/// label stands.
pub(super) fn targets(
    path: &Path,
    labels: &[String],
    order: Option<Vec<String>>,
    purpose: Purpose,
    place: impl Fn(usize) -> String,
) -> Result<Labelled> {
    let asked = match purpose {
        Purpose::Learn(options) => options.asked.clone(),
        Purpose::Judge(reading, _) | Purpose::Predict(reading) => reading.asked(),
    };
    if !purpose.needs_labels() {
        return Ok(Labelled { targets: vec![Target::default(); labels.len()], classes: Vec::new(), asked });
    }
    if let Asked::Number(scale) = asked {
        return numbers(path, labels, scale, purpose, place);
    }
    let known = match purpose {
        Purpose::Judge(_, classes) => Some(classes.to_vec()),
        _ => order,
    };
    let classes = known.unwrap_or_else(|| sorted(labels));
    let number = |(i, label): (usize, &String)| {
        let found = classes.iter().position(|class| class == label).map(|class| Target::Class(class as u32));
        found.ok_or_else(|| {
            let mut known = classes.iter().take(20).cloned().collect::<Vec<_>>().join(", ");
            if classes.len() > 20 {
                known += ", ..";
            }
            Error::file(path, format!("{}: class `{label}` is not among {known}", place(i)))
        })
    };
    let targets = labels.iter().enumerate().map(number).collect::<Result<_>>()?;
    Ok(Labelled { targets, classes, asked })
}

/// Numbers, of mean 0 and deviation 1 in the training half.
fn numbers(
    path: &Path,
    labels: &[String],
    scale: Scale,
    purpose: Purpose,
    place: impl Fn(usize) -> String,
) -> Result<Labelled> {
    let number = |(i, label): (usize, &String)| match label.trim().parse::<f32>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err(Error::file(path, format!("{}: `{label}` is no number", place(i)))),
    };
    let values: Vec<f32> = labels.iter().enumerate().map(number).collect::<Result<_>>()?;
    let scale =
        if matches!(purpose, Purpose::Learn(_)) { Scale::of(values.iter().copied(), 1) } else { scale };
    let targets = values.iter().map(|value| Target::Number(scale.apply(0, *value))).collect();
    Ok(Labelled { targets, classes: Vec::new(), asked: Asked::Number(scale) })
}

/// Names of classes: as numbers where all are, else as text.
pub(super) fn sorted(labels: &[String]) -> Vec<String> {
    let mut names = labels.to_vec();
    names.sort();
    names.dedup();
    let numbers: Option<Vec<f64>> =
        names.iter().map(|name| name.parse().ok().filter(|n: &f64| n.is_finite())).collect();
    if let Some(numbers) = numbers {
        let mut order: Vec<usize> = (0..names.len()).collect();
        order.sort_by(|a, b| numbers[*a].total_cmp(&numbers[*b]));
        names = order.into_iter().map(|i| names[i].clone()).collect();
    }
    names
}
