//! The command line. `callboard --help` lists the commands; the contract is kept stable for tests and scripts.

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use local::commands::{demo, extract, fetch_check, invoke, migrate, module, token, up, url};
use local::runner::Options;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// callboard on this machine: the real function binaries, with everything that AWS would put round them.
#[derive(Debug, Parser)]
#[command(name = "callboard", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The main job on real input, from nothing: discover, fetch, extract, publish, search
    Demo {
        /// Leave it running at the end
        #[arg(long)]
        keep: bool,
        /// Where the database lives; a temporary directory by default
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
    /// Run everything in the foreground until Ctrl-C
    Up(UpArgs),
    /// Print a JWT of the running local issuer
    Token {
        /// What its holder may do
        #[arg(long, value_enum)]
        role: token::Role,
        /// Who its holder is
        #[arg(long, default_value = "local-user")]
        subject: String,
        /// Seconds until it expires
        #[arg(long, default_value_t = 3600, value_name = "SECONDS")]
        ttl: u64,
        #[command(flatten)]
        data: DataArg,
    },
    /// Manage machine identities
    #[command(subcommand)]
    Module(ModuleCommand),
    /// Invoke a function once with a raw Lambda event
    Invoke {
        /// api, dispatch, worker or migrate
        function: String,
        /// The event, a JSON file, or - for standard input; {} by default
        #[arg(long, value_name = "FILE")]
        event: Option<PathBuf>,
        #[command(flatten)]
        data: DataArg,
    },
    /// Print what the worker would read from a page
    Extract {
        #[command(flatten)]
        options: extract::Options,
        #[command(flatten)]
        data: DataArg,
    },
    /// Read URLs from standard input and print their normal form
    Url,
    /// Read URLs from standard input and print whether the fetcher would go there
    FetchCheck {
        /// Answers names in place of DNS: JSON, host to list of addresses, or to a list of such lists
        #[arg(long, value_name = "FILE")]
        resolver: Option<PathBuf>,
    },
    /// Score pairs of postings for being the same
    #[command(disable_help_flag = true)]
    Dedupe {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
        _arguments: Vec<String>,
    },
    /// Apply the migrations to a database
    Migrate {
        /// The database, as the owner; DATABASE_URL or the running instance by default
        #[arg(long, value_name = "URL")]
        database_url: Option<String>,
        /// Other migrations than this release's
        #[arg(long, value_name = "DIR")]
        migrations: Option<PathBuf>,
        #[command(flatten)]
        data: DataArg,
    },
    /// Judge migrations as CI does
    #[command(disable_help_flag = true)]
    Gate {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
        _arguments: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
enum ModuleCommand {
    /// Make a module and a key for it
    Create {
        /// Its id
        name: String,
        /// What it may do; repeat for more
        #[arg(long = "scope", required = true, num_args = 1.., value_name = "SCOPE")]
        scopes: Vec<String>,
        /// untrusted by default
        #[arg(long, value_name = "LEVEL")]
        trust: Option<String>,
        #[command(flatten)]
        data: DataArg,
    },
}

/// Which instance is meant.
#[derive(Debug, Args)]
struct DataArg {
    /// The data directory of the instance
    #[arg(long = "data", value_name = "DIR", env = "CALLBOARD_DATA", default_value = ".callboard")]
    directory: PathBuf,
}

#[derive(Debug, Args)]
struct UpArgs {
    /// Port of the API; 0 takes a free one
    #[arg(long, default_value_t = 8080)]
    port: u16,
    #[command(flatten)]
    data: DataArg,
    /// Start from an empty database
    #[arg(long)]
    fresh: bool,
    /// Put pgbouncer in transaction mode between the functions and the database
    #[arg(long)]
    pooler: bool,
    /// OTLP endpoint of every function
    #[arg(long, value_name = "URL")]
    otlp: Option<String>,
    /// An address that the fetcher may reach although it is private; may be repeated
    #[arg(long, value_name = "HOST:PORT", value_parser = loopback)]
    allow_fetch: Vec<SocketAddr>,
    /// Do not serve the bundled site
    #[arg(long)]
    no_site: bool,
    /// Invocations of the worker at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    worker_concurrency: Option<u32>,
    /// A variable of one function; may be repeated
    #[arg(long = "env", value_name = "FUNCTION.NAME=VALUE", value_parser = variable)]
    environment: Vec<(String, String, String)>,
}

impl UpArgs {
    fn options(self) -> Options {
        Options {
            data_dir: self.data.directory,
            port: self.port,
            fresh: self.fresh,
            pooler: self.pooler,
            otlp: self.otlp,
            allow_fetch: self.allow_fetch,
            site: !self.no_site,
            worker_concurrency: self.worker_concurrency,
            environment: self.environment,
        }
    }
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text
        .replace("localhost", "127.0.0.1")
        .parse()
        .map_err(|_| "an address and a port are expected, such as 127.0.0.5:4000".to_owned())?;
    Ok(address)
}

fn variable(text: &str) -> Result<(String, String, String), String> {
    let expected = || "FUNCTION.NAME=VALUE is expected, such as worker.RUST_LOG=debug".to_owned();
    let (name, value) = text.split_once('=').ok_or_else(expected)?;
    let (function, name) = name.split_once('.').ok_or_else(expected)?;
    if function.is_empty() || name.is_empty() {
        return Err(expected());
    }
    Ok((function.to_owned(), name.to_owned(), value.to_owned()))
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    say_what_goes_wrong();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(cli.command)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Demo { keep, data } => return demo::run(keep, data).await,
        Command::Up(args) => up::run(&args.options()).await?,
        Command::Token { role, subject, ttl, data } => {
            println!("{}", token::mint(&data.directory, role, &subject, Duration::from_secs(ttl))?);
        }
        Command::Module(ModuleCommand::Create { name, scopes, trust, data }) => {
            let identity = module::create(&data.directory, &name, &scopes, trust.as_deref()).await?;
            println!("{}", serde_json::to_string(&identity)?);
        }
        Command::Invoke { function, event, data } => {
            let succeeded = invoke::run(&data.directory, &function, event.as_deref()).await?;
            return Ok(if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Extract { options, data } => extract::run(&options, &data.directory).await?,
        Command::Url => {
            let stdin = std::io::stdin().lock();
            url::run(stdin, std::io::stdout().lock()).context("cannot read or write")?;
        }
        Command::FetchCheck { resolver } => fetch_check::run(resolver.as_deref()).await?,
        Command::Migrate { database_url, migrations, data } => {
            migrate::run(&data.directory, database_url, migrations.as_deref()).await?;
        }
        Command::Dedupe { .. } => return Ok(not_part_of_this_release("dedupe")),
        Command::Gate { .. } => return Ok(not_part_of_this_release("gate")),
    }
    Ok(ExitCode::SUCCESS)
}

fn not_part_of_this_release(command: &str) -> ExitCode {
    eprintln!("callboard {command} is not part of this release yet");
    ExitCode::from(2)
}

/// Warnings of the runner itself, on standard error, a line each.
fn say_what_goes_wrong() {
    use tracing_subscriber::Layer as _;
    use tracing_subscriber::filter::{LevelFilter, Targets};
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::util::SubscriberInitExt as _;
    let wanted = std::env::var("CALLBOARD_LOG").ok().and_then(|filter| filter.parse::<Targets>().ok());
    let filter = wanted.unwrap_or_else(|| Targets::new().with_default(LevelFilter::WARN));
    let lines =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).without_time().with_target(false);
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
}
