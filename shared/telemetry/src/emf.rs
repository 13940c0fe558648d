//! CloudWatch's embedded metric format: metrics as lines on standard output, no request and no process more.
//!
//! An object for each set of dimensions, with at most 100 metrics (CloudWatch, "Specification: Embedded metric format").
//! The namespace is that of all functions; what a metric is split by are its dimensions.

use crate::meter::Series;
use crate::registry::Function;
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;

/// CloudWatch's namespace.
pub(crate) const NAMESPACE: &str = "callboard";
/// Metrics of one object.
const METRICS_MAX: usize = 100;

/// Keys and values of a set.
type Dimensions = Vec<(&'static str, &'static str)>;

/// The lines of these values, each with its line break. `at_ms`: Unix time in milliseconds.
///
/// They are written as they are made, without a tree of values between: this is done after every event.
pub(crate) fn lines(
    function: Function,
    version: &str,
    at_ms: i64,
    values: Vec<(Series, Vec<f64>)>,
) -> Vec<u8> {
    let mut sets: BTreeMap<Dimensions, Vec<(Series, Vec<f64>)>> = BTreeMap::new();
    for (series, values) in values {
        let definition = series.definition();
        let mut dimensions = definition.pairs(usize::from(series.labels));
        if definition.per_function {
            dimensions.insert(0, ("function", function.as_str()));
        }
        sets.entry(dimensions).or_default().push((series, values));
    }
    let mut lines = Vec::with_capacity(512 * sets.len());
    for (dimensions, metrics) in &sets {
        for metrics in metrics.chunks(METRICS_MAX) {
            let object = Object { function, version, at_ms, dimensions, metrics };
            // Strings, finite numbers and a buffer in memory: nothing of it can fail.
            if serde_json::to_writer(&mut lines, &object).is_ok() {
                lines.push(b'\n');
            }
        }
    }
    lines
}

struct Object<'a> {
    function: Function,
    version: &'a str,
    at_ms: i64,
    dimensions: &'a [(&'static str, &'static str)],
    metrics: &'a [(Series, Vec<f64>)],
}

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(None)?;
        let directive = Directive {
            namespace: NAMESPACE,
            dimensions: [Names(self.dimensions)],
            metrics: Declared(self.metrics),
        };
        object
            .serialize_entry("_aws", &Metadata { timestamp: self.at_ms, cloud_watch_metrics: [directive] })?;
        object.serialize_entry("service", crate::SERVICE)?;
        object.serialize_entry("function", self.function.as_str())?;
        object.serialize_entry("version", self.version)?;
        // `function` is a member of every object, and of some a dimension as well.
        for (name, value) in self.dimensions.iter().filter(|(name, _)| *name != "function") {
            object.serialize_entry(name, value)?;
        }
        for (series, values) in self.metrics {
            let name = series.definition().name;
            match values.as_slice() {
                [one] => object.serialize_entry(name, &Number(*one))?,
                many => object.serialize_entry(name, &Numbers(many))?,
            }
        }
        object.end()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata<'a> {
    timestamp: i64,
    cloud_watch_metrics: [Directive<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Directive<'a> {
    namespace: &'static str,
    dimensions: [Names<'a>; 1],
    metrics: Declared<'a>,
}

struct Names<'a>(&'a [(&'static str, &'static str)]);

impl Serialize for Names<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|(name, _)| name))
    }
}

struct Declared<'a>(&'a [(Series, Vec<f64>)]);

impl Serialize for Declared<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|(series, _)| {
            let definition = series.definition();
            Metric { name: definition.name, unit: definition.unit.cloudwatch() }
        }))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metric {
    name: &'static str,
    unit: &'static str,
}

struct Numbers<'a>(&'a [f64]);

impl Serialize for Numbers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().copied().map(Number))
    }
}

/// Whole numbers without a fraction: counts read as counts.
struct Number(f64);

impl Serialize for Number {
    #[allow(clippy::cast_possible_truncation, reason = "it is whole and small")]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.fract() == 0.0 && self.0.abs() < 1e15 {
            serializer.serialize_i64(self.0 as i64)
        } else {
            serializer.serialize_f64(self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::label::*;
    use crate::meter::Meter;
    use crate::registry::{METRICS, metric};
    use serde_json::{Value, json};

    /// Checks an object as the published schema does (CloudWatch User Guide, "Embedded metric format", "Schema").
    pub(crate) fn check(line: &str) {
        let object: Value = serde_json::from_str(line).unwrap();
        let metadata = object["_aws"].as_object().unwrap();
        assert!(metadata["Timestamp"].is_i64() || metadata["Timestamp"].is_u64());
        assert!(line.len() <= 1_024 * 1_024, "an event of CloudWatch Logs");
        let directives = metadata["CloudWatchMetrics"].as_array().unwrap();
        assert!(!directives.is_empty());
        for directive in directives {
            let namespace = directive["Namespace"].as_str().unwrap();
            assert!((1..=1024).contains(&namespace.chars().count()));
            let sets = directive["Dimensions"].as_array().unwrap();
            assert!(!sets.is_empty());
            for set in sets {
                let set = set.as_array().unwrap();
                assert!(set.len() <= 30);
                for name in set {
                    let name = name.as_str().unwrap();
                    assert!((1..=250).contains(&name.chars().count()));
                    let value = object[name].as_str().expect("a dimension's target is a string at the root");
                    assert!((1..=1024).contains(&value.chars().count()) && value.is_ascii());
                }
            }
            let metrics = directive["Metrics"].as_array().unwrap();
            assert!((1..=100).contains(&metrics.len()));
            for metric in metrics {
                let name = metric["Name"].as_str().unwrap();
                assert!((1..=1024).contains(&name.chars().count()));
                assert!(["Seconds", "Bytes", "Count"].contains(&metric["Unit"].as_str().unwrap()));
                match &object[name] {
                    Value::Number(_) => {}
                    Value::Array(values) => {
                        assert!((1..=100).contains(&values.len()));
                        assert!(values.iter().all(Value::is_number));
                    }
                    other => panic!("{name} is {other}"),
                }
            }
        }
    }

    #[test]
    fn every_metric_with_every_combination_is_valid_against_the_schema() {
        let mut values = Vec::new();
        for (index, definition) in METRICS.iter().enumerate() {
            for labels in 0..definition.combinations() {
                let series =
                    Series { metric: u8::try_from(index).unwrap(), labels: u16::try_from(labels).unwrap() };
                values.push((series, vec![0.25; 100]));
            }
        }
        let lines = String::from_utf8(lines(Function::Api, "1.2.3", 1_700_000_000_000, values)).unwrap();
        assert!(lines.lines().count() > 50 && lines.ends_with('\n'));
        lines.lines().for_each(check);
    }

    #[test]
    fn one_object_carries_what_has_the_same_dimensions() {
        let meter = Meter::new(None);
        let _ = meter.record(metric::FAAS_COLDSTARTS.series(()), 1.0);
        for value in [0.5, 0.25] {
            let _ = meter.record(metric::FAAS_INVOKE_DURATION.series(()), value);
        }
        let series =
            metric::HTTP_SERVER_REQUEST_DURATION.series((RouteGroup::Catalogue, StatusClass::Success));
        let _ = meter.record(series, 0.25);
        let lines = lines(Function::Api, "1.2.3", 1_700_000_000_000, meter.take_embedded());
        let lines = String::from_utf8(lines).unwrap();
        let objects: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(
            objects,
            [
                json!({
                    "_aws": {"Timestamp": 1_700_000_000_000_i64, "CloudWatchMetrics": [{
                        "Namespace": "callboard",
                        "Dimensions": [["callboard.http.route_group", "callboard.http.status_class"]],
                        "Metrics": [{"Name": "http.server.request.duration", "Unit": "Seconds"}],
                    }]},
                    "service": "callboard", "function": "api", "version": "1.2.3",
                    "callboard.http.route_group": "catalogue", "callboard.http.status_class": "2xx",
                    "http.server.request.duration": 0.25,
                }),
                json!({
                    "_aws": {"Timestamp": 1_700_000_000_000_i64, "CloudWatchMetrics": [{
                        "Namespace": "callboard",
                        "Dimensions": [["function"]],
                        "Metrics": [
                            {"Name": "faas.invoke_duration", "Unit": "Seconds"},
                            {"Name": "faas.coldstarts", "Unit": "Count"},
                        ],
                    }]},
                    "service": "callboard", "function": "api", "version": "1.2.3",
                    "faas.invoke_duration": [0.5, 0.25], "faas.coldstarts": 1,
                }),
            ]
        );
    }
}
