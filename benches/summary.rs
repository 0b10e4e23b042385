//! The table of figures, floors and targets.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

/// What a figure is held against.
#[derive(Clone, Copy)]
pub enum Target {
    /// The value is at most this.
    ValueAtMost(f64),
    /// The ratio of value and floor is at most this.
    RatioAtMost(f64),
    /// The ratio of value and floor is at least this.
    RatioAtLeast(f64),
}

/// One line of the table.
pub struct Row {
    pub name: &'static str,
    pub value: f64,
    pub unit: &'static str,
    pub floor: Option<f64>,
    pub target: Target,
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        self.floor.map(|floor| self.value / floor)
    }

    /// Whether the target is met.
    pub fn met(&self) -> bool {
        match self.target {
            Target::ValueAtMost(most) => self.value <= most,
            Target::RatioAtMost(most) => self.ratio().is_some_and(|ratio| ratio <= most),
            Target::RatioAtLeast(least) => self.ratio().is_some_and(|ratio| ratio >= least),
        }
    }

    fn json(&self) -> Value {
        let target = match self.target {
            Target::ValueAtMost(most) => json!({"at_most": most, "of": "value"}),
            Target::RatioAtMost(most) => json!({"at_most": most, "of": "ratio"}),
            Target::RatioAtLeast(least) => json!({"at_least": least, "of": "ratio"}),
        };
        json!({
            "name": self.name, "value": self.value, "unit": self.unit, "floor": self.floor, "ratio": self.ratio(),
            "target": target, "met": self.met(),
        })
    }
}

/// The table as people read it.
pub fn table(rows: &[Row]) -> String {
    let mut text = format!("{:<52} {:>12} {:<6} {:>12} {:>7}  {:<14} {}\n", "what", "value", "unit", "floor", "ratio", "target", "met");
    for row in rows {
        let optional = |number: Option<f64>, digits: usize| number.map_or_else(|| "-".to_owned(), |number| format!("{number:.digits$}"));
        let target = match row.target {
            Target::ValueAtMost(most) => format!("<= {most}"),
            Target::RatioAtMost(most) => format!("ratio <= {most}"),
            Target::RatioAtLeast(least) => format!("ratio >= {least}"),
        };
        let (floor, ratio, met) = (optional(row.floor, 2), optional(row.ratio(), 2), if row.met() { "yes" } else { "NO" });
        let _ = writeln!(text, "{:<52} {:>12.2} {:<6} {floor:>12} {ratio:>7}  {target:<14} {met}", row.name, row.value, row.unit);
    }
    text
}

/// Writes `summary.json` into `directory`.
pub fn write(rows: &[Row], directory: &Path) -> std::io::Result<()> {
    fs::create_dir_all(directory)?;
    let all: Vec<Value> = rows.iter().map(Row::json).collect();
    fs::write(directory.join("summary.json"), serde_json::to_string_pretty(&all)?)
}

/// The middle one of an odd number of figures.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
