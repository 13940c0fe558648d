//! Puts everything together and takes it apart again.

use crate::artefacts;
use crate::client::{self, Call};
use crate::database::{self, Database};
use crate::gateway;
use crate::instance::{DataDir, Instance};
use crate::issuer::{Claims, Issuer, Signer};
use crate::lambda::{self, Function, FunctionConfig, Spawner};
use crate::mapping::{self, Mapping};
use crate::queue::{self, Queues};
use crate::schedule::{self, Schedule};
use crate::serve::{self, Server};
use crate::site::Site;
use crate::template::{self, Application, FunctionSpec, Template, Values};
use anyhow::{Context as _, bail};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// The functions that have an environment from the start.
const WARM: [&str; 3] = ["api", "dispatch", "worker"];
/// The function that needs no functions' role: it makes it.
const MIGRATE: &str = "migrate";
const READY_LIMIT: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(25);
const LOOK_EVERY_MAX: Duration = Duration::from_secs(1);

/// How to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the database, logs and keys live.
    pub data_dir: PathBuf,
    /// Of the API; 0 takes a free one.
    pub port: u16,
    /// Start from an empty database.
    pub fresh: bool,
    /// Put pgbouncer in transaction mode between the functions and the database.
    pub pooler: bool,
    /// `OTEL_EXPORTER_OTLP_ENDPOINT` of every function.
    pub otlp: Option<String>,
    /// Addresses that the fetcher may reach although they are private.
    pub allow_fetch: Vec<SocketAddr>,
    /// Serve the bundled site.
    pub site: bool,
    /// Invocations of the worker at once; the template's number if absent.
    pub worker_concurrency: Option<u32>,
    /// Variables of single functions: function, name, value.
    pub environment: Vec<(String, String, String)>,
}

/// Everything, running.
#[derive(Debug)]
pub struct Runner {
    data: Arc<DataDir>,
    instance: Instance,
    database: Database,
    site: Option<Site>,
    functions: Vec<Function>,
    feeding: Vec<Mapping>,
    schedules: Vec<Schedule>,
    servers: Vec<Server>,
    publisher: JoinHandle<()>,
    // Kept for their endpoints.
    _queues: Arc<Queues>,
    _issuer: Issuer,
}

impl Runner {
    /// Starts everything and waits until the API answers. `progress` is told, in plain words, what takes time.
    ///
    /// # Errors
    /// Each says what to do. Nothing keeps running then.
    pub async fn start(options: &Options, progress: &dyn Fn(&str)) -> anyhow::Result<Self> {
        let data = Arc::new(DataDir::acquire(&options.data_dir)?);
        let listener = listen(options.port).await?;
        let api_url = format!("http://{}", listener.local_addr()?);
        let repository = template::repository();
        let template = Template::read(&repository)?;
        let names = function_names(&template)?;
        check_environment_names(options, &names)?;
        progress("building the functions");
        let binaries =
            artefacts::find(&repository, &names.iter().map(String::as_str).collect::<Vec<_>>()).await?;
        progress(if database::given_url().is_some() {
            "migrating the database that DATABASE_URL names"
        } else {
            "starting PostgreSQL"
        });
        let database = Database::open(data.path(), options.fresh, options.pooler).await?;
        if !database.report.applied.is_empty() {
            progress(&format!("applied {} migrations", database.report.applied.len()));
        }
        let issuer = Issuer::start(data.path()).await?;
        let queues = Arc::new(Queues::start(&placeholder(&template)?.queues).await?);
        let site = if options.site { Some(Site::start(&repository, data.path()).await?) } else { None };
        let values = LocalValues {
            access: &database.access,
            issuer: issuer.url(),
            contact: api_url.clone(),
            owner_url: database.owner_url(),
            otlp: options.otlp.as_deref(),
            worker_concurrency: options.worker_concurrency,
            queues: Some(&queues),
        };
        let application = template.application(&values)?;
        let spawner = Spawner::start()?;
        let changed = Arc::new(Notify::new());
        let extra = ExtraEnvironment {
            access: &database.access,
            owner_url: database.owner_url(),
            sqs_endpoint: queues.endpoint(),
            site: site.as_ref().map(Site::address).into_iter().collect(),
            options,
        };
        let functions: Vec<Function> = application
            .functions
            .iter()
            .map(|spec| {
                let config = extra.config(spec, &binaries, data.log(&spec.name));
                Function::new(config, spawner.clone(), Arc::clone(&changed))
            })
            .collect();
        save_claims(data.path(), &issuer, &functions)?;
        progress("starting the functions");
        for function in functions.iter().filter(|function| WARM.contains(&function.name())) {
            function.warm().await.with_context(|| format!("cannot start {}", function.name()))?;
        }
        let api = find(&functions, "api")?;
        let servers = vec![
            Server::on(listener, gateway::router(api.clone()))?,
            Server::start(serve::LOOPBACK, 0, lambda::endpoint(functions.clone())).await?,
        ];
        let instance = Instance {
            api: api_url,
            issuer: issuer.url(),
            database_url: database.owner_url().to_owned(),
            pooler_url: database.pooler_url(),
            sqs_endpoint: queues.endpoint(),
            queues: queue::NAMES.iter().map(|(name, id)| ((*name).into(), queues.url(id))).collect(),
            site: site.as_ref().map(Site::url),
            logs: data.path().join("logs"),
            functions: BTreeMap::new(),
            lambda_endpoint: servers[1].url(),
        };
        let mut runner = Self {
            publisher: tokio::spawn(async {}),
            data,
            instance,
            database,
            site,
            functions,
            feeding: Vec::new(),
            schedules: Vec::new(),
            servers,
            _queues: Arc::clone(&queues),
            _issuer: issuer,
        };
        if let Err(error) = runner.is_ready().await {
            runner.stop().await;
            return Err(error);
        }
        runner.feed(&application, &queues)?;
        runner.instance.functions = pids(&runner.functions);
        runner.data.publish(&runner.instance)?;
        runner.publisher = publish_changes(&runner, changed);
        Ok(runner)
    }

    /// What `local.json` says.
    #[must_use]
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// The bundled site, if it is served.
    #[must_use]
    pub fn site(&self) -> Option<&Site> {
        self.site.as_ref()
    }

    /// The data directory.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        self.data.path()
    }

    /// Starts the event source mappings and schedules.
    fn feed(&mut self, application: &Application, queues: &Arc<Queues>) -> anyhow::Result<()> {
        for spec in &application.functions {
            let function = find(&self.functions, &spec.name)?;
            for source in &spec.sources {
                self.feeding.push(mapping::start(Arc::clone(queues), source.clone(), function.clone()));
            }
            for schedule in &spec.schedules {
                self.schedules.push(schedule::start(schedule.clone(), function.clone()));
            }
        }
        Ok(())
    }

    async fn is_ready(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_LIMIT;
        let url = format!("{}/healthz", self.instance.api);
        let mut pause = LOOK_EVERY;
        loop {
            let said = match client::send(Call::get(&url).limit(READY_LIMIT)).await {
                Ok(answer) if !answer.status.is_server_error() => return Ok(()),
                Ok(answer) => answer.problem(),
                Err(error) => format!("{error:#}"),
            };
            if Instant::now() >= deadline {
                bail!(
                    "the api function does not answer within {} s ({said}). Its log is {}",
                    READY_LIMIT.as_secs(),
                    self.data.log("api").display()
                );
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK_EVERY_MAX);
        }
    }

    /// Stops everything, in the reverse order, and waits until no process is left.
    pub async fn stop(mut self) {
        self.publisher.abort();
        self.data.withdraw();
        self.schedules.clear();
        self.feeding.clear();
        self.servers.clear();
        for function in &self.functions {
            function.stop().await;
        }
        self.database.close().await;
    }
}

/// Invokes one function once without an instance, on the database that `DATABASE_URL` names.
///
/// # Errors
/// If the function cannot be started. A failure of the function itself is in the answer.
pub async fn invoke_once(
    name: &str,
    payload: Vec<u8>,
) -> anyhow::Result<Result<bytes::Bytes, lambda::InvokeError>> {
    let owner_url = database::given_url().context("DATABASE_URL is not set")?;
    let scratch = tempfile::tempdir()?;
    let repository = template::repository();
    let template = Template::read(&repository)?;
    let binaries = artefacts::find(&repository, &[name]).await?;
    // Before the first migration there is no role that could be checked.
    let access = if name == MIGRATE {
        database::access_beside(&owner_url)?
    } else {
        database::access(&owner_url, scratch.path()).await?
    };
    let issuer = Issuer::start(scratch.path()).await?;
    let queues = Queues::start(&placeholder(&template)?.queues).await?;
    let values = LocalValues {
        access: &access,
        issuer: issuer.url(),
        contact: issuer.url(),
        owner_url: &owner_url,
        otlp: None,
        worker_concurrency: None,
        queues: Some(&queues),
    };
    let application = template.application(&values)?;
    let spec = application.functions.iter().find(|spec| spec.name == name).context("no such function")?;
    let options = Options {
        data_dir: scratch.path().to_owned(),
        port: 0,
        fresh: false,
        pooler: false,
        otlp: None,
        allow_fetch: Vec::new(),
        site: false,
        worker_concurrency: None,
        environment: Vec::new(),
    };
    let extra = ExtraEnvironment {
        access: &access,
        owner_url: &owner_url,
        sqs_endpoint: queues.endpoint(),
        site: Vec::new(),
        options: &options,
    };
    let log = scratch.path().join("function.log");
    let config = extra.config(spec, &binaries, log.clone());
    let function = Function::new(config, Spawner::start()?, Arc::new(Notify::new()));
    let answer = function.invoke(lambda::Invocation::new(payload)).await;
    function.stop().await;
    if let Ok(text) = std::fs::read_to_string(&log) {
        eprint!("{text}");
    }
    Ok(answer)
}

/// The functions' names in the template.
///
/// # Errors
/// If the template cannot be used.
pub fn function_names(template: &Template) -> anyhow::Result<Vec<String>> {
    Ok(placeholder(template)?.functions.into_iter().map(|function| function.name).collect())
}

/// The application with made-up values, for what does not depend on them: names and queues.
fn placeholder(template: &Template) -> anyhow::Result<Application> {
    struct Anything;
    impl Values for Anything {
        fn parameter(&self, name: &str) -> Option<String> {
            // Those without a default.
            matches!(name, "DatabaseHost" | "DatabaseDirectHost" | "OidcIssuer" | "ContactUrl")
                .then(String::new)
        }
        fn attribute(&self, _: &str, _: &str) -> Option<String> {
            Some(String::new())
        }
    }
    Ok(template.application(&Anything)?)
}

async fn listen(port: u16) -> anyhow::Result<TcpListener> {
    TcpListener::bind((serve::LOOPBACK, port)).await.with_context(|| {
        format!("port {port} cannot be listened on: is something else using it? Choose another with --port N, or --port 0 for a free one")
    })
}

fn check_environment_names(options: &Options, names: &[String]) -> anyhow::Result<()> {
    for (function, name, _) in &options.environment {
        if !names.contains(function) {
            bail!("--env {function}.{name}: there is no function {function}; there are {}", names.join(", "));
        }
    }
    Ok(())
}

fn find(functions: &[Function], name: &str) -> anyhow::Result<Function> {
    functions
        .iter()
        .find(|function| function.name() == name)
        .cloned()
        .with_context(|| format!("template.yaml has no function {name}"))
}

fn pids(functions: &[Function]) -> BTreeMap<String, Vec<u32>> {
    functions
        .iter()
        .filter(|function| WARM.contains(&function.name()))
        .map(|function| (function.name().to_owned(), function.pids()))
        .collect()
}

/// What tokens have to say is what the api function is told to expect.
fn save_claims(data_dir: &Path, issuer: &Issuer, functions: &[Function]) -> anyhow::Result<()> {
    let api = find(functions, "api")?;
    let variable = |name: &str| api.config().environment.get(name).cloned().unwrap_or_default();
    let claims = Claims {
        issuer: issuer.url(),
        audience: variable("OIDC_AUDIENCE"),
        roles_claim: variable("OIDC_ROLES_CLAIM"),
    };
    Signer::save_claims(data_dir, &claims)
}

/// Rewrites `local.json` whenever a process starts or ends.
fn publish_changes(runner: &Runner, changed: Arc<Notify>) -> JoinHandle<()> {
    let (data, functions) = (Arc::clone(&runner.data), runner.functions.clone());
    let mut instance = runner.instance.clone();
    tokio::spawn(async move {
        loop {
            changed.notified().await;
            instance.functions = pids(&functions);
            if let Err(error) = data.publish(&instance) {
                tracing::warn!("{error:#}");
            }
        }
    })
}

/// Values of the template's parameters on this machine.
struct LocalValues<'a> {
    access: &'a database::Access,
    issuer: String,
    contact: String,
    owner_url: &'a str,
    otlp: Option<&'a str>,
    worker_concurrency: Option<u32>,
    queues: Option<&'a Queues>,
}

impl Values for LocalValues<'_> {
    fn parameter(&self, name: &str) -> Option<String> {
        Some(match name {
            "DatabaseHost" | "DatabaseDirectHost" => self.access.host.clone(),
            "DatabasePort" => self.access.port.to_string(),
            "DatabaseName" => self.access.name.clone(),
            "DatabaseUser" => database::APP.to_owned(),
            "DatabaseOwner" => {
                let config: tokio_postgres::Config = self.owner_url.parse().ok()?;
                config.get_user()?.to_owned()
            }
            "DatabaseTls" => if self.access.tls { "require" } else { "disable" }.to_owned(),
            "DatabaseIamAuth" => "false".to_owned(),
            "OidcIssuer" => self.issuer.clone(),
            "ContactUrl" => self.contact.clone(),
            "WorkerConcurrency" => self.worker_concurrency?.to_string(),
            "OtlpEndpoint" => self.otlp?.to_owned(),
            _ => return None,
        })
    }

    fn attribute(&self, resource: &str, attribute: &str) -> Option<String> {
        match (attribute, self.queues) {
            ("Arn", _) => Some(queue::arn(resource)),
            // Migrate's answer, which makes AWS publish versions; here there are none.
            ("Configuration", _) => Some("local".to_owned()),
            ("QueueName", _) => Some(resource.to_owned()),
            ("Ref", Some(queues)) => Some(queues.url(resource)),
            _ => None,
        }
    }
}

/// What functions are told beside the template: where the stand-ins are.
struct ExtraEnvironment<'a> {
    access: &'a database::Access,
    owner_url: &'a str,
    sqs_endpoint: String,
    site: Vec<SocketAddr>,
    options: &'a Options,
}

impl ExtraEnvironment<'_> {
    fn config(
        &self,
        spec: &FunctionSpec,
        binaries: &BTreeMap<String, PathBuf>,
        log: PathBuf,
    ) -> FunctionConfig {
        let mut environment = spec.environment.clone();
        let mut put = |name: &str, value: String| environment.insert(name.to_owned(), value);
        put("AWS_ENDPOINT_URL_SQS", self.sqs_endpoint.clone());
        if spec.environment.contains_key("MIGRATE_DATABASE_URL") {
            // The owner's own string: it may have a password.
            put("MIGRATE_DATABASE_URL", self.owner_url.to_owned());
        } else if let Some(url) = &self.access.url {
            put("DATABASE_URL", url.clone());
        }
        if spec.environment.contains_key("CONTACT_URL") {
            // Only who fetches has one.
            put("CALLBOARD_ALLOW_FETCH", joined(&self.options.allow_fetch));
            put("CALLBOARD_SITE", joined(&self.site));
        }
        for (_, name, value) in
            self.options.environment.iter().filter(|(function, ..)| *function == spec.name)
        {
            put(name, value.clone());
        }
        let fed: usize = spec.sources.iter().map(|source| source.concurrency.unwrap_or(1)).sum();
        // Beside what feeds it, one for each schedule and one for an invocation by hand.
        let needed = fed + spec.schedules.len() + 1;
        FunctionConfig {
            name: spec.name.clone(),
            logical_id: spec.logical_id.clone(),
            binary: binaries.get(&spec.name).cloned().unwrap_or_default(),
            environment,
            timeout: spec.timeout,
            memory_mb: spec.memory_mb,
            limit: spec.reserved_concurrency.map_or(needed, |reserved| reserved as usize),
            log,
        }
    }
}

fn joined(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
