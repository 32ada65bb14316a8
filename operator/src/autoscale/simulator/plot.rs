//! A simulation as a picture.

use super::{Hardware, Row};
use std::fmt::Write as _;

const WIDTH: f64 = 800.0;
const PANEL: f64 = 150.0;
const LEFT: f64 = 60.0;
const GAP: f64 = 30.0;

/// Pods that the load needs, pods wanted and ready, and below them the wait, as SVG.
pub fn svg(rows: &[Row], hardware: &Hardware) -> String {
    let start = rows.first().map_or(0.0, |row| row.at);
    let span = rows.last().map_or(1.0, |row| (row.at - start).max(1.0));
    let height = 2.0 * (PANEL + GAP) + 10.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let needed = |row: &Row| row.tokens_per_second / hardware.tokens_per_second;
    let pods = rows.iter().map(|row| needed(row).max(f64::from(row.desired))).fold(1.0, f64::max);
    let waits = || rows.iter().map(|row| row.wait).filter(|wait| wait.is_finite());
    let wait = waits().fold(1.0, f64::max);
    let mut panels = [
        Panel { top: 10.0, most: pods, start, span },
        Panel { top: PANEL + GAP + 10.0, most: wait, start, span },
    ];
    let [upper, lower] = &mut panels;
    upper.frame(
        &mut text,
        "pods",
        &[("#999", "needed by the load"), ("#1f77b4", "wanted"), ("#2ca02c", "ready")],
    );
    upper.line(&mut text, "#999", rows.iter().map(|row| (row.at, needed(row))));
    upper.line(&mut text, "#1f77b4", rows.iter().map(|row| (row.at, f64::from(row.desired))));
    upper.line(&mut text, "#2ca02c", rows.iter().map(|row| (row.at, f64::from(row.ready))));
    lower.frame(&mut text, "s", &[("#d62728", "wait of what arrives")]);
    lower.line(&mut text, "#d62728", rows.iter().map(|row| (row.at, row.wait.min(wait))));
    let end = LEFT + WIDTH - LEFT - 10.0;
    writeln!(text, "<text x=\"{LEFT}\" y=\"{}\">{start:.0} s</text>", height - 4.0)
        .expect("strings grow");
    writeln!(
        text,
        "<text x=\"{end}\" y=\"{}\" text-anchor=\"end\">{:.0} s</text>\n</svg>",
        height - 4.0,
        start + span
    )
    .expect("strings grow");
    text
}

struct Panel {
    top: f64,
    most: f64,
    start: f64,
    span: f64,
}

impl Panel {
    fn frame(&self, text: &mut String, unit: &str, lines: &[(&str, &str)]) {
        let width = WIDTH - LEFT - 10.0;
        let Self { top, most, .. } = self;
        let (bottom, label) = (top + PANEL, LEFT - 5.0);
        writeln!(
            text,
            "<rect x=\"{LEFT}\" y=\"{top}\" width=\"{width}\" height=\"{PANEL}\" fill=\"none\" stroke=\"#ccc\"/>\n\
             <text x=\"{label}\" y=\"{}\" text-anchor=\"end\">{most:.0} {unit}</text>\n\
             <text x=\"{label}\" y=\"{bottom}\" text-anchor=\"end\">0</text>",
            top + 12.0
        )
        .expect("strings grow");
        for (index, (colour, name)) in lines.iter().enumerate() {
            let y = top + 15.0 + 15.0 * index as f64;
            writeln!(text, "<text x=\"{}\" y=\"{y}\" fill=\"{colour}\">{name}</text>", LEFT + 8.0)
                .expect("strings grow");
        }
    }

    fn line(&self, text: &mut String, colour: &str, points: impl Iterator<Item = (f64, f64)>) {
        let width = WIDTH - LEFT - 10.0;
        write!(text, "<polyline fill=\"none\" stroke=\"{colour}\" points=\"")
            .expect("strings grow");
        let mut last = None;
        for (at, value) in points {
            let x = LEFT + (at - self.start) / self.span * width;
            let y = self.top + PANEL * (1.0 - value / self.most);
            // A step, not a slope.
            if let Some(last) = last {
                write!(text, "{x:.1},{last:.1} ").expect("strings grow");
            }
            write!(text, "{x:.1},{y:.1} ").expect("strings grow");
            last = Some(y);
        }
        text.push_str("\"/>\n");
    }
}
