//! What the real template says, and that its numbers fit one another.

use super::*;

struct Local;

impl Values for Local {
    fn parameter(&self, name: &str) -> Option<String> {
        let value = match name {
            "DatabaseHost" | "DatabaseDirectHost" => "127.0.0.1",
            "OidcIssuer" => "http://127.0.0.1:9",
            "ContactUrl" => "https://example.org/contact",
            _ => return None,
        };
        Some(value.to_owned())
    }

    fn attribute(&self, resource: &str, attribute: &str) -> Option<String> {
        Some(format!("{resource}#{attribute}"))
    }
}

fn real() -> (Template, Application) {
    let template = Template::read(&repository()).unwrap();
    let application = template.application(&Local).unwrap();
    (template, application)
}

fn function<'a>(application: &'a Application, name: &str) -> &'a FunctionSpec {
    application.functions.iter().find(|function| function.name == name).unwrap()
}

#[test]
fn the_four_functions_and_three_queues_are_declared() {
    let (_, application) = real();
    let names: Vec<_> = application.functions.iter().map(|function| function.name.as_str()).collect();
    assert_eq!(names, ["api", "dispatch", "worker", "migrate"]);
    let queues: Vec<_> = application.queues.iter().map(|queue| queue.logical_id.as_str()).collect();
    assert_eq!(queues, ["WakeQueue", "JobsQueue", "DeadLetterQueue"]);
}

#[test]
fn the_functions_have_the_budgets_of_the_design() {
    let (_, application) = real();
    let budget = |name| {
        let function = function(&application, name);
        (function.timeout.as_secs(), function.memory_mb)
    };
    assert_eq!(budget("api"), (10, 256));
    assert_eq!(budget("dispatch").0, 30);
    assert_eq!(budget("worker").0, 60);
    assert_eq!(budget("migrate").0, 900);
    assert_eq!(
        function(&application, "dispatch").schedules,
        [ScheduleSpec { every: Duration::from_secs(60), input: r#"{"sweep":true}"#.into() }]
    );
}

#[test]
fn visibility_is_at_least_six_timeouts_and_the_longest_window() {
    let (template, application) = real();
    let longest_window =
        template.parameter_member("WorkerBatchingWindowSeconds", "MaxValue").and_then(Value::as_u64).unwrap();
    let mut seen = 0;
    for function in &application.functions {
        for source in &function.sources {
            let queue = application.queues.iter().find(|queue| queue.logical_id == source.queue).unwrap();
            let window = if function.name == "worker" { longest_window } else { source.window.as_secs() };
            assert!(
                queue.visibility.as_secs() >= 6 * function.timeout.as_secs() + window,
                "{}: {:?}",
                queue.logical_id,
                queue.visibility
            );
            assert!(source.reports_failures, "{}", queue.logical_id);
            assert_eq!((source.batch_size, source.window), (10, Duration::ZERO), "{}", queue.logical_id);
            seen += 1;
        }
    }
    assert_eq!(seen, 2);
}

#[test]
fn a_message_is_received_at_least_five_times_before_it_is_dead() {
    let (_, application) = real();
    for name in ["WakeQueue", "JobsQueue"] {
        let queue = application.queues.iter().find(|queue| queue.logical_id == name).unwrap();
        let (target, receives) = queue.redrive.clone().unwrap();
        assert_eq!(target, "DeadLetterQueue");
        assert!(receives >= 5, "{name}: {receives}");
    }
}

#[test]
fn concurrency_follows_from_the_size_of_the_database_unless_a_parameter_says_otherwise() {
    struct Sized(&'static str, Option<&'static str>);
    impl Values for Sized {
        fn parameter(&self, name: &str) -> Option<String> {
            match name {
                "DatabaseSize" => Some(self.0.to_owned()),
                "WorkerConcurrency" => self.1.map(str::to_owned),
                other => Local.parameter(other),
            }
        }
        fn attribute(&self, resource: &str, attribute: &str) -> Option<String> {
            Local.attribute(resource, attribute)
        }
    }
    let of = |values: &Sized| {
        let application = real().0.application(values).unwrap();
        let fed = |name| function(&application, name).sources[0].concurrency.unwrap();
        (function(&application, "api").reserved_concurrency.unwrap(), fed("dispatch"), fed("worker"))
    };
    assert_eq!(of(&Sized("db.t4g.small", None)), (20, 2, 10));
    assert_eq!(of(&Sized("db.t4g.micro", None)), (12, 2, 8));
    assert_eq!(of(&Sized("db.t4g.micro", Some("3"))), (12, 2, 3));
    let unknown = real().0.application(&Sized("db.none", None)).unwrap_err().to_string();
    assert!(unknown.contains("the mapping has no \"db.none\""), "{unknown}");
}

#[test]
fn without_an_endpoint_no_otlp_variable_is_set() {
    struct WithEndpoint;
    impl Values for WithEndpoint {
        fn parameter(&self, name: &str) -> Option<String> {
            if name == "OtlpEndpoint" { Some("http://127.0.0.1:4318".into()) } else { Local.parameter(name) }
        }
        fn attribute(&self, resource: &str, attribute: &str) -> Option<String> {
            Local.attribute(resource, attribute)
        }
    }
    let (template, application) = real();
    for function in &application.functions {
        assert!(!function.environment.contains_key("OTEL_EXPORTER_OTLP_ENDPOINT"), "{}", function.name);
    }
    for function in template.application(&WithEndpoint).unwrap().functions {
        assert_eq!(function.environment["OTEL_EXPORTER_OTLP_ENDPOINT"], "http://127.0.0.1:4318");
    }
}

#[test]
fn only_migrate_knows_the_owner_of_the_schema() {
    let (_, application) = real();
    for function in &application.functions {
        let knows = function.environment.values().any(|value| value.contains("callboard_owner"));
        assert_eq!(knows, function.name == "migrate", "{}", function.name);
    }
}

#[test]
fn the_version_of_postgresql_is_declared_and_is_the_one_of_the_local_binaries() {
    let (template, _) = real();
    let major = template.postgres_version().unwrap();
    assert!(local_postgres::binaries::NPM_VERSION.starts_with(&format!("{major}.")));
}

#[test]
fn a_parameter_without_a_value_is_named() {
    struct Nothing;
    impl Values for Nothing {
        fn parameter(&self, _: &str) -> Option<String> {
            None
        }
        fn attribute(&self, resource: &str, attribute: &str) -> Option<String> {
            Local.attribute(resource, attribute)
        }
    }
    let error = real().0.application(&Nothing).unwrap_err().to_string();
    assert!(error.contains("the parameter OidcIssuer has no value"), "{error}");
}

#[test]
fn rates_are_read_and_anything_else_is_refused() {
    let cases = [
        ("rate(1 minute)", Some(60)),
        ("rate(5 minutes)", Some(300)),
        ("rate(2 hours)", Some(7_200)),
        ("rate(1 day)", Some(86_400)),
        ("rate(0 minutes)", None),
        ("rate(1 fortnight)", None),
        ("cron(0 * * * ? *)", None),
    ];
    for (expression, seconds) in cases {
        assert_eq!(rate(expression), seconds.map(Duration::from_secs), "{expression}");
    }
}
