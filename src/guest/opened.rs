//! Endpoint shells in the hands of somebody else: between their opening and the set-up of the machine.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use secrecy::SecretString;
use uuid::Uuid;

use super::ShellError;
use super::ssh;

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With a status.
    Status(u32),
    /// By a signal, named without `SIG`.
    Signal(String),
}

/// What a command did. It comes from the guest: never print it but through [`ssh::text::printable`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its output, at most 64 KiB of it.
    pub stdout: Vec<u8>,
    /// Its error output, at most 64 KiB of it.
    pub stderr: Vec<u8>,
    /// How many bytes of both were more than that.
    pub dropped: u64,
    /// How it ended.
    pub exit: Exit,
}

/// An open endpoint shell, real or simulated.
pub trait OpenShell: Send + 'static {
    /// Runs a command of the guest's shell to its end, or leaves it behind after `patience`.
    fn execute<'a>(&'a mut self, command: &'a str, patience: Duration) -> BoxFuture<'a, Result<Output, ShellError>>;

    /// Ends the connection.
    fn close(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// Is shown every endpoint shell right after it was opened, before the machine is set up through it.
pub trait ShellObserver: Send + Sync + 'static {
    /// Set-up goes on with what this returns.
    fn opened(&self, container: Uuid, shell: Box<dyn OpenShell>) -> BoxFuture<'static, Opened>;
}

/// What the observer made of an endpoint shell.
pub enum Opened {
    /// The machine is to be set up through it: for this user instead of the intended one, if there is one.
    GoOn(Box<dyn OpenShell>, Option<Credentials>),
    /// It is closed, and the machine not to be used.
    Closed,
}

/// A user name and a password.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// `user_` and five digits.
    pub username: String,
    /// 120 letters and digits.
    pub password: SecretString,
}

/// Why an endpoint shell does not do something.
#[derive(Debug, Clone, thiserror::Error)]
pub enum InstanceError {
    /// It was closed, or its moment is over: set-up has begun.
    #[error("the endpoint shell is closed")]
    Closed,
    /// The guest's part went wrong.
    #[error(transparent)]
    Shell(#[from] ShellError),
    /// These are no credentials of the protocol.
    #[error("these credentials cannot be set: {reason}")]
    Credentials {
        /// Why.
        reason: &'static str,
    },
}

/// An endpoint shell, as long as it is its holder's: what the original calls `EndpointShellInstance`.
pub struct EndpointShellInstance {
    container: Uuid,
    shell: tokio::sync::Mutex<Option<Box<dyn OpenShell>>>,
    credentials: Mutex<Option<Credentials>>,
}

impl EndpointShellInstance {
    /// Around an open shell.
    pub fn new(container: Uuid, shell: Box<dyn OpenShell>) -> Arc<Self> {
        let shell = tokio::sync::Mutex::new(Some(shell));
        Arc::new(EndpointShellInstance { container, shell, credentials: Mutex::default() })
    }

    /// The container's UUID.
    pub fn container_uuid(&self) -> Uuid {
        self.container
    }

    /// Runs a command as `endpoint`, to its end or until `patience` is over.
    pub async fn execute(&self, command: &str, patience: Duration) -> Result<Output, InstanceError> {
        let mut shell = self.shell.lock().await;
        let shell = shell.as_mut().ok_or(InstanceError::Closed)?;
        Ok(shell.execute(command, patience).await?)
    }

    /// A user name and a password as the protocol has them.
    pub fn generate_credentials() -> Credentials {
        let (username, password) = ssh::EndpointShell::generate_credentials();
        Credentials { username, password }
    }

    /// The machine is set up for this user, right after this shell's moment, and its client is told so.
    pub fn set_credentials(&self, credentials: Credentials) -> Result<(), InstanceError> {
        ssh::check(&credentials.username, &credentials.password)
            .map_err(|reason| InstanceError::Credentials { reason })?;
        *self.credentials.lock().unwrap_or_else(PoisonError::into_inner) = Some(credentials);
        Ok(())
    }

    /// Closes it: the container is given up.
    pub async fn close(&self) {
        if let Some(shell) = self.shell.lock().await.take() {
            shell.close().await;
        }
    }

    /// Whether it is closed, or its moment over.
    pub async fn is_closed(&self) -> bool {
        self.shell.lock().await.is_none()
    }

    /// Ends its holder's time with it.
    pub async fn take_back(&self) -> Opened {
        let credentials = self.credentials.lock().unwrap_or_else(PoisonError::into_inner).take();
        match self.shell.lock().await.take() {
            Some(shell) => Opened::GoOn(shell, credentials),
            None => Opened::Closed,
        }
    }
}
