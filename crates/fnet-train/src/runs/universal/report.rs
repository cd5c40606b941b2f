//! The table as files: `results.json`, `results.csv`, and one page with a heat map and plots.

use std::path::Path;

use fnet_encoder::whole_file::write_whole;

use super::published::PUBLISHED;
use super::table::{Cell, Universal, distinct};
use crate::error::Result;
use crate::progress::duration;
use crate::runs::pareto::front;
use crate::runs::plot::{self, Axis, Series, Style};
use crate::runs::report::{escape, grouped, html_page, html_table};

impl Universal {
    /// A header, and a row for each cell.
    pub fn table(&self) -> Vec<Vec<String>> {
        let header = [
            "task",
            "substrate",
            "recipe",
            "learning rate",
            "score",
            "floor",
            "time",
            "trained",
            "of values",
            "peak MB",
        ];
        let cell = |cell: &Cell| {
            let value = |v: Option<f64>, scale: f64| v.map_or("–".into(), |v| grouped(v * scale));
            vec![
                cell.task.clone(),
                cell.substrate.to_string(),
                cell.recipe.name().into(),
                cell.learning_rate.map_or("–".into(), |rate| rate.to_string()),
                score(cell),
                self.floor(&cell.task).map_or("–".into(), |floor| format!("{floor:.3}")),
                cell.mean_seconds().map_or("–".into(), duration),
                value(Some(cell.values[0]), 1.0),
                value(Some(cell.values[1]), 1.0),
                value(cell.mean_memory(), 1e-6),
            ]
        };
        let header = header.map(String::from).to_vec();
        std::iter::once(header).chain(self.cells.iter().map(cell)).collect()
    }

    /// A header, and a row for each substrate and recipe with its score on each task.
    pub fn scores(&self) -> Vec<Vec<String>> {
        let tasks = self.tasks();
        let header = std::iter::once("").chain(tasks.iter().copied()).chain(["of the way"]);
        let mut rows = vec![header.map(String::from).collect()];
        for row in self.rows() {
            let of = |task: &&str| self.find(task, &row).map_or("–".into(), score);
            let way = self.over_tasks(&row, |cell| self.relative(cell));
            let way = way.map_or("–".into(), |way| format!("{way:.2}"));
            rows.push([vec![row.clone()], tasks.iter().map(of).collect(), vec![way]].concat());
        }
        rows
    }

    /// Writes `results.json`, `results.csv` and `report.html`.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn write(&self, folder: &Path, settings: &str) -> Result<()> {
        let json = serde_json::to_string_pretty(self).unwrap_or_default() + "\n";
        write_whole(&folder.join("results.json"), json.as_bytes())?;
        let mut csv = csv::Writer::from_writer(Vec::new());
        // Into memory: nothing can fail.
        self.table().iter().for_each(|row| drop(csv.write_record(row)));
        write_whole(&folder.join("results.csv"), &csv.into_inner().unwrap_or_default())?;
        Ok(write_whole(&folder.join("report.html"), self.page(settings).as_bytes())?)
    }

    fn page(&self, settings: &str) -> String {
        let answers = self.answers().into_iter().map(|line| format!("<li>{}</li>\n", escape(&line)));
        let mut body = format!("<ul>\n{}</ul>\n{}", answers.collect::<String>(), self.heat_map());
        let failures = self.cells.iter().flat_map(|cell| {
            let name = format!("{}, {}", cell.task, cell.row());
            cell.failures.iter().map(move |f| format!("<li>{}: {}</li>\n", escape(&name), escape(f)))
        });
        let failures: String = failures.collect();
        if !failures.is_empty() {
            body += &format!("<h2>Failed</h2>\n<ul>\n{failures}</ul>\n");
        }
        body +=
            &self.quality("Quality over time", "seconds of training, mean over tasks", Cell::mean_seconds);
        body += &self.quality("Quality over trained values", "trained values, mean over tasks", |cell| {
            Some(cell.values[0]).filter(|values| *values > 0.0)
        });
        body +=
            &self.quality("Quality over memory", "peak memory in bytes, mean over tasks", Cell::mean_memory);
        body += &self.published();
        body += "<h2>All cells</h2>\n<p>± is the standard deviation over seeds. Time is that of the run that is judged, \
                 without those that chose its learning rate; memory is that of its whole process.</p>\n";
        body += &html_table(&self.table());
        body += &format!("<h2>Settings</h2>\n<pre>{}</pre>\n", escape(settings));
        html_page("Substrates, tasks and recipes", &body)
    }

    /// Scores by row and task, the better the darker.
    fn heat_map(&self) -> String {
        let (tasks, rows) = (self.tasks(), self.rows());
        let mut html = String::from("<table class=\"wide\">\n");
        for (i, texts) in self.scores().iter().enumerate() {
            html += "<tr>";
            for (j, text) in texts.iter().enumerate() {
                let cell = (i > 0 && j > 0).then(|| tasks.get(j - 1)).flatten();
                let cell = cell.and_then(|task| self.find(task, &rows[i - 1]));
                let (tag, text) = (if i == 0 { "th" } else { "td" }, escape(text));
                html += &match cell.and_then(|cell| self.relative(cell)) {
                    Some(way) => format!("<{tag} style=\"{}\">{text}</{tag}>", colour(way)),
                    None => format!("<{tag}>{text}</{tag}>"),
                };
            }
            html += "</tr>\n";
        }
        html + "</table>\n<p>Rows are a substrate and what is trained on it; “text” is a trunk pretrained on text. A cell \
                is the darker, the nearer its score is to the task's best; white is the floor: what is reached without learning, of texts what a \
                bag of words reaches. The \
                last column is the mean over tasks of how far a row is on that way, from 0 to 1.</p>\n"
    }

    /// Quality over a cost, a mark for each substrate, with those that no other beats in both joined.
    fn quality(&self, title: &str, label: &str, cost: impl Fn(&Cell) -> Option<f64>) -> String {
        let mut all = Vec::new();
        let mut series: Vec<Series> = Vec::new();
        for recipe in distinct(self.cells.iter().map(|cell| cell.recipe)) {
            let rows = distinct(self.cells.iter().filter(|cell| cell.recipe == recipe).map(Cell::row));
            let place = |row: &String| {
                Some((self.over_tasks(row, &cost)?, self.over_tasks(row, |cell| self.relative(cell))?))
            };
            let placed: Vec<_> = rows.iter().filter_map(|row| Some((row.clone(), place(row)?))).collect();
            let points = placed.iter().map(|placed| placed.1).collect();
            series.push(Series { name: recipe.name().into(), points, style: Style::Points });
            all.extend(placed);
        }
        if all.is_empty() {
            return String::new();
        }
        let points = front(&all.iter().map(|placed| placed.1).collect::<Vec<_>>());
        let names: Vec<&str> = points
            .iter()
            .filter_map(|point| Some(all.iter().find(|placed| placed.1 == *point)?.0.as_str()))
            .collect();
        let names = escape(&names.join("; "));
        series.push(Series { name: "Pareto front".into(), points, style: Style::Line });
        let x = Axis { label, log: true };
        let y = Axis { label: "of the way from floor to best", log: false };
        plot::svg(title, x, y, &series) + &format!("<p>On the front, from cheap to dear: {names}.</p>\n")
    }

    /// Published figures of these tasks.
    fn published(&self) -> String {
        let tasks = self.tasks();
        let known = PUBLISHED.iter().filter(|known| tasks.contains(&known.task));
        let rows = known.map(|k| [k.task, k.frozen, k.full, k.source].map(String::from).to_vec());
        let rows: Vec<Vec<String>> = rows.collect();
        if rows.is_empty() {
            return String::new();
        }
        let header = ["task", "frozen", "everything trained", "source"].map(String::from).to_vec();
        let rows = [vec![header], rows].concat();
        format!("<h2>Published figures</h2>\n{}", html_table(&rows))
    }
}

/// Mean and deviation.
pub(super) fn score(cell: &Cell) -> String {
    match cell.score() {
        None => "–".into(),
        Some((mean, None)) => format!("{mean:.3}"),
        Some((mean, Some(deviation))) => format!("{mean:.3} ± {deviation:.3}"),
    }
}

/// From white at the floor to blue at the best.
fn colour(way: f64) -> String {
    let way = way.clamp(0.0, 1.0);
    let [red, green, blue] = [(255.0, 0.0), (255.0, 90.0), (255.0, 160.0)]
        .map(|(from, to): (f64, f64)| (from + (to - from) * way).round() as u8);
    let text = if way > 0.55 { "#fff" } else { "#000" };
    format!("background:rgb({red},{green},{blue});color:{text};padding:.2rem .6rem")
}
