//! The classes of labelled rows: spelling unified, counted, and checked for labels that are not classes.

use std::collections::BTreeMap;
use std::path::Path;

use super::rows::{self, Columns, shortened};
use crate::error::{Error, Result};
use crate::settings::setting;

/// The classes of a file, in the order of their ids, with the number of rows of each.
#[derive(Debug, Clone, PartialEq)]
pub struct Classes {
    /// Names, sorted: as numbers where all are, else as text.
    pub names: Vec<String>,
    /// Rows of each.
    pub counts: Vec<usize>,
    /// Things to look at before training.
    pub warnings: Vec<String>,
}

/// Whether two labels are the same: surrounding blanks do not count, nor does how a number is written (`1`, `1.0`).
pub fn is_same_label(a: &str, b: &str) -> bool {
    let (a, b) = (a.trim(), b.trim());
    a == b || number(a).is_some_and(|a| number(b) == Some(a))
}

fn number(label: &str) -> Option<f64> {
    label.parse::<f64>().ok().filter(|value| value.is_finite())
}

/// More classes than this are a mistake.
const MOST_CLASSES: usize = 10_000;
/// With fewer rows than this, each may have its own class.
const FEW_ROWS: usize = 5;

impl Classes {
    /// Finds the classes of a labelled file.
    ///
    /// # Errors
    /// If the file cannot be read, has only one class, or a different class for every row.
    pub fn find(path: &Path, columns: &Columns) -> Result<Self> {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        rows::read(path, columns, true, |row| {
            let label = row.label.unwrap_or_default();
            *counts.entry(label.trim().to_string()).or_default() += 1;
            if counts.len() > MOST_CLASSES {
                let message =
                    format!("has more than 10,000 classes; is this a number ({})?", setting("regression"));
                return Err(Error::line(path, row.line, message));
            }
            Ok(())
        })?;
        let mut classes: Vec<(String, usize)> = counts.into_iter().collect();
        if classes.iter().all(|(name, _)| number(name).is_some()) {
            let value = |name: &str| number(name).unwrap_or(f64::NAN);
            // Of equal numbers, the shortest comes first and is kept.
            classes.sort_by(|(a, _), (b, _)| value(a).total_cmp(&value(b)).then(a.len().cmp(&b.len())));
            classes.dedup_by(|next, kept| {
                let same = value(&next.0) == value(&kept.0);
                kept.1 += if same { next.1 } else { 0 };
                same
            });
        }
        let rows: usize = classes.iter().map(|class| class.1).sum();
        if let [(name, _)] = classes.as_slice() {
            return Err(Error::file(
                path,
                format!("has one class only, `{name}`: there is nothing to learn"),
            ));
        }
        if classes.len() == rows && rows >= FEW_ROWS {
            let message = format!(
                "has a label of its own for each of its {rows} rows, such as `{}`: is this the label's column? Numbers \
                 are predicted by --regression",
                shortened(&classes[0].0)
            );
            return Err(Error::file(path, message));
        }
        let warnings = warnings(&classes, rows);
        let (names, counts) = classes.into_iter().unzip();
        Ok(Self { names, counts, warnings })
    }

    /// The classes and their rows, in one line.
    pub fn sentence(&self) -> String {
        const SHOWN: usize = 20;
        let classes = self.names.iter().zip(&self.counts).take(SHOWN);
        let shown: Vec<String> =
            classes.map(|(name, count)| format!("{} ({count})", shortened(name))).collect();
        let more = self.names.len().saturating_sub(SHOWN);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{} classes, with their rows: {}{more}", self.names.len(), shown.join(", "))
    }

    /// Weights that give every class the same share of the loss: rows / (classes * rows of the class).
    pub fn balanced_weights(counts: &[usize]) -> Vec<f32> {
        let present = counts.iter().filter(|count| **count > 0).count();
        let rows: usize = counts.iter().sum();
        let weight = |count: &usize| rows as f32 / (present * (*count).max(1)) as f32;
        counts.iter().map(weight).collect()
    }
}

fn warnings(classes: &[(String, usize)], rows: usize) -> Vec<String> {
    let mut found = Vec::new();
    let mut by_letters: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (name, _) in classes {
        by_letters.entry(name.to_lowercase()).or_default().push(name);
    }
    for same in by_letters.values().filter(|names| names.len() > 1) {
        let names: Vec<String> = same.iter().map(|name| format!("`{name}`")).collect();
        found.push(format!("classes differ in upper case alone: {}", names.join(", ")));
    }
    let is_missing =
        |name: &str| ["nan", "null", "none", "na", "n/a", "#n/a"].contains(&name.to_lowercase().as_str());
    for (name, count) in classes.iter().filter(|(name, _)| is_missing(name)) {
        found.push(format!("class `{name}` ({count} rows) looks like a label that is missing"));
    }
    if rows >= FEW_ROWS && classes.len() * 2 > rows {
        found.push(format!(
            "{} classes for {rows} rows: is this the label's column? Numbers are predicted by {}",
            classes.len(),
            setting("regression")
        ));
    } else if let Some((name, _)) = classes.iter().find(|(_, count)| *count == 1).filter(|_| rows >= FEW_ROWS)
    {
        found.push(format!("class `{}` has one row only", shortened(name)));
    }
    let most = classes.iter().map(|class| class.1).max().unwrap_or(0);
    let least = classes.iter().map(|class| class.1).min().unwrap_or(0);
    if least > 0 && most / least >= 10 && found.is_empty() {
        found.push(format!(
            "the largest class has {} times the rows of the smallest: look at macro_f1 beside accuracy, and try \
             --class-weights balanced",
            most / least
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::rows::Column;
    use super::*;

    fn find(labels: &[&str]) -> std::result::Result<Classes, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.tsv");
        let rows: String = labels.iter().map(|label| format!("text\t{label}\n")).collect();
        std::fs::write(&path, format!("a\ty\n{rows}")).unwrap();
        let columns = Columns {
            text: vec![Column::name("a")],
            label: Some(Column::name("y")),
            header: true,
            skip_ragged: false,
            several_labels: false,
        };
        Classes::find(&path, &columns).map_err(|e| e.to_string())
    }

    #[test]
    fn one_class_spelt_in_two_ways_is_one() {
        let classes = find(&["1", "0.0", " 1", "1.0", "0", "10"]).unwrap();
        assert_eq!(
            (classes.names, classes.counts),
            (vec!["0".into(), "1".into(), "10".into()], vec![2, 3, 1])
        );
        let classes = find(&["good ", "bad", "good", "Good"]).unwrap();
        assert_eq!(classes.names, ["Good", "bad", "good"]);
        assert!(classes.warnings[0].contains("`Good`, `good`"), "{:?}", classes.warnings);
        let classes = find(&["1.0", "2.0", "1.0"]).unwrap();
        assert_eq!(classes.names, ["1.0", "2.0"], "as the file spells them");
        assert!(is_same_label("1", "1.0") && is_same_label(" a", "a ") && !is_same_label("a", "A"));
        assert!(!is_same_label("nan", "NaN"));
    }

    #[test]
    fn what_is_no_class_is_refused_or_warned_of() {
        let ids = find(&["id-1", "id-2", "id-3", "id-4", "id-5"]).unwrap_err();
        assert!(ids.contains("label of its own for each of its 5 rows"), "{ids}");
        assert!(find(&["x", "x"]).unwrap_err().contains("one class only"));
        assert!(find(&["x", "", "y"]).unwrap_err().contains(":3: has no label"));
        assert!(find(&["a", "b", "c", "d", "e", "e"]).unwrap().warnings[0].contains("5 classes for 6 rows"));
        assert!(
            find(&["a", "b", "NaN", "a"]).unwrap().warnings[0].contains("looks like a label that is missing")
        );
        let mut skewed = vec!["a"; 40];
        skewed.extend(["b"; 4]);
        assert!(find(&skewed).unwrap().warnings[0].contains("10 times"));
        assert!(find(&["a", "b", "a", "b", "a", "b"]).unwrap().warnings.is_empty());
    }

    #[test]
    fn balanced_classes_weigh_the_same() {
        let weights = Classes::balanced_weights(&[30, 10, 0]);
        assert_eq!(&weights[..2], [40.0 / 60.0, 2.0]);
        assert!((30.0 * weights[0] - 10.0 * weights[1]).abs() < 1e-4);
    }
}
