//! The command line: what is typed, what is printed, which exit code.
//!
//! | exit code | when |
//! | --- | --- |
//! | 0 | done |
//! | 1 | it failed; standard error says why |
//! | 2 | the command itself was wrong |
//! | 3 | the server or the daemon answered no |
//!
//! `anweddol diff` alone says 1 for differences, and 2 or 3 when it failed. `anweddol doctor` says 1 for drift and
//! for a host that is not ready, too.

mod access_token;
mod admin;
mod client;
mod config;
mod credentials;
mod doctor;
mod duration;
mod help;
mod image;
mod log;
mod objects;
mod otlp;
mod rebuild;
mod serve;
mod ssh;
mod store;
mod teardown;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::model::{NameError, valid_name};
use crate::wire::Fingerprint;

/// Temporary, SSH-reachable virtual machines.
///
/// `anweddol serve` runs the daemon; everybody else asks it for machines:
///
///   anweddol serve --simulate &        try it without any virtual machine
///   anweddol create --server HOST      a machine of your own
///   anweddol ssh                       log in to it
///   anweddol destroy                   give it back
///
/// Whoever runs the daemon keeps pools of them:
///
///   anweddol apply -f pool.yaml        keep machines ready as a manifest says
///   anweddol get all                   what is there
///   anweddol explain pool.spec         what can be said of it
#[derive(Parser)]
#[command(name = "anweddol", version, verbatim_doc_comment, max_term_width = 100)]
#[command(disable_help_subcommand = true, after_help = help::topics())]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon in the foreground
    ///
    /// Machines and the sessions on them outlive it: SIGTERM ends the daemon alone, and the next start, of another version
    /// too, takes over what there is.
    ///
    /// Under systemd, a unit for embedded mode says KillMode=process, because machines may be in the unit's control group
    /// and by default would end with it, and OOMPolicy=continue, because by default one machine that is killed for want
    /// of memory would stop the daemon. In system mode machines belong to libvirtd, and neither is needed.
    ///
    /// SIGHUP has it read its configuration again. It takes up what it can, and the log names what needs a restart; a file
    /// with an error changes nothing. 'anweddol config explain KEY' says which key is which.
    Serve(serve::ServeArgs),
    /// Ask a server for a machine, wait until it is ready, remember its login
    Create(CreateArgs),
    /// Log in to a machine, or run a command on it
    Ssh(SshArgs),
    /// Give a machine back
    Destroy(DestroyArgs),
    /// Let a machine live for another time from now
    Extend(ExtendArgs),
    /// List the machines this user was granted
    List(OutputArgs),
    /// Ask a server for its statistics
    Stat(StatArgs),
    /// Make objects as manifests describe them
    Apply(objects::ApplyArgs),
    /// Show what applying manifests would change
    Diff(objects::DiffArgs),
    /// Delete objects
    Delete(objects::DeleteArgs),
    /// Check manifests, without any daemon
    Validate(objects::ValidateArgs),
    /// List pools, containers and claims
    Get(objects::GetArgs),
    /// Show everything about an object
    Describe(objects::DescribeArgs),
    /// Watch pools, machines and events on a terminal, live
    Top(objects::TopArgs),
    /// List what happened
    Events(objects::EventsArgs),
    /// Change how many machines a pool keeps ready
    Scale(objects::ScaleArgs),
    /// Read the login of a claim or of a container of its own: works once
    Login(objects::LoginArgs),
    /// Change an object in an editor
    Edit(objects::EditArgs),
    /// Make, list and delete tokens for the API
    #[command(subcommand)]
    Token(objects::TokenCommand),
    /// Make, list, enable, disable and delete access tokens of the wire protocol
    #[command(subcommand)]
    AccessToken(objects::AccessTokenCommand),
    /// Make a token and print a kubeconfig with it: kubectl and its like work with the daemon then
    Kubeconfig(objects::KubeconfigArgs),
    /// Print the kinds as CustomResourceDefinitions
    Crds,
    /// Say what a kind or a field means
    Explain(objects::ExplainArgs),
    /// Check this host, and compare what is on it with the daemon's records
    ///
    /// First what machines need of this host: QEMU and KVM (by starting the smallest guest there is), libvirt, the state
    /// directory, the image, disk, network and nftables in system mode, ports, memory, clock and limits. What is not good
    /// says what to do. Permissions are those of whoever calls: call it as the daemon's user, or as root.
    ///
    /// Then every kind of thing that machines are made of or leave is listed and compared with the records: domains, disks,
    /// forwards, firewall elements, connections, logs, sockets, cards, leases, logins, ports, temporary files. Exit
    /// code 0: nothing failed and everything is as recorded; 1: something did or is not, or a kind could not be listed.
    Doctor(doctor::DoctorArgs),
    /// Make the reference image that machines boot
    #[command(subcommand)]
    Image(ImageCommand),
    /// Print the fingerprint of this host's server key
    Fingerprint(ConfigArgs),
    /// Write, check and explain the daemon's configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Check, save, restore, rebuild the daemon's records; it has to be stopped
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Print a chapter of the manual, or the help of a command
    Help(help::HelpArgs),
    /// End this host's machines and remove what the daemon made for them: before it is uninstalled
    ///
    /// The daemon must not run. Its machines end, the sessions on them with them; disks, forwards, the network and the
    /// nftables tables go. Records, keys and images stay: if the daemon ever starts again, it tells clients that their
    /// machines have ended.
    Teardown(ConfigArgs),
    /// Write the manual's pages, one for each command
    #[command(hide = true)]
    Man {
        /// Into which directory
        dir: PathBuf,
    },
    /// Print the completion script of a shell
    Completion {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// Which server, and how.
#[derive(Args, Clone)]
struct ServerArgs {
    /// The server: HOST or HOST:PORT
    #[arg(long, short, env = "ANWEDDOL_SERVER", default_value = "127.0.0.1:6150", value_name = "HOST[:PORT]")]
    server: String,
    /// The fingerprint its key must have; without it, the one it had on first use
    #[arg(long, value_name = "SHA256")]
    fingerprint: Option<Fingerprint>,
    /// Generation of the wire protocol; 1 for the oldest Python servers
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=2), value_name = "1|2")]
    generation: u8,
    #[command(flatten)]
    access: access_token::AccessArgs,
}

/// How results are printed.
#[derive(Args, Clone, Copy)]
struct OutputArgs {
    /// How the result is printed
    #[arg(long, short, default_value = "text")]
    output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Text,
    /// For programs
    Json,
}

#[derive(Args)]
struct CreateArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// The pool to take it from; without it, the one for everybody
    #[arg(long, value_name = "POOL")]
    pool: Option<String>,
    /// How long it is to live, as 30m or 2h; without it, as long as the server gives
    #[arg(long, value_parser = duration::seconds, value_name = "TIME")]
    ttl: Option<u32>,
    /// A public key that may log in besides the password: a .pub file
    #[arg(long, value_name = "FILE")]
    ssh_key: Option<PathBuf>,
    /// What you call it: 'ssh', 'extend' and 'destroy' know it by this name too
    #[arg(long, value_parser = name, value_name = "NAME")]
    name: Option<String>,
    /// Ask again while the server has no machine free
    #[arg(long)]
    wait: bool,
    /// How long to wait for the machine
    #[arg(long, default_value = "300s", value_parser = duration::seconds, value_name = "TIME")]
    timeout: u32,
    /// Log in as soon as it is ready
    #[arg(long)]
    ssh: bool,
}

#[derive(Args)]
struct SshArgs {
    /// The machine: its name, its UUID or the beginning of it; not needed if there is only one
    container: Option<String>,
    /// A command to run on it instead of a shell
    #[arg(last = true)]
    command: Vec<String>,
}

#[derive(Args)]
struct DestroyArgs {
    /// The machine: its name, its UUID or the beginning of it; not needed if there is only one
    container: Option<String>,
    /// Generation of the wire protocol; 1 for the oldest Python servers
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=2), value_name = "1|2")]
    generation: u8,
    #[command(flatten)]
    access: access_token::AccessArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Args)]
struct ExtendArgs {
    /// The machine: its name, its UUID or the beginning of it; not needed if there is only one
    container: Option<String>,
    /// How long it is to live from now on, as 30m or 2h
    #[arg(long, value_parser = duration::seconds, value_name = "TIME")]
    ttl: u32,
    #[command(flatten)]
    access: access_token::AccessArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Args)]
struct StatArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Subcommand)]
enum ImageCommand {
    /// Build it from this host's Debian packages, without installing any of them
    Build(ImageBuildArgs),
    /// Check that the configured image is there and can be read
    Check(ConfigArgs),
}

#[derive(Args)]
struct ImageBuildArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Which image
    #[arg(long, value_enum, default_value_t = image::Flavor::Tiny)]
    flavor: image::Flavor,
    /// Where it is put; default: images/ in the state directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

/// Which configuration.
#[derive(Args, Clone)]
struct ConfigArgs {
    /// The configuration file; default: /etc/anweddol/config.yaml if there is one
    #[arg(long, short, env = "ANWEDDOL_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The state directory, whatever the configuration says
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

fn name(text: &str) -> std::result::Result<String, NameError> {
    valid_name(text).map(|()| text.to_owned())
}

/// Runs the program and says its exit code.
pub fn main() -> ExitCode {
    crate::daemon::prepare();
    // SSH runs this program to ask for a password; see `ssh`.
    if let Some(code) = ssh::askpass() {
        return code;
    }
    let matches = without_empty(Cli::command()).get_matches();
    let command = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit()).command;
    match command {
        // A client that hangs up is an error of its connection, not the daemon's end.
        Command::Serve(_) => {}
        _ => {
            // `anweddol get all | head` ends like any other program when nobody reads on.
            sigpipe::reset();
            end_where_nothing_can_be_printed();
        }
    }
    match run(command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{} {}", paint_error(), crate::error_chain(&*error));
            ExitCode::from(if error.is::<objects::Refused>() { objects::REFUSED } else { 1 })
        }
    }
}

/// A variable that is empty counts as not set, as elsewhere; an option that is empty is a mistake.
fn without_empty(command: clap::Command) -> clap::Command {
    let is_empty = |name: &std::ffi::OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    let arg = |arg: clap::Arg| match arg.get_env().is_some_and(is_empty) {
        true => arg.env(clap::builder::Resettable::Reset),
        false => arg,
    };
    command.mut_args(arg).mut_subcommands(without_empty)
}

/// `println!` panics where its text cannot be written, as on a disk that is full.
fn end_where_nothing_can_be_printed() {
    let other = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        match panic.payload().downcast_ref::<String>().and_then(|text| text.strip_prefix("failed printing to ")) {
            Some(what) => {
                // Standard error may be what fails.
                let _ = writeln!(std::io::stderr(), "{} cannot write to {what}", paint_error());
                std::process::exit(1)
            }
            None => other(panic),
        }
    }));
}

fn paint_error() -> &'static str {
    use std::io::IsTerminal;
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    if colour { "\x1b[1;31merror:\x1b[0m" } else { "error:" }
}

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Serve(args) => serve::serve(args),
        Command::Create(args) => block_on(client::create(args)),
        Command::Ssh(args) => ssh::ssh(args.container.as_deref(), &args.command),
        Command::Destroy(args) => block_on(client::destroy(args)),
        Command::Extend(args) => block_on(client::extend(args)),
        Command::List(args) => client::list(args),
        Command::Stat(args) => block_on(client::stat(args)),
        Command::Apply(args) => block_on(objects::apply(args)),
        Command::Diff(args) => block_on(async { Ok(objects::diff(args).await) }),
        Command::Delete(args) => block_on(objects::delete(args)),
        Command::Validate(args) => objects::validate(args),
        Command::Get(args) => block_on(objects::get(args)),
        Command::Describe(args) => block_on(objects::describe(args)),
        Command::Top(args) => block_on(objects::top(args)),
        Command::Events(args) => block_on(objects::events(args)),
        Command::Scale(args) => block_on(objects::scale(args)),
        Command::Login(args) => block_on(objects::login(args)),
        Command::Edit(args) => block_on(objects::edit(args)),
        Command::Token(command) => block_on(objects::token(command)),
        Command::AccessToken(command) => block_on(objects::access_token(command)),
        Command::Kubeconfig(args) => block_on(objects::kubeconfig(args)),
        Command::Crds => admin::crds(),
        Command::Explain(args) => objects::explain(args),
        Command::Doctor(args) => doctor::doctor(args),
        Command::Image(ImageCommand::Build(args)) => image::build(args),
        Command::Image(ImageCommand::Check(args)) => admin::image_check(&args),
        Command::Fingerprint(args) => admin::fingerprint(args),
        Command::Config(command) => config::config(command),
        Command::Store(command) => store::store(command),
        Command::Help(args) => help::help(Cli::command(), &args),
        Command::Teardown(args) => teardown::teardown(&args),
        Command::Man { dir } => admin::man(Cli::command(), &dir),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "anweddol", &mut script);
            std::io::stdout().write_all(&script)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}
