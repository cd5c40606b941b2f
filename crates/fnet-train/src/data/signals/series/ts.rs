//! `.ts` files of the UEA and UCR archives.

use std::path::Path;

use super::{Read, number};
use crate::data::signals::Purpose;
use crate::data::text::Lines;
use crate::error::{Error, Result};

/// Reads a file.
///
/// # Errors
/// Names the line of a value that is no number, and of a series whose channels differ in number or length.
pub(super) fn read(path: &Path, purpose: Purpose) -> Result<Read> {
    let mut lines = Lines::open(path)?;
    let (mut read, mut in_data) = (Read::default(), false);
    if purpose.asked().is_of_positions() {
        return Err(Error::file(path, "has a class for each series, none for its steps"));
    }
    while let Some((number, line)) = lines.next_line()? {
        let text = line.trim();
        let fail = |message: &str| Err(Error::line(path, number, message));
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        if let Some(key) = text.strip_prefix('@').filter(|_| !in_data) {
            let mut words = key.split_whitespace();
            let key = words.next().unwrap_or("").to_lowercase();
            let values: Vec<&str> = words.collect();
            let is_true = values.first().is_some_and(|v| v.eq_ignore_ascii_case("true"));
            match key.as_str() {
                "data" => in_data = true,
                "timestamps" if is_true => return fail("time stamps are not read here"),
                "classlabel" if is_true => {
                    read.order = Some(values[1..].iter().map(ToString::to_string).collect());
                }
                _ => {}
            }
            continue;
        }
        if !in_data {
            return fail("stands before @data");
        }
        let mut parts: Vec<&str> = text.split(':').collect();
        if parts.len() == 1 && purpose.needs_labels() {
            return fail("has no class: it follows the last channel after a colon");
        }
        // Where no label is needed, there may be none: by the number of channels.
        let is_labelled = purpose.needs_labels()
            || parts.len() > 1 && (read.order.is_some() || parts.len() > read.channels.max(1));
        let label = if is_labelled { parts.pop().unwrap_or("").trim() } else { "" };
        let values = parse(&parts).map_err(|message| Error::line(path, number, message))?;
        if read.channels == 0 {
            read.channels = parts.len();
        }
        if parts.len() != read.channels {
            return fail(&format!("has {} channels, the first series {}", parts.len(), read.channels));
        }
        read.series.push(values);
        read.labels.push(label.to_string());
        read.places.push(format!("line {number}"));
    }
    Ok(read)
}

/// Channels of numbers as `[steps, channels]`.
fn parse(channels: &[&str]) -> std::result::Result<Vec<f32>, String> {
    let all: Vec<Vec<f32>> =
        channels.iter().map(|c| c.split(',').map(number).collect()).collect::<std::result::Result<_, _>>()?;
    let steps = all.first().map_or(0, Vec::len);
    if let Some(other) = all.iter().find(|channel| channel.len() != steps) {
        return Err(format!("channels of {steps} and {} steps", other.len()));
    }
    Ok((0..steps).flat_map(|step| all.iter().map(move |channel| channel[step])).collect())
}

#[cfg(test)]
mod tests {
    use super::super::SeriesFile;
    use super::*;
    use crate::data::signals::{Format, Options, Signal, Source, Target};

    fn open(text: &str) -> Result<SeriesFile> {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a.ts");
        std::fs::write(&path, text).unwrap();
        SeriesFile::open(&path, Format::Series, Purpose::Learn(&Options::default()))
    }

    const HEAD: &str = "# about\n@problemName x\n@univariate false\n@classLabel true up down\n@data\n";

    #[test]
    fn ragged_series_of_two_channels() {
        let file = open(&format!("{HEAD}1,2,3:-1,-2,-3:up\n4,5:0,1e1:down\n")).unwrap();
        let shape = file.shape();
        assert_eq!((shape.width, shape.longest, file.len()), (2, 3, 2));
        assert_eq!(shape.classes, ["up", "down"]);
        assert_eq!(file.series, [vec![1.0, -1.0, 2.0, -2.0, 3.0, -3.0], vec![4.0, 0.0, 5.0, 10.0]]);
        let mut signal = Signal::default();
        let mut sums = [0.0; 2];
        for index in 0..2 {
            file.read(0, index, &mut signal).unwrap();
            signal.vectors.chunks(2).for_each(|v| (sums[0], sums[1]) = (sums[0] + v[0], sums[1] + v[1]));
        }
        assert!(sums.iter().all(|sum| sum.abs() < 1e-5), "of mean zero");
        assert_eq!(signal.target, Target::Class(1));
    }

    #[test]
    fn errors_name_the_line() {
        for (row, says) in [
            ("1,x:2,3:up", "a.ts:6: `x` is no number"),
            ("1,?:2,3:up", "missing value"),
            ("1,NaN:2,3:up", "is no number"),
            ("1,2:3:up", "channels of 2 and 1 steps"),
            ("1,2", "has no class"),
            ("1,2:1,2:side", "line 6: class `side` is not among up, down"),
            ("1,2:3,4:up\n1,2:up", "a.ts:7: has 1 channels, the first series 2"),
        ] {
            let error = open(&format!("{HEAD}{row}\n")).err().unwrap().to_string();
            assert!(error.contains(says), "{error}");
        }
        for (text, says) in [
            (HEAD.to_string(), "holds no series"),
            ("1,2:up\n".into(), "before @data"),
            (format!("@timestamps true\n{HEAD}"), "time stamps"),
        ] {
            let error = open(&text).err().unwrap().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
