//! Series in `.ts` files of the UEA and UCR archives: one or more channels, each series at its own length.

use std::path::Path;

use fnet_encoder::Head;

use super::{Reading, Scale, Shape, Signal, Source, Target};
use crate::data::text::Lines;
use crate::error::{Error, Result};

/// The series of a file, with their classes.
pub struct SeriesFile {
    /// Of each series, `[steps, channels]`.
    series: Vec<Vec<f32>>,
    labels: Vec<u32>,
    channels: usize,
    classes: Vec<String>,
    scale: Scale,
}

impl SeriesFile {
    /// Reads a file; with `reading` and `classes` those of the training half.
    ///
    /// # Errors
    /// Names the line of a value that is no number, of a series whose channels differ in number or length, and of a
    /// class that is not known.
    pub fn open(path: &Path, reading: Option<&Reading>, classes: Option<&[String]>) -> Result<Self> {
        let mut lines = Lines::open(path)?;
        let mut named = None;
        let (mut series, mut labels, mut channels, mut in_data) = (Vec::new(), Vec::new(), 0, false);
        let mut classes = classes.map(<[String]>::to_vec);
        while let Some(line) = lines.next_line()? {
            let (number, text) = (line.0, line.1.trim().to_string());
            let fail = |message: String| Err(Error::line(path, number, message));
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
                    "timestamps" if is_true => return fail("time stamps are not read here".into()),
                    "classlabel" if is_true => {
                        named = Some(values[1..].iter().map(ToString::to_string).collect::<Vec<_>>());
                    }
                    "targetlabel" if is_true => return fail("numbers as targets are not read here".into()),
                    _ => {}
                }
                continue;
            }
            if !in_data {
                return fail("stands before @data".into());
            }
            let mut parts: Vec<&str> = text.split(':').collect();
            let label = parts.pop().unwrap_or("").trim().to_string();
            if parts.is_empty() {
                return fail("has no class: it follows the last channel after a colon".into());
            }
            let values = parse(&parts).map_err(|message| Error::line(path, number, message))?;
            if channels == 0 {
                channels = parts.len();
            }
            if parts.len() != channels {
                return fail(format!("has {} channels, the first series {channels}", parts.len()));
            }
            let known = classes.get_or_insert_with(|| named.take().unwrap_or_default());
            let Some(class) = known.iter().position(|name| *name == label) else {
                return fail(format!("class `{label}` is not among {}", known.join(", ")));
            };
            series.push(values);
            labels.push(class as u32);
        }
        if series.is_empty() {
            return Err(Error::file(path, "holds no series"));
        }
        let scale = match reading {
            None => Scale::of(series.iter().flatten().copied(), channels),
            Some(Reading::Series { scale }) if scale.mean.len() == channels => scale.clone(),
            Some(Reading::Series { scale }) => {
                let wanted = scale.mean.len();
                let message = format!("has series of {channels} channels; the model reads {wanted}");
                return Err(Error::file(path, message));
            }
            Some(_) => return Err(Error::file(path, "holds series, which the model does not read")),
        };
        Ok(Self { series, labels, channels, classes: classes.unwrap_or_default(), scale })
    }
}

/// Channels of numbers as `[steps, channels]`.
fn parse(channels: &[&str]) -> std::result::Result<Vec<f32>, String> {
    let number = |text: &str| match text.trim().parse::<f32>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ if text.trim() == "?" => Err("a missing value (?) is not read here".to_string()),
        _ => Err(format!("`{}` is no number", text.trim().chars().take(40).collect::<String>())),
    };
    let all: Vec<Vec<f32>> =
        channels.iter().map(|c| c.split(',').map(number).collect()).collect::<std::result::Result<_, _>>()?;
    let steps = all[0].len();
    if let Some(other) = all.iter().find(|channel| channel.len() != steps) {
        return Err(format!("channels of {steps} and {} steps", other.len()));
    }
    Ok((0..steps).flat_map(|step| all.iter().map(move |channel| channel[step])).collect())
}

impl Source for SeriesFile {
    fn shape(&self) -> Shape {
        Shape {
            width: self.channels,
            longest: self.series.iter().map(|s| s.len() / self.channels).max().unwrap_or(0),
            head: Head::Classification { labels: self.classes.len() },
            classes: self.classes.clone(),
        }
    }

    fn len(&self) -> usize {
        self.series.len()
    }

    fn read(&self, _pass: u64, index: usize, into: &mut Signal) {
        let values = self.series[index].iter().enumerate();
        into.vectors.clear();
        into.vectors.extend(values.map(|(i, value)| self.scale.apply(i % self.channels, *value)));
        into.target = Target::Class(self.labels[index]);
    }

    fn reading(&self) -> Reading {
        Reading::Series { scale: self.scale.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(text: &str) -> Result<SeriesFile> {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a.ts");
        std::fs::write(&path, text).unwrap();
        SeriesFile::open(&path, None, None)
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
            file.read(0, index, &mut signal);
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
            ("1,2:1,2:side", "`side` is not among up, down"),
            ("1,2:3,4:up\n1,2:up", "a.ts:7: has 1 channels, the first series 2"),
        ] {
            let error = open(&format!("{HEAD}{row}\n")).err().unwrap().to_string();
            assert!(error.contains(says), "{error}");
        }
        for (text, says) in [
            (HEAD.to_string(), "holds no series"),
            ("1,2:up\n".into(), "before @data"),
            (format!("@timestamps true\n{HEAD}"), "time stamps"),
            ("@data\n1,2:up\n".into(), "not among"),
        ] {
            let error = open(&text).err().unwrap().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
