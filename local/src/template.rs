//! Reads `template.yaml`: what there is to run, with which budgets and which environment.
//!
//! Start at [`Template::read`], then [`Template::application`] with values for the parameters. Only what the template
//! of this repository uses is understood; anything else is an error, never a guess.

mod evaluate;

pub use evaluate::{ACCOUNT, REGION, STACK};

use evaluate::Evaluator;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why the template cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}. Run callboard inside its repository")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not YAML.
    #[error("{path} is not valid YAML: {message}")]
    Syntax {
        /// The file.
        path: String,
        /// What the reader said, with its line.
        message: String,
    },
    /// Something in it is missing, of the wrong type, or not understood here.
    #[error("template.yaml: {at}: {problem}")]
    Content {
        /// Where: `Api.Timeout`.
        at: String,
        /// What is wrong.
        problem: String,
    },
}

impl TemplateError {
    fn at(at: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Content { at: at.into(), problem: problem.into() }
    }
}

/// The template as it is written.
#[derive(Debug, Clone)]
pub struct Template {
    document: Value,
}

/// What the template makes, with every value worked out.
#[derive(Debug, Clone, PartialEq)]
pub struct Application {
    /// In the order of the file.
    pub functions: Vec<FunctionSpec>,
    /// In the order of the file.
    pub queues: Vec<QueueSpec>,
}

/// One function.
#[derive(Debug, Clone, PartialEq)]
pub struct FunctionSpec {
    /// Its name in the template, such as `Api`.
    pub logical_id: String,
    /// Its binary, which is its name on the command line and in logs, such as `api`.
    pub name: String,
    /// After this long an invocation is ended.
    pub timeout: Duration,
    /// Told to the function; not enforced.
    pub memory_mb: u32,
    /// At most this many environments, where the template says so.
    pub reserved_concurrency: Option<u32>,
    /// The function's own variables.
    pub environment: BTreeMap<String, String>,
    /// Queues that it is fed from.
    pub sources: Vec<SourceSpec>,
    /// Schedules that invoke it.
    pub schedules: Vec<ScheduleSpec>,
}

/// One event source mapping.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceSpec {
    /// The queue's name in the template.
    pub queue: String,
    /// Messages an invocation, at most.
    pub batch_size: usize,
    /// How long a batch is gathered before it is handed over.
    pub window: Duration,
    /// Invocations at once, at most.
    pub concurrency: Option<usize>,
    /// The function answers which messages failed (`ReportBatchItemFailures`).
    pub reports_failures: bool,
}

/// One schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleSpec {
    /// The time between two invocations.
    pub every: Duration,
    /// The event, as it is.
    pub input: String,
}

/// One queue.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueSpec {
    /// Its name in the template, and locally its name.
    pub logical_id: String,
    /// How long a received message stays hidden.
    pub visibility: Duration,
    /// How long a message is kept.
    pub retention: Duration,
    /// The dead-letter queue and the receives before a message goes there.
    pub redrive: Option<(String, u32)>,
}

/// Values for parameters, and what a `Ref` or `Fn::GetAtt` of a resource gives.
pub trait Values {
    /// The value of a parameter that the template has; `None` takes its default.
    fn parameter(&self, name: &str) -> Option<String>;
    /// `attribute` of the resource; `"Ref"` for a `Ref`.
    fn attribute(&self, resource: &str, attribute: &str) -> Option<String>;
}

impl Template {
    /// Reads `template.yaml` in `directory`.
    ///
    /// # Errors
    /// [`TemplateError::Read`], [`TemplateError::Syntax`].
    pub fn read(directory: &Path) -> Result<Self, TemplateError> {
        let path = directory.join("template.yaml");
        let text = std::fs::read_to_string(&path)
            .map_err(|source| TemplateError::Read { path: path.display().to_string(), source })?;
        Self::parse(&text).map_err(|error| match error {
            TemplateError::Syntax { message, .. } => {
                TemplateError::Syntax { path: path.display().to_string(), message }
            }
            other => other,
        })
    }

    /// Reads the template from its text.
    ///
    /// # Errors
    /// [`TemplateError::Syntax`].
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let document = serde_yaml_ng::from_str(text).map_err(|error| TemplateError::Syntax {
            path: "template.yaml".into(),
            message: error.to_string(),
        })?;
        Ok(Self { document })
    }

    /// The production version of PostgreSQL that the template declares.
    ///
    /// # Errors
    /// [`TemplateError::Content`] if it declares none.
    pub fn postgres_version(&self) -> Result<u32, TemplateError> {
        self.document["Metadata"]["PostgresVersion"]
            .as_str()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| TemplateError::at("Metadata.PostgresVersion", "a quoted major version is needed"))
    }

    /// One member of a parameter's declaration, such as `MaxValue`.
    #[must_use]
    pub fn parameter_member(&self, parameter: &str, member: &str) -> Option<&Value> {
        self.document["Parameters"][parameter].get(member)
    }

    /// Works out every value.
    ///
    /// # Errors
    /// [`TemplateError::Content`], naming the place.
    pub fn application(&self, values: &dyn Values) -> Result<Application, TemplateError> {
        let evaluator = Evaluator::new(&self.document, values);
        let globals = &self.document["Globals"]["Function"];
        let resources = self.document["Resources"]
            .as_object()
            .ok_or_else(|| TemplateError::at("Resources", "there are none"))?;
        let (mut functions, mut queues) = (Vec::new(), Vec::new());
        for (logical_id, resource) in resources {
            let properties = &resource["Properties"];
            match resource["Type"].as_str() {
                Some("AWS::Serverless::Function") => {
                    functions.push(function(&evaluator, logical_id, resource, globals)?);
                }
                Some("AWS::SQS::Queue") => queues.push(queue(&evaluator, logical_id, properties)?),
                _ => {}
            }
        }
        Ok(Application { functions, queues })
    }
}

/// The repository's root: the nearest directory at or above the current one that has `template.yaml`, else the one that
/// this program was built from.
#[must_use]
pub fn repository() -> PathBuf {
    let built_from = Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_owned);
    let Ok(here) = std::env::current_dir() else { return built_from };
    here.ancestors()
        .find(|directory| directory.join("template.yaml").is_file() && directory.join("local").is_dir())
        .map_or(built_from, Path::to_owned)
}

fn function(
    evaluator: &Evaluator<'_>,
    logical_id: &str,
    resource: &Value,
    globals: &Value,
) -> Result<FunctionSpec, TemplateError> {
    let properties = &resource["Properties"];
    let read = |member: &'static str| Reader { evaluator, logical_id, properties, globals, member };
    let name = resource["Metadata"]["BuildProperties"]["Binary"].as_str().ok_or_else(|| {
        TemplateError::at(format!("{logical_id}.Metadata"), "BuildProperties.Binary is missing")
    })?;
    let mut environment = BTreeMap::new();
    for source in [globals, properties] {
        let Some(variables) = source["Environment"]["Variables"].as_object() else { continue };
        for (variable, value) in variables {
            match evaluator.text(value, &format!("{logical_id}.Environment.{variable}"))? {
                Some(value) => environment.insert(variable.clone(), value),
                None => environment.remove(variable),
            };
        }
    }
    let (mut sources, mut schedules) = (Vec::new(), Vec::new());
    for (event_id, event) in properties["Events"].as_object().unwrap_or(&Map::new()) {
        let at = format!("{logical_id}.Events.{event_id}");
        match event["Type"].as_str() {
            Some("SQS") => sources.push(source(evaluator, &at, &event["Properties"])?),
            Some("Schedule" | "ScheduleV2") => {
                schedules.push(schedule(evaluator, &at, &event["Properties"])?)
            }
            other => {
                return Err(TemplateError::at(at, format!("an event of type {other:?} is not known here")));
            }
        }
    }
    Ok(FunctionSpec {
        logical_id: logical_id.to_owned(),
        name: name.to_owned(),
        timeout: Duration::from_secs(read("Timeout").number()?.unwrap_or(3)),
        memory_mb: narrow(read("MemorySize").number()?.unwrap_or(128)),
        reserved_concurrency: read("ReservedConcurrentExecutions").number()?.map(narrow),
        environment,
        sources,
        schedules,
    })
}

fn source(evaluator: &Evaluator<'_>, at: &str, properties: &Value) -> Result<SourceSpec, TemplateError> {
    let queue = match (&properties["Queue"]["Fn::GetAtt"], properties["Queue"]["Fn::GetAtt"][0].as_str()) {
        (Value::Array(_), Some(queue)) => queue.to_owned(),
        (Value::String(text), _) => text.split('.').next().unwrap_or_default().to_owned(),
        _ => return Err(TemplateError::at(format!("{at}.Queue"), "Fn::GetAtt of a queue is expected")),
    };
    let number = |member: &str| evaluator.number(&properties[member], &format!("{at}.{member}"));
    let types = properties["FunctionResponseTypes"].as_array();
    Ok(SourceSpec {
        queue,
        // AWS's defaults, where the template is silent.
        batch_size: number("BatchSize")?.map_or(10, wide),
        window: Duration::from_secs(number("MaximumBatchingWindowInSeconds")?.unwrap_or(0)),
        concurrency: evaluator
            .number(&properties["ScalingConfig"]["MaximumConcurrency"], &format!("{at}.MaximumConcurrency"))?
            .map(wide),
        reports_failures: types.is_some_and(|types| types.iter().any(|t| t == "ReportBatchItemFailures")),
    })
}

fn schedule(evaluator: &Evaluator<'_>, at: &str, properties: &Value) -> Result<ScheduleSpec, TemplateError> {
    let text = |member: &str| {
        evaluator
            .text(&properties[member], &format!("{at}.{member}"))?
            .ok_or_else(|| TemplateError::at(format!("{at}.{member}"), "is missing"))
    };
    let expression = match (properties.get("ScheduleExpression"), properties.get("Schedule")) {
        (Some(_), _) => text("ScheduleExpression")?,
        (None, _) => text("Schedule")?,
    };
    let every = rate(&expression)
        .ok_or_else(|| TemplateError::at(at, format!("{expression:?}: only rate(N unit) is known here")))?;
    Ok(ScheduleSpec { every, input: text("Input")? })
}

/// `rate(1 minute)`, `rate(5 minutes)`, hours and days (EventBridge Scheduler, "Schedule types").
fn rate(expression: &str) -> Option<Duration> {
    let inner = expression.strip_prefix("rate(")?.strip_suffix(')')?;
    let (count, unit) = inner.split_once(' ')?;
    let count: u64 = count.parse().ok().filter(|count| *count > 0)?;
    let seconds = match unit.trim_end_matches('s') {
        "minute" => 60,
        "hour" => 3_600,
        "day" => 86_400,
        _ => return None,
    };
    Some(Duration::from_secs(count.checked_mul(seconds)?))
}

fn queue(
    evaluator: &Evaluator<'_>,
    logical_id: &str,
    properties: &Value,
) -> Result<QueueSpec, TemplateError> {
    let number = |value: &Value, member: &str| evaluator.number(value, &format!("{logical_id}.{member}"));
    let redrive = &properties["RedrivePolicy"];
    let redrive = if redrive.is_null() {
        None
    } else {
        let target = redrive["deadLetterTargetArn"]["Fn::GetAtt"][0].as_str().ok_or_else(|| {
            TemplateError::at(format!("{logical_id}.RedrivePolicy"), "Fn::GetAtt of a queue is expected")
        })?;
        let receives =
            number(&redrive["maxReceiveCount"], "RedrivePolicy.maxReceiveCount")?.ok_or_else(|| {
                TemplateError::at(format!("{logical_id}.RedrivePolicy"), "maxReceiveCount is missing")
            })?;
        Some((target.to_owned(), narrow(receives)))
    };
    Ok(QueueSpec {
        logical_id: logical_id.to_owned(),
        // SQS's own defaults, where the template is silent.
        visibility: Duration::from_secs(
            number(&properties["VisibilityTimeout"], "VisibilityTimeout")?.unwrap_or(30),
        ),
        retention: Duration::from_secs(
            number(&properties["MessageRetentionPeriod"], "MessageRetentionPeriod")?.unwrap_or(345_600),
        ),
        redrive,
    })
}

/// One property of a function, from its own declaration or the globals.
struct Reader<'a> {
    evaluator: &'a Evaluator<'a>,
    logical_id: &'a str,
    properties: &'a Value,
    globals: &'a Value,
    member: &'static str,
}

impl Reader<'_> {
    fn number(&self) -> Result<Option<u64>, TemplateError> {
        let own = self.properties.get(self.member).or_else(|| self.globals.get(self.member));
        own.map_or(Ok(None), |value| {
            self.evaluator.number(value, &format!("{}.{}", self.logical_id, self.member))
        })
    }
}

fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn wide(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
