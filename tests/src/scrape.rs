//! What a Prometheus server reads from `/metrics`.

use crate::raw::Connection;
use crate::server::Running;
use anyhow::{Context, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};

/// One scrape: every series with its value.
#[derive(Clone, Debug, Default)]
pub struct Scrape {
    series: Vec<Series>,
}

#[derive(Clone, Debug)]
struct Series {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Scrape {
    /// Scrapes a server.
    pub async fn of(server: &Running) -> Result<Self> {
        let (status, text) = server.admin("/metrics").await?;
        ensure!(status == 200, "status {status}: {text}");
        Self::parse(&text)
    }

    /// Scrapes the admin listener at `http://ADDRESS`.
    pub fn at(admin: &str) -> Result<Self> {
        let mut connection = Connection::open(admin)?;
        connection.send(b"GET /metrics HTTP/1.1\r\nhost: test\r\n\r\n")?;
        Self::parse(std::str::from_utf8(&connection.answer()?.body)?)
    }

    /// Reads OpenMetrics text.
    pub fn parse(text: &str) -> Result<Self> {
        let body = text.strip_suffix("# EOF\n").context("ends with `# EOF`")?;
        let lines = body.lines().filter(|line| !line.starts_with('#'));
        let series = lines.map(|line| Series::parse(line).with_context(|| line.to_owned()));
        Ok(Self { series: series.collect::<Result<_>>()? })
    }

    /// The names of all series.
    pub fn names(&self) -> BTreeSet<&str> {
        self.series.iter().map(|series| series.name.as_str()).collect()
    }

    /// The sum of a metric's series that have all of `labels`.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let matches = |series: &&Series| {
            series.name == name
                && labels
                    .iter()
                    .all(|(key, value)| series.labels.get(*key).is_some_and(|v| v == value))
        };
        self.series.iter().filter(matches).map(|series| series.value).sum()
    }

    /// A metric's series by the values of these labels.
    ///
    /// # Panics
    /// If two series have the same values.
    pub fn by(&self, name: &str, labels: &[&str]) -> BTreeMap<Vec<String>, f64> {
        let mut found = BTreeMap::new();
        for series in self.series.iter().filter(|series| series.name == name) {
            let value = |label: &&str| series.labels.get(*label).cloned().unwrap_or_default();
            let before = found.insert(labels.iter().map(value).collect(), series.value);
            assert_eq!(before, None, "{series:?} is there twice");
        }
        found
    }

    /// The label names of a metric.
    pub fn labels(&self, name: &str) -> BTreeSet<&str> {
        let series = self.series.iter().filter(|series| series.name == name);
        series.flat_map(|series| series.labels.keys().map(String::as_str)).collect()
    }
}

impl Series {
    fn parse(line: &str) -> Result<Self> {
        let (series, value) = line.rsplit_once(' ').context("a value")?;
        let (name, mut rest) = series.split_once('{').unwrap_or((series, "}"));
        let mut labels = BTreeMap::new();
        while rest != "}" {
            let (label, after) = rest.split_once("=\"").context("a label")?;
            // No value of ours holds a quote, which would be escaped.
            let (text, after) = after.split_once('"').context("a label's end")?;
            labels.insert(label.to_owned(), text.to_owned());
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        Ok(Self { name: name.to_owned(), labels, value: value.parse()? })
    }
}
