//! Plots as SVG. Lines differ by colour, and in black and white by their dashes and marks.

use plotters::prelude::*;
use plotters::series::DashedLineSeries;

/// An axis: its label with the unit, and whether equal steps are equal factors.
#[derive(Debug, Clone, Copy)]
pub struct Axis<'a> {
    /// What it shows, and the unit.
    pub label: &'a str,
    /// Powers of two at equal distances.
    pub log: bool,
}

/// Points with one name.
#[derive(Debug, Clone)]
pub struct Series {
    /// In the legend; nothing where empty.
    pub name: String,
    /// In the order of the line.
    pub points: Vec<(f64, f64)>,
    /// How they are drawn.
    pub style: Style,
}

/// How the points of a series are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Joined by a line.
    Line,
    /// Joined, with a mark at each.
    Marked,
    /// A mark at each.
    Points,
}

/// Colours that people with any colour vision can tell apart (Okabe and Ito 2008), dark enough for lines on white.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(190, 140, 0),
    RGBColor(0, 0, 0),
];

type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// A plot of these series; empty without a point that is a number, or where drawing fails.
pub fn svg(title: &str, x: Axis, y: Axis, series: &[Series]) -> String {
    let place = |axis: Axis, v: f64| if axis.log { v.log2() } else { v };
    let series: Vec<Series> = series
        .iter()
        .map(|s| {
            let placed = s.points.iter().map(|p| (place(x, p.0), place(y, p.1)));
            let points = placed.filter(|p| p.0.is_finite() && p.1.is_finite()).collect();
            Series { points, ..s.clone() }
        })
        .filter(|s| !s.points.is_empty())
        .collect();
    if series.is_empty() {
        return String::new();
    }
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, (860, 380)).into_drawing_area();
    let drawn = draw(&area, title, [x, y], &series);
    drop(area);
    if drawn.is_ok() { svg } else { String::new() }
}

fn draw(area: &Area, title: &str, axes: [Axis; 2], series: &[Series]) -> Drawn {
    let points = || series.iter().flat_map(|s| &s.points);
    let low = |of: fn(&(f64, f64)) -> f64| points().map(of).fold(f64::INFINITY, f64::min);
    let high = |of: fn(&(f64, f64)) -> f64| points().map(of).fold(f64::NEG_INFINITY, f64::max);
    let [left, right] = [low(|p| p.0), high(|p| p.0)];
    let [bottom, top] = [low(|p| p.1), high(|p| p.1)];
    let margin = |low: f64, high: f64| ((high - low) * 0.05).max(1e-9 * high.abs()).max(1e-12);
    let (wide, tall) = (margin(left, right), margin(bottom, top));
    // The legend stands to the right of all points.
    let named = series.iter().any(|s| !s.name.is_empty());
    let right = right + if named { 6.0 * wide } else { wide };
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(45)
        .y_label_area_size(80)
        .build_cartesian_2d(left - wide..right, bottom - tall..top + tall)?;
    let [x_text, y_text] = [(axes[0], right), (axes[1], top)].map(|(axis, highest)| {
        move |v: &f64| if axis.log { number(v.exp2(), v.exp2()) } else { number(*v, highest) }
    });
    chart
        .configure_mesh()
        .x_desc(axes[0].label)
        .y_desc(axes[1].label)
        .x_labels(9)
        .y_labels(7)
        .x_label_formatter(&x_text)
        .y_label_formatter(&y_text)
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .draw()?;
    for (i, line) in series.iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        let style = colour.stroke_width(2);
        let (dash, gap) = [(1, 0), (8, 5), (2, 4)][i % 3];
        let points = line.points.clone().into_iter();
        let drawn = if line.style == Style::Points {
            chart.draw_series(LineSeries::new(std::iter::empty(), style))?
        } else if gap == 0 {
            chart.draw_series(LineSeries::new(points, style))?
        } else {
            chart.draw_series(DashedLineSeries::new(points, dash, gap, style))?
        };
        if !line.name.is_empty() {
            let (marked, joined) = (line.style != Style::Line, line.style != Style::Points);
            drawn.label(line.name.as_str()).legend(move |(x, y)| {
                let ends = if !joined {
                    [(0, 0); 3]
                } else if gap == 0 {
                    [(0, 26), (0, 0), (0, 0)]
                } else {
                    [(0, dash), (9, 9 + dash), (18, 18 + dash)]
                };
                let [a, b, c] = ends.map(|(from, to)| PathElement::new(vec![(from, 0), (to, 0)], style));
                let shape = if marked { shape(i, 13) } else { vec![(0, 0), (0, 0)] };
                EmptyElement::at((x, y)) + a + b + c + PathElement::new(shape, colour.stroke_width(1))
            });
        }
        if line.style != Style::Line {
            let few = if line.style == Style::Points { usize::MAX } else { 12 };
            let step = line.points.len().div_ceil(few).max(1);
            let shown = line.points.iter().step_by(step);
            chart.draw_series(
                shown.map(|p| EmptyElement::at(*p) + PathElement::new(shape(i, 0), colour.stroke_width(1))),
            )?;
        }
    }
    if named {
        let mut legend = chart.configure_series_labels();
        let legend = legend.background_style(WHITE.mix(0.85)).border_style(BLACK.mix(0.4));
        legend.legend_area_size(34).position(SeriesLabelPosition::UpperRight).draw()?;
    }
    area.present()
}

/// The outline of series `i`'s mark, `right` of its place.
fn shape(i: usize, right: i32) -> Vec<(i32, i32)> {
    let outline: &[(i32, i32)] = match i % 8 {
        0 => &[(4, 0), (3, 3), (0, 4), (-3, 3), (-4, 0), (-3, -3), (0, -4), (3, -3), (4, 0)],
        1 => &[(-4, -4), (4, -4), (4, 4), (-4, 4), (-4, -4)],
        2 => &[(-5, 4), (5, 4), (0, -5), (-5, 4)],
        3 => &[(0, -5), (5, 0), (0, 5), (-5, 0), (0, -5)],
        4 => &[(-4, -4), (4, 4), (0, 0), (4, -4), (-4, 4)],
        5 => &[(0, -5), (0, 5), (0, 0), (-5, 0), (5, 0)],
        6 => &[(-5, -4), (5, -4), (0, 5), (-5, -4)],
        _ => &[(-4, -4), (4, -4), (-4, 4), (4, 4), (-4, -4)],
    };
    outline.iter().map(|(x, y)| (x + right, *y)).collect()
}

/// A number in few characters, for an axis that ends at `highest`.
fn number(v: f64, highest: f64) -> String {
    let size = highest.abs();
    let scaled = |unit: f64, name: &str| {
        let v = v / unit;
        if size / unit < 10.0 { format!("{v:.1}{name}") } else { format!("{v:.0}{name}") }
    };
    match size {
        _ if v == 0.0 => "0".into(),
        1e12.. => scaled(1e12, "T"),
        1e9.. => scaled(1e9, "G"),
        1e6.. => scaled(1e6, "M"),
        1e4.. => scaled(1e3, "k"),
        100.0.. => format!("{v:.0}"),
        10.0.. => format!("{v:.1}"),
        0.01.. => format!("{v:.3}"),
        _ => format!("{v:.1e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, points: &[(f64, f64)]) -> Series {
        Series { name: name.into(), points: points.to_vec(), style: Style::Marked }
    }

    #[test]
    fn plots_hold_what_can_be_drawn() {
        let [plain, log] = [false, true].map(|log| Axis { label: "tokens", log });
        let some = [series("a", &[(1.0, 2.0), (2.0, 4.0)]), series("b<c", &[(128.0, 1.0)])];
        for axis in [plain, log] {
            let svg = svg("title", axis, axis, &some);
            assert!(svg.starts_with("<svg") && svg.contains("title") && svg.contains("tokens"));
            assert!(svg.contains("b&lt;c"), "text is escaped");
        }
        let nothing = [series("a", &[(f64::NAN, 1.0)]), series("b", &[])];
        assert_eq!(svg("title", plain, plain, &nothing), "");
        assert_eq!(svg("title", log, log, &[series("a", &[(0.0, 1.0)])]), "", "no logarithm of zero");
        assert!(!svg("title", plain, plain, &[series("a", &[(1.0, 1.0)])]).is_empty(), "one point");
    }
}
