//! Spans of labelled words, and how many of them are found (Tjong Kim Sang and De Meulder 2003).

/// Whether classes name the beginnings and insides of spans: `B-PER`, `I-PER`, `O`.
pub fn are_of_spans(classes: &[String]) -> bool {
    let is_span = |class: &String| parts(class).is_some();
    classes.iter().any(is_span) && classes.iter().all(|class| class == "O" || is_span(class))
}

/// Where a label stands in a span, and the span's kind.
fn parts(label: &str) -> Option<(char, &str)> {
    let (place, kind) = label.split_once('-')?;
    let mut places = place.chars();
    let place = places.next().filter(|place| "BIESLU".contains(*place))?;
    (places.next().is_none() && !kind.is_empty()).then_some((place, kind))
}

/// Start, end and kind of each span. A span begins at `B` (or `S`, `U`), or at an inside that continues no span of its
/// kind; so all of IOB, IOB2 and IOBES are read.
fn spans<'a>(labels: &[&'a str]) -> Vec<(usize, usize, &'a str)> {
    let mut found: Vec<(usize, usize, &str)> = Vec::new();
    let mut open: Option<&str> = None;
    for (i, label) in labels.iter().enumerate() {
        let Some((place, kind)) = parts(label) else {
            open = None;
            continue;
        };
        match found.last_mut() {
            Some(span) if open == Some(kind) && !"BSU".contains(place) => span.1 = i + 1,
            _ => found.push((i, i + 1, kind)),
        }
        open = (!"ESLU".contains(place)).then_some(kind);
    }
    found
}

/// Spans that are there, predicted, and both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpanCounts {
    there: usize,
    predicted: usize,
    both: usize,
}

impl SpanCounts {
    /// Adds a sentence.
    pub fn add(&mut self, labels: &[&str], predicted: &[&str]) {
        let (there, predicted) = (spans(labels), spans(predicted));
        self.both += predicted.iter().filter(|span| there.contains(span)).count();
        self.there += there.len();
        self.predicted += predicted.len();
    }

    /// The harmonic mean of precision and recall.
    pub fn f1(self) -> f64 {
        if self.both == 0 { 0.0 } else { 2.0 * self.both as f64 / (self.there + self.predicted) as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_in_every_notation() {
        let found = |labels: &str| {
            let labels: Vec<&str> = labels.split(' ').collect();
            spans(&labels).iter().map(|(a, b, kind)| format!("{a}{b}{kind}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(found("B-X I-X O B-X B-X"), "02X 34X 45X");
        assert_eq!(found("I-X I-X I-Y O I-Y"), "02X 23Y 45Y");
        assert_eq!(found("B-X E-X S-X S-Y I-Y"), "02X 23X 34Y 45Y");
        assert_eq!(found("O O"), "");
        let classes = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert!(are_of_spans(&classes(&["B-X", "I-X", "O"])));
        assert!(!are_of_spans(&classes(&["NOUN", "O"])) && !are_of_spans(&classes(&["O"])));
        assert!(!are_of_spans(&classes(&["B-X", "NN"])));
    }

    #[test]
    fn a_span_counts_whole() {
        let mut counts = SpanCounts::default();
        counts.add(&["B-X", "I-X", "O", "B-Y"], &["B-X", "O", "O", "B-Y"]);
        assert_eq!(counts.f1(), 0.5);
        counts.add(&["O"], &["B-X"]);
        assert_eq!(counts.f1(), 2.0 / 5.0);
    }
}
