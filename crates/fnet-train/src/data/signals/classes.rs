//! What examples are labelled with, as numbers.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use super::{Asked, Purpose, Scale, Target, UNASKED};
use crate::data::tasks::label_sets;
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
    let asked = purpose.asked();
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
    if asked == Asked::Labels {
        let all = || label_sets::all(labels.iter().map(String::as_str));
        let known = label_sets::check(path, &known.unwrap_or_else(all))?;
        let holds = |(i, label): (usize, &String)| {
            let holds = label_sets::targets(&known, label);
            holds.map(Target::Labels).map_err(|label| unknown(path, &place(i), "label", &label, &known))
        };
        let targets = labels.iter().enumerate().map(holds).collect::<Result<_>>()?;
        return Ok(Labelled { targets, classes: known, asked });
    }
    let classes = known.unwrap_or_else(|| sorted(labels));
    let number = |(i, label): (usize, &String)| {
        let found = classes.iter().position(|class| class == label).map(|class| Target::Class(class as u32));
        found.ok_or_else(|| unknown(path, &place(i), "class", label, &classes))
    };
    let targets = labels.iter().enumerate().map(number).collect::<Result<_>>()?;
    Ok(Labelled { targets, classes, asked })
}

fn unknown(path: &Path, place: &str, what: &str, label: &str, known: &[String]) -> Error {
    let mut names = known.iter().take(20).cloned().collect::<Vec<_>>().join(", ");
    if known.len() > 20 {
        names += ", ..";
    }
    Error::file(path, format!("{place}: {what} `{label}` is not among {names}"))
}

/// The targets of sequences each of whose positions has a label, all of them one after another; `lens` are the
/// sequences' lengths, `ignored` is a label that says nothing.
pub(super) fn of_positions(
    path: &Path,
    labels: &[String],
    lens: &[usize],
    ignored: Option<&str>,
    purpose: Purpose,
    place: impl Fn(usize) -> String,
) -> Result<Labelled> {
    let asked = purpose.asked();
    if !purpose.needs_labels() {
        return Ok(Labelled { targets: vec![Target::default(); lens.len()], classes: Vec::new(), asked });
    }
    let (mut rest, mut targets) = (labels, Vec::new());
    let mut each = |take: &mut dyn FnMut(&[String]) -> Target| {
        for len in lens {
            let (own, others) = rest.split_at((*len).min(rest.len()));
            targets.push(take(own));
            rest = others;
        }
    };
    if let Asked::Numbers(scale) = asked {
        let found = numbers(path, labels, scale, purpose, place)?;
        let mut all = found.targets.iter().map(|t| if let Target::Number(n) = t { *n } else { 0.0 });
        each(&mut |own| Target::Numbers(all.by_ref().take(own.len()).collect()));
        let Asked::Number(scale) = found.asked else { return Ok(found) };
        return Ok(Labelled { targets, classes: Vec::new(), asked: Asked::Numbers(scale) });
    }
    let is_asked = |label: &String| Some(label.as_str()) != ignored;
    let classes = match purpose {
        Purpose::Judge(_, classes) => classes.to_vec(),
        _ => sorted(labels.iter().filter(|label| is_asked(label))),
    };
    let ids: HashMap<&str, u32> = classes.iter().zip(0..).map(|(class, id)| (class.as_str(), id)).collect();
    if let Some(i) = labels.iter().position(|label| is_asked(label) && !ids.contains_key(label.as_str())) {
        return Err(unknown(path, &place(i), "class", &labels[i], &classes));
    }
    let id = |label: &String| ids.get(label.as_str()).filter(|_| is_asked(label)).copied().unwrap_or(UNASKED);
    each(&mut |own| Target::Classes(own.iter().map(id).collect()));
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
pub(super) fn sorted<'a>(labels: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    let mut names: Vec<String> = labels.into_iter().collect::<BTreeSet<_>>().into_iter().cloned().collect();
    let numbers: Option<Vec<f64>> =
        names.iter().map(|name| name.parse().ok().filter(|n: &f64| n.is_finite())).collect();
    if let Some(numbers) = numbers {
        let mut order: Vec<usize> = (0..names.len()).collect();
        order.sort_by(|a, b| numbers[*a].total_cmp(&numbers[*b]));
        names = order.into_iter().map(|i| names[i].clone()).collect();
    }
    names
}
